#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::manifest::{Document, Identity, KEY, NodePath, SysctlName, read_object};
use crate::role::enforcement::effects::{Audit, Setup};
use crate::role::enforcement::plan::Planned;
use crate::role::enforcement::{Action, Permissions};
use crate::sandbox::NodeFolders;

const MANIFEST: &str = r#"
apiVersion: bulkhead.dev/v1alpha1
kind: Plugin
module: {bundled: config-enforcer}
grants: {changes: {files: [/srv], sysctls: ["net.ipv4.*"]}}
enforcement: {mode: enforce}
"#;

/// Rounds on a node whose kernel is a few files. Nobody is there to be asked for a plan.
fn rounds(folder: &TempDir) -> Rounds {
    let identity = Identity::new("local", "x").unwrap();
    let data = BTreeMap::from([(KEY.to_owned(), MANIFEST.to_owned())]);
    let manifest = match read_object(identity, &data, BTreeMap::new()) {
        Document::Manifest(manifest) => Arc::new(*manifest),
        other => panic!("{other:?}"),
    };
    let at = |path: &str| folder.path().join(path);
    let folders = NodeFolders {
        root: at("node").as_path().into(),
        private: [].into(),
    };
    let state = at("state");
    fs::create_dir_all(at("kernel/sys/net/ipv4")).unwrap();
    fs::write(at("kernel/sys/net/ipv4/ip_forward"), "0\n").unwrap();
    for made in [at("node/etc"), at("node/srv"), state.clone()] {
        fs::create_dir_all(made).unwrap();
    }
    let settings = manifest.spec.enforcement.clone().unwrap_or_default();
    let setup = Setup {
        procfs: &at("kernel"),
        ..Setup::of(
            &folders,
            &state,
            &manifest.identity,
            &manifest.spec.grants,
            &settings.keep,
            Arc::new(Audit::open(&state).unwrap()),
        )
    };
    Rounds {
        effects: Arc::new(Effects::open(setup).unwrap()),
        revision: manifest.digest_hex(),
        memory: Memory::open(Effects::folder(&state, &manifest.identity)).unwrap(),
        manifest,
        work: mpsc::channel(1).0,
        audit_only: false,
        facts: Arc::new(Vec::new),
        detail: Detail {
            changes: 9,
            diffs: 9,
        },
        flapping: Flapping::default(),
        cancel: CancellationToken::new(),
    }
}

fn change(id: &str, action: Action) -> Change {
    Change {
        id: id.into(),
        rule: None,
        reason: String::new(),
        action,
        secret: false,
    }
}

fn forward(folder: &Path) -> String {
    fs::read_to_string(folder.join("kernel/sys/net/ipv4/ip_forward")).unwrap()
}

/// A setting that is set, and then cannot be noted.
#[tokio::test]
async fn what_failed_and_took_effect_has_its_handler_done_and_can_be_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut rounds = rounds(&folder);
    fs::write(folder.path().join("node/etc/sysctl.d"), "no folder").unwrap();
    let setting = Action::SetSysctl {
        name: SysctlName::parse("net.ipv4.ip_forward").unwrap(),
        value: "1".to_owned(),
        now: true,
        persist: true,
    };
    let handled = Action::WriteFile {
        path: NodePath::parse("/srv/handled").unwrap(),
        content: Some(Vec::new()),
        permissions: Permissions::default(),
    };
    let plan = Plan {
        changes: vec![Planned {
            change: change("forward", setting),
            after: Vec::new(),
        }],
        handlers: vec![Handler {
            change: change("handler", handled),
            when_changed: vec!["forward".into()],
        }],
        ..Plan::default()
    };
    let outline = Outline {
        rules: Vec::new(),
        ids: [].into(),
        wants: Arc::default(),
    };
    let mut round = Round {
        room: 9,
        ..Round::default()
    };
    let seen = Arc::new(Seen::default());
    let carried_out = rounds.carry_out(&mut round, &outline, seen, plan).await;
    carried_out.unwrap();
    assert_eq!((round.failed, round.made), (1, 1));
    assert_eq!(round.outstanding[0].state, ChangeState::Failed);
    assert!(folder.path().join("node/srv/handled").exists());
    assert_eq!(forward(folder.path()), "1\n");
    let what = Revert {
        change: Some("forward".to_owned()),
        force: false,
    };
    let reverted = rounds.revert(what).await.unwrap();
    assert!(reverted[0].done, "{reverted:?}");
    assert_eq!(forward(folder.path()), "0\n");
}
