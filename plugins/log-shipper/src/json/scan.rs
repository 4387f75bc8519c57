//! A validating scanner: accepts what RFC 8259 accepts and nothing else, up to a depth of nesting,
//! and notes where the members of the outermost object are.

/// Objects and arrays may be nested this deep; what is deeper counts as invalid.
const MAX_DEPTH: u32 = 128;

/// One member of an object, as offsets into the bytes that were scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    /// The key, between its quotes.
    pub key: (u32, u32),
    /// The value, with quotes if it is a string.
    pub value: (u32, u32),
    /// Whether the key contains escapes.
    pub key_escaped: bool,
    /// Whether the value is a string that contains escapes.
    pub value_escaped: bool,
}

/// Scans a line that should be one JSON object, filling `members`. Returns false, with `members` in
/// no particular state, if it is anything else.
pub(crate) fn scan_line(line: &[u8], members: &mut Vec<Member>) -> bool {
    members.clear();
    if u32::try_from(line.len()).is_err() || std::str::from_utf8(line).is_err() {
        return false;
    }
    let mut scanner = Scanner { bytes: line, at: 0 };
    scanner.space();
    scanner.object(0, Some(members)).is_some() && {
        scanner.space();
        scanner.at == line.len()
    }
}

/// Appends the members of an object that was found valid before, with offsets into all of `bytes`.
pub(crate) fn members(bytes: &[u8], object: (u32, u32), members: &mut Vec<Member>) {
    let mut scanner = Scanner {
        bytes: &bytes[..object.1 as usize],
        at: object.0 as usize,
    };
    let scanned = scanner.object(0, Some(members));
    debug_assert!(scanned.is_some(), "scanned before");
}

/// The offset of the quote that ends the string whose inside starts at `at`, and whether there are
/// escapes before it. `None` if it has no end or contains what a string may not.
#[inline]
pub(crate) fn string_end(bytes: &[u8], at: usize) -> Option<(usize, bool)> {
    let mut scanner = Scanner { bytes, at };
    let escaped = scanner.string_rest()?;
    Some((scanner.at - 1, escaped))
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn object(&mut self, depth: u32, mut members: Option<&mut Vec<Member>>) -> Option<()> {
        self.expect(b'{')?;
        self.space();
        if self.expect(b'}').is_some() {
            return Some(());
        }
        loop {
            self.expect(b'"')?;
            let key = self.at;
            let key_escaped = self.string_rest()?;
            let key = (key as u32, self.at as u32 - 1);
            self.space();
            self.expect(b':')?;
            self.space();
            let value = self.at;
            let value_escaped = self.value(depth)?;
            if let Some(members) = &mut members {
                members.push(Member {
                    key,
                    value: (value as u32, self.at as u32),
                    key_escaped,
                    value_escaped,
                });
            }
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
            self.space();
        }
    }

    /// Passes any value; true if it is a string with escapes.
    #[inline]
    fn value(&mut self, depth: u32) -> Option<bool> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                return self.string_rest();
            }
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.word(b"true")?,
            b'f' => self.word(b"false")?,
            b'n' => self.word(b"null")?,
            _ if depth + 1 >= MAX_DEPTH => return None,
            b'{' => self.object(depth + 1, None)?,
            b'[' => self.array(depth + 1)?,
            _ => return None,
        }
        Some(false)
    }

    fn array(&mut self, depth: u32) -> Option<()> {
        self.expect(b'[')?;
        self.space();
        if self.expect(b']').is_some() {
            return Some(());
        }
        loop {
            self.value(depth)?;
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
            self.space();
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes[self.at..]
            .starts_with(word)
            .then(|| self.at += word.len())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// Passes the inside of a string and its closing quote; true if there are escapes.
    #[inline]
    fn string_rest(&mut self) -> Option<bool> {
        let mut escaped = false;
        loop {
            self.plain();
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(escaped);
                }
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                // A control character, which must be escaped in JSON.
                _ => return None,
            }
        }
    }

    /// Passes bytes that mean themselves, eight at a time.
    #[inline]
    fn plain(&mut self) {
        while let Some(chunk) = self.bytes[self.at..].first_chunk::<8>() {
            match special(u64::from_le_bytes(*chunk)) {
                0 => self.at += 8,
                found => {
                    self.at += found.trailing_zeros() as usize / 8;
                    return;
                }
            }
        }
        while let Some(byte) = self.peek() {
            if byte < 0x20 || byte == b'"' || byte == b'\\' {
                return;
            }
            self.at += 1;
        }
    }

    fn escape(&mut self) -> Option<()> {
        self.at += 1;
        let kind = self.peek()?;
        self.at += 1;
        match kind {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let unit = self.unit()?;
                match unit {
                    0xD800..=0xDBFF => {
                        // Half a pair means nothing without the other half.
                        self.expect(b'\\')?;
                        self.expect(b'u')?;
                        matches!(self.unit()?, 0xDC00..=0xDFFF).then_some(())
                    }
                    0xDC00..=0xDFFF => None,
                    _ => Some(()),
                }
            }
            _ => None,
        }
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.bytes[self.at..].first_chunk::<4>()?;
        self.at += 4;
        hex4(digits)
    }
}

/// The value of four hexadecimal digits.
pub(super) fn hex4(digits: &[u8; 4]) -> Option<u32> {
    digits.iter().try_fold(0, |value, &digit| {
        Some(value << 4 | (digit as char).to_digit(16)?)
    })
}

/// The top bit of each byte that is a quote, a backslash or a control character. Bytes above the
/// lowest one found may be marked wrongly, by the borrow of the subtraction; nobody asks for them.
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
    let control = word.wrapping_sub(ONES * 0x20) & !word & TOPS;
    zero(word ^ (ONES * b'"' as u64)) | zero(word ^ (ONES * b'\\' as u64)) | control
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn object() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..5).prop_map(Value::from_iter),
            ]
        });
        prop::collection::hash_map(any::<String>(), value, 0..6).prop_map(Value::from_iter)
    }

    /// What serde_json thinks, which alone has a limit of the same depth. None of a line with a number
    /// that is beyond its floats: JSON has no bound for them (RFC 8259, section 6).
    fn valid(line: &[u8]) -> Option<bool> {
        match serde_json::from_slice::<serde_json::Map<String, Value>>(line) {
            Ok(_) => Some(true),
            Err(error) if error.to_string().starts_with("number out of range") => None,
            Err(_) => Some(false),
        }
    }

    proptest! {
        #[test]
        fn finds_every_member(value in object(), pretty in any::<bool>()) {
            let line = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let mut members = Vec::new();
            prop_assert!(scan_line(line.as_bytes(), &mut members));
            let mut seen = serde_json::Map::new();
            for member in &members {
                let key = &line[member.key.0 as usize - 1..=member.key.1 as usize];
                let value = &line[member.value.0 as usize..member.value.1 as usize];
                prop_assert_eq!(member.key_escaped, key.contains('\\'));
                prop_assert_eq!(member.value_escaped, value.starts_with('"') && value.contains('\\'));
                seen.insert(serde_json::from_str(key).unwrap(), serde_json::from_str(value).unwrap());
            }
            let again: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(Value::Object(seen), again);
        }

        #[test]
        fn judges_damaged_objects_as_serde_json_does(
            value in object(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
        ) {
            let mut line = serde_json::to_vec(&value).unwrap();
            let at = at.index(line.len());
            if cut { line.truncate(at) } else { line[at] = byte }
            if let Some(valid) = valid(&line) {
                prop_assert_eq!(scan_line(&line, &mut Vec::new()), valid, "{:?}", String::from_utf8_lossy(&line));
            }
        }

        #[test]
        fn judges_near_json_as_serde_json_does(line in r#"\{("a"|"\\u[dD][89c-f]00\\?u?[dD]?[cC]?00"|"\\.") ?:[ \t]*(-?[0-9]{0,2}\.?[0-9]?[eE]?[+-]?[0-9]?|tru?e|nul+|\[[1,\]\[]{0,4}\]|"\\[nu"/]0?")[,} ]{0,2}\}"#) {
            if let Some(valid) = valid(line.as_bytes()) {
                prop_assert_eq!(scan_line(line.as_bytes(), &mut Vec::new()), valid, "{}", line);
            }
        }
    }

    #[test]
    fn refuses_what_is_nested_too_deep() {
        let line = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(scan_line(line(126).as_bytes(), &mut Vec::new()));
        assert!(!scan_line(line(128).as_bytes(), &mut Vec::new()));
        assert!(!scan_line(line(1_000_000).as_bytes(), &mut Vec::new()));
    }
}
