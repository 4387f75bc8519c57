#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn grants() -> ChangeGrants {
    serde_json::from_str(
        r#"{"files":["/etc/app","/etc/motd"],"sysctls":["net.ipv4.*"],"kernelModules":["br_netfilter"],"units":["ssh.service"]}"#,
    )
    .unwrap()
}

fn no_permissions() -> wit::Permissions {
    wit::Permissions {
        mode: None,
        uid: None,
        gid: None,
    }
}

fn write(path: &str) -> wit::Action {
    wit::Action::WriteFile(wit::WriteFile {
        path: path.to_owned(),
        content: Some(Vec::new()),
        permissions: no_permissions(),
    })
}

fn change(id: &str, action: wit::Action, after: &[&str]) -> wit::Change {
    wit::Change {
        id: id.to_owned(),
        rule: None,
        reason: String::new(),
        action,
        after: after.iter().map(|&id| id.to_owned()).collect(),
        when_changed: Vec::new(),
        secret: false,
    }
}

fn check(changes: Vec<wit::Change>) -> Result<Plan, String> {
    let proposal = wit::Proposal {
        changes,
        assessments: Vec::new(),
    };
    Plan::check(proposal, 0, &grants())
}

fn order(plan: &Plan) -> Vec<&str> {
    plan.changes.iter().map(|it| &*it.change.id).collect()
}

fn why<'a>(plan: &'a Plan, id: &str) -> &'a str {
    &plan.refused.iter().find(|it| *it.id == *id).unwrap().why
}

#[test]
fn changes_come_after_those_that_they_wait_for() {
    let plan = check(vec![
        change("c", write("/etc/app/c"), &["b", "a"]),
        change("b", write("/etc/app/b"), &["a"]),
        change("a", write("/etc/app/a"), &[]),
        change("d", write("/etc/app/d"), &[]),
    ]);
    let plan = plan.unwrap();
    assert_eq!(order(&plan), ["a", "d", "b", "c"]);
    assert_eq!(plan.changes[3].after, [2, 0]);
    assert!(plan.refused.is_empty());
}

#[test]
fn a_cycle_costs_those_in_it_and_those_behind_it() {
    let plan = check(vec![
        change("a", write("/etc/app/a"), &["b"]),
        change("b", write("/etc/app/b"), &["a"]),
        change("behind", write("/etc/app/c"), &["b"]),
        change("self", write("/etc/app/s"), &["self"]),
        change("free", write("/etc/motd"), &[]),
    ]);
    let plan = plan.unwrap();
    assert_eq!(order(&plan), ["free"]);
    assert_eq!(plan.refused.len(), 4);
    assert!(why(&plan, "a").contains("waits for itself, by way of b"));
    assert!(why(&plan, "self").contains("by way of self"));
}

#[test]
fn what_is_not_granted_is_refused_with_the_yaml_that_grants_it() {
    let sysctl = |name: &str| {
        wit::Action::SetSysctl(wit::SetSysctl {
            name: name.to_owned(),
            value: "1".to_owned(),
            now: true,
            persist: false,
        })
    };
    let unit = |name: &str| {
        wit::Action::ChangeUnit(wit::ChangeUnit {
            name: name.to_owned(),
            change: wit::UnitChange::Restart,
        })
    };
    let module = |name: &str| {
        wit::Action::ChangeModule(wit::ChangeModule {
            name: name.to_owned(),
            change: wit::ModuleChange::Load,
        })
    };
    let plan = check(vec![
        change("shadow", write("/etc/shadow"), &[]),
        change("behind", write("/etc/app/x"), &["shadow"]),
        change("dots", write("/etc/app/../shadow"), &[]),
        change("core", sysctl("kernel.core_pattern"), &[]),
        change("forward", sysctl("net/ipv4/ip_forward"), &[]),
        change("kubelet", unit("kubelet.service"), &[]),
        change("ssh", unit("ssh.service"), &[]),
        change("evil", module("evil"), &[]),
        change("bridge", module("br-netfilter"), &[]),
    ]);
    let plan = plan.unwrap();
    assert_eq!(order(&plan), ["forward", "ssh", "bridge"]);
    for (id, text) in [
        ("shadow", "files: [/etc/shadow]"),
        ("behind", "\"shadow\", which is refused"),
        ("dots", "no normal absolute path"),
        ("core", "sysctls: [kernel.core_pattern]"),
        ("kubelet", "units: [kubelet.service]"),
        ("evil", "kernelModules: [evil]"),
    ] {
        assert!(why(&plan, id).contains(text), "{id}: {}", why(&plan, id));
    }
}

#[test]
fn two_changes_of_one_thing_cancel_each_other() {
    let mut loud = write("/etc/app/a");
    if let wit::Action::WriteFile(file) = &mut loud {
        file.permissions.mode = Some(0o1_0000);
    }
    let plan = check(vec![
        change("one", write("/etc/motd"), &[]),
        change("two", wit::Action::Remove("/etc/motd".to_owned()), &[]),
        change("mode", loud, &[]),
        change("other", write("/etc/app/b"), &[]),
    ]);
    let plan = plan.unwrap();
    assert_eq!(order(&plan), ["other"]);
    assert!(why(&plan, "one").contains("\"two\""));
    assert!(why(&plan, "two").contains("\"one\""));
    assert!(why(&plan, "mode").contains("mode 10000"));
}

#[test]
fn broken_promises_are_no_plan() {
    let long = "x".repeat(ID + 1);
    for changes in [
        vec![change("", write("/etc/motd"), &[])],
        vec![change("a\nb", write("/etc/motd"), &[])],
        vec![change(&long, write("/etc/motd"), &[])],
        vec![
            change("a", write("/etc/motd"), &[]),
            change("a", write("/etc/app/x"), &[]),
        ],
        vec![wit::Change {
            rule: Some(0),
            ..change("a", write("/etc/motd"), &[])
        }],
        (0..=CHANGES)
            .map(|i| change(&i.to_string(), write("/etc/motd"), &[]))
            .collect(),
    ] {
        assert!(check(changes).is_err());
    }
    let twice = vec![0, 0].into_iter().map(|rule| wit::Assessment {
        rule,
        verdict: wit::Verdict::Pass,
        message: String::new(),
    });
    assert!(assess(twice.clone().collect(), 1).is_err());
    assert!(assess(twice.take(1).collect(), 0).is_err());
}

proptest! {
    /// Whatever waits for whatever: each change is in the plan or refused, and after those before it.
    #[test]
    fn nothing_is_lost_and_order_holds(edges in prop::collection::vec((0..12_usize, 0..12_usize), 0..30)) {
        let changes = (0..12).map(|i| {
            let after: Vec<String> = edges.iter().filter(|(from, _)| *from == i).map(|(_, to)| to.to_string()).collect();
            let after: Vec<&str> = after.iter().map(String::as_str).collect();
            change(&i.to_string(), write(&format!("/etc/app/{i}")), &after)
        });
        let plan = check(changes.collect()).unwrap();
        prop_assert_eq!(plan.changes.len() + plan.refused.len(), 12);
        let order = order(&plan);
        for (from, to) in &edges {
            let place = |id: &usize| order.iter().position(|it| **it == id.to_string());
            if let Some(at) = place(from) {
                prop_assert!(place(to).is_some_and(|before| before < at));
            }
        }
        for (i, planned) in plan.changes.iter().enumerate() {
            prop_assert!(planned.after.iter().all(|before| *before < i));
        }
    }
}
