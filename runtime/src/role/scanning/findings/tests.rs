#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use glob::Pattern;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::manifest::{Identity, Suppression};
use crate::sandbox::bindings::scanning::exports::bulkhead::plugin::scanning as wit;

struct Rig {
    folder: TempDir,
    findings: Findings,
    plugin: Identity,
}

impl Rig {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let findings = Findings::open(folder.path(), limits).unwrap().findings;
        let plugin = Identity::new("local", "scanner").unwrap();
        let rig = Self {
            folder,
            findings,
            plugin,
        };
        rig.enrol(&[]).await;
        rig
    }

    async fn enrol(&self, suppress: &[Suppression]) {
        let rule = wit::Rule {
            id: "miner".to_owned(),
            title: "A file is a miner".to_owned(),
            severity: wit::Severity::High,
            rationale: "Somebody else uses the node.".to_owned(),
            remediation: String::new(),
            references: vec!["https://rule.example".to_owned()],
        };
        let rules = Arc::new(Rules::check(vec![rule]).unwrap());
        let enrolled = self.findings.enrol(&self.plugin, rules, suppress);
        enrolled.await.unwrap();
    }

    /// Ends the daemon, and starts another one.
    async fn restart(self) -> Self {
        let Self {
            folder,
            findings,
            plugin,
        } = self;
        drop(findings);
        // The thread has the file for a moment more.
        let deadline = Instant::now() + Duration::from_secs(20);
        let findings = loop {
            match Findings::open(folder.path(), Limits::default()) {
                Ok(findings) => break findings,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        Self {
            folder,
            findings: findings.findings,
            plugin,
        }
    }

    async fn judge(&self, path: &str, found: &[Found]) {
        let file = Judged {
            path: path.as_bytes(),
            findings: found.to_vec(),
        };
        self.findings.judge(&self.plugin, [file]).await.unwrap();
    }

    async fn assess(&self, found: &[Found]) {
        let replaced = self
            .findings
            .replace(&self.plugin, Whole::Node, found.to_vec());
        replaced.await.unwrap();
    }

    async fn gone(&self, path: &str) {
        let paths = vec![path.as_bytes().to_vec()];
        self.findings.gone(&self.plugin, paths).await.unwrap();
    }

    async fn gone_below(&self, folder: &str) {
        let folder = folder.as_bytes().to_vec();
        self.findings
            .gone_below(&self.plugin, folder)
            .await
            .unwrap();
    }

    async fn query(&self, query: Query) -> Page {
        self.findings.query(query).await.unwrap()
    }

    /// Rule, subject and state of all that is kept, latest first.
    async fn all(&self) -> Vec<(String, String, FindingState)> {
        let page = self.query(everything()).await;
        let items = page.items.into_iter();
        let brief = items.map(|item| {
            let subject = match item.subject {
                SubjectReport::File { path, .. } => path,
                SubjectReport::Other { name } => name,
            };
            (item.rule, subject, item.state)
        });
        brief.collect()
    }
}

fn everything() -> Query {
    Query {
        states: States {
            open: true,
            suppressed: true,
            resolved: true,
        },
        limit: 1000,
        ..Query::default()
    }
}

fn found(rule: &str, subject: Subject) -> Found {
    Found {
        rule: rule.to_owned(),
        severity: Severity::High,
        subject,
        message: "it was found".to_owned(),
        evidence: r#"{"offset":5}"#.to_owned(),
        references: Vec::new(),
        fingerprint: String::new(),
    }
}

fn in_file(rule: &str, path: &str) -> Found {
    found(rule, Subject::File(path.as_bytes().to_vec()))
}

fn other(rule: &str, name: &str) -> Found {
    found(rule, Subject::Other(name.to_owned()))
}

fn brief(rule: &str, subject: &str, state: FindingState) -> (String, String, FindingState) {
    (rule.to_owned(), subject.to_owned(), state)
}

use FindingState::{Open, Resolved, Suppressed};

#[tokio::test]
async fn a_file_is_replaced_as_a_whole() {
    let rig = Rig::new().await;
    let (a, b) = (in_file("a", "/x"), in_file("b", "/x"));
    rig.judge("/x", &[a.clone(), a.clone(), b.clone()]).await;
    rig.judge("/y", &[in_file("a", "/y")]).await;
    let opened = [
        brief("a", "/y", Open),
        brief("b", "/x", Open),
        brief("a", "/x", Open),
    ];
    assert_eq!(rig.all().await, opened);
    rig.judge("/x", &[b]).await;
    assert_eq!(rig.all().await[2], brief("a", "/x", Resolved));
    assert_eq!(rig.all().await[1], brief("b", "/x", Open));
    rig.judge("/x", &[a]).await;
    let all = rig.all().await;
    assert_eq!(all[1], brief("b", "/x", Resolved));
    // It is the same finding again, with its number.
    assert_eq!(all[2], brief("a", "/x", Open));
    rig.judge("/x", &[]).await;
    let tally = rig.findings.tally(&rig.plugin);
    assert_eq!(
        (tally.open.high, tally.open.total(), tally.resolved),
        (1, 1, 2)
    );
}

#[tokio::test]
async fn fingerprints_tell_findings_apart() {
    let rig = Rig::new().await;
    let mut first = in_file("a", "/x");
    let mut second = first.clone();
    "1".clone_into(&mut first.fingerprint);
    "2".clone_into(&mut second.fingerprint);
    rig.judge("/x", &[first, second]).await;
    assert_eq!(rig.findings.tally(&rig.plugin).open.total(), 2);
}

#[tokio::test]
async fn scopes_do_not_resolve_each_other() {
    let rig = Rig::new().await;
    rig.judge("/x", &[in_file("a", "/x")]).await;
    rig.assess(&[other("b", "user/eve"), in_file("a", "/x")])
        .await;
    let pass = vec![in_file("gone", "/z")];
    let replaced = rig.findings.replace(&rig.plugin, Whole::Pass, pass);
    replaced.await.unwrap();
    rig.assess(&[]).await;
    assert_eq!(
        rig.all().await,
        [
            brief("gone", "/z", Open),
            brief("a", "/x", Resolved),
            brief("b", "user/eve", Resolved),
            brief("a", "/x", Open),
        ]
    );
}

#[tokio::test]
async fn another_plugin_is_left_alone() {
    let rig = Rig::new().await;
    rig.judge("/x", &[in_file("a", "/x")]).await;
    let plugin = Identity::new("local", "scanner-2").unwrap();
    let second = Rig {
        folder: tempfile::tempdir().unwrap(),
        findings: rig.findings.clone(),
        plugin,
    };
    second.judge("/x", &[in_file("a", "/x")]).await;
    second.gone("/x").await;
    second.judge("/x", &[in_file("a", "/x")]).await;
    second.gone_below("/").await;
    assert_eq!(second.findings.tally(&second.plugin).open.total(), 0);
    assert_eq!(rig.findings.tally(&rig.plugin).open.total(), 1);
    rig.findings.forget(&rig.plugin).await.unwrap();
    assert_eq!(rig.all().await, [brief("a", "/x", Resolved)]);
    assert_eq!(rig.findings.tallies().len(), 1);
}

#[tokio::test]
async fn what_is_left_out_is_resolved_with_the_reason_and_opens_again() {
    let rig = Rig::new().await;
    rig.judge("/x", &[in_file("miner", "/x"), in_file("other", "/x")])
        .await;
    rig.judge("/xy", &[in_file("miner", "/xy")]).await;
    let mut changes = rig.findings.changes();
    let left_out = vec![b"/x".to_vec(), b"/nothing".to_vec()];
    rig.findings.left_out(&rig.plugin, left_out).await.unwrap();
    let Some(Heard::Change(change)) = changes.next().await else {
        panic!("no change");
    };
    let told: Value = serde_json::from_str(&change.line()).unwrap();
    assert_eq!(told["state"], "resolved");
    assert_eq!(told["reason"], "its file is not scanned any more");
    let rig = rig.restart().await;
    let items = rig.query(everything()).await.items;
    let reasons: Vec<_> = items
        .iter()
        .map(|it| (it.state, it.reason.as_deref()))
        .collect();
    let out = Some("its file is not scanned any more");
    use FindingState::{Open, Resolved};
    assert_eq!(reasons, [(Open, None), (Resolved, out), (Resolved, out)]);
    // It is scanned again: one is there still.
    rig.judge("/x", &[in_file("miner", "/x")]).await;
    assert_eq!(rig.findings.tally(&rig.plugin).resolved, 1);
}

#[tokio::test]
async fn what_is_gone_is_resolved() {
    let rig = Rig::new().await;
    for path in ["/a", "/a/b", "/a/b/c", "/ab"] {
        rig.judge(path, &[in_file("x", path)]).await;
    }
    rig.gone("/nothing").await;
    rig.gone("/a").await;
    rig.gone_below("/a/b").await;
    assert_eq!(
        rig.all().await,
        [
            brief("x", "/ab", Open),
            brief("x", "/a/b/c", Resolved),
            brief("x", "/a/b", Open),
            brief("x", "/a", Resolved),
        ]
    );
    let (files, next) = rig.findings.files(&rig.plugin, None, 1).await.unwrap();
    assert_eq!(files, [b"/a/b"]);
    let (files, next) = rig.findings.files(&rig.plugin, next, 1).await.unwrap();
    assert_eq!(files, [b"/ab"]);
    let (files, _) = rig.findings.files(&rig.plugin, next, 9).await.unwrap();
    assert!(files.is_empty(), "{files:?}");
    rig.gone_below("/").await;
    assert_eq!(rig.findings.tally(&rig.plugin).open.total(), 0);
}

fn suppression(rule: &str, subject: Option<&str>, until: Option<&str>) -> Suppression {
    Suppression {
        rule: rule.to_owned().try_into().unwrap(),
        subject: subject.map(str::to_owned),
        reason: "we know".to_owned(),
        until: until.map(|until| until.parse().unwrap()),
    }
}

#[tokio::test]
async fn what_is_accepted_stays_visible_as_such() {
    let rig = Rig::new().await;
    rig.judge("/opt/x", &[in_file("m1", "/opt/x")]).await;
    let mut changes = rig.findings.changes();
    rig.enrol(&[
        suppression("m*", Some("/opt/*"), Some("2999-12-31")),
        suppression("*", Some("/srv/*"), Some("2001-01-01")),
    ])
    .await;
    rig.judge("/srv/x", &[in_file("m1", "/srv/x")]).await;
    rig.judge("/opt/y", &[in_file("m2", "/opt/y"), in_file("n", "/opt/y")])
        .await;
    assert_eq!(
        rig.all().await,
        [
            brief("n", "/opt/y", Open),
            brief("m2", "/opt/y", Suppressed),
            brief("m1", "/srv/x", Open),
            brief("m1", "/opt/x", Suppressed),
        ]
    );
    let tally = rig.findings.tally(&rig.plugin);
    assert_eq!((tally.open.total(), tally.suppressed), (2, 2));
    let page = rig.query(everything()).await;
    assert_eq!(page.items[3].reason.as_deref(), Some("we know"));
    // Taken back: what is still so is open again.
    rig.enrol(&[]).await;
    rig.judge("/opt/y", &[]).await;
    assert_eq!(rig.all().await[3], brief("m1", "/opt/x", Open));
    assert_eq!(rig.findings.tally(&rig.plugin).suppressed, 0);
    let mut states = Vec::new();
    for _ in 0..8 {
        let Some(Heard::Change(change)) = changes.next().await else {
            panic!("{states:?}");
        };
        let line: Value = serde_json::from_str(&change.line()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        states.push((text(&line["state"]), text(&line["rule"])));
    }
    let told = |state: &str, rule: &str| (state.to_owned(), rule.to_owned());
    assert_eq!(
        states,
        [
            told("suppressed", "m1"),
            told("opened", "m1"),
            told("suppressed", "m2"),
            told("opened", "n"),
            told("opened", "m1"),
            told("opened", "m2"),
            told("resolved", "m2"),
            told("resolved", "n"),
        ]
    );
}

#[test]
fn a_suppression_ends_with_its_day() {
    let day = |text: &str| text.parse().unwrap();
    let entries = suppress::Suppressions::new(&[suppression("a", None, Some("2027-03-31"))]);
    let finding = other("a", "x");
    assert!(entries.reason(&finding, day("2027-03-31")).is_some());
    assert!(entries.reason(&finding, day("2027-04-01")).is_none());
    assert!(
        entries
            .reason(&other("b", "x"), day("2027-03-31"))
            .is_none()
    );
    assert!(entries.differ(day("2027-03-31"), day("2027-04-01")));
    assert!(!entries.differ(day("2027-03-30"), day("2027-03-31")));
    // The clock was set back.
    assert!(entries.differ(day("2027-04-02"), day("2027-03-01")));
}

#[tokio::test]
async fn changes_are_told_as_one_object_each() {
    let rig = Rig::new().await;
    let mut changes = rig.findings.changes();
    rig.judge("/tmp/x", &[in_file("miner", "/tmp/x")]).await;
    rig.judge("/tmp/x", &[in_file("miner", "/tmp/x")]).await;
    rig.judge("/tmp/x", &[]).await;
    rig.judge("/tmp/x", &[in_file("miner", "/tmp/x")]).await;
    for state in ["opened", "resolved", "reopened"] {
        let Some(Heard::Change(change)) = changes.next().await else {
            panic!("{state}");
        };
        let mut line: Value = serde_json::from_str(&change.line()).unwrap();
        let object = line.as_object_mut().unwrap();
        for time in ["time", "firstSeen", "lastSeen"] {
            let time = object.remove(time).unwrap();
            let time: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
            assert!(time.duration_until(jiff::Timestamp::now()).as_secs() < 60);
        }
        assert_eq!(
            line,
            json!({
                "state": state,
                "severity": "high",
                "rule": "miner",
                "title": "A file is a miner",
                "plugin": "local/scanner",
                "subject": {"kind": "file", "path": "/tmp/x"},
                "message": "it was found",
                "evidence": {"offset": 5},
                "references": ["https://rule.example"],
                "fingerprint": "",
            })
        );
    }
}

#[tokio::test]
async fn a_slow_listener_hears_that_it_lost_some() {
    let rig = Rig::new().await;
    let mut changes = rig.findings.changes();
    let many: Vec<Found> = (0..5000)
        .map(|i| other("a", &format!("user/{i}")))
        .collect();
    rig.assess(&many).await;
    assert_eq!(changes.next().await, Some(Heard::Lost(5000 - 4096)));
    assert!(matches!(changes.next().await, Some(Heard::Change(_))));
}

#[tokio::test]
async fn all_is_there_after_a_restart() {
    let rig = Rig::new().await;
    rig.judge("/x", &[in_file("a", "/x"), in_file("b", "/x")])
        .await;
    rig.judge("/x", &[in_file("b", "/x")]).await;
    rig.assess(&[other("c", "user/eve")]).await;
    let before = rig.query(everything()).await;
    let rig = rig.restart().await;
    let tally = rig.findings.tally(&rig.plugin);
    assert_eq!((tally.open.total(), tally.resolved), (2, 1));
    let after = rig.query(everything()).await;
    assert_eq!(
        after
            .items
            .iter()
            .map(|it| it.first_seen)
            .collect::<Vec<_>>(),
        before
            .items
            .iter()
            .map(|it| it.first_seen)
            .collect::<Vec<_>>()
    );
    // What was found before is known, also that there was something at all.
    rig.judge("/x", &[]).await;
    rig.assess(&[other("d", "user/eve")]).await;
    assert_eq!(
        rig.all().await,
        [
            brief("d", "user/eve", Open),
            brief("c", "user/eve", Resolved),
            brief("b", "/x", Resolved),
            brief("a", "/x", Resolved),
        ]
    );
}

#[tokio::test]
async fn what_is_too_much_is_counted_and_comes_when_there_is_room() {
    let rig = Rig::with(Limits {
        open: 3,
        ..Limits::default()
    })
    .await;
    let users = |names: &[&str]| {
        names
            .iter()
            .map(|name| other("a", name))
            .collect::<Vec<_>>()
    };
    rig.assess(&users(&["1", "2", "3", "4", "5"])).await;
    let tally = rig.findings.tally(&rig.plugin);
    assert_eq!((tally.open.total(), tally.dropped), (3, 2));
    rig.judge("/x", &[in_file("a", "/x")]).await;
    assert_eq!(rig.findings.tally(&rig.plugin).dropped, 3);
    // What goes makes room for what comes at once.
    rig.assess(&users(&["1", "4", "5"])).await;
    let tally = rig.findings.tally(&rig.plugin);
    assert_eq!(
        (tally.open.total(), tally.dropped, tally.resolved),
        (3, 3, 2)
    );
    // A file of which nothing is kept is judged again all the same.
    rig.assess(&[]).await;
    rig.judge("/x", &[in_file("a", "/x")]).await;
    assert_eq!(rig.findings.tally(&rig.plugin).open.total(), 1);
}

#[tokio::test]
async fn what_was_resolved_goes_when_it_is_old_or_too_much() {
    let rig = Rig::with(Limits {
        resolved: 2,
        ..Limits::default()
    })
    .await;
    let users: Vec<Found> = ["1", "2", "3"].map(|name| other("a", name)).into();
    rig.assess(&users).await;
    rig.assess(&users[2..]).await;
    rig.assess(&[]).await;
    assert_eq!(
        rig.all().await,
        [brief("a", "3", Resolved), brief("a", "2", Resolved)]
    );
    assert_eq!(rig.findings.tally(&rig.plugin).resolved, 2);
    // What came back stays, however long ago it was resolved first.
    rig.assess(&users[1..2]).await;
    rig.judge("/x", &[in_file("a", "/x")]).await;
    rig.judge("/x", &[]).await;
    rig.judge("/y", &[in_file("a", "/y")]).await;
    rig.judge("/y", &[]).await;
    assert_eq!(
        rig.all().await,
        [
            brief("a", "/y", Resolved),
            brief("a", "/x", Resolved),
            brief("a", "2", Open)
        ]
    );

    let rig = Rig::with(Limits {
        retention: Duration::ZERO,
        ..Limits::default()
    })
    .await;
    rig.assess(&users).await;
    rig.assess(&[]).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    // The next millisecond must come.
    while rig.findings.tally(&rig.plugin).resolved > 0 {
        assert!(Instant::now() < deadline);
        rig.assess(&[]).await;
    }
    assert!(rig.all().await.is_empty());
}

#[tokio::test]
async fn pages_have_all_once_in_order_whatever_changes() {
    let rig = Rig::new().await;
    let users: Vec<Found> = (0..10).map(|i| other("a", &i.to_string())).collect();
    rig.assess(&users).await;
    let page = |before| Query {
        limit: 4,
        before,
        ..everything()
    };
    let first = rig.query(page(None)).await;
    // Something changes under the reader.
    rig.assess(&users[1..]).await;
    rig.judge("/x", &[in_file("a", "/x")]).await;
    let second = rig.query(page(first.next)).await;
    let third = rig.query(page(second.next)).await;
    let pages = [first, second, third];
    let names: Vec<&SubjectReport> = pages
        .iter()
        .flat_map(|page| page.items.iter().map(|item| &item.subject))
        .collect();
    let expected: Vec<SubjectReport> = (0..10)
        .rev()
        .map(|i| SubjectReport::Other {
            name: i.to_string(),
        })
        .collect();
    assert_eq!(names, expected.iter().collect::<Vec<_>>());
    assert_eq!(pages[2].next, None);
}

#[tokio::test]
async fn each_filter_leaves_out_what_does_not_fit() {
    let rig = Rig::new().await;
    let mut low = other("weak-cipher", "host/a");
    low.severity = Severity::Low;
    rig.assess(&[low, other("uid-0", "user/eve"), other("uid-1", "user/bob")])
        .await;
    rig.assess(&[other("uid-0", "user/eve"), other("uid-1", "user/bob")])
        .await;
    let count = async |change: fn(&mut Query)| {
        let mut query = everything();
        change(&mut query);
        rig.query(query).await.items.len()
    };
    assert_eq!(count(|_| ()).await, 3);
    assert_eq!(count(|it| it.states = States::default()).await, 2);
    assert_eq!(count(|it| it.severity = Some(Severity::Medium)).await, 2);
    assert_eq!(count(|it| it.rule = Pattern::new("uid-*").ok()).await, 2);
    assert_eq!(count(|it| it.rule = Pattern::new("uid-0").ok()).await, 1);
    assert_eq!(count(|it| it.subject = Some("user/".into())).await, 2);
    assert_eq!(count(|it| it.name = Some("scanner".into())).await, 3);
    assert_eq!(count(|it| it.name = Some("scan".into())).await, 0);
    assert_eq!(
        count(|it| it.namespace = Some("kube-system".into())).await,
        0
    );
    assert_eq!(count(|it| it.since = Some(jiff::Timestamp::MAX)).await, 0);
    assert_eq!(
        count(|it| it.since = Some(jiff::Timestamp::UNIX_EPOCH)).await,
        3
    );
    assert_eq!(count(|it| it.limit = 1).await, 1);
    let page = rig.query(everything()).await;
    assert_eq!(page.items[2].state, Resolved);
}

#[tokio::test]
async fn a_name_of_any_bytes_comes_back() {
    let rig = Rig::new().await;
    let path = b"/tmp/a\n\xff";
    let judged = Judged {
        path,
        findings: vec![found("a", Subject::File(path.to_vec()))],
    };
    rig.findings.judge(&rig.plugin, [judged]).await.unwrap();
    let item = rig.query(everything()).await.items.remove(0);
    let json = serde_json::to_value(&item).unwrap();
    assert_eq!(
        json["subject"],
        json!({"kind": "file", "path": "/tmp/a\n\u{fffd}", "pathBytes": "L3RtcC9hCv8="})
    );
}

#[test]
fn rules_with_few_findings_are_counted_together() {
    let record = |rule: &str| record::Record {
        plugin: "local/a".to_owned(),
        scope: record::Scope::Node,
        found: other(rule, "x"),
        title: String::new(),
        state: record::State::Open,
        first_seen: 0,
        last_seen: 0,
        changed: 0,
    };
    let mut tally = Tally::default();
    for rule in ["b", "a", "c", "c", "d"] {
        tally.add(&record(rule));
    }
    tally.add(&record("e"));
    tally.remove(&record("e"));
    let counts = tally.rules(2);
    let brief: Vec<_> = counts
        .iter()
        .map(|count| (count.rule.as_deref(), count.open.high))
        .collect();
    assert_eq!(brief, [(Some("c"), 2), (Some("a"), 1), (None, 2)]);
    assert_eq!(tally.rules(9).len(), 4);
}

#[tokio::test]
async fn a_damaged_store_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("findings.redb"), vec![7; 9000]).unwrap();
    let opened = Findings::open(folder.path(), Limits::default()).unwrap();
    assert!(opened.set_aside.unwrap().path.exists());
    assert!(opened.findings.tallies().is_empty());
}

/// Not a promise about a machine, only that a first scan that finds a lot does not take minutes.
#[tokio::test]
async fn a_hundred_thousand_findings_are_kept_in_seconds() {
    let rig = Rig::new().await;
    let begin = Instant::now();
    for batch in 0..100 {
        let files: Vec<String> = (0..1000).map(|i| format!("/srv/{batch}/{i}")).collect();
        let judged = files.iter().map(|path| Judged {
            path: path.as_bytes(),
            findings: vec![in_file("miner", path)],
        });
        rig.findings.judge(&rig.plugin, judged).await.unwrap();
    }
    let kept = begin.elapsed();
    assert_eq!(rig.findings.tally(&rig.plugin).open.total(), 100_000);
    let begin = Instant::now();
    let page = rig
        .query(Query {
            subject: Some("/srv/0/0".into()),
            ..everything()
        })
        .await;
    // The second half is another page.
    assert!(page.items.is_empty() && page.next.is_some());
    println!(
        "kept in {kept:?}, looked through half in {:?}",
        begin.elapsed()
    );
    assert!(kept < Duration::from_secs(60), "{kept:?}");
}
