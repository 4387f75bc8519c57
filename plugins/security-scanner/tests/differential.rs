//! The engine beside Debian's `yara`: the same rules on the same files, and the same matches of the
//! same strings in the same places.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};

use support::{corpus, generate, peer};

/// Rules on contents, each in a file; how many rules matched.
fn same(rules: &[String], contents: &[&[u8]]) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let write = |(index, content): (usize, &&[u8])| {
        let path = folder.path().join(format!("file{index}"));
        std::fs::write(&path, content).unwrap();
        path
    };
    let files: Vec<PathBuf> = contents.iter().enumerate().map(write).collect();
    peer::assert_same(&rules.concat(), &files).len()
}

/// A rule for each string, which is met if the string is found.
fn strings(strings: &[&str]) -> Vec<String> {
    let rule = |(number, string): (usize, &&str)| {
        format!("rule string_{number} {{ strings: $a = {string} condition: $a }}\n")
    };
    strings.iter().enumerate().map(rule).collect()
}

/// A rule for each condition on the strings `$a`, `$b` and `$c`.
fn conditions(conditions: &[&str]) -> Vec<String> {
    let rule = |(number, condition): (usize, &&str)| {
        format!(
            "rule condition_{number} {{ strings: $a = \"abc\" $b = \"bcd\" $c = {{ 00 ?1 }} \
             condition: ({condition}) or ((#a + #b + #c) == 100000) }}\n"
        )
    };
    conditions.iter().enumerate().map(rule).collect()
}

const CONTENTS: &[&[u8]] = &[
    b"",
    b"a",
    b"abc",
    b"abcd abcd ABCD aBcD xabcdx abc",
    b"MZ\x90\0 abc \0\x01\0\x11 bcd",
    b"a\0b\0c\0d\0 \0a\0B\0C\0d\0",
    b"zzza\0b\0c\0zz a\0b\0c\0z\0",
    b"ab\nabc\r\nabc\n\nc aab aaab aaaab ab12cd ab1cd abXcd",
    b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
    b"\x4d\x5a\x01\x02\x03\x4d\x5a\xff\xff\x50\x45\0\0\x4d\x5b\x6d\x5a",
    b"word words sword word. _word_ word1 1word word",
    b"QUJDREVGR0g= xBQkNERUZHSA== ZZZBQkNERUZH VGhpcyBwcm9ncmFt",
    b"\x00\x01\x02\x03\x04\x05\x06\x07\x80\x81\xfe\xff\xff\xff\xff\xff",
];

#[test]
fn texts() {
    let rules = strings(&[
        "\"abc\"",
        "\"abc\" nocase",
        "\"abc\" wide",
        "\"abc\" wide ascii",
        "\"abc\" wide nocase",
        "\"abc\" wide ascii nocase fullword",
        "\"abcd\" fullword",
        "\"word\" fullword",
        "\"word\" fullword ascii nocase",
        "\"abc\" wide fullword",
        "\"a\"",
        "\"ab\"",
        "\"aa\"",
        "\"aaaa\"",
        "\"\\x00\\x01\"",
        "\"\\x4d\\x5a\\x90\"",
        "\"b\\nabc\\r\"",
        "\"abc\" private",
    ]);
    assert!(same(&rules, CONTENTS) > 40);
}

#[test]
fn encoded_texts() {
    let plain = b"--This program cannot--";
    let xored = |key: u8| plain.iter().map(|byte| byte ^ key).collect::<Vec<u8>>();
    let wide: Vec<u8> = plain.iter().flat_map(|byte| [byte ^ 0x41, 0x41]).collect();
    let all = [plain.to_vec(), xored(1), xored(0x20), xored(0xff), wide];
    let contents: Vec<&[u8]> = all
        .iter()
        .map(Vec::as_slice)
        .chain(CONTENTS.iter().copied())
        .collect();
    let rules = strings(&[
        "\"This program\" xor",
        "\"This program\" xor(1-255)",
        "\"This program\" xor(1)",
        "\"This program\" xor wide",
        "\"This program\" xor wide ascii",
        "\"This program\" xor(0x20-0x40) ascii",
        "\"ABCDEFG\" base64",
        "\"BCDEF\" base64",
        "\"CDEFG\" base64",
        "\"This program\" base64 base64wide",
    ]);
    assert!(same(&rules, &contents) > 10);
}

#[test]
fn hex() {
    let rules = strings(&[
        "{ 4D 5A }",
        "{ 4D 5A ?? 02 }",
        "{ 4? 5A }",
        "{ ?D 5A }",
        "{ ?D 5? }",
        "{ 4D 5A [1-4] 4D 5A }",
        "{ 4D 5A [2] 03 }",
        "{ 4D [0-20] 50 45 }",
        "{ 4D 5A [-] 50 45 }",
        "{ 4D 5A [3-] 50 45 00 }",
        "{ 4D 5A [0-1000] 50 45 [0-300] 6D }",
        "{ 61 62 ( 63 | 31 ) }",
        "{ 61 ( 62 63 | 42 | 6? 6? 62 ) [0-2] 64 }",
        "{ 61 61 [1-3] 62 }",
        "{ 61 [0-3] 62 }",
        "{ 0? 0? }",
        "{ ( 01 | 81 ) ?? 03 }",
        "{ 00 // comment\n 01 /* another } */ 02 }",
        "{ 61 [0-500] 62 [0-500] 63 }",
        "{ FF FF [1-2] FF }",
    ]);
    assert!(same(&rules, CONTENTS) > 30);
}

#[test]
fn expressions() {
    let rules = strings(&[
        "/abc/",
        "/ab*c?/",
        "/a+b/",
        "/a+?b/",
        "/aa*b/",
        "/a{2,3}b/",
        "/a{,3}b/",
        "/a{3}/",
        "/a{2,}b/",
        "/(ab|bc)+/",
        "/ab[0-9]{1,2}cd/",
        "/ab[^0-9]cd/",
        "/ab.cd/",
        "/b.abc/",
        "/b.abc/s",
        "/a.*c/",
        "/a.*?c/",
        "/abc/i",
        "/abc/ wide",
        "/abcd/ wide nocase",
        "/a.c/ wide ascii",
        "/^abc/",
        "/bcd$/",
        "/abc$/",
        "/\\bword\\b/",
        "/\\Bword/",
        "/word/ fullword",
        "/wor[a-z]+/ fullword",
        "/wor[a-z]*?/ fullword",
        "/\\w+\\.\\s/",
        "/wor.*/ fullword",
        "/s.*?d/ fullword",
        "/a[a-z]c/ fullword wide",
        "/[a-z]+/ fullword",
        "/\\d\\w+/",
        "/\\x4d\\x5a/",
        "/[\\x00-\\x03]{2}/",
        "/a|abc|abcd/",
        "/x?abc/",
        "/[]a]b/",
        "/[a-]b/",
        "/a\\/?b/",
        "/.b/",
    ]);
    assert!(same(&rules, CONTENTS) > 60);
}

#[test]
fn all_operators() {
    let rules = conditions(&[
        "true",
        "not false and not (1 == 2)",
        "1 + 2 * 3 == 7",
        "7 \\ 2 == 3 and 7 % 4 == 3",
        "-1 < 0 and ~0 == -1",
        "1 << 4 == 16 and 256 >> 4 == 16",
        "1 << 64 == 0",
        "1 << (filesize - filesize - 1) == 0",
        "not 1 << (filesize - filesize - 1) == 0",
        "0x0f & 3 | 4 ^ 1 == 7",
        "5 & 6 == 4",
        "1 \\ (filesize - filesize) == 0",
        "not (1 \\ (filesize - filesize) == 0)",
        "1 % (filesize - filesize) == 0",
        "1.5 + 1 == 2.5 and 3.0 \\ 2 > 1.4",
        "1KB == 1024 and 1MB == 1024KB and 0o17 == 15",
        "filesize",
        "filesize > 10 and filesize < 40",
        "not defined uint8(1000)",
        "defined uint8(0)",
        "uint8(0) == 0x61",
        "int8(8) < 0",
        "uint16(0) == 0x5a4d",
        "uint16be(0) == 0x4d5a",
        "uint32be(0) == 0x61626364 or uint32(0) == 0x64636261",
        "int32(12) == -1 and uint32(12) == 0xffffffff",
        "int16be(10) == -257 or int16(10) == -2",
        "uint32(filesize - 4) == 0xffffffff",
        "uint8(uint8(0)) == 0",
        "not uint8(1000) == 0",
        "uint8(1000) == 0 or true",
    ]);
    assert!(same(&rules, CONTENTS) > 100);
}

#[test]
fn strings_in_conditions() {
    let rules = conditions(&[
        "$a",
        "$a and $b",
        "$a or $c",
        "not $a",
        "#a == 3",
        "#a > #b",
        "#a in (0..10) == 2",
        "$a at 0",
        "$a at 5",
        "$a at filesize - 3",
        "$a in (1..20)",
        "$a in (filesize - 3..filesize)",
        "@a == 0",
        "@a[2] == 5",
        "@a[100] == 5",
        "!a == 3 and !c[1] == 2",
        "@b - @a == 1",
        "any of them",
        "all of them",
        "none of them",
        "2 of them",
        "0 of them",
        "50% of them",
        "1 of ($a, $b)",
        "any of ($a*)",
        "any of them in (0..4)",
        "all of ($a, $b) in (0..10)",
        "for any of them : ( $ at 0 )",
        "for all of them : ( # > 0 )",
        "for 2 of them : ( @ < 10 )",
        "for any of ($a, $b) : ( # == 3 and ! == 3 and @[2] == 5 )",
        "for all i in (1..#a) : ( @a[i] < 12 )",
        "for any i in (1..#a) : ( @a[i] == 5 )",
        "for 2 i in (1..#a) : ( @a[i] < 10 )",
        "for any i in (0, 5, 9) : ( $a at i )",
        "for all i in (0, 5) : ( $a at i )",
        "for any i in (0..3) : ( for any j in (0..3) : ( uint8(i) == uint8(j) and i != j ) )",
        "for all i in (5..filesize) : ( uint8(i) != 0 )",
        "for all i in (1..0 * #a) : ( false )",
        "for none i in (1..0 * #a) : ( true )",
        "for any i in (1..0 * #a) : ( true )",
        "for 0 i in (1..0 * #a) : ( true )",
        "for 0 i in (1..3) : ( i == 20 )",
        "for 1 i in (1..0 * #a) : ( true )",
        "for all i in (uint8(1000)..5) : ( true )",
        "for none i in (uint8(1000)..5) : ( true )",
        "not for all i in (uint8(1000)..5) : ( true )",
        "$a in (uint8(1000)..5)",
        "not $a in (uint8(1000)..5)",
        "not $a at uint8(1000)",
        "#a in (uint8(1000)..5) == 0",
        "34% of them",
        "67% of them",
        "33% of them",
        "any of them in (uint8(1000)..5)",
        "for any i in (uint8(1000), 5) : ( $a at i )",
        "for any of them : ( for any i in (1..#) : ( @[i] == 5 ) )",
        "#a * 2 >= 6 and #b + 1 of them",
    ]);
    assert!(same(&rules, CONTENTS) > 100);
}

#[test]
fn rules_about_rules() {
    let rules = [
        "private rule hidden { strings: $a = \"abc\" condition: $a }\n",
        "rule uses { condition: hidden and filesize > 10 }\n",
        "rule uses_not { condition: not hidden }\n",
        "rule some { condition: 1 of (uses, uses_not) }\n",
        "rule most { condition: all of (uses*) }\n",
        "global rule sized { condition: filesize > 2 }\n",
        "global private rule short { condition: filesize < 45 }\n",
    ];
    assert!(same(&rules.map(str::to_owned), CONTENTS) > 20);
}

/// Strings that are used in one place only are reported there only.
#[test]
fn strings_in_one_place() {
    let rules = [
        "rule one { strings: $a = \"abc\" condition: $a at 0 }\n",
        "rule same { strings: $a = \"abc\" condition: $a at 5 or $a at 5 }\n",
        "rule two { strings: $a = \"abc\" condition: $a at 0 or $a at 5 }\n",
        "rule both { strings: $a = \"abc\" condition: $a at 0 and #a > 1 }\n",
        "rule expression { strings: $a = /ab+c/ condition: $a at 0 }\n",
        "rule masked { strings: $a = { 61 ?? 63 } condition: $a at 0 }\n",
        "rule literal { strings: $a = /abc/ condition: $a at 0 }\n",
        "rule jump { strings: $a = { 61 [1-2] 63 } condition: $a at 0 }\n",
        "rule widened { strings: $a = \"abc\" wide ascii condition: $a at 0 }\n",
        "rule caseless { strings: $a = \"ABC\" nocase condition: $a at 5 }\n",
        "rule loose { strings: $a = { 4D 5A } condition: $a at 0 and uint8(2) != 0x91 }\n",
    ];
    assert!(same(&rules.map(str::to_owned), CONTENTS) > 5);
}

#[test]
fn real_files_and_generated_rules() {
    let files = corpus::files(Path::new("/usr"), 60 << 20, 8 << 20);
    let files: Vec<PathBuf> = files.into_iter().map(|(path, _)| path).collect();
    assert!(
        files.len() > 500,
        "/usr has only {} files to compare",
        files.len()
    );
    let samples = files
        .iter()
        .step_by(files.len() / 60)
        .map(|path| std::fs::read(path).unwrap());
    let samples: Vec<Vec<u8>> = samples.collect();
    let verdicts = peer::assert_same(&generate::rules(1, 200, &samples), &files);
    let mut rules: Vec<_> = verdicts.keys().map(|(_, rule)| rule).collect();
    rules.sort();
    rules.dedup();
    assert!(
        rules.len() >= 20,
        "only {} rules matched anything",
        rules.len()
    );
}
