use super::parse::parse;
use crate::NodeMetrics;
use crate::hostile::survives;
use bulkhead_sdk::testing::{Files, Found, Harness, take_log};
use proptest::prelude::*;

const FOLDER: &str = "/var/lib/prometheus/node-exporter";
const A: &str = "/var/lib/prometheus/node-exporter/a.prom";
const B: &str = "/var/lib/prometheus/node-exporter/b.prom";

const ALL_TYPES: &str = "\
# A comment
# HELP backup_last_success_time_seconds When it\\nworked \\\\ last.
# TYPE backup_last_success_time_seconds gauge
backup_last_success_time_seconds{target=\"/srv\", to = \"a\\\"b\\\\c\\n\",} 1.7e9
backup_last_success_time_seconds{target=\"/home\"}\t+Inf
# TYPE backup_runs_total counter
  backup_runs_total 3

loose{a=\"1\"} NaN
loose -0.5
# TYPE job_seconds histogram
job_seconds_bucket{job=\"x\",le=\"10\"} 7
job_seconds_bucket{job=\"x\",le=\"0.5\"} 2
job_seconds_bucket{job=\"x\",le=\"+Inf\"} 9
job_seconds_sum{job=\"x\"} 55.5
job_seconds_count{job=\"x\"} 9
job_seconds_bucket{le=\"1\"} 4
job_seconds_count 5
# TYPE wait_seconds SUMMARY
wait_seconds{quantile=\"0.99\"} 4
wait_seconds{quantile=\"0.5\"} 1.5
wait_seconds_sum 12
wait_seconds_count 8
# HELP not_there Has no series.
";

fn collect(config: &str, files: &Files) -> Found {
    let mut plugin = Harness::<NodeMetrics>::new(config).unwrap();
    plugin.collect("textfile", files).unwrap()
}

fn files(contents: &[(&str, &str)]) -> Files {
    let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
    contents.iter().fold(Files::new(), add)
}

#[test]
fn tells_all_types() {
    let found = collect("{}", &files(&[(A, ALL_TYPES)]));
    let lines = found.lines();
    assert_eq!(
        lines,
        [
            r#"backup_last_success_time_seconds{target="/home",to=""} inf"#,
            r#"backup_last_success_time_seconds{target="/srv",to="a\"b\\c\n"} 1700000000"#,
            "backup_runs_total 3",
            r#"job_seconds_bucket{job="",le="+Inf"} 5"#,
            r#"job_seconds_bucket{job="",le="1"} 4"#,
            r#"job_seconds_bucket{job="x",le="+Inf"} 9"#,
            r#"job_seconds_bucket{job="x",le="0.5"} 2"#,
            r#"job_seconds_bucket{job="x",le="10"} 7"#,
            r#"job_seconds_count{job=""} 5"#,
            r#"job_seconds_count{job="x"} 9"#,
            r#"job_seconds_sum{job=""} 0"#,
            r#"job_seconds_sum{job="x"} 55.5"#,
            r#"loose{a=""} -0.5"#,
            r#"loose{a="1"} NaN"#,
            "node_textfile_scrape_error 0",
            "wait_seconds_count 8",
            "wait_seconds_sum 12",
            r#"wait_seconds{quantile="0.5"} 1.5"#,
            r#"wait_seconds{quantile="0.99"} 4"#,
        ]
    );
    for (name, kind) in [
        ("backup_runs_total", Some("counter")),
        ("backup_last_success_time_seconds", Some("gauge")),
        ("job_seconds", Some("histogram")),
        ("wait_seconds", Some("summary")),
        ("loose", Some("untyped")),
        ("not_there", None),
    ] {
        assert_eq!(found.kind(name), kind, "{name}");
    }
    let file = parse(ALL_TYPES).unwrap();
    let help = file["backup_last_success_time_seconds"].help.as_deref();
    assert_eq!(help, Some("When it\nworked \\ last."));
}

#[test]
fn a_wrong_file_is_left_out_whole_and_told_of() {
    for wrong in [
        "a 1\nb 2 1441205977284\n",
        "a 1\nb 2",
        "a 1\nb two\n",
        "a 1\nb 2 \n",
        "a 1\nb 1e999\n",
        "a 1\nb 1_000\n",
        "a 1\r\n",
        "a 1\n1b 2\n",
        "a 1\nb{c=\"d\" 2\n",
        "a 1\nb{c=\"d\n",
        "a 1\nb{c} 2\n",
        "a 1\nb{c=\"\\x\"} 2\n",
        "a 1\nb{c=\"1\",c=\"2\"} 2\n",
        "a 1\nb{__name__=\"x\"} 2\n",
        "a 1\n# TYPE a gauge\n",
        "a 1\n# TYPE b gauge\n# TYPE b gauge\n",
        "a 1\n# TYPE b info\nb 2\n",
        "a 1\n# HELP b one\n# HELP b two\nb 2\n",
        "a 1\n# HELP b-c one\n",
    ] {
        let found = collect("{}", &files(&[(A, wrong), (B, "right 1\n")]));
        let expected = ["node_textfile_scrape_error 1", "right 1"];
        assert_eq!(found.lines(), expected, "{wrong:?}");
        let log = take_log();
        assert!(log[0].message.starts_with(A), "{log:?}");
    }
    let unreadable = files(&[(B, "right 1\n")]).unreadable(A, 13);
    let found = collect("{}", &unreadable);
    assert_eq!(found.value("node_textfile_scrape_error"), Some(1.0));
}

#[test]
fn complains_once() {
    let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
    let mut complaints = |text: &str| {
        plugin.collect("textfile", &files(&[(A, text)])).unwrap();
        take_log().len()
    };
    assert_eq!(complaints("a"), 1);
    assert_eq!(complaints("a"), 0);
    assert_eq!(complaints("a b\n"), 1, "another reason");
    assert_eq!(complaints("a 1\n"), 0);
    assert_eq!(complaints("a b\n"), 1, "it was right in between");
}

#[test]
fn files_share_families_but_not_series() {
    let found = collect(
        "{}",
        &files(&[
            (
                A,
                "# TYPE x counter\nx{f=\"a\"} 1\nx{f=\"a\"} 2\nx{g=\"\"} 3\n",
            ),
            (B, "# TYPE x counter\nx{f=\"b\"} 4\nx{f=\"a\"} 5\nx 6\n"),
        ]),
    );
    assert_eq!(
        found.lines(),
        [
            "node_textfile_scrape_error 0",
            r#"x{f="",g=""} 3"#,
            r#"x{f="a",g=""} 1"#,
            r#"x{f="b"} 4"#,
        ]
    );
    for other in [
        "# TYPE x gauge\nx{f=\"b\"} 1\n",
        "# TYPE x histogram\nx_count 1\n",
        "node_textfile_scrape_error 0\n",
    ] {
        let found = collect("{}", &files(&[(A, "# TYPE x counter\nx 1\n"), (B, other)]));
        assert_eq!(found.lines(), ["node_textfile_scrape_error 0", "x 1"]);
        assert!(take_log()[0].message.starts_with(B));
    }
    let parts = collect(
        "{}",
        &files(&[(A, "x_count 1\n"), (B, "# TYPE x summary\nx_sum 2\n")]),
    );
    assert_eq!(parts.lines(), ["node_textfile_scrape_error 0", "x_count 1"]);
}

#[test]
fn odd_samples_are_told_as_far_as_they_make_sense() {
    let text = "\
# TYPE h histogram
h_bucket{le=\"1\"} 5
h_bucket{le=\"1\"} 3.7
h_bucket 8
h_count 4
# TYPE s summary
s{quantile=\"0.5\"} 1
s{quantile=\"0.5\"} 2
s{quantile=\"1.5\"} 3
s{quantile=\"NaN\"} 4
path{at=\"C:\\\\\"} 1
m_sum 1
# TYPE m summary
m_sum 2
";
    assert_eq!(
        collect("{}", &files(&[(A, text)])).lines(),
        [
            r#"h_bucket{le="+Inf"} 4"#,
            r#"h_bucket{le="1"} 3"#,
            "h_count 4",
            "h_sum 0",
            "m_sum 1",
            "node_textfile_scrape_error 0",
            r#"path{at="C:\\"} 1"#,
            "s_count 0",
            "s_sum 0",
            r#"s{quantile="0.5"} 2"#,
        ]
    );
}

#[test]
fn folders_are_chosen() {
    let config = r#"{"collectors":{"textfile":{"directories":["/srv/*/metrics/","/nowhere"]}}}"#;
    let only_there = config.replace(",\"/nowhere\"", "");
    let tree = files(&[
        ("/srv/one/metrics", ""),
        ("/srv/one/metrics/a.prom", "one 1\n"),
        ("/srv/one/metrics/a.prom.tmp", "torn"),
        ("/srv/two/metrics/b.prom", "two 2\n"),
        (A, "other 1\n"),
    ]);
    let found = collect(config, &tree).lines();
    assert_eq!(found, ["node_textfile_scrape_error 1", "one 1", "two 2"]);
    let found = collect(&only_there, &tree).lines();
    assert_eq!(found, ["node_textfile_scrape_error 0", "one 1", "two 2"]);
    let found = collect("{}", &Files::new()).lines();
    assert_eq!(
        found,
        ["node_textfile_scrape_error 0"],
        "{FOLDER} may be missing"
    );
}

#[test]
fn survives_nonsense() {
    survives("textfile", "{}", &[(A, ALL_TYPES), (B, "x_count 1\nx 2\n")]);
}

proptest! {
    /// Lines out of what the format is made of find more than bytes out of nothing.
    #[test]
    fn any_lines_are_survived(tokens in proptest::collection::vec(prop_oneof![
        Just("# TYPE "), Just("# HELP "), Just("x"), Just("x_sum"), Just("x_count"), Just("x_bucket"),
        Just("histogram"), Just("summary"), Just("gauge"), Just("{"), Just("}"), Just("le"),
        Just("quantile"), Just("="), Just("\""), Just("\\"), Just(","), Just(" "), Just("\n"),
        Just("1"), Just("NaN"), Just("{le=\"1\"} 1\n"), Just("{quantile=\"1\"} 1\n"), Just(" 1\n"),
        Just("{a=\"ä\"} -Inf\n"), Just("x_sum 1\n"), Just("x 1\n"), Just("# TYPE x histogram\n"),
    ], 0..40)) {
        let text = tokens.concat();
        collect("{}", &files(&[(A, &text), (B, "# TYPE x summary\nx_sum 1\nx_bucket 1\n")]));
    }
}
