//! The plugins built into the daemon's binary, by name. The build script makes the list.

use std::borrow::Cow;

use super::fetch::{Digest, Module};

/// A plugin inside this binary.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    /// What a manifest calls it, for example `log-shipper`.
    pub name: &'static str,
    /// Of `bytes`, since it was built: whoever can change them can change this as well.
    pub digest: Digest,
    /// The component.
    pub bytes: &'static [u8],
}

impl From<&Bundled> for Module {
    /// Without a look at the bytes: where the compiled form is at hand they stay on the disk.
    fn from(plugin: &Bundled) -> Self {
        Self {
            digest: plugin.digest,
            bytes: Cow::Borrowed(plugin.bytes),
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// All bundled plugins, by name.
pub fn bundled() -> &'static [Bundled] {
    BUNDLED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_of_the_bytes() {
        assert!(!bundled().is_empty());
        for plugin in bundled() {
            assert_eq!(Digest::of(plugin.bytes), plugin.digest, "{}", plugin.name);
        }
    }
}
