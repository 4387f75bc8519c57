//! Reads `key=value key="quoted value" flag`.

/// Writes the pairs of a line as members of a JSON object (no braces) through `pair`. A bare key
/// counts as `true`. Returns false if the line has no pair at all, or a quote without its other half.
pub(crate) fn pairs(line: &[u8], text: &mut Vec<u8>, mut pair: impl FnMut(&[u8], &[u8])) -> bool {
    let mut rest = line.trim_ascii_start();
    let mut found = false;
    while !rest.is_empty() {
        let key_end = rest
            .iter()
            .position(|&byte| byte == b'=' || byte.is_ascii_whitespace() || byte == b'"')
            .unwrap_or(rest.len());
        let (key, after) = rest.split_at(key_end);
        match after.split_first() {
            Some((b'=', [b'"', quoted @ ..])) if !key.is_empty() => {
                let Some(end) = unquote(quoted, text) else {
                    return false;
                };
                pair(key, text);
                found = true;
                rest = &quoted[end..];
                if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                    return false;
                }
            }
            Some((b'=', value)) if !key.is_empty() => {
                let end = value
                    .iter()
                    .position(u8::is_ascii_whitespace)
                    .unwrap_or(value.len());
                let (value, after) = value.split_at(end);
                if value.contains(&b'"') {
                    return false;
                }
                pair(key, value);
                found = true;
                rest = after;
            }
            Some((byte, _)) if !byte.is_ascii_whitespace() => return false,
            _ => {
                pair(key, b"true");
                rest = after;
            }
        }
        rest = rest.trim_ascii_start();
    }
    found
}

/// Writes what a quoted value means to `text`; returns the offset behind its closing quote.
fn unquote(quoted: &[u8], text: &mut Vec<u8>) -> Option<usize> {
    text.clear();
    let mut at = 0;
    loop {
        let next = at + memchr::memchr2(b'"', b'\\', &quoted[at..])?;
        text.extend_from_slice(&quoted[at..next]);
        if quoted[next] == b'"' {
            return Some(next + 1);
        }
        match *quoted.get(next + 1)? {
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b @ (b'"' | b'\\') => text.push(b),
            // Not an escape that writers of logfmt use; keep both bytes rather than lose one.
            other => text.extend_from_slice(&[b'\\', other]),
        }
        at = next + 2;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &[u8]) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        pairs(line, &mut Vec::new(), |key, value| {
            found.push((text(key), text(value)))
        })
        .then_some(found)
    }

    #[test]
    fn reads_pairs_quotes_and_flags() {
        let found = read(br#" level=info  msg="a \"b\"\n" empty= dry_run t=3"#).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("level", "info"),
                ("msg", "a \"b\"\n"),
                ("empty", ""),
                ("dry_run", "true"),
                ("t", "3")
            ]
        );
    }

    #[test]
    fn refuses_what_is_no_logfmt() {
        for line in [
            "",
            "plain words only",
            r#"a="torn"#,
            r#"a="b"c"#,
            "=b",
            r#"a=b"c"#,
        ] {
            assert_eq!(read(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn quoted_values_come_back(pairs in prop::collection::vec(("[a-z.]{1,8}", any::<String>()), 1..6)) {
            let line: Vec<String> = pairs.iter().map(|(key, value)| {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"");
                format!("{key}=\"{value}\"")
            }).collect();
            prop_assert_eq!(read(line.join(" ").as_bytes()), Some(pairs));
        }

        #[test]
        fn never_panics(line in any::<Vec<u8>>()) {
            read(&line);
        }
    }
}
