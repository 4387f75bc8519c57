//! From a manifest's `module` to verified bytes.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::bundled::bundled;
use crate::manifest;

/// The largest module, uncompressed: a Python component is tens of megabytes.
pub(super) const MAX_MODULE: u64 = 256 << 20;

/// SHA-256 of a component's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads 64 hexadecimal digits, with or without `sha256:` before them.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        if hex.len() != 64 {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = (high << 4 | low) as u8;
        }
        Some(Self(digest))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "SHA-256 of a component's bytes, in hexadecimal digits.",
            "pattern": "^[0-9a-f]{64}$",
        })
    }
}

/// A component's bytes, verified, or those of this very program.
#[derive(Clone)]
pub struct Module {
    /// Of `bytes`.
    pub digest: Digest,
    /// The component.
    pub bytes: Cow<'static, [u8]>,
}

/// Why a module's bytes were not accepted. Nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No such bundled plugin.
    #[error("module.bundled: there is no bundled plugin {name:?}; this daemon has: {known}")]
    NotBundled {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The file cannot be read.
    #[error("module.file.path: cannot read {}: {source}; put the component there or correct the path", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Neither a file that can be read nor a bundled plugin.
    #[error("cannot be read: {source}; name the file of a component, or a bundled plugin: {known}")]
    NotNamed {
        /// What the system said.
        source: std::io::Error,
        /// The names of the bundled plugins.
        known: String,
    },
    /// The key is not in `binaryData`.
    #[error(
        "module.binaryData.key: the ConfigMap's binaryData has no key {key:?}; add it or correct the name"
    )]
    NoKey {
        /// The key asked for.
        key: String,
    },
    /// There are no ConfigMaps where there is no cluster.
    #[error(
        "module.configMapParts: only a daemon of the cluster can fetch the parts; look at the module with `bulkhead plugin inspect FILE`, or name it with `module.file` here"
    )]
    NoCluster,
    /// Not the bytes that the manifest names.
    #[error(
        "{field}: expected SHA-256 {expected}, found {found}; correct the digest or put the right module in place"
    )]
    WrongDigest {
        /// The manifest's field.
        field: &'static str,
        /// In the manifest.
        expected: String,
        /// Of the bytes.
        found: Digest,
    },
    /// No bytes.
    #[error("{field}: the module is empty")]
    Empty {
        /// The manifest's field.
        field: &'static str,
    },
    /// Larger than any module may be.
    #[error("{field}: the module is larger than {} MiB", MAX_MODULE >> 20)]
    TooLarge {
        /// The manifest's field.
        field: &'static str,
    },
    /// Broken zstd.
    #[error("{field}: the module's zstd frame is broken or cut off: {source}")]
    Compression {
        /// The manifest's field.
        field: &'static str,
        /// What the decoder said.
        source: std::io::Error,
    },
    /// A core module.
    #[error(
        "{field}: this is a core WebAssembly module, not a component; build for the target wasm32-wasip2"
    )]
    CoreModule {
        /// The manifest's field.
        field: &'static str,
    },
    /// Not WebAssembly.
    #[error("{field}: this is not a WebAssembly component (it begins with \"{}\")", start.escape_ascii())]
    NotWasm {
        /// The manifest's field.
        field: &'static str,
        /// The first bytes.
        start: Vec<u8>,
    },
}

/// Gets the bytes that `manifest` names, where they are on the node, and verifies them, but for those of this very
/// program. Reads files, so not for async code. Parts that the cluster has are for [`super::Parts`].
///
/// # Errors
/// If they cannot be had or are not what the manifest says. Worth another try only after the
/// manifest or the file changed.
pub fn fetch(manifest: &manifest::Manifest) -> Result<Module, FetchError> {
    match &manifest.spec.module {
        manifest::Module::Bundled(name) => {
            let found = bundled().iter().find(|plugin| plugin.name == name);
            let plugin = found.ok_or_else(|| FetchError::NotBundled {
                name: name.clone(),
                known: join(bundled().iter().map(|plugin| plugin.name)),
            })?;
            Ok(plugin.into())
        }
        manifest::Module::File { path, sha256 } => {
            let field = "module.file.path";
            let path = manifest.module_file().unwrap_or_else(|| path.clone());
            let bytes = read(&path).map_err(|error| match error {
                None => FetchError::TooLarge { field },
                Some(source) => FetchError::Unreadable { path, source },
            })?;
            let bytes = decompress(field, bytes)?;
            let expected = Some(("module.file.sha256", sha256.as_str()));
            verify(field, Cow::Owned(bytes), expected)
        }
        manifest::Module::BinaryData { key, sha256 } => {
            let field = "module.binaryData.key";
            let bytes = manifest
                .binary(key)
                .ok_or_else(|| FetchError::NoKey { key: key.clone() })?;
            let bytes = decompress(field, bytes.to_vec())?;
            let expected = sha256.as_deref();
            let expected = expected.map(|sha256| ("module.binaryData.sha256", sha256));
            verify(field, Cow::Owned(bytes), expected)
        }
        manifest::Module::ConfigMapParts { .. } => Err(FetchError::NoCluster),
    }
}

/// Verifies the parts of a module, put together.
///
/// # Errors
/// If they are not what the manifest says.
pub fn assemble(parts: Vec<u8>, sha256: &str) -> Result<Module, FetchError> {
    let bytes = decompress("module.configMapParts.names", parts)?;
    let expected = Some(("module.configMapParts.sha256", sha256));
    verify("module.configMapParts.names", Cow::Owned(bytes), expected)
}

/// A module file's bytes, verified as `fetch` would, or a bundled plugin where there is no such
/// file; for the command line.
///
/// # Errors
/// As [`fetch`].
pub(crate) fn named(path: &Path) -> Result<Module, FetchError> {
    let field = "module";
    let name = path.to_string_lossy();
    if !path.exists()
        && let Some(plugin) = bundled().iter().find(|plugin| plugin.name == name)
    {
        return Ok(plugin.into());
    }
    let bytes = read(path).map_err(|error| match error {
        None => FetchError::TooLarge { field },
        Some(source) => FetchError::NotNamed {
            source,
            known: join(bundled().iter().map(|plugin| plugin.name)),
        },
    })?;
    verify(field, Cow::Owned(decompress(field, bytes)?), None)
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Reads a regular file; `Err(None)` if it is too large.
fn read(path: &Path) -> Result<Vec<u8>, Option<std::io::Error>> {
    // Opening a FIFO would otherwise wait for its writer.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .map_err(Some)?;
    let metadata = file.metadata().map_err(Some)?;
    if !metadata.is_file() {
        return Err(Some(std::io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_MODULE + 1)
        .read_to_end(&mut bytes)
        .map_err(Some)?;
    if bytes.len() as u64 > MAX_MODULE {
        return Err(None);
    }
    Ok(bytes)
}

/// RFC 8878, section 3.1.1.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

fn decompress(field: &'static str, bytes: Vec<u8>) -> Result<Vec<u8>, FetchError> {
    if !bytes.starts_with(&ZSTD_MAGIC) {
        return Ok(bytes);
    }
    let broken = |source| FetchError::Compression { field, source };
    let mut module = Vec::new();
    zstd::Decoder::new(bytes.as_slice())
        .map_err(broken)?
        .take(MAX_MODULE + 1)
        .read_to_end(&mut module)
        .map_err(broken)?;
    if module.len() as u64 > MAX_MODULE {
        return Err(FetchError::TooLarge { field });
    }
    Ok(module)
}

/// `expected` is the digest, and the field that says it.
fn verify(
    field: &'static str,
    bytes: Cow<'static, [u8]>,
    expected: Option<(&'static str, &str)>,
) -> Result<Module, FetchError> {
    if bytes.is_empty() {
        return Err(FetchError::Empty { field });
    }
    let digest = Digest::of(&bytes);
    if let Some((field, expected)) = expected
        && Digest::parse(expected) != Some(digest)
    {
        return Err(FetchError::WrongDigest {
            field,
            expected: expected.to_owned(),
            found: digest,
        });
    }
    // The preamble: magic, then version and layer (0x0001_000d for a component, 1 for a core module).
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => Ok(Module { digest, bytes }),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Err(FetchError::CoreModule { field }),
        _ => Err(FetchError::NotWasm {
            field,
            start: bytes.iter().take(8).copied().collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const COMPONENT: &[u8] = &[0, b'a', b's', b'm', 0x0d, 0, 1, 0];

    #[test]
    fn digests_round_trip() {
        let digest = Digest::of(b"x");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::parse(&format!("sha256:{digest}")), Some(digest));
        assert_eq!(Digest::parse("zz"), None);
        assert_eq!(Digest::parse(&"é".repeat(32)), None);
    }

    #[test]
    fn tells_components_from_the_rest() {
        let check = |bytes: &'static [u8]| verify("f", Cow::Borrowed(bytes), None).map(|_| ());
        assert!(check(COMPONENT).is_ok());
        assert!(matches!(
            check(b"\0asm\x01\0\0\0"),
            Err(FetchError::CoreModule { .. })
        ));
        assert!(matches!(check(b"\0asm"), Err(FetchError::NotWasm { .. })));
        assert!(matches!(check(b""), Err(FetchError::Empty { .. })));
    }

    #[test]
    fn a_cut_frame_is_refused() {
        let frame = zstd::encode_all(&[7u8; 4096][..], 3).unwrap();
        assert_eq!(decompress("f", frame.clone()).unwrap().len(), 4096);
        let cut = frame[..frame.len() - 2].to_vec();
        assert!(matches!(
            decompress("f", cut),
            Err(FetchError::Compression { .. })
        ));
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(read(&path).is_err());
    }
}
