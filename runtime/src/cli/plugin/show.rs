//! Calls of a plugin, for people: what it was given, and what it made of it.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use serde_json::Value;
use similar::TextDiff;

use super::recording::{bytes, span};
use crate::cli::table::tame;
use crate::sandbox::Told;

/// A route that is none.
const NO_ROUTE: u64 = u32::MAX as u64;

/// The call in a few lines; empty if there is nothing to see.
pub(super) fn text(told: &Told) -> String {
    let mut page = String::new();
    if told.missing > 0 {
        // Writing to a string does not fail.
        let _ = writeln!(
            page,
            "...  {} calls are missing: they came too fast",
            told.missing
        );
    }
    for import in told
        .imports
        .iter()
        .filter(|import| import.call == "log.write")
    {
        let text = |index: usize| import.arguments.get(index).and_then(Value::as_str);
        let level = text(0).unwrap_or_default().to_lowercase();
        let _ = write!(page, "log  {level}: {}", text(2).unwrap_or_default());
        match text(3) {
            Some(fields) if !fields.is_empty() => {
                let _ = writeln!(page, " {{{fields}}}");
            }
            _ => page.push('\n'),
        }
    }
    if let Some(failure) = &told.failure {
        let _ = writeln!(page, "FAILED  {failure}");
        for frame in &told.backtrace {
            let _ = writeln!(page, "  at {frame}");
        }
        return tame(&page);
    }
    let answer = match (told.result.get("Ok"), told.result.get("Err")) {
        (_, Some(error)) => {
            let error = error.get("message").unwrap_or(error);
            let _ = writeln!(page, "ERROR  {}: {}", told.call, plain(error));
            return tame(&page);
        }
        (Some(answer), None) => answer,
        (None, None) => &told.result,
    };
    let given = told.arguments.first().unwrap_or(&Value::Null);
    match told.call.as_str() {
        "logs.process" => lines(given, answer, &mut page),
        "metrics.collect" => families(answer, &mut page),
        "enforcement.plan" => changes(given, answer, &mut page),
        "scanning.scan" | "scanning.end" | "scanning.assess" => findings(given, answer, &mut page),
        _ => {}
    }
    tame(&page)
}

/// How many lines the call was about.
pub(super) fn count(told: &Told) -> usize {
    let batch = told.arguments.first().unwrap_or(&Value::Null);
    match told.call.as_str() {
        "logs.process" => batch["lines"].as_array().map_or(0, Vec::len),
        _ => 0,
    }
}

fn plain(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// `= ` kept, `- ` dropped, `~ ` changed and what became of it.
fn lines(batch: &Value, verdict: &Value, page: &mut String) {
    let all = bytes(&batch["bytes"]);
    let set = |lines: &Value| -> HashSet<u64> { list(lines).iter().map(number).collect() };
    let encoded = set(&verdict["Encoded"]["lines"]);
    let kept = set(&verdict["Keep"]);
    let rewrite = &verdict["Rewrite"];
    let mut changed: HashMap<u64, Vec<&Value>> = HashMap::new();
    for record in list(&rewrite["lines"]) {
        changed
            .entry(number(&record["line"]))
            .or_default()
            .push(record);
    }
    let own = bytes(&rewrite["bytes"]);
    for (index, line) in list(&batch["lines"]).iter().enumerate() {
        let index = index as u64;
        let text = span(&all, line, "offset", "length");
        let text = String::from_utf8_lossy(text);
        if verdict == "KeepAll" || kept.contains(&index) {
            let _ = writeln!(page, "= {text}");
        } else if let Some(records) = changed.get(&index) {
            let _ = writeln!(page, "~ {text}");
            for record in records {
                became(record, rewrite, &own, &all, page);
            }
        } else if encoded.contains(&index) {
            let _ = writeln!(page, "> {text}");
        } else {
            let _ = writeln!(page, "- {text}");
        }
    }
    let held = bytes(&verdict["Encoded"]["bytes"]);
    for payload in list(&verdict["Encoded"]["payloads"]) {
        let payload = span(&held, payload, "offset", "length");
        let _ = writeln!(
            page,
            "  payload of {} bytes: {}",
            payload.len(),
            String::from_utf8_lossy(payload)
        );
    }
}

fn became(record: &Value, rewrite: &Value, own: &[u8], batch: &[u8], page: &mut String) {
    let of_batch = number(&record["flags"]) & 1 == 1;
    let body = span(
        if of_batch { batch } else { own },
        record,
        "body_offset",
        "body_length",
    );
    let fields = span(own, record, "fields_offset", "fields_length");
    let _ = write!(page, "  {}", String::from_utf8_lossy(body));
    if !fields.is_empty() {
        let _ = write!(page, "  {{{}}}", String::from_utf8_lossy(fields));
    }
    let route = number(&record["route"]);
    if route != NO_ROUTE {
        let names = &rewrite["routes"][usize::try_from(route).unwrap_or(usize::MAX)];
        let names: Vec<String> = list(names).iter().map(plain).collect();
        let _ = write!(page, "  -> {}", names.join(", "));
    }
    page.push('\n');
}

/// As a scrape shows them.
fn families(found: &Value, page: &mut String) {
    let held = bytes(&found["bytes"]);
    let word = |holder: &Value, name: &str| {
        let text = span(
            &held,
            holder,
            &format!("{name}_offset"),
            &format!("{name}_length"),
        );
        String::from_utf8_lossy(text).into_owned()
    };
    let families = list(&found["families"]);
    let mut labels = list(&found["labels"]).iter();
    for series in list(&found["series"]) {
        let family = usize::try_from(number(&series["family"])).unwrap_or(usize::MAX);
        let family = families.get(family).unwrap_or(&Value::Null);
        let count = usize::try_from(number(&series["labels"])).unwrap_or(0);
        let labels: Vec<String> = labels
            .by_ref()
            .take(count)
            .map(|label| format!("{}={:?}", word(label, "name"), word(label, "value")))
            .collect();
        let kind = plain(&family["kind"]).to_lowercase();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let observed = match kind.as_str() {
            "histogram" | "summary" => format!(" sum, {} observations", series["count"]),
            _ => String::new(),
        };
        let _ = writeln!(
            page,
            "{kind}  {}{labels} {}{observed}",
            word(family, "name"),
            plain(&series["value"])
        );
    }
}

/// What would be changed, files as a diff.
fn changes(view: &Value, proposal: &Value, page: &mut String) {
    let seen = bytes(&view["bytes"]);
    if list(&proposal["changes"]).is_empty() {
        page.push_str("nothing to change\n");
    }
    for change in list(&proposal["changes"]) {
        let action = change["action"]
            .as_object()
            .and_then(|action| action.iter().next());
        let Some((kind, action)) = action else {
            continue;
        };
        let _ = writeln!(
            page,
            "change  {}: {kind} {}",
            plain(&change["id"]),
            target(action)
        );
        if change["secret"] == true {
            page.push_str("  its content is secret\n");
            continue;
        }
        if kind == "WriteFile" && !action["content"].is_null() {
            let path = plain(&action["path"]);
            let mut files = list(&view["files"]).iter();
            let before = files
                .find(|file| span(&seen, file, "path_offset", "path_length") == path.as_bytes());
            let before = before.map_or(&b""[..], |file| span(&seen, file, "offset", "length"));
            let before = String::from_utf8_lossy(before);
            let after = bytes(&action["content"]);
            let after = String::from_utf8_lossy(&after);
            let diff = TextDiff::from_lines(&*before, &*after);
            let diff = diff.unified_diff().header(&path, &path).to_string();
            page.push_str(&diff);
        }
    }
    for assessed in list(&proposal["assessments"]) {
        let verdict = plain(&assessed["verdict"]).to_lowercase();
        let _ = writeln!(
            page,
            "rule {}  {verdict}  {}",
            assessed["rule"],
            plain(&assessed["message"])
        );
    }
}

fn target(action: &Value) -> String {
    let named = ["path", "name"].iter().find_map(|key| action.get(*key));
    let named = plain(named.unwrap_or(action));
    match ["value", "change", "target"]
        .iter()
        .find_map(|key| action.get(*key))
    {
        Some(what) => format!("{named} {}", plain(what)),
        None => named,
    }
}

fn findings(given: &Value, found: &Value, page: &mut String) {
    let held = bytes(&given["bytes"]);
    for finding in list(found) {
        let subject = &finding["subject"];
        let subject = match subject["File"].as_u64() {
            Some(index) => {
                let file = &given["files"][usize::try_from(index).unwrap_or(usize::MAX)];
                let path = span(&held, file, "path_offset", "path_length");
                String::from_utf8_lossy(path).into_owned()
            }
            None => plain(
                subject
                    .get("Path")
                    .or(subject.get("Other"))
                    .unwrap_or(subject),
            ),
        };
        let _ = writeln!(
            page,
            "finding  {}  {}  {subject}  {} {}",
            plain(&finding["severity"]).to_lowercase(),
            plain(&finding["rule"]),
            plain(&finding["message"]),
            plain(&finding["evidence"])
        );
    }
    if list(found).is_empty() {
        page.push_str("no findings\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(call: &str, given: Value, answer: Value) -> String {
        text(&Told {
            call: call.to_owned(),
            arguments: vec![given],
            result: json!({ "Ok": answer }),
            ..Told::default()
        })
    }

    #[test]
    fn lines_show_what_became_of_them() {
        let batch = json!({"sources": [], "bytes": "abc", "lines": [
            {"offset": 0, "length": 1}, {"offset": 1, "length": 1}, {"offset": 2, "length": 1},
        ]});
        let kept = shown("logs.process", batch.clone(), json!({"Keep": [0, 2]}));
        assert_eq!(kept, "= a\n- b\n= c\n");
        let rewrite = json!({"Rewrite": {
            "bytes": "B\"x\":1", "routes": [["errors"]],
            "lines": [{"line": 1, "flags": 0, "body_offset": 0, "body_length": 1,
                "fields_offset": 1, "fields_length": 5, "route": 0}],
        }});
        let changed = shown("logs.process", batch, rewrite);
        assert_eq!(changed, "- a\n~ b\n  B  {\"x\":1}  -> errors\n- c\n");
    }

    #[test]
    fn changes_show_a_diff() {
        let view = json!({"bytes": "/etc/motdold\n", "files": [
            {"path_offset": 0, "path_length": 9, "offset": 9, "length": 4},
        ]});
        let plan = json!({"changes": [{"id": "motd", "secret": false,
            "action": {"WriteFile": {"path": "/etc/motd", "content": "new\n"}}}], "assessments": []});
        let page = shown("enforcement.plan", view, plan);
        assert!(page.contains("-old\n+new\n"), "{page}");
        assert!(
            page.starts_with("change  motd: WriteFile /etc/motd\n"),
            "{page}"
        );
    }
}
