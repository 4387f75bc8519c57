//! What is refused, where, and with which words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use security_scanner::yara::Rules;

/// The error of a text, as line:column and message.
fn refusal(text: &str) -> String {
    match Rules::compile([("test", text)]) {
        Ok(_) => panic!("this was accepted:\n{text}"),
        Err((namespace, error)) => {
            assert_eq!(namespace, "test");
            error.to_string()
        }
    }
}

#[track_caller]
fn refused(text: &str, place: &str, words: &str) {
    let error = refusal(text);
    assert!(
        error.starts_with(&format!("{place}: ")),
        "not at {place}: {error}"
    );
    assert!(error.contains(words), "not `{words}`: {error}");
}

/// A rule with this string.
#[track_caller]
fn string_refused(string: &str, column: usize, words: &str) {
    let text = format!("rule r {{\nstrings: $a = {string}\ncondition: $a }}");
    refused(&text, &format!("2:{}", 15 + column), words);
}

/// A rule with this condition.
#[track_caller]
fn condition_refused(condition: &str, column: usize, words: &str) {
    let text = format!("rule r {{\nstrings: $a = \"abc\"\ncondition: {condition} or $a }}");
    refused(&text, &format!("3:{}", 12 + column), words);
}

#[test]
fn what_is_not_supported_is_named() {
    refused(
        "import \"pe\"\nrule r { condition: pe.is_pe }",
        "1:1",
        "`import \"pe\"` is not supported",
    );
    refused("include \"other.yar\"", "1:1", "`include` is not supported");
    refused(
        "rule r { condition: entrypoint == 0 }",
        "1:21",
        "`entrypoint` is not supported",
    );
    condition_refused("\"a\" contains \"b\"", 0, "texts cannot be compared");
}

#[test]
fn rules() {
    refused("rule", "1:5", "the name of the rule");
    refused("rule for { condition: true }", "1:6", "`for` is a keyword");
    refused("rule r { }", "1:10", "write `condition:`");
    refused("rule r { condition: true", "1:25", "write `}`");
    refused(
        "rule r : t t { condition: true }",
        "1:12",
        "the tag `t` is here twice",
    );
    refused(
        "rule r { condition: true }\nrule r { condition: true }",
        "2:1",
        "already a rule `r`",
    );
    refused(
        "rule r { meta: a = condition: true }",
        "1:20",
        "write a text, a number",
    );
    refused(
        "rule r { strings: condition: true }",
        "1:19",
        "there is no string here",
    );
    refused("rule ü { condition: true }", "1:6", "`ü` has no meaning");
    refused(
        "rule r { /* condition: true }",
        "1:10",
        "this comment does not end",
    );
    refused(
        "rule r { strings: $a = \"x\" $a = \"y\" condition: $a }",
        "1:28",
        "already a string `$a`",
    );
    refused(
        "rule r { strings: $a = \"x\" condition: true }",
        "1:19",
        "does not use `$a`",
    );
}

#[test]
fn strings() {
    string_refused("\"\"", 0, "an empty text");
    string_refused("\"abc\n", 0, "this text does not end");
    string_refused("\"a\\qc\"", 2, "only the escapes");
    string_refused("\"a\\x4\"", 2, "two hexadecimal digits");
    string_refused("5", 0, "write a text in quotes");
    string_refused("\"a\" wild", 4, "`wild` is no modifier");
    string_refused("\"a\" wide wide", 9, "`wide` is here twice");
    string_refused("\"a\" xor nocase", 8, "`nocase` does not go with `xor`");
    string_refused("\"a\" xor(5-3)", 11, "the smaller one");
    string_refused("\"a\" base64(\"abc\")", 11, "64 characters");
    string_refused("{ 4D } wide", 7, "`wide` does not go with this kind");
}

#[test]
fn hex() {
    string_refused("{ }", 1, "at least one byte");
    string_refused("{ 4D 5 }", 6, "a byte of two digits");
    string_refused("{ 4G }", 3, "a byte of two digits");
    string_refused("{ [2] 4D }", 2, "a jump is between two bytes");
    string_refused("{ 4D [2] }", 5, "a jump is between two bytes");
    string_refused("{ 4D [5-2] 4D }", 5, "a jump is `[N]`");
    string_refused("{ 4D ( 5A | ) }", 12, "an alternative is not empty");
    string_refused("{ 4D ( 5A }", 10, "write `)`");
    string_refused("{ 4D ( 5A [300] 5A ) }", 10, "200 bytes at most");
    string_refused("{ ~?? 4D }", 5, "matches nothing");
}

#[test]
fn expressions() {
    string_refused("/abc", 0, "does not end");
    string_refused("/a(b/", 4, "write `)`");
    string_refused("/ab)/", 3, "there is no `(`");
    string_refused("/+a/", 1, "nothing to repeat");
    string_refused("/a[bc/", 5, "does not end");
    string_refused("/a[z-a]/", 6, "from a lower character");
    string_refused("/a{5,2}/", 2, "repetitions are");
    string_refused("/a*b*?/", 4, "cannot be mixed");
    string_refused("/(?i)a/", 2, "of groups there are only");
    string_refused("/^$/", 1, "nothing but the empty text");
    string_refused("/abc/x", 5, "only the flags `i` and `s`");
}

#[test]
fn conditions() {
    condition_refused("$b", 0, "no string `$b`");
    condition_refused("unknown", 0, "no rule `unknown` before");
    condition_refused("any of ($b*)", 8, "no string `$b*`");
    condition_refused("any of (b*)", 8, "no rule `b` before");
    condition_refused("any them", 4, "write `of` after `any`");
    condition_refused("#a >", 5, "write a condition here");
    condition_refused("$a in (5..2)", 10, "from the lower number");
    condition_refused("$ at 0", 0, "the string of a loop");
    condition_refused("1.5 & 1", 4, "whole numbers only");
    condition_refused("99999999999999999999", 0, "up to 9223372036854775807");
    condition_refused("5TB", 0, "the units are `KB` and `MB`");
}
