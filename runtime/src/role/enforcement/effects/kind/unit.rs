//! systemd's units, over D-Bus.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::StreamExt;
use zbus::{MatchRule, MessageStream, OwnedObjectPath, OwnedVariant};

use super::{Desk, Kind};
use crate::manifest::UnitName;
use crate::role::enforcement::UnitVerb;
use crate::role::enforcement::effects::bus::{Bus, Session};
use crate::role::enforcement::effects::error::Error;
use crate::role::enforcement::effects::state::State;

/// The longest that a unit is waited for: systemd itself gives up on most after 90 s.
const JOB: Duration = Duration::from_secs(100);
/// Signals that may wait to be read.
const SIGNALS: Option<NonZeroUsize> = NonZeroUsize::new(1024);

/// What is known of a unit, in systemd's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct UnitState {
    pub(in super::super) load: String,
    pub(in super::super) active: String,
    pub(in super::super) sub: String,
    pub(in super::super) file: String,
}

/// `org.freedesktop.systemd1.Manager.ListUnitsByNames`.
type Listed = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

/// What is known of these units.
pub(in super::super) fn unit_states(
    bus: &mut Bus<'_>,
    names: &[&str],
) -> Result<HashMap<String, UnitState>, Error> {
    let session = bus.session()?;
    let states = session.run(states(session, names));
    states.map_err(|problem| Error::Unit {
        name: names.join(" "),
        what: "the state",
        problem,
    })
}

async fn states(session: &Session, names: &[&str]) -> Result<HashMap<String, UnitState>, String> {
    let listed: Vec<Listed> = session.call("ListUnitsByNames", &(names,)).await?;
    let mut states: HashMap<String, UnitState> = HashMap::new();
    for (name, _, load, active, sub, ..) in listed {
        let state = states.entry(name).or_default();
        (state.load, state.active, state.sub) = (load, active, sub);
    }
    let none: &[&str] = &[];
    let files: Vec<(String, String)> = session
        .call("ListUnitFilesByPatterns", &(none, names))
        .await?;
    for (path, file) in files {
        let name = path.rsplit('/').next().unwrap_or_default();
        states.entry(name.to_owned()).or_default().file = file;
    }
    for name in names {
        let state = states.entry((*name).to_owned()).or_default();
        if state.file.is_empty() {
            // Instances of templates, and what has no file: then there is no answer.
            let file: Result<String, String> = session.call("GetUnitFileState", &(name,)).await;
            state.file = file.unwrap_or_default();
        }
    }
    Ok(states)
}

pub(super) struct ChangeUnit {
    name: UnitName,
    verb: UnitVerb,
}

impl ChangeUnit {
    pub(super) fn new(name: &UnitName, verb: UnitVerb) -> Self {
        Self {
            name: name.clone(),
            verb,
        }
    }
}

impl Kind for ChangeUnit {
    fn look(&mut self, desk: &mut Desk<'_>) -> Result<(State, State), Error> {
        let before = look(&self.name, desk)?;
        let (active, file) = words(&before);
        let (active, file) = match self.verb {
            UnitVerb::Enable => (active, "enabled".to_owned()),
            UnitVerb::Disable => (active, "disabled".to_owned()),
            UnitVerb::Mask => (active, "masked".to_owned()),
            // What it was before it was masked is not known.
            UnitVerb::Unmask if file == "masked" => (active, "disabled".to_owned()),
            UnitVerb::Start | UnitVerb::Restart => ("active".to_owned(), file),
            UnitVerb::Stop => ("inactive".to_owned(), file),
            UnitVerb::Reload | UnitVerb::Unmask => (active, file),
        };
        Ok((before, State::Unit { active, file }))
    }

    fn apply(&mut self, desk: &mut Desk<'_>) -> Result<(), Error> {
        change(&self.name, self.verb, desk)
    }

    fn outcome(&mut self, desk: &mut Desk<'_>) -> Option<State> {
        look(&self.name, desk).ok()
    }

    fn always(&self) -> bool {
        matches!(self.verb, UnitVerb::Restart | UnitVerb::Reload)
    }
}

/// What a unit is.
pub(super) fn look(name: &UnitName, desk: &mut Desk<'_>) -> Result<State, Error> {
    if !desk.grants.unit(name) {
        return Err(Error::NotGranted {
            field: "units",
            subject: name.to_string(),
        });
    }
    let mut states = unit_states(&mut desk.bus, &[name.as_str()])?;
    let state = states.remove(name.as_str()).unwrap_or_default();
    Ok(State::Unit {
        active: state.active,
        file: state.file,
    })
}

/// Whether it runs, and what its file is, in systemd's words.
fn words(state: &State) -> (String, String) {
    match state {
        State::Unit { active, file } => (active.clone(), file.clone()),
        _ => Default::default(),
    }
}

/// A unit as it was: running or not, enabled or not.
pub(super) struct PutBack {
    name: UnitName,
    active: String,
    file: String,
    verbs: Vec<UnitVerb>,
}

impl PutBack {
    pub(super) fn new(name: &UnitName, active: String, file: String) -> Self {
        Self {
            name: name.clone(),
            active,
            file,
            verbs: Vec::new(),
        }
    }
}

impl Kind for PutBack {
    fn look(&mut self, desk: &mut Desk<'_>) -> Result<(State, State), Error> {
        let before = look(&self.name, desk)?;
        let (active, file) = words(&before);
        let runs = |state: &str| matches!(state, "active" | "activating" | "reloading");
        if file != self.file {
            if file == "masked" {
                self.verbs.push(UnitVerb::Unmask);
            }
            match self.file.as_str() {
                "enabled" => self.verbs.push(UnitVerb::Enable),
                "disabled" => self.verbs.push(UnitVerb::Disable),
                "masked" => self.verbs.push(UnitVerb::Mask),
                _ => {}
            }
        }
        match (runs(&active), runs(&self.active)) {
            (false, true) => self.verbs.push(UnitVerb::Start),
            (true, false) => self.verbs.push(UnitVerb::Stop),
            _ => {}
        }
        let after = State::Unit {
            active: self.active.clone(),
            file: self.file.clone(),
        };
        Ok((before, after))
    }

    fn apply(&mut self, desk: &mut Desk<'_>) -> Result<(), Error> {
        for verb in std::mem::take(&mut self.verbs) {
            change(&self.name, verb, desk)?;
        }
        Ok(())
    }

    fn outcome(&mut self, desk: &mut Desk<'_>) -> Option<State> {
        look(&self.name, desk).ok()
    }
}

fn change(name: &UnitName, verb: UnitVerb, desk: &mut Desk<'_>) -> Result<(), Error> {
    let session = desk.bus.session()?;
    let name = name.as_str();
    let done = session.run(async {
        match verb {
            UnitVerb::Start => job(session, "StartUnit", name).await,
            UnitVerb::Stop => job(session, "StopUnit", name).await,
            UnitVerb::Restart => job(session, "RestartUnit", name).await,
            UnitVerb::Reload => job(session, "ReloadUnit", name).await,
            verb => files(session, verb, name).await,
        }
    });
    done.map_err(|problem| Error::Unit {
        name: name.to_owned(),
        what: match verb {
            UnitVerb::Enable => "enable",
            UnitVerb::Disable => "disable",
            UnitVerb::Start => "start",
            UnitVerb::Stop => "stop",
            UnitVerb::Restart => "restart",
            UnitVerb::Reload => "reload",
            UnitVerb::Mask => "mask",
            UnitVerb::Unmask => "unmask",
        },
        problem,
    })
}

/// What is changed for the next start: links between unit files, which systemd reads afterwards.
async fn files(session: &Session, verb: UnitVerb, name: &str) -> Result<(), String> {
    type Links = Vec<(String, String, String)>;
    let names: &[&str] = &[name];
    let (runtime, force) = (false, true);
    match verb {
        UnitVerb::Enable => {
            let (installable, links): (bool, Links) = session
                .call("EnableUnitFiles", &(names, runtime, force))
                .await?;
            if !installable && links.is_empty() {
                return Err("its file has no [Install] section".to_owned());
            }
        }
        UnitVerb::Disable => {
            let _: Links = session.call("DisableUnitFiles", &(names, runtime)).await?;
        }
        UnitVerb::Mask => {
            let _: Links = session
                .call("MaskUnitFiles", &(names, runtime, force))
                .await?;
        }
        UnitVerb::Unmask => {
            let _: Links = session.call("UnmaskUnitFiles", &(names, runtime)).await?;
        }
        UnitVerb::Start | UnitVerb::Stop | UnitVerb::Restart | UnitVerb::Reload => {}
    }
    session.call("Reload", &()).await
}

/// Has systemd do something to a unit, and waits until it is done.
async fn job(session: &Session, method: &str, name: &str) -> Result<(), String> {
    read_again(session, name).await?;
    let rule = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .interface("org.freedesktop.systemd1.Manager")
        .member("JobRemoved")
        .build()
        .map_err(|error| error.to_string())?;
    // Before the job begins, so that its end is not missed.
    let mut ends = MessageStream::for_match_rule(rule, &session.connection, SIGNALS)
        .await
        .map_err(|error| error.to_string())?;
    let subscribed: Result<(), String> = session.call("Subscribe", &()).await;
    match subscribed {
        Err(error) if !error.contains("already subscribed") => return Err(error),
        _ => {}
    }
    let job: OwnedObjectPath = session.call(method, &(name, "replace")).await?;
    let end = async {
        while let Some(Ok(signal)) = ends.next().await {
            type End = (u32, OwnedObjectPath, String, String);
            let body = signal.body();
            if let Ok((_, ended, _, result)) = body.deserialize::<End>()
                && ended == job
            {
                return Ok(result);
            }
        }
        Err("the connection to systemd ended meanwhile".to_owned())
    };
    let result = tokio::time::timeout(JOB, end)
        .await
        .map_err(|_| format!("it is not done after {} s", JOB.as_secs()))??;
    match result.as_str() {
        "done" | "skipped" => Ok(()),
        result => Err(format!(
            "the job ended with `{result}`; see `systemctl status {name}` and `journalctl -u {name}` on the node"
        )),
    }
}

/// Has systemd read unit files that have changed.
async fn read_again(session: &Session, name: &str) -> Result<(), String> {
    let unit: OwnedObjectPath = session.call("LoadUnit", &(name,)).await?;
    let property = ("org.freedesktop.systemd1.Unit", "NeedDaemonReload");
    let outdated: OwnedVariant = session
        .call_at(
            unit.as_str(),
            "org.freedesktop.DBus.Properties",
            "Get",
            &property,
        )
        .await?;
    match bool::try_from(outdated) {
        Ok(true) => session.call("Reload", &()).await,
        _ => Ok(()),
    }
}
