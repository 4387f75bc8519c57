//! Rule text as tokens.

use super::error::Fault;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind<'t> {
    /// A keyword or a name.
    Word(&'t str),
    /// `$a`, `$a*`, or `$` alone; without the first character, as those that follow.
    String(&'t str),
    /// `#a`
    Count(&'t str),
    /// `@a`
    Offset(&'t str),
    /// `!a`
    Length(&'t str),
    Int(i64),
    Float(f64),
    Text(Vec<u8>),
    /// What is between the braces.
    Hex(&'t str),
    /// What is between the slashes.
    Regexp {
        body: &'t str,
        nocase: bool,
        dot_all: bool,
    },
    Mark(&'static str),
    End,
}

#[derive(Debug, Clone)]
pub(crate) struct Token<'t> {
    pub(crate) kind: Kind<'t>,
    /// The offset of its first byte.
    pub(crate) at: usize,
}

/// Longer ones first.
const MARKS: &[&str] = &[
    "..", "==", "!=", "<=", ">=", "<<", ">>", "{", "}", "(", ")", "[", "]", ":", ",", "=", "<",
    ">", "+", "-", "*", "\\", "%", "&", "|", "^", "~", ".",
];

pub(crate) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Fault> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank()?;
        let at = lexer.at;
        let after_equals = matches!(
            tokens.last(),
            Some(Token {
                kind: Kind::Mark("="),
                ..
            })
        );
        let kind = lexer.token(after_equals)?;
        let end = kind == Kind::End;
        tokens.push(Token { kind, at });
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self, ahead: usize) -> u8 {
        let byte = self.text.as_bytes().get(self.at + ahead);
        byte.copied().unwrap_or(0)
    }

    /// Blanks and comments.
    fn skip_blank(&mut self) -> Result<(), Fault> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if trimmed.starts_with("//") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if trimmed.starts_with("/*") {
                let end = trimmed.find("*/");
                let end = end.ok_or_else(|| {
                    Fault::new(self.at, "this comment does not end; write `*/` after it")
                })?;
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self, after_equals: bool) -> Result<Kind<'t>, Fault> {
        let byte = self.peek(0);
        if self.at == self.text.len() {
            return Ok(Kind::End);
        }
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => Ok(Kind::Word(self.name())),
            b'0'..=b'9' => self.number(),
            b'"' => self.quoted(),
            b'/' => self.regexp(),
            b'{' if after_equals => self.hex(),
            b'$' => {
                self.at += 1;
                let start = self.at;
                self.name();
                if self.peek(0) == b'*' {
                    self.at += 1;
                }
                Ok(Kind::String(&self.text[start..self.at]))
            }
            b'#' => Ok(Kind::Count(self.sigil())),
            b'@' => Ok(Kind::Offset(self.sigil())),
            b'!' if self.peek(1) != b'=' => Ok(Kind::Length(self.sigil())),
            _ => self.mark(),
        }
    }

    fn sigil(&mut self) -> &'t str {
        self.at += 1;
        self.name()
    }

    fn name(&mut self) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = &rest[..end.unwrap_or(rest.len())];
        self.at += name.len();
        name
    }

    fn mark(&mut self) -> Result<Kind<'t>, Fault> {
        let found = MARKS.iter().find(|mark| self.rest().starts_with(**mark));
        let Some(mark) = found else {
            let character = self.rest().chars().next().unwrap_or_default();
            return Err(Fault::new(
                self.at,
                format!("`{character}` has no meaning in rules"),
            ));
        };
        self.at += mark.len();
        Ok(Kind::Mark(mark))
    }

    fn number(&mut self) -> Result<Kind<'t>, Fault> {
        let start = self.at;
        let radix = match self.rest().as_bytes() {
            [b'0', b'x', ..] => 16,
            [b'0', b'o', ..] => 8,
            _ => 10,
        };
        if radix != 10 {
            self.at += 2;
        }
        let digits = self.rest();
        let end = digits
            .find(|c: char| !c.is_digit(radix))
            .unwrap_or(digits.len());
        let digits = &digits[..end];
        self.at += end;
        if radix == 10 && self.peek(0) == b'.' && self.peek(1).is_ascii_digit() {
            self.at += 1;
            let rest = self.rest();
            self.at += rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            let float = self.text[start..self.at].parse();
            return float
                .map(Kind::Float)
                .map_err(|_| Fault::new(start, "this is not a number"));
        }
        let unit = match self.name() {
            "" => 1,
            "KB" => 1 << 10,
            "MB" => 1 << 20,
            other => {
                let message =
                    format!("`{other}` cannot follow a number; the units are `KB` and `MB`");
                return Err(Fault::new(start, message));
            }
        };
        let number = i64::from_str_radix(digits, radix).ok();
        let number = number.and_then(|number: i64| number.checked_mul(unit));
        number.map(Kind::Int).ok_or_else(|| {
            let range = "numbers are digits, also after `0x` or `0o`, up to 9223372036854775807";
            Fault::new(start, range)
        })
    }

    fn quoted(&mut self) -> Result<Kind<'t>, Fault> {
        let start = self.at;
        let mut text = Vec::new();
        self.at += 1;
        loop {
            let byte = self.peek(0);
            if self.at >= self.text.len() || byte == b'\n' {
                return Err(Fault::new(
                    start,
                    "this text does not end; write `\"` after it",
                ));
            }
            self.at += 1;
            match byte {
                b'"' => return Ok(Kind::Text(text)),
                b'\\' => text.push(self.escape()?),
                _ => text.push(byte),
            }
        }
    }

    fn escape(&mut self) -> Result<u8, Fault> {
        let at = self.at - 1;
        let byte = self.peek(0);
        self.at += 1;
        match byte {
            b'"' | b'\\' => Ok(byte),
            b't' => Ok(b'\t'),
            b'n' => Ok(b'\n'),
            b'r' => Ok(b'\r'),
            b'x' => {
                let digits = self.text.get(self.at..self.at + 2);
                let digits = digits.filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
                self.at += 2;
                digits
                    .and_then(|two| u8::from_str_radix(two, 16).ok())
                    .ok_or_else(|| Fault::new(at, "write two hexadecimal digits after `\\x`"))
            }
            _ => Err(Fault::new(
                at,
                "a text has only the escapes `\\\"`, `\\\\`, `\\t`, `\\n`, `\\r` and `\\xNN`; \
                 write `\\\\` for a backslash",
            )),
        }
    }

    fn regexp(&mut self) -> Result<Kind<'t>, Fault> {
        let start = self.at;
        self.at += 1;
        loop {
            if self.at >= self.text.len() || self.peek(0) == b'\n' {
                let message = "this regular expression does not end; write `/` after it";
                return Err(Fault::new(start, message));
            }
            match self.peek(0) {
                b'/' => break,
                b'\\' if self.peek(1) != b'\n' => self.at += 2,
                _ => self.at += 1,
            }
        }
        let body = &self.text[start + 1..self.at];
        self.at += 1;
        let flags = self.at;
        let (mut nocase, mut dot_all) = (false, false);
        for flag in self.name().bytes() {
            match flag {
                b'i' => nocase = true,
                b's' => dot_all = true,
                _ => {
                    let message = "a regular expression has only the flags `i` and `s`";
                    return Err(Fault::new(flags, message));
                }
            }
        }
        Ok(Kind::Regexp {
            body,
            nocase,
            dot_all,
        })
    }

    fn hex(&mut self) -> Result<Kind<'t>, Fault> {
        let start = self.at;
        self.at += 1;
        // A brace in a comment does not end it.
        loop {
            self.skip_blank()?;
            match self.peek(0) {
                b'}' => break,
                0 => return Err(Fault::new(start, "this hex string does not end; write `}`")),
                byte if byte.is_ascii() => self.at += 1,
                _ => return Err(Fault::new(self.at, "a hex string is made of ASCII")),
            }
        }
        self.at += 1;
        Ok(Kind::Hex(&self.text[start + 1..self.at - 1]))
    }
}
