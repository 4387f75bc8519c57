//! The test file of the antivirus vendors is found in archives, and archives that are made to hurt are
//! counted and cost no memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use proptest::prelude::*;
use security_scanner::archive::{Limits, Trouble, walk};
use security_scanner::yara::{Rules, Scanner};

/// In two parts, so that this file is not taken for it.
fn eicar() -> Vec<u8> {
    [
        r"X5O!P%@AP[4\PZX54(P^)7CC)7}$",
        "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*",
    ]
    .concat()
    .into_bytes()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).unwrap()
}

fn tar(name: &str, data: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
    header[156] = b'0';
    header[257..263].copy_from_slice(b"ustar\0");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut archive = [&header, data].concat();
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

/// With `flags` and `method` as they are in the headers.
fn zip_as(name: &str, packed: &[u8], flags: u16, method: u16) -> Vec<u8> {
    let length = (name.len() as u16).to_le_bytes();
    let size = (packed.len() as u32).to_le_bytes();
    let (flags, method) = (flags.to_le_bytes(), method.to_le_bytes());
    let common: &[&[u8]] = &[
        &[20, 0],
        &flags,
        &method,
        &[0; 8],
        &size,
        &size,
        &length,
        &[0, 0],
    ];
    let common = common.concat();
    let local = [b"PK\x03\x04", common.as_slice(), name.as_bytes(), packed].concat();
    let directory = [
        b"PK\x01\x02\x14\0",
        common.as_slice(),
        &[0; 14],
        name.as_bytes(),
    ]
    .concat();
    let (size, start) = (
        (directory.len() as u32).to_le_bytes(),
        (local.len() as u32).to_le_bytes(),
    );
    let end: &[&[u8]] = &[b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &size, &start, &[0, 0]];
    [local, directory, end.concat()].concat()
}

fn stored(name: &str, data: &[u8]) -> Vec<u8> {
    zip_as(name, data, 0, 0)
}

fn deflated(name: &str, data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    zip_as(name, &encoder.finish().unwrap(), 0, 8)
}

/// The paths of members that are the test file, and what went wrong. What cannot be packed smaller is in the
/// archive as it is, so the size has to be right as well.
fn found(data: &[u8], limits: Limits) -> (Vec<String>, Vec<Trouble>) {
    let rule = r#"rule eicar { strings: $a = "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
        condition: $a and filesize <= 68 }"#;
    let rules = Rules::compile([("test", rule)]).unwrap();
    let mut scanner = Scanner::new(&rules, Default::default());
    let mut found = Vec::new();
    let troubles = walk(data, limits, &mut |member| {
        if !scanner.scan(member.data).hits.is_empty() {
            found.push(member.path.join("/"));
        }
    });
    (
        found,
        troubles.into_iter().map(|(_, trouble)| trouble).collect(),
    )
}

#[track_caller]
fn found_at(data: &[u8], path: &str) {
    assert_eq!(
        found(data, Limits::default()),
        (vec![path.to_owned()], vec![])
    );
}

#[test]
fn the_test_file_is_found_plain_and_in_each() {
    let eicar = eicar();
    found_at(&eicar, "");
    found_at(&gzip(&eicar), "gzip");
    found_at(&zstd(&eicar), "zstd");
    found_at(&tar("e.com", &eicar), "e.com");
    found_at(&stored("e.com", &eicar), "e.com");
    found_at(&deflated("e.com", &eicar), "e.com");
}

#[test]
fn the_test_file_is_found_in_archives_in_archives() {
    let eicar = eicar();
    found_at(&gzip(&tar("e.com", &eicar)), "gzip/e.com");
    found_at(
        &deflated("a.tar.zst", &zstd(&tar("b.zip", &stored("e.com", &eicar)))),
        "a.tar.zst/zstd/b.zip/e.com",
    );
    found_at(&tar("a.gz", &gzip(&gzip(&eicar))), "a.gz/gzip/gzip");
    found_at(&[zstd(&eicar[..30]), zstd(&eicar[30..])].concat(), "zstd");
}

#[test]
fn what_other_programs_pack_is_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("e.com"), eicar()).unwrap();
    let status = std::process::Command::new("tar")
        .args(["-czf", "a.tgz", "e.com"])
        .current_dir(folder.path())
        .status()
        .expect("tar");
    assert!(status.success());
    found_at(
        &std::fs::read(folder.path().join("a.tgz")).unwrap(),
        "gzip/e.com",
    );
}

#[test]
fn nesting_ends() {
    let limits = Limits {
        depth: 3,
        ..Limits::default()
    };
    let deep = (0..3).fold(eicar(), |data, _| gzip(&data));
    assert_eq!(
        found(&deep, limits),
        (vec!["gzip/gzip/gzip".to_owned()], vec![])
    );
    assert_eq!(
        found(&gzip(&deep), limits),
        (vec![], vec![Trouble::TooDeep])
    );
    let very_deep = (0..10_000).fold(vec![], |data, _| {
        if data.len() > 1 << 20 {
            data
        } else {
            tar("t", &data)
        }
    });
    assert_eq!(found(&very_deep, Limits::default()).1, [Trouble::TooDeep]);
}

#[test]
fn bombs_are_counted_and_cost_no_memory() {
    let limits = Limits {
        unpacked: 1 << 20,
        ratio: 100,
        ..Limits::default()
    };
    let zeros = vec![0; 30 << 20];
    for bomb in [gzip(&zeros), zstd(&zeros), deflated("bomb", &zeros)] {
        let mut largest = 0;
        let troubles = walk(&bomb, limits, &mut |member| {
            largest = largest.max(member.data.len())
        });
        let troubles: Vec<_> = troubles.into_iter().map(|(_, trouble)| trouble).collect();
        assert!(
            matches!(troubles[..], [Trouble::Bomb | Trouble::TooLarge]),
            "{troubles:?}"
        );
        assert!(largest <= 1 << 20, "{largest}");
    }
    // What is honest by its ratio, and too large, is told apart.
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(2 << 20)
        .collect();
    assert_eq!(found(&gzip(&noise), limits).1, [Trouble::TooLarge]);
    assert_eq!(found(&zstd(&zeros[..1 << 19]), limits).1, [Trouble::Bomb]);
}

/// An archive whose directory names the same member again and again.
fn overlapping(one: &[u8], times: usize) -> Vec<u8> {
    let start = memchr::memmem::find(one, b"PK\x01\x02").unwrap();
    let end = memchr::memmem::rfind(one, b"PK\x05\x06").unwrap();
    [&one[..start], &one[start..end].repeat(times), &one[end..]].concat()
}

#[test]
fn members_that_overlap_end() {
    let limits = Limits {
        unpacked: 1 << 20,
        ..Limits::default()
    };
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(300 << 10)
        .collect();
    // Blocks without content: much to read, and nothing comes out.
    let empty = [
        [0, 0, 0, 0xff, 0xff].repeat(60_000),
        vec![1, 0, 0, 0xff, 0xff],
    ]
    .concat();
    for one in [
        stored("a", &noise),
        deflated("a", &noise),
        zip_as("a", &empty, 0, 8),
    ] {
        let mut members = 0;
        let troubles = walk(&overlapping(&one, 5000), limits, &mut |member| {
            members += usize::from(!member.path.is_empty());
        });
        assert!((1..=4).contains(&members), "{members}");
        assert!((1..=100).contains(&troubles.len()), "{}", troubles.len());
        assert!(
            troubles
                .iter()
                .all(|(_, trouble)| *trouble == Trouble::TooLarge),
            "{troubles:?}"
        );
    }
}

#[test]
fn bombs_in_bombs_cost_no_more_than_one() {
    let limits = Limits {
        unpacked: 4 << 20,
        ..Limits::default()
    };
    let bomb = deflated("zeros", &vec![0; 1 << 20]);
    let level = |inner: &[u8]| overlapping(&deflated("inner.zip", inner), 16);
    let nested = level(&level(&level(&bomb)));
    let mut total = 0;
    let troubles = walk(&nested, limits, &mut |member| total += member.data.len());
    assert!(total <= (4 << 20) + nested.len(), "{total}");
    assert!(!troubles.is_empty());
}

#[test]
fn long_names_are_cut() {
    let name = "d/".repeat(10_000) + "e.com";
    let (found, troubles) = found(&stored(&name, &eicar()), Limits::default());
    assert_eq!((found.len(), troubles), (1, vec![]));
    assert_eq!(found[0].len(), 255);
    let deep = (0..8).fold(eicar(), |data, _| stored(&name, &data));
    let troubles = walk(&stored(&name, &deep), Limits::default(), &mut |_| {});
    assert_eq!(troubles.len(), 1);
    assert!(troubles[0].0.iter().all(|name| name.len() <= 255));
}

#[test]
fn many_members_end() {
    let limits = Limits {
        members: 10,
        ..Limits::default()
    };
    let one = tar("e.com", &eicar());
    let many = one[..1024].repeat(1000);
    let (found, troubles) = found(&many, limits);
    assert_eq!((found.len(), troubles), (10, vec![Trouble::TooMany]));
}

#[test]
fn what_cannot_be_read_is_counted() {
    let eicar = eicar();
    assert_eq!(
        found(&zip_as("e.com", &eicar, 1, 0), Limits::default()).1,
        [Trouble::Encrypted]
    );
    assert_eq!(
        found(&zip_as("e.com", &eicar, 0, 12), Limits::default()).1,
        [Trouble::Unsupported]
    );
    let whole = gzip(&[eicar.clone(), vec![7; 5000]].concat());
    assert_eq!(
        found(&whole[..whole.len() - 9], Limits::default()).1,
        [Trouble::Damaged]
    );
    let whole = stored("e.com", &eicar);
    assert_eq!(
        found(&whole[..whole.len() - 30], Limits::default()).1,
        [Trouble::Damaged]
    );
    let whole = tar("e.com", &eicar);
    let (paths, troubles) = found(&whole[..512 + 68], Limits::default());
    assert_eq!(
        (paths.len(), troubles),
        (1, vec![]),
        "content without padding is whole"
    );
    assert_eq!(
        found(&whole[..512 + 60], Limits::default()).1,
        [Trouble::Damaged]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn damage_does_not_hurt(kind in 0..5usize, at: prop::sample::Index, bytes: [u8; 4], cut: prop::sample::Index) {
        let inner = tar("e.com", &eicar());
        let mut archive = match kind {
            0 => gzip(&inner),
            1 => zstd(&inner),
            2 => stored("a.tar", &inner),
            3 => deflated("a.tar", &inner),
            _ => tar("a.tar", &inner),
        };
        let at = at.index(archive.len() - 4);
        archive[at..at + 4].copy_from_slice(&bytes);
        archive.truncate(cut.index(archive.len()) + 1);
        let limits = Limits { unpacked: 1 << 20, ..Limits::default() };
        let mut total = 0;
        walk(&archive, limits, &mut |member| total += member.data.len());
        prop_assert!(total < 8 << 20);
    }
}
