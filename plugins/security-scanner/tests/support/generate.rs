//! Rules as people write them, made from a seed.

use std::fmt::Write as _;

use fastrand::Rng;

const WORDS: &[&str] = &[
    "inject", "payload", "shell", "loader", "beacon", "crypt", "steal", "wallet", "token", "hook",
    "dump", "agent", "stage", "config", "server", "client", "update", "service", "driver",
    "kernel", "remote", "thread", "process", "memory", "virtual", "alloc", "write", "create",
    "open", "close", "socket", "connect", "http", "https", "proxy", "tunnel", "reverse", "bind",
    "exec", "system", "miner", "pool", "stratum", "ransom", "locker", "decrypt", "private",
    "public", "session", "key",
];

/// `count` rules; one in ten has a regular expression. `samples` are contents of files, of which one
/// rule in five has a string, so that it matches.
pub(crate) fn rules(seed: u64, count: usize, samples: &[Vec<u8>]) -> String {
    let mut rng = Rng::with_seed(seed);
    let mut text = String::new();
    for number in 0..count {
        let hit = number % 5 == 0;
        let regexp = number % 10 == 3;
        rule(&mut rng, &mut text, number, hit, regexp, samples);
    }
    text
}

fn rule(
    rng: &mut Rng,
    text: &mut String,
    number: usize,
    hit: bool,
    regexp: bool,
    samples: &[Vec<u8>],
) {
    let _ = writeln!(text, "rule generated_{number} : tag{} {{", number % 7);
    let _ = writeln!(
        text,
        "  meta:\n    author = \"generated\"\n    score = {}",
        rng.u32(1..100)
    );
    let _ = writeln!(text, "  strings:");
    let strings = rng.usize(2..7);
    for index in 0..strings {
        let value = match (index, hit, regexp) {
            (0, true, _) => sampled(rng, samples),
            (1, _, true) => expression(rng),
            _ => value(rng),
        };
        let _ = writeln!(text, "    $s{index} = {value}");
    }
    let any_count = rng.usize(1..3.min(strings) + 1);
    let condition = match rng.u32(0..10) {
        _ if hit => "$s0 and (filesize < 100MB or any of them)".to_owned(),
        0..=2 => "uint16(0) == 0x5a4d and all of them".to_owned(),
        3..=4 => format!(
            "uint32(0) == 0x464c457f and filesize < {}KB and {any_count} of them",
            rng.u32(50..5000)
        ),
        5 => format!(
            "filesize < {}MB and (#s0 > {} or 2 of them)",
            rng.u32(1..20),
            rng.u32(0..3)
        ),
        6 => "for any of them : ( $ in (0..4096) )".to_owned(),
        7 => "($s0 and $s1) or 3 of ($s*)".to_owned(),
        8 => "for any i in (1..#s0) : ( @s0[i] < 1000 and !s0[i] > 3 ) or all of them".to_owned(),
        _ => "any of them".to_owned(),
    };
    let _ = writeln!(text, "  condition:\n    {condition}\n}}\n");
}

fn word(rng: &mut Rng) -> &'static str {
    WORDS[rng.usize(0..WORDS.len())]
}

fn value(rng: &mut Rng) -> String {
    let (one, two) = (word(rng), word(rng));
    match rng.u32(0..12) {
        0 => format!("\"{one}_{two}_{}\" nocase", rng.u32(0..100)),
        1 => format!("\"{one}{two}\" wide ascii"),
        2 => format!("\"{two}-{one}.exe\" wide nocase"),
        3 => format!("\"http://{one}.{two}.example/{}\" ascii", word(rng)),
        4 => format!("\"{one} {two}\" fullword"),
        5 => format!("\"\\\\{one}\\\\{two}.dll\" ascii wide fullword"),
        6 => format!("\"%s {one}=%d&{two}=\""),
        7..=8 => hex(rng, false),
        9 => hex(rng, true),
        10 => format!("\"Mozilla/5.0 ({one}; {two})\""),
        _ => format!("\"{one}.{two}({})\"", word(rng)),
    }
}

fn hex(rng: &mut Rng, jumps: bool) -> String {
    let mut text = "{".to_owned();
    let length = rng.usize(8..20);
    for index in 0..length {
        let inner = index > 3 && index + 2 < length;
        match rng.u32(0..16) {
            0 | 1 if inner => text.push_str(" ??"),
            2 if inner => {
                let _ = write!(text, " {:X}?", rng.u8(0..16));
            }
            3 if inner && jumps => text.push_str(" [2-12]"),
            4 if inner && jumps => {
                let _ = write!(
                    text,
                    " ({:02X} | {:02X} {:02X})",
                    rng.u8(..),
                    rng.u8(..),
                    rng.u8(..)
                );
            }
            _ => {
                let _ = write!(text, " {:02X}", rng.u8(..));
            }
        }
    }
    text.push_str(" }");
    text
}

fn expression(rng: &mut Rng) -> String {
    let (one, two) = (word(rng), word(rng));
    match rng.u32(0..6) {
        0 => format!("/{one}[0-9]{{2,4}}\\.{two}/"),
        1 => format!("/https?:\\/\\/[a-z0-9.]{{3,40}}\\/{one}\\.php/ nocase"),
        2 => format!("/({one}|{two})_[a-f0-9]{{8}}/"),
        3 => format!("/\\b{one}\\s+{two}\\b/ ascii"),
        4 => format!("/{one}=[A-Za-z0-9+\\/]{{20,60}}={{0,2}}/"),
        _ => format!("/[A-Z]{{2}}{one}.{{1,20}}{two}/ wide ascii"),
    }
}

/// Bytes of a file, as text or as hex.
fn sampled(rng: &mut Rng, samples: &[Vec<u8>]) -> String {
    for _ in 0..1000 {
        let sample = &samples[rng.usize(0..samples.len())];
        if sample.len() < 64 {
            continue;
        }
        let start = rng.usize(0..sample.len() - 32);
        let bytes = &sample[start..start + rng.usize(8..24)];
        let mut distinct = bytes.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() < 7 {
            continue;
        }
        if bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b" ._-=/:".contains(byte))
        {
            return format!("\"{}\"", String::from_utf8_lossy(bytes));
        }
        let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        return format!("{{ {} }}", hex.join(" "));
    }
    "\"nothing was sampled\"".to_owned()
}
