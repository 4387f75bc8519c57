//! Signatures of content: `NAME:TARGET:OFFSET:CONTENT`, as rules.

use crate::yara::ast::{
    Body, Expr, Fixed, Modifiers, Operator, Place, Range, Read, Rule, StringDef, StringRef,
};
use crate::yara::error::Fault;
use crate::yara::parser::hex;

/// A line, which begins `at`.
pub(crate) fn rule(line: &str, at: usize) -> Result<Rule, Fault> {
    let fields: Vec<&str> = line.trim().split(':').collect();
    let [name, target, offset, content, ..] = fields[..] else {
        return Err(Fault::new(
            at,
            "a signature is `NAME:TARGET:OFFSET:CONTENT`",
        ));
    };
    let target_at = at + name.len() + 1;
    let offset_at = target_at + target.len() + 1;
    let content_at = offset_at + offset.len() + 1;
    let place = place(offset).ok_or_else(|| {
        Fault::new(
            offset_at,
            format!(
                "the offset `{offset}` is not supported; there are `*`, `N`, `EOF-N`, and each with \
                 `,SHIFT`"
            ),
        )
    })?;
    let fixed = match &place {
        Place::At(at) => match at.as_ref() {
            Expr::Int(at) => Fixed::At(*at as u64),
            _ => Fixed::Anywhere,
        },
        _ => Fixed::Anywhere,
    };
    let found = Expr::Found(StringRef::This(0), place);
    let condition = match target {
        "0" => found,
        "1" => Expr::And(vec![begins_with(2, 0x4d5a), found]),
        "6" => Expr::And(vec![begins_with(4, 0x7f45_4c46), found]),
        _ => {
            let message = format!(
                "the target `{target}` is not supported; there are 0 (any file), 1 (Windows programs) and 6 \
                 (ELF)"
            );
            return Err(Fault::new(target_at, message));
        }
    };
    let text = as_hex(content).ok_or_else(|| {
        let message = "of what content may be there are only hex digits, `??`, `*`, `{LOW-HIGH}` and `(aa|bb)`";
        Fault::new(content_at, message)
    })?;
    // Places within the translation mean nothing to who reads the line.
    let pieces = hex::pieces(&text, 0).map_err(|fault| Fault::new(content_at, fault.message))?;
    let string = StringDef {
        name: String::new(),
        body: Body::Hex(pieces),
        modifiers: Modifiers::default(),
        at: content_at,
        fixed,
    };
    Ok(Rule {
        name: name.to_owned(),
        private: false,
        global: false,
        tags: Vec::new(),
        meta: Vec::new(),
        strings: vec![string],
        condition,
    })
}

fn begins_with(bytes: usize, magic: i64) -> Expr {
    let read = Read {
        bytes,
        signed: false,
        big_endian: true,
    };
    let first = Expr::Read(read, Box::new(Expr::Int(0)));
    Expr::Binary(Operator::Equal, Box::new((first, Expr::Int(magic))))
}

fn place(offset: &str) -> Option<Place> {
    if offset == "*" {
        return Some(Place::Anywhere);
    }
    let (start, shift) = match offset.split_once(',') {
        Some((start, shift)) => (start, Some(number(shift)?)),
        None => (offset, None),
    };
    let start = || match start.strip_prefix("EOF-") {
        Some(back) => {
            let sides = (Expr::Filesize, Expr::Int(number(back)?));
            Some(Expr::Binary(Operator::Subtract, Box::new(sides)))
        }
        None => number(start).map(Expr::Int),
    };
    Some(match shift {
        None => Place::At(Box::new(start()?)),
        Some(shift) => {
            let end = Expr::Binary(Operator::Add, Box::new((start()?, Expr::Int(shift))));
            Place::In(Range(Box::new((start()?, end))))
        }
    })
}

/// Up to the largest offset of any file system.
fn number(digits: &str) -> Option<i64> {
    let number = digits.parse::<u32>().ok();
    number
        .filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .map(i64::from)
}

/// ClamAV's way to write content in YARA's.
fn as_hex(content: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = content;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '0'..='9' | 'a'..='f' | 'A'..='F' | '?' | '(' | '|' | ')' => text.push(character),
            '*' => text.push_str("[-]"),
            '{' | '[' => {
                let end = rest.find(if character == '{' { '}' } else { ']' })?;
                let (low, high) = match rest[..end].split_once('-') {
                    Some((low, high)) => (low, format!("-{high}")),
                    None => (&rest[..end], String::new()),
                };
                let low = if low.is_empty() { "0" } else { low };
                text.push_str(&format!("[{low}{high}]"));
                rest = &rest[end + 1..];
            }
            _ => return None,
        }
    }
    Some(text)
}
