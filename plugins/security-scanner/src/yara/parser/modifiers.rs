//! What follows a string.

use super::{Fault, Kind, Parser};
use crate::yara::ast::Modifiers;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Parser<'_> {
    /// Those of a string with this value, and whether they go with it and with each other.
    pub(super) fn modifiers(&mut self, value: &Kind<'_>) -> Result<Modifiers, Fault> {
        let mut modifiers = Modifiers::default();
        let mut seen: Vec<&str> = Vec::new();
        while let Kind::Word(word) = *self.peek() {
            if word == "condition" {
                break;
            }
            if seen.contains(&word) {
                return self.fault(format!("`{word}` is here twice"));
            }
            if let Some(why) = conflict(word, value, &seen) {
                return self.fault(why);
            }
            self.advance();
            match word {
                "nocase" => modifiers.nocase = true,
                "wide" => modifiers.wide = true,
                "ascii" => modifiers.ascii = true,
                "fullword" => modifiers.fullword = true,
                "private" => modifiers.private = true,
                "xor" => modifiers.xor = Some(self.keys()?),
                "base64" => modifiers.base64 = Some(self.alphabet()?),
                "base64wide" => modifiers.base64wide = Some(self.alphabet()?),
                _ => {
                    self.next -= 1;
                    return self.fault(format!(
                        "`{word}` is no modifier; there are nocase, wide, ascii, fullword, private, \
                         xor, base64 and base64wide"
                    ));
                }
            }
            seen.push(word);
        }
        Ok(modifiers)
    }

    /// The range of `xor(1-255)`, or all keys.
    fn keys(&mut self) -> Result<(u8, u8), Fault> {
        if !self.mark("(") {
            return Ok((0, 255));
        }
        let low = self.key()?;
        let high = if self.mark("-") { self.key()? } else { low };
        if low > high {
            return self.fault("the first key of a range is the smaller one");
        }
        self.expect(")")?;
        Ok((low, high))
    }

    fn key(&mut self) -> Result<u8, Fault> {
        let key = match self.peek() {
            Kind::Int(number) => u8::try_from(*number).ok(),
            _ => None,
        };
        let Some(key) = key else {
            return self.fault("write a key from 0 to 255 here");
        };
        self.advance();
        Ok(key)
    }

    fn alphabet(&mut self) -> Result<Vec<u8>, Fault> {
        if !self.mark("(") {
            return Ok(ALPHABET.to_vec());
        }
        let alphabet = match self.peek() {
            Kind::Text(text) if text.len() == 64 => text.clone(),
            _ => return self.fault("write an alphabet here: a text of 64 characters"),
        };
        self.advance();
        self.expect(")")?;
        Ok(alphabet)
    }
}

fn conflict(word: &str, value: &Kind<'_>, seen: &[&str]) -> Option<String> {
    let fits = match value {
        Kind::Text(_) => true,
        Kind::Hex(_) => word == "private",
        _ => !matches!(word, "xor" | "base64" | "base64wide"),
    };
    if !fits {
        return Some(format!("`{word}` does not go with this kind of string"));
    }
    let clash = |one: &[&str], other: &[&str]| {
        let other = seen.iter().find(|seen| other.contains(seen));
        other.filter(|_| one.contains(&word)).copied()
    };
    let base64 = ["base64", "base64wide"];
    let clash = clash(&["xor"], &["nocase", "base64", "base64wide"])
        .or_else(|| clash(&["nocase"], &["xor", "base64", "base64wide"]))
        .or_else(|| clash(&["fullword"], &base64))
        .or_else(|| clash(&base64, &["xor", "nocase", "fullword"]));
    clash.map(|other| format!("`{word}` does not go with `{other}`"))
}
