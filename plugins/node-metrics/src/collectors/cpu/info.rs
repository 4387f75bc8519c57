//! What the processors are, of `/proc/cpuinfo`: a block of lines for each, whose fields depend on the
//! kind of processor.

use std::collections::BTreeSet;

use bulkhead_sdk::Families;

use crate::filter::Pattern;

pub(super) const PATH: &str = "/proc/cpuinfo";

/// Labels, and what the fields are called.
const LABELS: [(&str, &[&str]); 10] = [
    ("package", &["physical id"]),
    ("core", &["core id", "hart"]),
    ("cpu", &["processor"]),
    ("vendor", &["vendor_id", "vendor"]),
    ("family", &["cpu family"]),
    ("model", &["model"]),
    ("model_name", &["model name", "isa"]),
    ("microcode", &["microcode"]),
    ("stepping", &["stepping"]),
    ("cachesize", &["cache size"]),
];
const CPU: usize = 2;

pub(super) fn tell(
    text: &str,
    flags: &Option<Pattern>,
    bugs: &Option<Pattern>,
    out: &mut Families,
) {
    let mut known = BTreeSet::new();
    let mut labels = LABELS.map(|(label, _)| (label, ""));
    // The blank line at the end closes the last block.
    for line in text.lines().chain([""]) {
        let Some((name, value)) = field(line) else {
            let number = labels[CPU].1;
            if number.parse::<u32>().is_ok() && known.insert(number) {
                let family = out.gauge("node_cpu_info", "CPU information from /proc/cpuinfo.");
                out.add(family, &labels, 1.0);
            }
            if line.trim().is_empty() {
                labels = LABELS.map(|(label, _)| (label, ""));
            }
            continue;
        };
        for ((_, names), (_, known)) in LABELS.iter().zip(&mut labels) {
            if names.contains(&name) {
                *known = value;
            }
        }
    }
    let help = "The `flags` field of CPU information from /proc/cpuinfo taken from the first core.";
    words(text, &["flags", "Features"], flags, |flag| {
        let family = out.gauge("node_cpu_flag_info", help);
        out.add(family, &[("flag", flag)], 1.0);
    });
    let help = "The `bugs` field of CPU information from /proc/cpuinfo taken from the first core.";
    words(text, &["bugs"], bugs, |bug| {
        let family = out.gauge("node_cpu_bug_info", help);
        out.add(family, &[("bug", bug)], 1.0);
    });
}

fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    Some((name.trim_end(), value.trim()))
}

/// The chosen words of the first such field.
fn words<'a>(
    text: &'a str,
    names: &[&str],
    chosen: &Option<Pattern>,
    mut tell: impl FnMut(&'a str),
) {
    let Some(chosen) = chosen else {
        return;
    };
    let mut fields = text.lines().filter_map(field);
    let first = fields.find(|(name, _)| names.contains(name));
    let words = first.unwrap_or_default().1.split_ascii_whitespace();
    let words: BTreeSet<&str> = words.filter(|word| chosen.is_match(word)).collect();
    words.into_iter().for_each(&mut tell);
}
