//! Regular expressions in YARA's dialect, which is one of bytes.

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, Look, Repetition};

use super::Fault;

const MAX_DEPTH: usize = 32;
const MAX_REPEATS: u32 = 32_767;

/// What is between the slashes, of which the first byte is at `start`; and whether it takes as much as
/// it can: only those do that repeat something greedily.
pub(super) fn parse(
    body: &str,
    start: usize,
    nocase: bool,
    dot_all: bool,
) -> Result<(Hir, bool), Fault> {
    let mut parser = Regexp {
        text: body.as_bytes(),
        at: 0,
        start,
        nocase,
        dot_all,
        greedy: None,
    };
    let hir = parser.alternation(0)?;
    if parser.peek().is_some() {
        return parser.fault("there is no `(` for this `)`; write `\\)` for the character");
    }
    if hir.properties().maximum_len() == Some(0) {
        parser.at = 0;
        return parser.fault("this regular expression matches nothing but the empty text");
    }
    Ok((hir, parser.greedy == Some(true)))
}

struct Regexp<'t> {
    text: &'t [u8],
    at: usize,
    start: usize,
    nocase: bool,
    dot_all: bool,
    greedy: Option<bool>,
}

impl Regexp<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn fault<T>(&self, message: impl Into<String>) -> Result<T, Fault> {
        Err(Fault::new(self.start + self.at, message))
    }

    fn alternation(&mut self, depth: usize) -> Result<Hir, Fault> {
        if depth > MAX_DEPTH {
            return self.fault("groups are nested too deeply here");
        }
        let mut all = vec![self.concat(depth)?];
        while self.take(b'|') {
            all.push(self.concat(depth)?);
        }
        Ok(Hir::alternation(all))
    }

    fn concat(&mut self, depth: usize) -> Result<Hir, Fault> {
        let mut items = Vec::new();
        while !matches!(self.peek(), None | Some(b'|' | b')')) {
            let item = self.atom(depth)?;
            items.push(self.repeated(item)?);
        }
        Ok(Hir::concat(items))
    }

    fn atom(&mut self, depth: usize) -> Result<Hir, Fault> {
        let Some(byte) = self.peek() else {
            return Ok(Hir::empty());
        };
        if matches!(byte, b'*' | b'+' | b'?') {
            return self
                .fault("there is nothing to repeat; write `\\` before it for the character");
        }
        self.at += 1;
        Ok(match byte {
            b'(' => {
                if self.text[self.at..].starts_with(b"?:") {
                    self.at += 2;
                } else if self.peek() == Some(b'?') {
                    return self.fault("of groups there are only `(...)` and `(?:...)`");
                }
                let inner = self.alternation(depth + 1)?;
                if !self.take(b')') {
                    return self.fault("write `)` here");
                }
                inner
            }
            b'[' => {
                let set = self.set()?;
                self.class(set)
            }
            b'.' if self.dot_all => self.class(ranges(&[(0, 255)])),
            b'.' => self.class(ranges(&[(0, 9), (11, 255)])),
            b'^' => Hir::look(Look::Start),
            b'$' => Hir::look(Look::End),
            b'\\' => match self.peek() {
                Some(b'b') => self.look(Look::WordAscii),
                Some(b'B') => self.look(Look::WordAsciiNegate),
                _ => {
                    let set = self.escape()?;
                    self.class(set)
                }
            },
            _ => self.class(ranges(&[(byte, byte)])),
        })
    }

    fn look(&mut self, look: Look) -> Hir {
        self.at += 1;
        Hir::look(look)
    }

    fn class(&self, mut set: ClassBytes) -> Hir {
        if self.nocase {
            set.case_fold_simple();
        }
        Hir::class(Class::Bytes(set))
    }

    fn repeated(&mut self, sub: Hir) -> Result<Hir, Fault> {
        let start = self.at;
        let (min, max) = match self.peek() {
            Some(b'*') => (0, None),
            Some(b'+') => (1, None),
            Some(b'?') => (0, Some(1)),
            Some(b'{') => match self.bounds()? {
                Some(bounds) => bounds,
                None => return Ok(sub),
            },
            _ => return Ok(sub),
        };
        if self.at == start {
            self.at += 1;
        }
        let greedy = !self.take(b'?');
        if self.greedy.is_some_and(|other| other != greedy) {
            self.at = start;
            return self.fault("greedy and ungreedy repetitions cannot be mixed");
        }
        self.greedy = Some(greedy);
        if matches!(self.peek(), Some(b'*' | b'+' | b'?')) {
            return self.fault("there is nothing to repeat; put what is before into a group");
        }
        Ok(Hir::repetition(Repetition {
            min,
            max,
            greedy,
            sub: Box::new(sub),
        }))
    }

    /// `{4}`, `{2,4}`, `{2,}` or `{,4}`. Other braces stand for themselves.
    fn bounds(&mut self) -> Result<Option<(u32, Option<u32>)>, Fault> {
        let inner = &self.text[self.at + 1..];
        let Some(end) = memchr::memchr(b'}', inner) else {
            return Ok(None);
        };
        let inner = &inner[..end];
        let is_bounds = inner
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b',')
            && inner.iter().filter(|byte| **byte == b',').count() <= 1
            && inner.iter().any(u8::is_ascii_digit);
        if !is_bounds {
            return Ok(None);
        }
        let number = |digits: &[u8]| -> Option<u32> {
            std::str::from_utf8(digits)
                .ok()?
                .parse()
                .ok()
                .filter(|number| *number <= MAX_REPEATS)
        };
        let bounds = match memchr::memchr(b',', inner) {
            None => number(inner).map(|count| (count, Some(count))),
            Some(comma) => {
                let low = if comma == 0 {
                    Some(0)
                } else {
                    number(&inner[..comma])
                };
                match &inner[comma + 1..] {
                    [] => low.map(|low| (low, None)),
                    high => low.zip(number(high)).map(|(low, high)| (low, Some(high))),
                }
            }
        };
        match bounds {
            Some((low, high)) if high.is_none_or(|high| low <= high) => {
                self.at += end + 2;
                Ok(Some((low, high)))
            }
            _ => self.fault(format!(
                "repetitions are `{{LOW,HIGH}}`, up to {MAX_REPEATS}"
            )),
        }
    }

    /// After a backslash.
    fn escape(&mut self) -> Result<ClassBytes, Fault> {
        let Some(byte) = self.peek() else {
            return self.fault("write a character after the backslash");
        };
        self.at += 1;
        let word = [(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')];
        let space = [(9, 13), (b' ', b' ')];
        let mut set = match byte {
            b'w' | b'W' => ranges(&word),
            b's' | b'S' => ranges(&space),
            b'd' | b'D' => ranges(&[(b'0', b'9')]),
            b't' => ranges(&[(9, 9)]),
            b'n' => ranges(&[(10, 10)]),
            b'r' => ranges(&[(13, 13)]),
            b'f' => ranges(&[(12, 12)]),
            b'a' => ranges(&[(7, 7)]),
            b'x' => {
                let digits = self.text.get(self.at..self.at + 2);
                let digits = digits.and_then(|two| std::str::from_utf8(two).ok());
                let digits = digits.filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
                match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
                    Some(byte) => {
                        self.at += 2;
                        ranges(&[(byte, byte)])
                    }
                    None => return self.fault("write two hexadecimal digits after `\\x`"),
                }
            }
            _ => ranges(&[(byte, byte)]),
        };
        if matches!(byte, b'W' | b'S' | b'D') {
            set.negate();
        }
        Ok(set)
    }

    /// After `[`.
    fn set(&mut self) -> Result<ClassBytes, Fault> {
        let negated = self.take(b'^');
        let mut set = ClassBytes::empty();
        let mut first = true;
        loop {
            let Some(byte) = self.peek() else {
                return self.fault("this set of characters does not end; write `]`");
            };
            if byte == b']' && !first {
                self.at += 1;
                break;
            }
            first = false;
            let low = self.member()?;
            let is_range = self.peek() == Some(b'-')
                && !matches!(self.text.get(self.at + 1), None | Some(b']'));
            let Some(low_byte) = single(&low).filter(|_| is_range) else {
                set.union(&low);
                continue;
            };
            self.at += 1;
            let high = self.member()?;
            match single(&high) {
                Some(high) if low_byte <= high => set.union(&ranges(&[(low_byte, high)])),
                _ => return self.fault("a range goes from a lower character to a higher one"),
            }
        }
        if self.nocase {
            set.case_fold_simple();
        }
        if negated {
            set.negate();
        }
        Ok(set)
    }

    fn member(&mut self) -> Result<ClassBytes, Fault> {
        match self.peek() {
            Some(b'\\') => {
                self.at += 1;
                self.escape()
            }
            Some(byte) => {
                self.at += 1;
                Ok(ranges(&[(byte, byte)]))
            }
            None => self.fault("this set of characters does not end; write `]`"),
        }
    }
}

fn ranges(ranges: &[(u8, u8)]) -> ClassBytes {
    ClassBytes::new(
        ranges
            .iter()
            .map(|(low, high)| ClassBytesRange::new(*low, *high)),
    )
}

fn single(set: &ClassBytes) -> Option<u8> {
    match set.ranges() {
        [one] if one.start() == one.end() => Some(one.start()),
        _ => None,
    }
}
