//! The text of JSON strings.

use super::scan::hex4;

/// Writes what the inside of a valid JSON string means to `out`, from its start.
pub(crate) fn unescape(inside: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = inside;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let Some((&kind, after)) = rest.split_first() else {
            return;
        };
        rest = after;
        match kind {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let character = take_unit(&mut rest).and_then(|first| match first {
                    0xD800..=0xDBFF => {
                        rest = rest.strip_prefix(b"\\u")?;
                        let second = take_unit(&mut rest)?;
                        let low = second.checked_sub(0xDC00)?;
                        char::from_u32(0x1_0000 + ((first - 0xD800) << 10 | low))
                    }
                    _ => char::from_u32(first),
                });
                let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(other),
        }
    }
    out.extend_from_slice(rest);
}

fn take_unit(rest: &mut &[u8]) -> Option<u32> {
    let (digits, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    hex4(digits)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn means_what_serde_json_reads(text in r#"([a-zé😀 ]|\\[bfnrt"/\\]|\\u00[0-9a-f]{2}|\\ud83d\\ude0[0-9a-f])*"#) {
            let mut out = Vec::new();
            unescape(text.as_bytes(), &mut out);
            let expected: String = serde_json::from_str(&format!("\"{text}\"")).unwrap();
            prop_assert_eq!(out, expected.into_bytes());
        }
    }
}
