//! How scanning goes, for people. It takes reports of other versions, too: what is missing is left out.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::bytes;
use crate::control::Scanned;

const SEVERITIES: [&str; 5] = ["critical", "high", "medium", "low", "info"];

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// The number of the pass that ended last.
pub(super) fn last_pass(plugin: &Scanned) -> Option<u64> {
    plugin.scanning["lastPass"]["number"].as_u64()
}

/// How many findings are open.
pub(super) fn open_findings(plugin: &Scanned) -> u64 {
    let findings = &plugin.scanning["findings"];
    SEVERITIES.iter().map(|it| number(&findings[it])).sum()
}

/// One line for programs.
pub(super) fn json_line(plugins: &[Scanned]) -> String {
    serde_json::to_string(plugins).unwrap_or_default() + "\n"
}

/// A line for each plugin, for logs.
pub(super) fn lines(plugins: &[Scanned]) -> String {
    let lines = plugins.iter().map(|it| {
        let pass = match &it.scanning["pass"] {
            Value::Null => "no pass is under way".to_owned(),
            pass => under_way(&it.plugin, pass),
        };
        format!("{}: {pass}\n", it.plugin)
    });
    lines.collect()
}

/// All there is to say.
pub(super) fn page(plugins: &[Scanned]) -> String {
    if plugins.is_empty() {
        return "no plugin scans on this node\n".to_owned();
    }
    let details: Vec<String> = plugins.iter().map(detail).collect();
    details.join("\n")
}

fn detail(plugin: &Scanned) -> String {
    let report = &plugin.scanning;
    let mut page = format!("{}\n", plugin.plugin);
    let mut line = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(page, "  {name:<11} {value}");
    };
    line("findings", &findings(report));
    match &report["pass"] {
        Value::Null => line("pass", "none under way"),
        pass => line("pass", &under_way(&plugin.plugin, pass)),
    }
    match &report["lastPass"] {
        Value::Null => line("last pass", "none since the daemon started"),
        last => line(
            "last pass",
            &format!(
                "{}, ended {}, took {}{}{}",
                text(&last["kind"]),
                text(&last["ended"]),
                span(last["seconds"].as_f64().unwrap_or(0.0) as u64),
                match last["complete"] == true {
                    true => "",
                    false => "; not complete: the rest is passed again in the next one",
                },
                errors(&last["errors"])
            ),
        ),
    }
    line(
        "judged",
        &format!(
            "{}, {}, in {} and {} as they changed",
            counted(number(&report["files"]), "file"),
            bytes(number(&report["bytes"])),
            counted(number(&report["passes"]), "pass"),
            number(&report["events"])
        ),
    );
    if number(&report["unjudged"]) > 0 {
        let count = number(&report["unjudged"]);
        let files = counted(count, "file");
        line("not judged", &format!("{files}: the plugin failed"));
        for file in report["unjudgedFiles"].as_array().into_iter().flatten() {
            line("", text(file));
        }
    }
    if !report["watched"].is_null() {
        watched(&report["watched"], &mut line);
    }
    if number(&report["assessments"]) > 0 {
        let count = number(&report["assessments"]);
        let last = text(&report["lastAssessment"]);
        let times = counted(count, "time");
        line("node", &format!("judged {times}, last {last}"));
    }
    if number(&report["troubles"]) > 0 {
        let (count, first) = (number(&report["troubles"]), text(&report["firstTrouble"]));
        line("not seen", &format!("{count}, the first: {first}"));
    }
    for destination in report["destinations"].as_array().into_iter().flatten() {
        line("sent to", &sent(destination));
    }
    if let Some(problem) = report["problem"].as_str() {
        line("problem", problem);
    }
    page
}

/// A destination of changes of findings.
fn sent(destination: &Value) -> String {
    let mut said = format!(
        "{} ({}): {}, {}",
        text(&destination["name"]),
        text(&destination["kind"]),
        text(&destination["state"]),
        counted(number(&destination["lines"]), "change")
    );
    for (field, what) in [
        ("waitingChanges", "wait"),
        ("deadLettered", "dead-lettered"),
        ("lostChanges", "lost"),
    ] {
        let count = number(&destination[field]);
        if count > 0 {
            said += &format!(", {count} {what}");
        }
    }
    for (field, what) in [("lastError", "last error: "), ("problem", "")] {
        if let Some(error) = destination[field].as_str() {
            said += &format!("; {what}{error}");
        }
    }
    said
}

fn findings(report: &Value) -> String {
    let open = SEVERITIES.iter().filter_map(|severity| {
        let count = number(&report["findings"][severity]);
        (count > 0).then(|| format!("{count} {severity}"))
    });
    let open: Vec<String> = open.collect();
    let mut said = match open.is_empty() {
        true => "none open".to_owned(),
        false => open.join(", "),
    };
    if number(&report["suppressed"]) > 0 {
        said += &format!("; {} accepted", number(&report["suppressed"]));
    }
    said
}

/// `full, 20 of 80 files, 1.0 MiB of 4.0 MiB (25%), 2 min 5 s left`.
fn under_way(plugin: &str, pass: &Value) -> String {
    let participants = pass["participants"].as_array();
    let me = participants
        .into_iter()
        .flatten()
        .find(|it| it["name"] == plugin);
    let mut said = match me.is_some_and(|me| me["full"] == true) {
        true => "full".to_owned(),
        false => "changed".to_owned(),
    };
    if me.is_some_and(|me| me["resumed"] == true) {
        said += " (goes on after a restart)";
    }
    let of = |expected: Option<String>| expected.map_or(String::new(), |it| format!(" of {it}"));
    let files = pass["expectedFiles"].as_u64().map(|it| it.to_string());
    let length = pass["expectedBytes"].as_u64().map(bytes);
    said += &format!(
        ", {}{} files, {}{}",
        number(&pass["files"]),
        of(files),
        bytes(number(&pass["bytes"])),
        of(length)
    );
    if let Some(done) = pass["done"].as_f64() {
        said += &format!(" ({:.0}%)", (done * 100.0).floor());
    }
    if let Some(left) = pass["remaining"].as_u64() {
        said += &format!(", {} left", span(left));
    }
    if let Some(paused) = pass["paused"].as_str() {
        said += &format!("; paused, since processes of the node wait for {paused}");
    }
    said
}

fn watched(watched: &Value, line: &mut dyn FnMut(&str, &str)) {
    let of = |field: &str, what| counted(number(&watched[field]), what);
    let mut said = format!(
        "{} as a whole, {}; {}",
        of("fileSystems", "file system"),
        of("folders", "folder"),
        of("events", "event")
    );
    if watched["polled"] == true {
        said += "; more folders than can be watched, the rest is scanned every five minutes";
    }
    let rescans = number(&watched["rescans"]);
    if rescans > 0 {
        let times = counted(rescans, "time");
        said += &format!("; scanned again {times}, since there were too many");
    }
    line("watched", &said);
    for reason in watched["fallbacks"].as_array().into_iter().flatten() {
        line("", text(reason));
    }
}

/// What went wrong in a pass, by the numbers of errors: `; Connection timed out (1)`.
fn errors(errors: &Value) -> String {
    let errors = errors.as_object().into_iter().flatten();
    let said = errors.filter_map(|(error, count)| {
        let error = std::io::Error::from_raw_os_error(error.parse().ok()?).to_string();
        let name = error.split(" (os error").next().unwrap_or_default();
        Some(format!("{name} ({})", number(count)))
    });
    let said: Vec<String> = said.collect();
    match said.is_empty() {
        true => String::new(),
        false => format!("; errors: {}", said.join(", ")),
    }
}

/// `1 folder`, `2 folders`.
fn counted(count: u64, what: &str) -> String {
    let plural = match (count, what.ends_with("ss")) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {what}{plural}")
}

/// `2 min 5 s`.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scanned(report: Value) -> Scanned {
        Scanned {
            plugin: "local/scanner".to_owned(),
            scanning: report,
        }
    }

    #[test]
    fn a_pass_under_way_says_how_far_it_is() {
        let mut pass = json!({
            "participants": [
                {"name": "local/other", "full": false, "resumed": true},
                {"name": "local/scanner", "full": true, "resumed": false},
            ],
            "files": 20, "expectedFiles": 80, "bytes": 1 << 20, "expectedBytes": 4 << 20,
            "done": 0.2599, "remaining": 125, "paused": null
        });
        let said = lines(&[scanned(json!({ "pass": pass }))]);
        let wanted =
            "local/scanner: full, 20 of 80 files, 1.0 MiB of 4.0 MiB (25%), 2 min 5 s left\n";
        assert_eq!(said, wanted);
        pass["expectedFiles"] = Value::Null;
        pass["expectedBytes"] = Value::Null;
        pass["done"] = Value::Null;
        pass["remaining"] = Value::Null;
        pass["paused"] = json!("io");
        let said = lines(&[scanned(json!({ "pass": pass }))]);
        let wanted = "local/scanner: full, 20 files, 1.0 MiB; paused, since processes of the node wait for io\n";
        assert_eq!(said, wanted);
    }

    #[test]
    fn open_findings_come_worst_first_and_are_counted() {
        let plugin = scanned(json!({
            "findings": {"info": 4, "low": 0, "medium": 0, "high": 1, "critical": 2},
            "suppressed": 3
        }));
        assert_eq!(open_findings(&plugin), 7);
        let page = page(&[plugin]);
        assert!(
            page.contains("2 critical, 1 high, 4 info; 3 accepted"),
            "{page}"
        );
        assert!(page.contains("none under way"), "{page}");
    }

    #[test]
    fn a_destination_says_what_it_lacks() {
        let mut destination = json!({
            "name": "siem", "kind": "http", "state": "Healthy", "lines": 7,
            "waitingChanges": 0, "deadLettered": 0, "lostChanges": 0
        });
        assert_eq!(sent(&destination), "siem (http): Healthy, 7 changes");
        destination["state"] = json!("Retrying");
        destination["lostChanges"] = json!(3);
        destination["lastError"] = json!("cannot connect");
        let wanted = "siem (http): Retrying, 7 changes, 3 lost; last error: cannot connect";
        assert_eq!(sent(&destination), wanted);
    }

    #[test]
    fn one_is_singular() {
        let report = json!({
            "watched": {"fileSystems": 1, "folders": 2, "events": 1, "rescans": 1},
            "assessments": 1, "lastAssessment": "x",
        });
        let page = page(&[scanned(report)]);
        for said in [
            "1 file system as a whole, 2 folders; 1 event; scanned again 1 time, ",
            "judged 1 time, last x",
        ] {
            assert!(page.contains(said), "{page}");
        }
        let destination = json!({"name": "a", "kind": "file", "state": "Healthy", "lines": 1});
        assert_eq!(sent(&destination), "a (file): Healthy, 1 change");
    }

    #[test]
    fn a_pass_that_was_not_complete_says_what_went_wrong() {
        let report = json!({"lastPass": {
            "kind": "changed", "ended": "x", "seconds": 1.0, "complete": false,
            "errors": {"110": 1, "13": 2},
        }});
        let page = page(&[scanned(report)]);
        let said = "Connection timed out (1), Permission denied (2)";
        assert!(page.contains(said), "{page}");
    }

    #[test]
    fn spans_have_two_units() {
        let said = [59, 60, 3599, 3600, 90_061].map(span);
        let wanted = [
            "59 s",
            "1 min 0 s",
            "59 min 59 s",
            "1 h 0 min",
            "25 h 1 min",
        ];
        assert_eq!(said, wanted);
    }
}
