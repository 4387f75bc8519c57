//! What stands in for the host natively: one world for each thread, as tests run on threads.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::log::Level;
use crate::node_stats::{Clock, Filesystem, SystemName};
use crate::state::Error;

/// A record that a plugin wrote.
///
/// ```
/// bulkhead_sdk::warn!("{} zones", 2; "path" = "/etc/zones");
/// let records = bulkhead_sdk::testing::take_log();
/// assert_eq!(records[0].message, "2 zones");
/// assert_eq!(records[0].fields, r#""path":"/etc/zones""#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// How much it matters.
    pub level: Level,
    /// Where it comes from; the module's path when a macro wrote it.
    pub target: String,
    /// The message.
    pub message: String,
    /// Members of a JSON object, without braces.
    pub fields: String,
}

#[derive(Default)]
struct World {
    log: Vec<LogRecord>,
    least: Option<Level>,
    state: BTreeMap<String, Vec<u8>>,
    quota: Option<u64>,
    facts: Vec<(String, String)>,
    filesystems: BTreeMap<String, Filesystem>,
    clock: Option<Clock>,
    system_name: SystemName,
    time_zone: (String, i32),
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

fn with<R>(f: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(f)
}

/// The records written on this thread since the last call.
///
/// ```
/// bulkhead_sdk::info!("hello");
/// assert_eq!(bulkhead_sdk::testing::take_log().len(), 1);
/// assert!(bulkhead_sdk::testing::take_log().is_empty());
/// ```
pub fn take_log() -> Vec<LogRecord> {
    with(|world| std::mem::take(&mut world.log))
}

/// Sets the least level of records that are kept on this thread: all, until then.
///
/// ```
/// use bulkhead_sdk::{debug, log::Level, testing};
/// testing::set_log_level(Level::Info);
/// debug!("nobody asked");
/// assert!(testing::take_log().is_empty());
/// ```
pub fn set_log_level(least: Level) {
    with(|world| world.least = Some(least));
}

/// Sets what [`node::facts`](crate::node::facts) answers on this thread.
///
/// ```
/// bulkhead_sdk::testing::set_facts(&[("arch", "x86_64")]);
/// assert_eq!(bulkhead_sdk::node::facts().get("arch"), Some("x86_64"));
/// ```
pub fn set_facts(facts: &[(&str, &str)]) {
    let facts = facts
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    with(|world| world.facts = facts);
}

/// Sets what [`node_stats::filesystems`](crate::node_stats::filesystems) answers on this thread.
///
/// ```
/// use bulkhead_sdk::{node_stats, testing};
/// testing::set_filesystems(&[("/", node_stats::Filesystem::default())]);
/// assert!(node_stats::filesystems(&["/"])[0].is_ok());
/// ```
pub fn set_filesystems(filesystems: &[(&str, Filesystem)]) {
    let filesystems = filesystems
        .iter()
        .map(|&(path, sizes)| (path.to_owned(), sizes))
        .collect();
    with(|world| world.filesystems = filesystems);
}

/// Sets what [`node_stats::clock`](crate::node_stats::clock) answers on this thread; an error until then.
///
/// ```
/// use bulkhead_sdk::{node_stats, testing};
/// assert!(node_stats::clock().is_err());
/// testing::set_clock(node_stats::Clock::default());
/// assert!(node_stats::clock().is_ok());
/// ```
pub fn set_clock(clock: Clock) {
    with(|world| world.clock = Some(clock));
}

/// Sets what [`node_stats::system_name`](crate::node_stats::system_name) answers on this thread.
///
/// ```
/// use bulkhead_sdk::{node_stats, testing};
/// testing::set_system_name(node_stats::SystemName { machine: "x86_64".into(), ..Default::default() });
/// assert_eq!(node_stats::system_name().machine, "x86_64");
/// ```
pub fn set_system_name(name: SystemName) {
    with(|world| world.system_name = name);
}

/// Sets what [`node_stats::time_zone`](crate::node_stats::time_zone) answers on this thread.
///
/// ```
/// bulkhead_sdk::testing::set_time_zone("UTC", 0);
/// assert_eq!(bulkhead_sdk::node_stats::time_zone().0, "UTC");
/// ```
pub fn set_time_zone(abbreviation: &str, seconds_east: i32) {
    with(|world| world.time_zone = (abbreviation.to_owned(), seconds_east));
}

/// Empties this thread's [`state`](crate::state), and limits it to `quota` bytes of keys and values.
///
/// ```
/// use bulkhead_sdk::{state, testing};
/// testing::reset_state(Some(4));
/// assert_eq!(state::set("key", b"value"), Err(state::Error::OverQuota(4)));
/// ```
pub fn reset_state(quota: Option<u64>) {
    with(|world| {
        world.state.clear();
        world.quota = quota;
    });
}

pub(crate) fn least_level() -> Level {
    with(|world| world.least.unwrap_or(Level::Trace))
}

pub(crate) fn log(level: Level, target: &str, message: &str, fields: &str) {
    with(|world| {
        world.log.push(LogRecord {
            level,
            target: target.to_owned(),
            message: message.to_owned(),
            fields: fields.to_owned(),
        });
    });
}

fn check(key: &str) -> Result<(), Error> {
    match key.len() {
        1..=512 => Ok(()),
        _ => Err(Error::InvalidKey),
    }
}

pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    check(key)?;
    Ok(with(|world| world.state.get(key).cloned()))
}

pub(crate) fn state_set(key: &str, value: &[u8]) -> Result<(), Error> {
    check(key)?;
    with(|world| {
        let others: usize = world
            .state
            .iter()
            .filter(|(other, _)| *other != key)
            .map(|(key, value)| key.len() + value.len())
            .sum();
        match world.quota {
            Some(quota) if (others + key.len() + value.len()) as u64 > quota => {
                Err(Error::OverQuota(quota))
            }
            _ => {
                world.state.insert(key.to_owned(), value.to_vec());
                Ok(())
            }
        }
    })
}

pub(crate) fn state_delete(key: &str) -> Result<(), Error> {
    check(key)?;
    with(|world| world.state.remove(key));
    Ok(())
}

pub(crate) fn state_keys(prefix: &str) -> Result<Vec<String>, Error> {
    Ok(with(|world| {
        world
            .state
            .keys()
            .filter(|key| key.starts_with(prefix))
            .take(1000)
            .cloned()
            .collect()
    }))
}

pub(crate) fn node_facts() -> Vec<(String, String)> {
    with(|world| world.facts.clone())
}

pub(crate) fn filesystems(mount_points: &[&str]) -> Vec<Result<Filesystem, String>> {
    with(|world| {
        mount_points
            .iter()
            .map(|&path| match world.filesystems.get(path) {
                Some(sizes) => Ok(*sizes),
                None => Err(format!("{path} is not a mount point")),
            })
            .collect()
    })
}

pub(crate) fn clock() -> Result<Clock, String> {
    with(|world| world.clock.ok_or_else(|| "no clock".to_owned()))
}

pub(crate) fn system_name() -> SystemName {
    with(|world| world.system_name.clone())
}

pub(crate) fn time_zone() -> (String, i32) {
    with(|world| world.time_zone.clone())
}
