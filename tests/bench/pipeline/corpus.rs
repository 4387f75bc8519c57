//! The lines that everything is measured with: made from a seed, so that they are the same on every
//! machine, and kept in the user's cache folder.
//!
//! 55% JSON of about 120 bytes, 40% text, 5% text of 1 to 2.4 KB; 1.5% in two parts, 6% with
//! characters beyond ASCII, 15% at level debug, about 210 bytes each with their CRI head.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Changes with the generator, so that an old corpus is not taken for a new one.
const VERSION: u32 = 3;
const FILES: usize = 4;

/// Container logs below a folder that stands for `/var/log`.
pub(crate) struct Corpus {
    pub(crate) root: PathBuf,
    /// Lines, each part of a partial line not counted.
    pub(crate) lines: u64,
    /// Of these, lines of JSON with level debug.
    pub(crate) debug: u64,
    /// Of those, the ones that are not in parts.
    pub(crate) debug_whole: u64,
    /// Lines of JSON in parts with another level than debug.
    pub(crate) json_in_parts: u64,
    /// Lines as they stand in the files, each part of a partial line counted.
    pub(crate) written: u64,
    /// Of the files.
    pub(crate) bytes: u64,
}

/// What is counted while it is made, in the order of [`Corpus`].
const COUNTS: usize = 5;

impl Corpus {
    /// Makes it, unless it is there.
    pub(crate) fn new(lines: u64) -> io::Result<Self> {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        let folder = cache.unwrap_or_else(std::env::temp_dir).join("bulkhead");
        let root = folder.join(format!("corpus-{VERSION}-{lines}"));
        let counts = root.join("counts");
        if !counts.exists() {
            let _ = fs::remove_dir_all(&root);
            let numbers = generate(&root, lines)?.map(|number| number.to_string());
            fs::write(&counts, numbers.join(" "))?;
        }
        let text = fs::read_to_string(&counts)?;
        let numbers: Vec<u64> = text
            .split(' ')
            .filter_map(|number| number.parse().ok())
            .collect();
        let [debug, debug_whole, json_in_parts, written, bytes] = numbers[..] else {
            return Err(io::Error::other(format!(
                "{}: not {COUNTS} numbers",
                counts.display()
            )));
        };
        Ok(Self {
            root,
            lines,
            debug,
            debug_whole,
            json_in_parts,
            written,
            bytes,
        })
    }
}

fn generate(root: &std::path::Path, lines: u64) -> io::Result<[u64; COUNTS]> {
    let mut random = fastrand::Rng::with_seed(2026);
    let mut files = Vec::new();
    for number in 0..FILES {
        let folder = root.join(format!("pods/shop_cart-{number}_0d1e2f3a-{number}/cart"));
        fs::create_dir_all(&folder)?;
        files.push(BufWriter::new(File::create(folder.join("0.log"))?));
    }
    let [
        mut debug,
        mut debug_whole,
        mut json_in_parts,
        mut written,
        mut bytes,
    ] = [0; COUNTS];
    let mut line = String::new();
    let mut out = String::new();
    for number in 0..lines {
        line.clear();
        let at_debug = body(&mut random, number, &mut line);
        debug += u64::from(at_debug);
        out.clear();
        let time = head(number);
        let stream = if random.u32(..10) == 0 {
            "stderr"
        } else {
            "stdout"
        };
        let split = if random.u32(..1000) < 15 {
            line.char_indices().nth(40).map(|(at, _)| at)
        } else {
            None
        };
        debug_whole += u64::from(at_debug && split.is_none());
        json_in_parts += u64::from(!at_debug && split.is_some() && line.starts_with('{'));
        written += 1 + u64::from(split.is_some());
        let rest = match split {
            Some(at) => {
                out.extend([&time, " ", stream, " P ", &line[..at], "\n"]);
                &line[at..]
            }
            None => &line,
        };
        out.extend([&time, " ", stream, " F ", rest, "\n"]);
        bytes += out.len() as u64;
        files[random.usize(..FILES)].write_all(out.as_bytes())?;
    }
    for mut file in files {
        file.flush()?;
    }
    Ok([debug, debug_whole, json_in_parts, written, bytes])
}

/// RFC 3339, 2,000 lines a second.
fn head(number: u64) -> String {
    let (second, nano) = (number / 2000, number % 2000 * 500_000 + number % 499_979);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "2026-11-24T{hour:02}:{minute:02}:{:02}.{nano:09}Z",
        second % 60
    )
}

const WORDS: [&str; 16] = [
    "request",
    "completed",
    "in",
    "good",
    "time",
    "cart",
    "item",
    "added",
    "by",
    "user",
    "with",
    "cache",
    "miss",
    "backend",
    "retry",
    "timeout",
];
const BEYOND_ASCII: [&str; 4] = ["naïve", "größer", "日本語", "✓"];

/// Appends one line; whether it is at level debug.
fn body(random: &mut fastrand::Rng, number: u64, line: &mut String) -> bool {
    let special = random.u32(..100) < 6;
    if random.u32(..100) < 55 {
        let debug = random.f64() < 0.15 / 0.55;
        let level = match random.u32(..10) {
            _ if debug => "debug",
            0 => "error",
            1 => "warn",
            _ => "info",
        };
        line.push_str(&format!(r#"{{"level":"{level}","n":{number},"msg":""#));
        let length = 20 + random.usize(..20);
        words(random, length, special, line);
        line.push_str(&format!(
            r#"","path":"/v1/items/{}","status":{},"user":"u{}@example.com"}}"#,
            random.u32(..1000),
            [200, 200, 200, 404, 500][random.usize(..5)],
            random.u32(..500)
        ));
        return debug;
    }
    let length = if random.u32(..45) < 5 {
        1000 + random.usize(..1400)
    } else {
        25 + random.usize(..40)
    };
    words(random, length, special, line);
    false
}

fn words(random: &mut fastrand::Rng, length: usize, special: bool, line: &mut String) {
    let end = line.len() + length;
    if special {
        line.push_str(BEYOND_ASCII[random.usize(..BEYOND_ASCII.len())]);
        line.push(' ');
    }
    while line.len() < end {
        line.push_str(WORDS[random.usize(..WORDS.len())]);
        line.push(' ');
    }
    line.pop();
}
