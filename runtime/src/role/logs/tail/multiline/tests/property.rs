//! What must hold for any lines and any rules.

use proptest::prelude::*;

use super::*;
use crate::manifest::Preset;
use crate::role::logs::batch::LINE_UNFINISHED;
use crate::role::logs::tail::count::{Counter, Tally};

fn rule() -> impl Strategy<Value = JoinRule> {
    prop_oneof![
        Just(JoinRule::Start(pattern("^[>j]"))),
        Just(JoinRule::Continuation(pattern(r"^\s"))),
        Just(JoinRule::Presets(vec![Preset::Java])),
        Just(JoinRule::Presets(vec![Preset::Go, Preset::Python])),
    ]
}

fn body() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "> begin",
        "text",
        "",
        " more",
        "java.lang.Error: x",
        "\tat a.B.c(B.java:1)",
        "Caused by: a.B",
        "Traceback (most recent call last):",
        "  File \"a\", line 1",
        "KeyError: 1",
        "panic: x",
        "goroutine 1 [running]:",
        "main.f(0x1)",
        "exit status 2",
    ])
}

fn physical_line() -> impl Strategy<Value = String> {
    (body(), any::<bool>(), 0u8..8).prop_map(|(body, stderr, kind)| {
        if kind == 0 {
            return body.to_owned();
        }
        let stream = if stderr { "stderr" } else { "stdout" };
        let tag = if kind < 3 { 'P' } else { 'F' };
        format!("1970-01-01T00:00:01.5Z {stream} {tag} {body}")
    })
}

/// What came out, and the physical lines of which it is made (after the joining of CRI's parts).
type Out = (Vec<(u64, u64, u32, u32, String)>, u64);

fn run(
    data: &str,
    cuts: &[usize],
    multiline: &Multiline,
    max_line: usize,
    format: FileFormat,
) -> Out {
    let mut bench = Bench::new(multiline, format);
    bench.max_line = max_line;
    for &cut in cuts.iter().chain([&data.len()]) {
        let at = bench.at as usize;
        bench.write(&data[at..cut.clamp(at, data.len())]);
    }
    let at = bench.at as usize;
    if at < data.len() {
        bench.take(Piece::Line(&data.as_bytes()[at..], LINE_UNFINISHED));
    }
    bench.end();
    assert_eq!(bench.gathering.start(), None);
    let batch = &bench.batch;
    let records = (0..batch.lines.len()).map(|index| {
        let line = batch.lines[index];
        let body = String::from_utf8(batch.body(index).to_vec()).unwrap();
        let (at, last) = (batch.positions[index], batch.last_position(index));
        (at, last, line.flags, bench.joined()[index], body)
    });
    let records: Vec<_> = records.collect();
    let lines = records.iter().map(|record| 1 + u64::from(record.3)).sum();
    (records, lines)
}

proptest! {
    /// However a file's bytes arrive, the records are the same, as many as the counter counts, and
    /// made of as many lines as there are without joining.
    #[test]
    fn chunks_do_not_matter(
        lines in prop::collection::vec(physical_line(), 0..40),
        cuts in prop::collection::vec(0usize..1500, 0..10),
        tail in any::<bool>(),
        cri in any::<bool>(),
        rule in rule(),
        max_lines in 2u32..8,
        max_line in 1usize..80,
    ) {
        let format = if cri { FileFormat::Cri } else { FileFormat::Plain };
        let mut data = lines.join("\n");
        if tail {
            data.push('\n');
        }
        let mut cuts = cuts;
        cuts.sort_unstable();
        let multiline = Multiline { max_lines, ..multiline(rule) };
        let (whole, lines) = run(&data, &[], &multiline, max_line, format);
        prop_assert_eq!(&run(&data, &cuts, &multiline, max_line, format).0, &whole);

        let count = |gathering| {
            let mut counter = Counter::new(format, max_line, Joins::default(), gathering);
            let taken = counter.split(data.as_bytes());
            if taken < data.len() {
                counter.line(&data.as_bytes()[taken..]);
            }
            counter.finish()
        };
        let rules = Rules::new(&multiline).unwrap();
        let records = whole.len() as u64;
        let tally = Tally { lines: records, joined: lines - records };
        prop_assert_eq!(count(Some(Box::new(Gathering::new(rules.into())))), tally);
        prop_assert_eq!(count(None), Tally { lines, joined: 0 });
    }

    /// Stopped anywhere and read again from the mark, no line is missing, and within one stream the
    /// records are the same.
    #[test]
    fn an_interruption_loses_nothing_and_joins_the_same(
        lines in prop::collection::vec(physical_line(), 1..40),
        stop in 0usize..1500,
        cri in any::<bool>(),
        rule in rule(),
        max_lines in 2u32..8,
    ) {
        let format = if cri { FileFormat::Cri } else { FileFormat::Plain };
        let data = lines.join("\n") + "\n";
        let multiline = Multiline { max_lines, ..multiline(rule) };
        let (whole, _) = run(&data, &[], &multiline, 1000, format);
        let mut first = Bench::new(&multiline, format);
        first.write(&data[..stop.min(data.len())]);
        let held = [first.joins.start(), first.gathering.start()];
        let mark = held.into_iter().flatten().min().unwrap_or(first.at);
        let (before, behind): (Vec<_>, Vec<_>) = whole.into_iter().partition(|record| record.0 < mark);
        for (at, ..) in &before {
            prop_assert!(first.batch.positions.contains(at), "{at} of {mark}");
        }
        if !cri {
            prop_assert_eq!(first.batch.lines.len(), before.len());
            let (mut again, _) = run(&data[mark as usize..], &[], &multiline, 1000, format);
            for record in &mut again {
                record.0 += mark;
                record.1 += mark;
            }
            prop_assert_eq!(again, behind);
        }
    }
}
