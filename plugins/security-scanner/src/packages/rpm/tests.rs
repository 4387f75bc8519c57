use std::io::Read as _;

use bulkhead_sdk::testing::Harness;
use proptest::prelude::*;

use super::{Bytes, Installed, Package, Rpm, Take, header, ndb, sqlite};
use crate::SecurityScanner;

/// Written by rpm 4.18: `rpm -i --justdb` of three packages made by rpmbuild, one of them with the epoch 1
/// and a package of its own for its documentation, one with 80 files, so that its header goes on in further
/// pages.
const REAL: &[u8] = include_bytes!("rpmdb.sqlite.gz");

fn real() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(REAL);
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

impl Bytes for &[u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read(&mut self, at: u64, length: usize) -> Option<Vec<u8>> {
        let at = usize::try_from(at).ok()?;
        Some(self.get(at..at.checked_add(length)?)?.to_vec())
    }
}

fn installed(name: &str, content: &[u8]) -> Installed {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), content).unwrap();
    let mut rpm = Rpm::new(folder.path().to_str().unwrap());
    let first = rpm.installed().clone();
    assert_eq!(*rpm.installed(), first, "nothing has changed");
    first
}

fn told(installed: &Installed) -> Vec<[&str; 4]> {
    let packages = installed.packages.iter();
    let mut told: Vec<_> = packages
        .map(|it| {
            let source = [it.source.as_str(), it.source_version.as_str()];
            [&it.name, &it.version, source[0], source[1]]
        })
        .collect();
    told.sort_unstable();
    told
}

const PACKAGES: [[&str; 4]; 3] = [
    ["bash", "1:5.1.8-6.el9", "bash", "1:5.1.8-6.el9"],
    ["bash-doc", "1:5.1.8-6.el9", "bash", "1:5.1.8-6.el9"],
    [
        "openssl-libs",
        "3.0.7-24.el9",
        "openssl-libs",
        "3.0.7-24.el9",
    ],
];

#[test]
fn a_database_that_rpm_wrote_is_read() {
    let installed = installed("rpmdb.sqlite", &real());
    assert_eq!(installed.troubles, [""; 0]);
    assert_eq!(told(&installed), PACKAGES);
}

/// A header as rpm writes it, of texts and a number.
fn package(name: &str, version: &str, epoch: u32, source: &str) -> Vec<u8> {
    let texts = [(1000, name), (1001, version), (1002, "1"), (1044, source)];
    let mut data = Vec::new();
    let mut table = Vec::new();
    let mut tag = |tag: u32, kind: u32, value: &[u8]| {
        for word in [tag, kind, data.len() as u32, 1] {
            table.extend_from_slice(&word.to_be_bytes());
        }
        data.extend_from_slice(value);
    };
    tag(1003, 4, &epoch.to_be_bytes());
    for (number, text) in texts {
        tag(number, 6, &[text.as_bytes(), b"\0"].concat());
    }
    let mut header = Vec::new();
    header.extend_from_slice(&(table.len() as u32 / 16).to_be_bytes());
    header.extend_from_slice(&(data.len() as u32).to_be_bytes());
    [header, table, data].concat()
}

/// A database of rpm's own as `lib/backend/ndb/rpmpkg.c` of rpm lays it out: one page of slots, then headers.
fn ndb_of(headers: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0; 4096];
    file[..4].copy_from_slice(b"RpmP");
    file[12..16].copy_from_slice(&1_u32.to_le_bytes());
    for slot in file[32..].chunks_exact_mut(16) {
        slot[..4].copy_from_slice(b"Slot");
    }
    for (i, header) in headers.iter().enumerate() {
        let number = i as u32 + 1;
        let slot = 32 + 16 * (i + 3);
        file[slot + 4..slot + 8].copy_from_slice(&number.to_le_bytes());
        let at = (file.len() / 16) as u32;
        file[slot + 8..slot + 12].copy_from_slice(&at.to_le_bytes());
        file.extend_from_slice(b"BlbS");
        for word in [number, 0, header.len() as u32] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(header);
        file.resize(file.len().next_multiple_of(16), 0);
    }
    file
}

#[test]
fn a_database_of_rpms_own_is_read() {
    let headers = [
        package("bash", "5.1", 0, "bash-5.1-1.src.rpm"),
        package("libz1", "1.3", 2, "zlib-1.3-4.nosrc.rpm"),
        package("gpg-pubkey", "1", 0, "(none)"),
        package("odd", "1", 0, "(none)"),
    ];
    let found = installed("Packages.db", &ndb_of(&headers));
    assert_eq!(found.troubles, [""; 0]);
    let expected = [
        ["bash", "5.1-1", "bash", "5.1-1"],
        ["libz1", "2:1.3-1", "zlib", "2:1.3-4"],
        ["odd", "1-1", "odd", "1-1"],
    ];
    assert_eq!(told(&found), expected);
    let mut broken = ndb_of(&headers);
    let at = broken.windows(4).position(|it| it == b"BlbS").unwrap();
    broken[at] = b'X';
    let found = installed("Packages.db", &broken);
    assert_eq!(found.troubles, ["a package that cannot be read"]);
    assert_eq!(found.packages.len(), 2);
}

#[test]
fn what_is_not_read_is_said() {
    for (name, content, said) in [
        ("Packages", &b"\0\x05\x31\x62"[..], "Berkeley"),
        ("other", b"x", "there is none of"),
        ("rpmdb.sqlite", b"", "it is damaged"),
        ("rpmdb.sqlite", &[b'x'; 4096], "it is no database"),
        ("Packages.db", &[b'x'; 4096], "it is no database"),
    ] {
        let found = installed(name, content);
        assert!(found.packages.is_empty());
        assert!(found.troubles[0].contains(said), "{:?}", found.troubles);
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rpmdb.sqlite"), real()).unwrap();
    std::fs::write(folder.path().join("rpmdb.sqlite-wal"), "x").unwrap();
    let mut rpm = Rpm::new(folder.path().to_str().unwrap());
    assert_eq!(rpm.installed().packages.len(), 3);
    assert!(rpm.installed().troubles[0].starts_with("rpmdb.sqlite-wal: "));
    // It is read again once rpm has written it.
    std::fs::write(folder.path().join("rpmdb.sqlite-wal"), "").unwrap();
    assert_eq!(rpm.installed().troubles, [""; 0]);
}

#[test]
fn packages_are_judged_by_advisories_for_their_system() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rpmdb.sqlite"), real()).unwrap();
    let advisory = |id: &str, ecosystem: &str, name: &str, fixed: &str| {
        serde_json::json!({"id": id, "affected": [{
            "package": {"ecosystem": ecosystem, "name": name},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}],
        }]})
    };
    let all = serde_json::json!([
        advisory("A", "Rocky Linux:9", "openssl-libs", "3.0.7-25.el9"),
        advisory("FIXED", "Rocky Linux:9", "openssl-libs", "3.0.7-24.el9"),
        advisory("EPOCH", "Rocky Linux:9", "bash", "0:9.9-1.el9"),
        advisory("SOURCE", "Rocky Linux:9", "bash", "1:5.1.8-7.el9"),
        advisory("BINARY", "Rocky Linux", "bash-doc", "1:6-1"),
        advisory("RELEASE", "Rocky Linux:8", "bash", "1:6-1"),
        advisory(
            "SYSTEM",
            "SUSE:Linux Enterprise Server 15 SP5",
            "bash",
            "1:6-1"
        ),
    ]);
    let config = serde_json::json!({"packages": {
        "advisories": [{"name": "all", "text": all.to_string()}],
        "rpm": [folder.path()],
    }});
    let mut plugin = Harness::<SecurityScanner>::new(&config.to_string()).unwrap();
    let node = bulkhead_sdk::testing::Node::new();
    let node = node.fact("os.id", "rocky").fact("os.version", "9.3");
    let found = plugin.assess(&node).unwrap();
    let found = found.all().iter();
    let mut told: Vec<_> = found
        .map(|it| format!("{} {}", it.subject, it.fingerprint))
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            "package/bash SOURCE",
            "package/bash-doc BINARY",
            "package/bash-doc SOURCE",
            "package/openssl-libs A",
        ]
    );
}

/// Each slot of many pages names the same package.
#[test]
fn a_package_that_is_there_over_and_over_does_not_fill_the_memory() {
    let long = "a".repeat(500);
    let one = ndb_of(&[package(&long, "1", 0, "(none)")]);
    let blob = &one[4096..];
    let pages = 200_u32;
    let mut bytes = one[..4096].to_vec();
    bytes.resize(4096 * pages as usize, 0);
    bytes[12..16].copy_from_slice(&pages.to_le_bytes());
    let at = bytes.len() as u32 / 16;
    for slot in bytes[32..].chunks_exact_mut(16) {
        slot[..4].copy_from_slice(b"Slot");
        slot[4..8].copy_from_slice(&1_u32.to_le_bytes());
        slot[8..12].copy_from_slice(&at.to_le_bytes());
    }
    bytes.extend_from_slice(blob);
    let found = installed("Packages.db", &bytes);
    assert!(found.packages.len() > 10_000, "{}", found.packages.len());
    let kept: usize = found.packages.iter().map(Package::size).sum();
    assert!(kept <= super::MAX_TEXTS, "{kept}");
    assert!(found.troubles[0].contains("16 MiB"), "{:?}", found.troubles);
}

fn read(of: fn(&mut dyn Bytes, &mut dyn Take) -> Result<(), String>, mut bytes: &[u8]) {
    let mut installed = Installed::default();
    let _ = of(&mut bytes, &mut installed);
    let kept: usize = installed.packages.iter().map(Package::size).sum();
    assert!(kept <= super::MAX_TEXTS, "{kept}");
}

proptest! {
    /// Somebody writes what they like over a database: it is read as far as it goes, and that ends.
    #[test]
    fn a_database_that_was_tampered_with_does_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..64),
        // Most of what matters is in the first pages and in pointers, which are small numbers.
        near in prop::collection::vec((0_usize..40_960, 0_u8..128), 0..64),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = real();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for (at, byte) in near {
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        read(sqlite::blobs, &bytes);
    }

    #[test]
    fn no_header_is_too_strange(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400),
        tags in 0_u8..20,
    ) {
        let _ = header::package(&bytes);
        if bytes.len() > 8 {
            bytes[..4].copy_from_slice(&[0, 0, 0, tags]);
        }
        let _ = header::package(&bytes);
        let mut header = package("a", "1", 0, "a-1-1.src.rpm");
        for (to, from) in header[8..].iter_mut().zip(&bytes).step_by(7) {
            *to = *from;
        }
        let _ = header::package(&header);
    }

    #[test]
    fn no_database_of_rpms_own_is_too_strange(
        changes in prop::collection::vec((0_usize..4400, any::<u8>()), 0..64),
        cut in 0_usize..4400,
    ) {
        let mut bytes = ndb_of(&[package("a", "1", 0, "a-1-1.src.rpm")]);
        bytes.resize(4400, 0);
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        read(ndb::blobs, &bytes);
        read(ndb::blobs, &bytes[..cut]);
    }
}
