//! A durable key-value store of the plugin's own. Using it makes the component import it, and the
//! manifest must then grant `state`.
//!
//! A write is visible at once and durable no later than the checkpoint of the input that the plugin
//! was handling, so state and input stay in step through a crash.

use std::fmt;

use crate::host;

/// Why the store did not do it.
///
/// ```
/// use bulkhead_sdk::state::{self, Error};
/// assert_eq!(state::set("", b"x"), Err(Error::InvalidKey));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The write would pass the grant's quota (in bytes), and was not made.
    OverQuota(u64),
    /// A key is 1 to 512 bytes.
    InvalidKey,
    /// The host could not read its store.
    Unavailable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::OverQuota(quota) => write!(
                f,
                "the write would pass the state quota of {quota} bytes; delete keys or raise \
                 `grants.state` in the manifest"
            ),
            Error::InvalidKey => f.write_str("a state key must be 1 to 512 bytes long"),
            Error::Unavailable(why) => write!(f, "the state store is unavailable: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// The value of `key`, if there is one.
///
/// ```
/// use bulkhead_sdk::state;
/// state::set("seen", b"3")?;
/// assert_eq!(state::get("seen")?.as_deref(), Some(b"3".as_slice()));
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    host::state_get(key)
}

/// Sets `key` to `value`.
///
/// ```
/// use bulkhead_sdk::state;
/// state::set("seen", b"3")?;
/// assert!(state::get("seen")?.is_some());
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
pub fn set(key: &str, value: &[u8]) -> Result<(), Error> {
    host::state_set(key, value)
}

/// Removes `key`; nothing happens if it is not there.
///
/// ```
/// use bulkhead_sdk::state;
/// state::set("seen", b"3")?;
/// state::delete("seen")?;
/// state::delete("never set")?;
/// assert_eq!(state::get("seen")?, None);
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
pub fn delete(key: &str) -> Result<(), Error> {
    host::state_delete(key)
}

/// Keys that start with `prefix`, in order, at most 1,000.
///
/// ```
/// use bulkhead_sdk::state;
/// state::set("pod/b", b"")?;
/// state::set("pod/a", b"")?;
/// assert_eq!(state::keys("pod/")?, ["pod/a", "pod/b"]);
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
pub fn keys(prefix: &str) -> Result<Vec<String>, Error> {
    host::state_keys(prefix)
}
