//! Not systemd: a small service that answers to the part of `org.freedesktop.systemd1` that the daemon
//! uses, on a real `dbus-daemon` of the test's own. For machines whose process 1 is not systemd.
#![allow(unreachable_pub, reason = "tests of several crates share it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath};

const PATH: &str = "/org/freedesktop/systemd1";

/// One unit.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    pub active: bool,
    /// `enabled`, `disabled`, `masked`; empty without a file.
    pub file: String,
    /// What its jobs end with; `done` if empty.
    pub result: String,
    /// Whether its file has changed since it was read.
    pub outdated: bool,
}

type Units = Arc<Mutex<BTreeMap<String, Unit>>>;
type Calls = Arc<Mutex<Vec<String>>>;

/// The service and its bus.
pub struct Systemd1 {
    pub socket: PathBuf,
    units: Units,
    calls: Calls,
    bus: Child,
    // Dropped last: the service runs on it.
    _connection: Connection,
    _runtime: Runtime,
}

impl Systemd1 {
    /// Starts both, with these units.
    pub fn start(folder: &Path, units: &[(&str, Unit)]) -> Self {
        let socket = folder.join("bus");
        let configuration = folder.join("bus.conf");
        let text = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
             <busconfig><type>custom</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>\
             <allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>",
            socket.display()
        );
        std::fs::write(&configuration, text).unwrap();
        let bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", configuration.display()))
            .arg("--nofork")
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run dbus-daemon ({error}): install dbus"));
        let until = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < until, "dbus-daemon does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        let units = units
            .iter()
            .map(|(name, unit)| ((*name).to_owned(), unit.clone()));
        let units: Units = Arc::new(Mutex::new(units.collect()));
        let calls = Calls::default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let connection = runtime.block_on(serve(&socket, &units, &calls));
        Self {
            socket,
            units,
            calls,
            bus,
            _connection: connection,
            _runtime: runtime,
        }
    }

    /// A unit as it is.
    pub fn unit(&self, name: &str) -> Unit {
        self.units.lock().unwrap().get(name).cloned().unwrap()
    }

    /// What was called, in order, without what only looks.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

impl Drop for Systemd1 {
    fn drop(&mut self) {
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

async fn serve(socket: &Path, units: &Units, calls: &Calls) -> Connection {
    let manager = Manager {
        units: units.clone(),
        calls: calls.clone(),
        jobs: 0,
        subscribed: BTreeSet::new(),
    };
    let stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let mut builder = zbus::connection::Builder::unix_stream(stream)
        .name("org.freedesktop.systemd1")
        .serve_at(PATH, manager);
    let names: Vec<String> = units.lock().unwrap().keys().cloned().collect();
    for name in names {
        let units = units.clone();
        builder = builder.serve_at(unit_path(&name), Object { units, name });
    }
    builder.build().await.unwrap()
}

/// As systemd escapes it.
fn unit_path(name: &str) -> String {
    let escaped = name.bytes().map(|byte| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("_{byte:02x}"),
    });
    format!("{PATH}/unit/{}", escaped.collect::<String>())
}

struct Object {
    units: Units,
    name: String,
}

#[zbus::interface(name = "org.freedesktop.systemd1.Unit")]
impl Object {
    #[zbus(property)]
    fn need_daemon_reload(&self) -> bool {
        self.units.lock().unwrap()[&self.name].outdated
    }
}

struct Manager {
    units: Units,
    calls: Calls,
    jobs: u32,
    /// Clients, by their names on the bus.
    subscribed: BTreeSet<String>,
}

type Row = (
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
type Links = Vec<(String, String, String)>;

fn path(text: &str) -> OwnedObjectPath {
    OwnedObjectPath::try_from(text.to_owned()).unwrap()
}

impl Manager {
    fn note(&self, call: &str, what: &str) {
        let call = format!("{call} {what}");
        self.calls.lock().unwrap().push(call.trim().to_owned());
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Unit)) -> zbus::fdo::Result<()> {
        match self.units.lock().unwrap().get_mut(name) {
            Some(unit) => {
                change(unit);
                Ok(())
            }
            None => Err(zbus::fdo::Error::Failed(format!(
                "Unit {name} could not be found."
            ))),
        }
    }

    fn files(&self, call: &str, names: &[String], file: &str) -> zbus::fdo::Result<Links> {
        for name in names {
            self.note(call, name);
            self.change(name, |unit| file.clone_into(&mut unit.file))?;
        }
        let link = (
            "symlink".to_owned(),
            "/etc/x".to_owned(),
            "/lib/x".to_owned(),
        );
        Ok(vec![link])
    }

    /// The job ends a moment after its number was told, as systemd's do.
    async fn job(
        &mut self,
        call: &str,
        name: &str,
        active: Option<bool>,
        emitter: SignalEmitter<'_>,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        self.note(call, name);
        let mut result = "done".to_owned();
        self.change(name, |unit| {
            if !unit.result.is_empty() {
                result.clone_from(&unit.result);
            } else if let Some(active) = active {
                unit.active = active;
            }
        })?;
        self.jobs += 1;
        let (number, name) = (self.jobs, name.to_owned());
        let job = path(&format!("{PATH}/job/{number}"));
        let (ended, emitter) = (job.clone(), emitter.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let _ = Manager::job_removed(&emitter, number, ended, &name, &result).await;
        });
        Ok(job)
    }
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn list_units_by_names(&self, names: Vec<String>) -> Vec<Row> {
        let units = self.units.lock().unwrap();
        let rows = names.into_iter().map(|name| {
            let unit = units.get(&name).cloned();
            let load = match &unit {
                Some(unit) if unit.file == "masked" => "masked",
                Some(_) => "loaded",
                None => "not-found",
            };
            let runs = unit.is_some_and(|unit| unit.active);
            let states = match runs {
                true => ["active", "running"],
                false => ["inactive", "dead"],
            };
            let of = path(&unit_path(&name));
            (
                name.clone(),
                name,
                load.to_owned(),
                states[0].to_owned(),
                states[1].to_owned(),
                String::new(),
                of,
                0,
                String::new(),
                path("/"),
            )
        });
        rows.collect()
    }

    fn list_unit_files_by_patterns(
        &self,
        _states: Vec<String>,
        patterns: Vec<String>,
    ) -> Vec<(String, String)> {
        let units = self.units.lock().unwrap();
        let known = units.iter().filter(|(name, unit)| {
            !unit.file.is_empty() && !name.contains('@') && patterns.contains(name)
        });
        let files = known.map(|(name, unit)| (format!("/lib/systemd/{name}"), unit.file.clone()));
        files.collect()
    }

    fn get_unit_file_state(&self, file: String) -> zbus::fdo::Result<String> {
        let units = self.units.lock().unwrap();
        let unit = units.get(&file).filter(|unit| !unit.file.is_empty());
        let none = || zbus::fdo::Error::FileNotFound(file.clone());
        unit.map(|unit| unit.file.clone()).ok_or_else(none)
    }

    fn load_unit(&self, name: String) -> OwnedObjectPath {
        path(&unit_path(&name))
    }

    /// Once for each client, as systemd has it.
    fn subscribe(
        &mut self,
        #[zbus(header)] header: zbus::message::Header<'_>,
    ) -> zbus::fdo::Result<()> {
        let client = header.sender().map(ToString::to_string);
        match self.subscribed.insert(client.unwrap_or_default()) {
            true => Ok(()),
            false => Err(zbus::fdo::Error::Failed(
                "Client is already subscribed.".to_owned(),
            )),
        }
    }

    fn reload(&self) {
        self.note("Reload", "");
        for unit in self.units.lock().unwrap().values_mut() {
            unit.outdated = false;
        }
    }

    async fn start_unit(
        &mut self,
        name: String,
        _mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        self.job("StartUnit", &name, Some(true), emitter).await
    }

    async fn stop_unit(
        &mut self,
        name: String,
        _mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        self.job("StopUnit", &name, Some(false), emitter).await
    }

    async fn restart_unit(
        &mut self,
        name: String,
        _mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        self.job("RestartUnit", &name, Some(true), emitter).await
    }

    async fn reload_unit(
        &mut self,
        name: String,
        _mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        self.job("ReloadUnit", &name, None, emitter).await
    }

    fn enable_unit_files(
        &self,
        files: Vec<String>,
        _runtime: bool,
        _force: bool,
    ) -> zbus::fdo::Result<(bool, Links)> {
        Ok((true, self.files("EnableUnitFiles", &files, "enabled")?))
    }

    fn disable_unit_files(&self, files: Vec<String>, _runtime: bool) -> zbus::fdo::Result<Links> {
        self.files("DisableUnitFiles", &files, "disabled")
    }

    fn mask_unit_files(
        &self,
        files: Vec<String>,
        _runtime: bool,
        _force: bool,
    ) -> zbus::fdo::Result<Links> {
        self.files("MaskUnitFiles", &files, "masked")
    }

    fn unmask_unit_files(&self, files: Vec<String>, _runtime: bool) -> zbus::fdo::Result<Links> {
        self.files("UnmaskUnitFiles", &files, "disabled")
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}
