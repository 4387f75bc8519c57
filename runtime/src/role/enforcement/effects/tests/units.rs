//! systemd's units, against the service of `systemd1`, which is not systemd.

use super::systemd1::{Systemd1, Unit};
use super::*;
use crate::manifest::UnitName;
use crate::role::enforcement::UnitVerb;

fn unit(name: &str, verb: UnitVerb) -> Action {
    Action::ChangeUnit {
        name: UnitName::parse(name).unwrap(),
        verb,
    }
}

fn node(systemd: &Systemd1) -> Node {
    let mut node = Node::new(r#"{"changes":{"units":["*.service"]}}"#);
    // The first does not answer: the second is tried.
    node.buses = vec![node.at("none"), systemd.socket.clone()];
    node
}

fn enabled(active: bool) -> Unit {
    Unit {
        active,
        file: "enabled".to_owned(),
        ..Unit::default()
    }
}

#[test]
fn units_are_seen_changed_and_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let disabled = Unit {
        file: "disabled".to_owned(),
        ..Unit::default()
    };
    let outdated = Unit {
        outdated: true,
        ..enabled(true)
    };
    let systemd = Systemd1::start(
        folder.path(),
        &[
            ("a.service", disabled),
            ("b.service", outdated),
            ("c@1.service", enabled(true)),
        ],
    );
    let node = node(&systemd);
    let effects = node.effects();
    let wants = ["a.service", "b.service", "c@1.service", "none.service"];
    let wants = wants.map(|it| wit::Want::Unit(it.to_owned()));
    let states = || {
        let seen = look(&node, &effects, &wants);
        let units = seen.units();
        units.iter().for_each(|it| assert_eq!(it.problem, ""));
        let state = |it: &wit::Unit<'_>| {
            [it.load_state, it.active_state, it.sub_state, it.file_state].join(" ")
        };
        units.iter().map(state).collect::<Vec<_>>()
    };
    assert_eq!(
        states(),
        [
            "loaded inactive dead disabled",
            "loaded active running enabled",
            "loaded active running enabled",
            "not-found inactive dead ",
        ]
    );
    make(&effects, unit("b.service", UnitVerb::Restart)).unwrap();
    make(&effects, unit("b.service", UnitVerb::Reload)).unwrap();
    let started = make(&effects, unit("a.service", UnitVerb::Start)).unwrap();
    let enabled = make(&effects, unit("a.service", UnitVerb::Enable)).unwrap();
    assert_eq!(states()[0], "loaded active running enabled");
    let again = make(&effects, unit("a.service", UnitVerb::Start)).unwrap();
    assert_eq!(again.sequence, None);
    assert_eq!(
        systemd.calls(),
        [
            // Its file had changed.
            "Reload",
            "RestartUnit b.service",
            "ReloadUnit b.service",
            "StartUnit a.service",
            "EnableUnitFiles a.service",
            "Reload",
        ]
    );
    effects
        .revert(enabled.sequence.unwrap(), "1", false)
        .unwrap();
    effects
        .revert(started.sequence.unwrap(), "1", false)
        .unwrap();
    assert_eq!(states()[0], "loaded inactive dead disabled");
    let masked = make(&effects, unit("a.service", UnitVerb::Mask)).unwrap();
    assert_eq!(states()[0], "masked inactive dead masked");
    effects
        .revert(masked.sequence.unwrap(), "1", false)
        .unwrap();
    assert_eq!(systemd.unit("a.service").file, "disabled");
    make(&effects, unit("b.service", UnitVerb::Stop)).unwrap();
    make(&effects, unit("b.service", UnitVerb::Disable)).unwrap();
    let stopped = systemd.unit("b.service");
    assert_eq!((stopped.active, stopped.file.as_str()), (false, "disabled"));
}

#[test]
fn what_fails_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let failing = Unit {
        result: "failed".to_owned(),
        ..Unit::default()
    };
    let systemd = Systemd1::start(folder.path(), &[("a.service", failing)]);
    let node = node(&systemd);
    let effects = node.effects();
    let error = make(&effects, unit("a.service", UnitVerb::Start)).unwrap_err();
    assert!(
        error.to_string().contains("journalctl -u a.service"),
        "{error}"
    );
    let error = make(&effects, unit("none.service", UnitVerb::Enable)).unwrap_err();
    assert!(error.to_string().contains("could not be found"), "{error}");
    assert_eq!(effects.history(None, 9)[0].result, Some(Ended::Failed));
    let mut granted = Node::new(r#"{"changes":{"units":["b.service"]}}"#);
    granted.buses = vec![systemd.socket.clone()];
    let error = make(&granted.effects(), unit("a.service", UnitVerb::Start)).unwrap_err();
    assert!(
        error.to_string().contains("units:\n    - a.service"),
        "{error}"
    );
}

#[test]
fn a_bus_that_is_away_is_told_and_does_not_hang() {
    let mut node = Node::new(r#"{"changes":{"units":["*.service"]}}"#);
    node.buses = vec![node.at("run/dbus/system_bus_socket")];
    let effects = node.effects();
    let error = make(&effects, unit("a.service", UnitVerb::Start)).unwrap_err();
    assert!(matches!(error, Error::NoBus { .. }), "{error}");
    let seen = look(&node, &effects, &[wit::Want::Unit("a.service".to_owned())]);
    let units = seen.units();
    assert!(
        units[0].problem.contains("does not answer"),
        "{}",
        units[0].problem
    );
    assert_eq!(units[0].load_state, "");
}
