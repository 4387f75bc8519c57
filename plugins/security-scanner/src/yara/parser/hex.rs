//! Hex strings: bytes, nibbles, jumps and alternatives.

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, Repetition};

use super::Fault;
use crate::yara::ast::Piece;

/// Longer jumps cut a string into pieces, which are looked for one by one.
const LONG_JUMP: u64 = 200;
const MAX_DEPTH: usize = 16;

/// What is between the braces, of which the first byte is at `start`.
pub(crate) fn pieces(inner: &str, start: usize) -> Result<Vec<Piece>, Fault> {
    let mut parser = Hex {
        text: inner.as_bytes(),
        at: 0,
        start,
    };
    let mut pieces = Vec::new();
    let mut gap = (0, 0);
    let mut items = Vec::new();
    loop {
        parser.skip_blank();
        match parser.peek() {
            None => break,
            Some(b'[') => {
                let jump_at = parser.at;
                let (low, high) = parser.jump()?;
                parser.skip_blank();
                if items.is_empty() || parser.peek().is_none() {
                    parser.at = jump_at;
                    return parser.fault("a jump is between two bytes; remove it from the end");
                }
                if high > LONG_JUMP {
                    let hir = Hir::concat(std::mem::take(&mut items));
                    pieces.push(Piece { gap, hir });
                    gap = (low, high);
                } else {
                    items.push(any_bytes(low, high));
                }
            }
            _ => items.push(parser.item(0)?),
        }
    }
    if items.is_empty() {
        parser.at = 0;
        return parser.fault("a hex string has at least one byte");
    }
    pieces.push(Piece {
        gap,
        hir: Hir::concat(items),
    });
    Ok(pieces)
}

struct Hex<'t> {
    text: &'t [u8],
    at: usize,
    start: usize,
}

impl Hex<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn fault<T>(&self, message: impl Into<String>) -> Result<T, Fault> {
        Err(Fault::new(self.start + self.at, message))
    }

    /// Blanks and comments, which the lexer has seen to end.
    fn skip_blank(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            if rest.starts_with(b"//") {
                self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            } else if rest.starts_with(b"/*") {
                self.at += memchr::memmem::find(rest, b"*/").map_or(rest.len(), |end| end + 2);
            } else if rest.first().is_some_and(u8::is_ascii_whitespace) {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    fn item(&mut self, depth: usize) -> Result<Hir, Fault> {
        match self.peek() {
            Some(b'(') if depth == MAX_DEPTH => {
                self.fault("alternatives are nested too deeply here")
            }
            Some(b'(') => self.alternatives(depth + 1),
            Some(b'~') => {
                self.at += 1;
                let (value, mask) = self.byte()?;
                match mask {
                    0 => self.fault("`~??` matches nothing"),
                    _ => Ok(class(|byte| byte & mask != value)),
                }
            }
            _ => {
                let (value, mask) = self.byte()?;
                match mask {
                    0xff => Ok(Hir::literal([value])),
                    _ => Ok(class(|byte| byte & mask == value)),
                }
            }
        }
    }

    fn alternatives(&mut self, depth: usize) -> Result<Hir, Fault> {
        self.at += 1;
        let mut all = Vec::new();
        let mut items = Vec::new();
        loop {
            self.skip_blank();
            match self.peek() {
                Some(b'|' | b')') if items.is_empty() => {
                    return self.fault("write bytes here: an alternative is not empty");
                }
                Some(b'|') => {
                    self.at += 1;
                    all.push(Hir::concat(std::mem::take(&mut items)));
                }
                Some(b')') => {
                    self.at += 1;
                    all.push(Hir::concat(items));
                    return Ok(Hir::alternation(all));
                }
                Some(b'[') => {
                    let start = self.at;
                    let (low, high) = self.jump()?;
                    if high > LONG_JUMP {
                        self.at = start;
                        return self.fault(format!(
                            "a jump in alternatives goes {LONG_JUMP} bytes at most"
                        ));
                    }
                    items.push(any_bytes(low, high));
                }
                None => return self.fault("write `)` here, after the last alternative"),
                Some(_) => items.push(self.item(depth)?),
            }
        }
    }

    fn byte(&mut self) -> Result<(u8, u8), Fault> {
        let (high, high_mask) = self.nibble()?;
        let (low, low_mask) = self.nibble()?;
        Ok((high << 4 | low, high_mask << 4 | low_mask))
    }

    fn nibble(&mut self) -> Result<(u8, u8), Fault> {
        let digit = self.peek().map(char::from);
        let nibble = match digit {
            Some('?') => (0, 0),
            Some(digit) if digit.is_ascii_hexdigit() => {
                (digit.to_digit(16).unwrap_or_default() as u8, 15)
            }
            _ => return self.fault("write a byte of two digits here, such as `4D`, `4?` or `??`"),
        };
        self.at += 1;
        Ok(nibble)
    }

    /// `[4]`, `[2-4]`, `[2-]` or `[-]`
    fn jump(&mut self) -> Result<(u64, u64), Fault> {
        let start = self.at;
        self.at += 1;
        let low = self.number();
        let dash = self.peek() == Some(b'-');
        let jump = match dash {
            true => {
                self.at += 1;
                Some((low.unwrap_or(0), self.number().unwrap_or(u64::MAX)))
            }
            false => low.map(|low| (low, low)),
        };
        match jump {
            Some((low, high)) if low <= high && self.peek() == Some(b']') => {
                self.at += 1;
                Ok((low, high))
            }
            _ => {
                self.at = start;
                self.fault("a jump is `[N]`, `[LOW-HIGH]`, `[LOW-]` or `[-]`")
            }
        }
    }

    fn number(&mut self) -> Option<u64> {
        self.skip_blank();
        let mut number = None;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            let digit = u64::from(digit - b'0');
            number = Some(
                number
                    .unwrap_or(0u64)
                    .saturating_mul(10)
                    .saturating_add(digit),
            );
            self.at += 1;
        }
        self.skip_blank();
        number
    }
}

fn class(matches: impl Fn(u8) -> bool) -> Hir {
    let bytes = (0..=255).filter(|byte| matches(*byte));
    let ranges = bytes.map(|byte| ClassBytesRange::new(byte, byte));
    Hir::class(Class::Bytes(ClassBytes::new(ranges)))
}

fn any_bytes(low: u64, high: u64) -> Hir {
    Hir::repetition(Repetition {
        // Both are at most `LONG_JUMP`.
        min: low as u32,
        max: Some(high as u32),
        greedy: false,
        sub: Box::new(class(|_| true)),
    })
}
