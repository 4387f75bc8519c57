//! The imports, in one place: the host's when compiled for the sandbox, fakes for the current thread
//! when compiled natively, so that plugins can be tested without it.

#[cfg(target_arch = "wasm32")]
pub(crate) use sandbox::*;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::fakes::*;

#[cfg(target_arch = "wasm32")]
mod sandbox {
    use crate::bindings::lifecycle::bulkhead::plugin::{log, node, state};
    use crate::log::Level;
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
}
