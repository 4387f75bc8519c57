//! ClamAV's signatures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use security_scanner::clamav::{Digests, Hashes};
use security_scanner::yara::{Compiler, Limits, Scanner};

fn digest<const LENGTH: usize>(digits: &str) -> Option<[u8; LENGTH]> {
    let bytes = (0..LENGTH).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap());
    bytes.collect::<Vec<u8>>().try_into().ok()
}

#[test]
fn files_are_known_by_hash_and_size() {
    let mut hashes = Hashes::default();
    let list = "44d88612fea8a8f36de82e1278abb02f:68:Eicar\n# a comment\n\n\
        3395856ce81f2b7382dee72602f798b642f14140:*:Eicar.SHA1:73\n\
        275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f\n";
    assert_eq!(hashes.add(list), []);
    assert_eq!(hashes.wanted(), [true, true, true]);
    let md5 = digest("44d88612fea8a8f36de82e1278abb02f");
    let sha1 = digest("3395856ce81f2b7382dee72602f798b642f14140");
    let all = Digests {
        md5,
        sha1,
        sha256: None,
    };
    assert_eq!(hashes.find(&all, 68), ["Eicar", "Eicar.SHA1"]);
    assert_eq!(hashes.find(&all, 69), ["Eicar.SHA1"]);
    assert!(
        hashes
            .find(
                &Digests {
                    md5: Some([0; 16]),
                    ..all
                },
                68
            )
            .len()
            == 1
    );
}

#[test]
fn lines_that_make_no_sense_are_answered() {
    let mut hashes = Hashes::default();
    let left_out = hashes.add(
        "nonsense:1:x\n44d88612fea8a8f36de82e1278abb02f:many:y\n44d88612fea8a8f36de82e1278abb0zz:1:z\n",
    );
    let places: Vec<_> = left_out
        .iter()
        .map(|error| (error.line, error.column))
        .collect();
    assert_eq!(places, [(1, 1), (2, 34), (3, 1)]);
    assert_eq!(hashes.wanted(), [false, false, false]);
}

fn names(signatures: &str, data: &[u8]) -> Vec<String> {
    let mut compiler = Compiler::default();
    assert_eq!(compiler.ndb("clamav", signatures), []);
    let rules = compiler.finish();
    let hits = Scanner::new(&rules, Limits::default()).scan(data).hits;
    hits.into_iter().map(|hit| hit.rule.name.clone()).collect()
}

#[test]
fn content_is_found_where_it_has_to_be() {
    let signatures = "Any:0:*:616263??65\nStart:0:0:616263\nSecond:0:1:6162\nShifted:0:0,5:6263\n\
        End:0:EOF-3:787979\nEndShifted:0:EOF-9,6:787979\nGap:0:*:6162{1-3}65\nFar:0:*:6162*7879\n\
        Low:0:*:61{-2}64\nHigh:0:*:61{3-}78\nEither:0:*:61(62|63)63\nNibble:0:*:6?62\n\
        Program:1:*:616263\nElf:6:*:616263\n";
    let found = names(signatures, b"abcde 0123456789 xyy");
    let expected = [
        "Any",
        "Start",
        "Shifted",
        "End",
        "EndShifted",
        "Gap",
        "Far",
        "Low",
        "High",
        "Either",
        "Nibble",
    ];
    assert_eq!(found, expected);
    assert_eq!(
        names(signatures, b"MZabc"),
        ["Shifted", "Either", "Nibble", "Program"]
    );
    assert_eq!(
        names(signatures, b"\x7fELF abc"),
        ["Either", "Nibble", "Elf"]
    );
    assert!(names(signatures, b"").is_empty());
}

#[test]
fn what_is_not_supported_is_left_out_and_answered() {
    let signatures = "Short:0\nHtml:3:*:616263\nEntry:1:EP+0:616263\nNot:0:*:61!(62|63)\nOdd:0:*:616\n\
        Fine:0:*:616263\n";
    let mut compiler = Compiler::default();
    let left_out = compiler.ndb("clamav", signatures);
    let places: Vec<_> = left_out
        .iter()
        .map(|error| (error.line, error.column))
        .collect();
    assert_eq!(places, [(1, 1), (2, 6), (3, 9), (4, 9), (5, 9)]);
    assert_eq!(compiler.finish().rules().len(), 1);
}
