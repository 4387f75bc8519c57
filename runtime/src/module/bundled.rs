//! The plugins built into the daemon's binary, by name. The build script makes the list.

/// A plugin inside this binary.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    /// What a manifest calls it, for example `log-shipper`.
    pub name: &'static str,
    /// The component's SHA-256, in hexadecimal digits.
    pub sha256: &'static str,
    /// The component.
    pub bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// All bundled plugins, by name.
pub fn bundled() -> &'static [Bundled] {
    BUNDLED
}
