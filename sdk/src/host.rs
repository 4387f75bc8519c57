//! The imports, in one place: the host's when compiled for the sandbox, fakes for the current thread
//! when compiled natively, so that plugins can be tested without it.

#[cfg(target_arch = "wasm32")]
pub(crate) use sandbox::*;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::fakes::*;

#[cfg(target_arch = "wasm32")]
mod sandbox {
    use std::sync::OnceLock;

    use crate::bindings::lifecycle::bulkhead::plugin::{log, node, node_stats, state};
    use crate::log::Level;
    use crate::node_stats::{Clock, Filesystem, SystemName};
    use crate::state::Error;

    pub(crate) fn log(level: Level, target: &str, message: &str, fields: &str) {
        let level = match level {
            Level::Trace => log::Level::Trace,
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error => log::Level::Error,
        };
        log::write(level, target, message, fields);
    }

    pub(crate) fn least_level() -> Level {
        static LEAST: OnceLock<Level> = OnceLock::new();
        // It stays the same, and asking is a call.
        *LEAST.get_or_init(|| match log::least_level() {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        })
    }

    fn error(error: state::Error) -> Error {
        match error {
            state::Error::OverQuota(quota) => Error::OverQuota(quota),
            state::Error::InvalidKey => Error::InvalidKey,
            state::Error::Unavailable(why) => Error::Unavailable(why),
        }
    }

    pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>, Error> {
        state::get(key).map_err(error)
    }

    pub(crate) fn state_set(key: &str, value: &[u8]) -> Result<(), Error> {
        state::set(key, value).map_err(error)
    }

    pub(crate) fn state_delete(key: &str) -> Result<(), Error> {
        state::delete(key).map_err(error)
    }

    pub(crate) fn state_keys(prefix: &str) -> Result<Vec<String>, Error> {
        state::list_keys(prefix).map_err(error)
    }

    pub(crate) fn node_facts() -> Vec<(String, String)> {
        node::facts()
    }

    pub(crate) fn filesystems(mount_points: &[&str]) -> Vec<Result<Filesystem, String>> {
        let mount_points: Vec<String> = mount_points.iter().map(|&path| path.into()).collect();
        let known = |raw: node_stats::Filesystem| Filesystem {
            size: raw.size,
            free: raw.free,
            available: raw.available,
            files: raw.files,
            files_free: raw.files_free,
            read_only: raw.read_only,
        };
        node_stats::filesystems(&mount_points)
            .into_iter()
            .map(|answer| answer.map(known))
            .collect()
    }

    pub(crate) fn clock() -> Result<Clock, String> {
        let raw = node_stats::read_clock()?;
        Ok(Clock {
            state: raw.state,
            status: raw.status,
            offset: raw.offset,
            frequency: raw.frequency,
            max_error: raw.max_error,
            estimated_error: raw.estimated_error,
            constant: raw.constant,
            tick: raw.tick,
            pps_frequency: raw.pps_frequency,
            jitter: raw.jitter,
            shift: raw.shift,
            stability: raw.stability,
            jitter_count: raw.jitter_count,
            calibration_count: raw.calibration_count,
            error_count: raw.error_count,
            stability_count: raw.stability_count,
            tai: raw.tai,
        })
    }

    pub(crate) fn system_name() -> SystemName {
        let raw = node_stats::read_system_name();
        SystemName {
            sysname: raw.sysname,
            nodename: raw.nodename,
            release: raw.release,
            version: raw.version,
            machine: raw.machine,
            domainname: raw.domainname,
        }
    }

    pub(crate) fn time_zone() -> (String, i32) {
        node_stats::read_time_zone()
    }
}
