//! Rules and data that are made to hurt: nothing panics, and work and memory are bounded.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use security_scanner::yara::{Incomplete, Input, Limits, Match, Report, Rules, Scanner};

fn compile(text: &str) -> Rules {
    Rules::compile([("test", text)]).unwrap_or_else(|(_, why)| panic!("{why}\n{text}"))
}

fn string(string: &str) -> Rules {
    compile(&format!(
        "rule r {{ strings: $a = {string} condition: $a }}"
    ))
}

fn scan<'r>(rules: &'r Rules, data: &[u8]) -> Report<'r> {
    Scanner::new(rules, Limits::default()).scan(data)
}

/// Far more than any of these needs, far less than what they are made to need.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn expressions_that_explode_are_refused() {
    for expression in [
        "/(a{1000}){1000}b/",
        "/((a{100}){100}){100}/",
        "/(.{30000}){30000}x/",
    ] {
        let text = format!("rule r {{ strings: $a = {expression} condition: $a }}");
        let started = Instant::now();
        let (_, error) = Rules::compile([("test", text.as_str())]).unwrap_err();
        assert!(error.message.contains("too large when compiled"), "{error}");
        assert!(started.elapsed() < PATIENCE);
    }
}

/// With backtracking each of these takes exponential time.
#[test]
fn expressions_that_backtrack_end() {
    let data = [b"a".repeat(100_000), b"!".to_vec()].concat();
    for expression in [
        "/(a+)+b/",
        "/(a|aa)+b/",
        "/(a*)*b/",
        "/a.*a.*a.*a.*b/",
        "/(a|a)*c[^x]{1000}d/",
    ] {
        let (rules, started) = (string(expression), Instant::now());
        let report = scan(&rules, &data);
        assert!(report.hits.is_empty());
        assert!(
            started.elapsed() < PATIENCE,
            "{expression} took {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn expressions_that_walk_too_far_are_reported() {
    // Each of the bytes begins a walk of 4096.
    let data = b"ab".repeat(200_000);
    let rules = string("/ab[ab]*c/");
    let report = scan(&rules, &data);
    assert!(report.hits.is_empty());
    assert_eq!(report.incomplete, [Incomplete::Steps]);
}

#[test]
fn matches_are_bounded() {
    let rules = string("\"aa\"");
    let limits = Limits {
        matches_of_string: 1000,
        reported: 3,
        ..Limits::default()
    };
    let mut scanner = Scanner::new(&rules, limits);
    let report = scanner.scan(b"a".repeat(5000).as_slice());
    assert_eq!(report.incomplete, [Incomplete::Matches]);
    let first = |offset| Match { offset, length: 2 };
    assert_eq!(
        report.hits[0].strings,
        [("a", vec![first(0), first(1), first(2)])]
    );
    // What one input did is forgotten.
    let report = scanner.scan(b"xaax".as_slice());
    assert!(report.incomplete.is_empty());
    assert_eq!(report.hits[0].strings, [("a", vec![first(1)])]);
}

#[test]
fn loops_are_bounded() {
    let nested = "for all i in (0..filesize * 1000) : ( for all j in (0..filesize * 1000) : ( i + j >= 0 ) )";
    let rules = compile(&format!(
        "rule r {{ condition: {nested} }} rule next {{ condition: true }}"
    ));
    let started = Instant::now();
    let report = scan(&rules, &[0; 1000]);
    assert_eq!(report.incomplete, [Incomplete::Steps]);
    assert!(started.elapsed() < PATIENCE);
}

#[test]
fn long_jumps_take_linear_time() {
    let rules = string("{ 61 61 [0-100000] 62 62 [0-100000] 63 63 }");
    let data = [b"a".repeat(50_000), b"b".repeat(50_000), b"cc".to_vec()].concat();
    let started = Instant::now();
    let report = scan(&rules, &data);
    assert_eq!(report.hits.len(), 1);
    assert!(started.elapsed() < PATIENCE);
}

/// The sandbox gives plugins a small stack.
#[test]
fn deep_rules_fit_a_small_stack() {
    let deep = |open: &str, inner: &str, close: &str, count: usize| {
        format!(
            "rule r {{ condition: {}{inner}{} }}",
            open.repeat(count),
            close.repeat(count)
        )
    };
    let texts = [
        deep("(", "true", ")", 40),
        deep("(", "true", ")", 100_000),
        deep("not ", "true", "", 200),
        deep("not ", "true", "", 100_000),
        deep("-", "1", "", 100_000),
        deep("1 + ", "1", "", 200),
        deep("1 + ", "1", "", 100_000),
        deep("true and ", "true", "", 10_000),
        deep("filesize == 1 or ", "true", "", 10_000),
        deep("for all i in (0..1) : (", "true", ")", 100_000),
        format!(
            "rule r {{ strings: $a = /{}a{}/ condition: $a }}",
            "(".repeat(50_000),
            ")".repeat(50_000)
        ),
        format!(
            "rule r {{ strings: $a = {{ {}61{} }} condition: $a }}",
            "(".repeat(50_000),
            ")".repeat(50_000)
        ),
    ];
    let small = std::thread::Builder::new()
        .stack_size(256 << 10)
        .spawn(move || {
            let compiled = texts
                .iter()
                .map(|text| Rules::compile([("test", text.as_str())]));
            let compiled = compiled.filter_map(Result::ok);
            compiled
                .map(|rules| scan(&rules, b"abc").hits.len())
                .collect::<Vec<_>>()
        });
    assert_eq!(small.unwrap().join().unwrap(), [1, 1, 1, 1, 1]);
}

#[test]
fn a_cut_input_is_reported() {
    let rules = compile("rule r { condition: filesize == 1000 and not defined uint8(10) }");
    let input = Input {
        data: b"0123456789",
        size: 1000,
    };
    let report = Scanner::new(&rules, Limits::default()).scan(input);
    assert_eq!(report.incomplete, [Incomplete::Cut]);
    assert_eq!(report.hits.len(), 1);
}

/// Pieces of rules, right and wrong.
const PIECES: &[&str] = &[
    "rule",
    "r",
    "s",
    "{",
    "}",
    "strings:",
    "condition:",
    "meta:",
    "$a",
    "$b",
    "$",
    "#a",
    "@a",
    "!a[1]",
    "=",
    "\"text\"",
    "{ 61 ?? [1-3] 6? }",
    "{ 61 ( 62 | 63 [0-2] 64 ) }",
    "/a[bc]+d{2,4}/",
    "/x.*?y/i",
    "wide",
    "ascii",
    "nocase",
    "fullword",
    "xor",
    "base64",
    "private",
    "global",
    "any",
    "all",
    "of",
    "them",
    "(",
    ")",
    "1",
    "3",
    "..",
    ",",
    "+",
    "-",
    "<",
    "==",
    "and",
    "or",
    "not",
    "at",
    "in",
    "for",
    "i",
    ":",
    "filesize",
    "uint32(0)",
    "true",
    "%",
    "/",
    "\\",
    "~",
    "import",
    "\"",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_as_rules(text in "\\PC{0,200}") {
        let _ = Rules::compile([("test", text.as_str())]);
    }

    #[test]
    fn any_pieces_as_rules(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40), data: Vec<u8>) {
        let text = pieces.join(" ");
        if let Ok(rules) = Rules::compile([("test", text.as_str())]) {
            scan(&rules, &data);
        }
    }

    #[test]
    fn any_condition(pieces in prop::collection::vec(prop::sample::select(&PIECES[8..]), 1..12), data: Vec<u8>) {
        let text = format!(
            "rule r {{ strings: $a = \"text\" $b = {{ 61 [-] 62 }} condition: ({}) or any of them }}",
            pieces.join(" ")
        );
        if let Ok(rules) = Rules::compile([("test", text.as_str())]) {
            scan(&rules, &data);
        }
    }

    #[test]
    fn any_expression(expression in "[ab()\\[\\]|*+?{}0-9,.^$\\\\-]{1,30}", data in "[ab01]{0,60}") {
        let text = format!("rule r {{ strings: $a = /{expression}/ condition: $a }}");
        if let Ok(rules) = Rules::compile([("test", text.as_str())]) {
            scan(&rules, data.as_bytes());
        }
    }

    #[test]
    fn texts_are_found_where_they_are(
        text in prop::collection::vec(any::<u8>(), 1..12),
        data in prop::collection::vec(prop::sample::select(b"ab\0".as_slice()), 0..80),
        at: prop::sample::Index,
    ) {
        let mut data = data;
        let at = at.index(data.len() + 1);
        data.splice(at..at, text.iter().copied());
        let escaped: String = text.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        let rules = string(&format!("\"{escaped}\""));
        let report = scan(&rules, &data);
        let expected: Vec<Match> = data
            .windows(text.len())
            .enumerate()
            .filter(|(_, window)| *window == text)
            .map(|(offset, _)| Match { offset: offset as u64, length: text.len() as u64 })
            .collect();
        prop_assert_eq!(&report.hits[0].strings[0].1, &expected);
    }
}
