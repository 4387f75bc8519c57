//! Steps through the members of a JSON object without parsing values. Made for text that was
//! checked to be well-formed; on anything else it yields something bounded and never panics.

/// One member: `"name":value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member<'a> {
    /// The name with its quotes, as written.
    pub(super) name: &'a [u8],
    /// The whole member without surrounding white space or comma.
    pub(super) text: &'a [u8],
}

/// The members of `text`, which has no braces around it.
#[derive(Debug, Clone)]
pub(super) struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Members<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        self.rest = self.rest.trim_ascii_start();
        if self.rest.is_empty() {
            return None;
        }
        let name = match self.rest {
            [b'"', ..] => &self.rest[..string_end(self.rest, 0)],
            _ => &[],
        };
        let mut at = name.len();
        let mut depth = 0usize;
        while let Some(&byte) = self.rest.get(at) {
            match byte {
                b'"' => {
                    at = string_end(self.rest, at);
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                b',' if depth == 0 => break,
                _ => {}
            }
            at += 1;
        }
        let text = self.rest[..at].trim_ascii_end();
        self.rest = self.rest.get(at + 1..).unwrap_or_default();
        Some(Member { name, text })
    }
}

/// One past the closing quote of the string that starts at `start`, or the text's end.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        match text[at + found] {
            b'"' => return at + found + 1,
            _ => at += found + 2,
        }
    }
    text.len()
}

/// What stands between the braces of an object, without surrounding white space; none if there are
/// no braces.
pub(super) fn of_object(text: &[u8]) -> Option<&[u8]> {
    let inner = text
        .trim_ascii()
        .strip_prefix(b"{")?
        .strip_suffix(b"}")?
        .trim_ascii();
    Some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        Members::new(text.as_bytes())
            .map(|member| String::from_utf8_lossy(member.name).into_owned())
            .collect()
    }

    #[test]
    fn nested_values_and_escaped_quotes_are_stepped_over() {
        let text = r#""a":{"x":[1,2,{"y":","}]}, "b\"c" : "},\\" ,"d":[],"e":1"#;
        assert_eq!(names(text), [r#""a""#, r#""b\"c""#, r#""d""#, r#""e""#]);
        let second = Members::new(text.as_bytes()).nth(1).map(|m| m.text);
        assert_eq!(second, Some(&br#""b\"c" : "},\\""#[..]));
    }

    #[test]
    fn an_unclosed_string_ends_the_text() {
        assert_eq!(names(r#""a":"\"#), [r#""a""#]);
        assert_eq!(names(r#"""#), [r#"""#]);
        assert_eq!(names("1,2"), ["", ""]);
    }

    #[test]
    fn an_object_needs_both_braces() {
        assert_eq!(of_object(b" { } "), Some(&b""[..]));
        assert_eq!(of_object(b"{"), None);
        assert_eq!(of_object(b"[1]"), None);
    }
}
