//! Tokens as rules.

mod condition;
pub(crate) mod hex;
mod modifiers;
mod regexp;
mod sets;

use std::collections::HashMap;

use super::ast::{Body, Expr, Fixed, Meta, Rule, StringDef};
use super::error::Fault;
use super::lexer::{Kind, Token, tokens};

/// A text with more than this is not made by people, and its compiled form would not fit.
const MAX_STRINGS: usize = 10_000;

/// Parses a text. `first` is the place that its first rule will have among all rules.
pub(crate) fn parse(text: &str, first: usize) -> Result<Vec<Rule>, Fault> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        next: 0,
        known: HashMap::new(),
        strings: Vec::new(),
        variables: Vec::new(),
        in_string_loop: false,
        depth: 0,
        operators: 0,
    };
    let mut rules = Vec::new();
    while parser.peek() != &Kind::End {
        parser.refuse_files()?;
        let at = parser.at();
        let rule = parser.rule()?;
        let place = first + rules.len();
        if parser.known.insert(rule.name.clone(), place).is_some() {
            let message = format!(
                "there is already a rule `{}`; choose another name",
                rule.name
            );
            return Err(Fault::new(at, message));
        }
        rules.push(rule);
    }
    Ok(rules)
}

pub(crate) struct Parser<'t> {
    tokens: Vec<Token<'t>>,
    next: usize,
    known: HashMap<String, usize>,
    strings: Vec<StringDef>,
    variables: Vec<&'t str>,
    in_string_loop: bool,
    depth: usize,
    operators: usize,
}

const KEYWORDS: &[&str] = &[
    "all",
    "and",
    "any",
    "ascii",
    "at",
    "base64",
    "base64wide",
    "condition",
    "contains",
    "defined",
    "endswith",
    "entrypoint",
    "false",
    "filesize",
    "for",
    "fullword",
    "global",
    "icontains",
    "iendswith",
    "iequals",
    "import",
    "in",
    "include",
    "int16",
    "int16be",
    "int32",
    "int32be",
    "int8",
    "int8be",
    "istartswith",
    "matches",
    "meta",
    "nocase",
    "none",
    "not",
    "of",
    "or",
    "private",
    "rule",
    "startswith",
    "strings",
    "them",
    "true",
    "uint16",
    "uint16be",
    "uint32",
    "uint32be",
    "uint8",
    "uint8be",
    "wide",
    "xor",
];

impl<'t> Parser<'t> {
    fn peek(&self) -> &Kind<'t> {
        self.ahead(0)
    }

    fn ahead(&self, count: usize) -> &Kind<'t> {
        self.tokens
            .get(self.next + count)
            .map_or(&Kind::End, |token| &token.kind)
    }

    fn at(&self) -> usize {
        let token = self.tokens.get(self.next).or(self.tokens.last());
        token.map_or(0, |token| token.at)
    }

    fn advance(&mut self) {
        self.next += 1;
    }

    fn fault<T>(&self, message: impl Into<String>) -> Result<T, Fault> {
        Err(Fault::new(self.at(), message))
    }

    fn mark(&mut self, mark: &str) -> bool {
        let found = matches!(self.peek(), Kind::Mark(next) if *next == mark);
        self.next += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.next += usize::from(found);
        found
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Kind::Word(next) if *next == word)
    }

    fn expect(&mut self, mark: &str) -> Result<(), Fault> {
        match self.mark(mark) {
            true => Ok(()),
            false => self.fault(format!("write `{mark}` here")),
        }
    }

    fn name(&mut self, what: &str) -> Result<&'t str, Fault> {
        match self.peek() {
            Kind::Word(name) if KEYWORDS.contains(name) => self.fault(format!(
                "`{name}` is a keyword; write the name of {what} here"
            )),
            Kind::Word(name) => {
                let name = *name;
                self.advance();
                Ok(name)
            }
            _ => self.fault(format!("write the name of {what} here")),
        }
    }

    fn refuse_files(&mut self) -> Result<(), Fault> {
        if self.is_word("include") {
            return self.fault(
                "`include` is not supported, since rules have no folder; put the included rules into \
                 this text, or beside it",
            );
        }
        if self.is_word("import") {
            let module = match self.ahead(1) {
                Kind::Text(name) => String::from_utf8_lossy(name).into_owned(),
                _ => "of modules".to_owned(),
            };
            return self.fault(format!(
                "`import \"{module}\"` is not supported: there are no modules; read headers with \
                 `uint16(0)` and the like, or leave out the rules that need it"
            ));
        }
        Ok(())
    }

    fn rule(&mut self) -> Result<Rule, Fault> {
        let (mut private, mut global) = (false, false);
        loop {
            if self.word("private") {
                private = true;
            } else if self.word("global") {
                global = true;
            } else {
                break;
            }
        }
        if !self.word("rule") {
            return self.fault("write `rule NAME { condition: ... }` here");
        }
        let name = self.name("the rule")?.to_owned();
        let mut tags: Vec<String> = Vec::new();
        if self.mark(":") {
            while !matches!(self.peek(), Kind::Mark(_)) {
                let tag = self.name("a tag")?;
                if tags.iter().any(|known| known == tag) {
                    self.next -= 1;
                    return self.fault(format!("the tag `{tag}` is here twice"));
                }
                tags.push(tag.to_owned());
            }
        }
        self.expect("{")?;
        let meta = self.meta()?;
        self.strings = self.strings()?;
        let condition = self.condition()?;
        self.expect("}")?;
        let strings = std::mem::take(&mut self.strings);
        let unused = strings
            .iter()
            .find(|string| string.fixed == Fixed::Unused && !string.name.starts_with('_'));
        if let Some(string) = unused {
            let message = format!(
                "the condition does not use `${}`; use it, remove it, or begin its name with `_`",
                string.name
            );
            return Err(Fault::new(string.at, message));
        }
        Ok(Rule {
            name,
            private,
            global,
            tags,
            meta,
            strings,
            condition,
        })
    }

    fn condition(&mut self) -> Result<Expr, Fault> {
        if !self.word("condition") {
            return self.fault("write `condition:` here: each rule has one");
        }
        self.expect(":")?;
        self.operators = 0;
        self.expression()
    }

    fn meta(&mut self) -> Result<Vec<(String, Meta)>, Fault> {
        let mut meta = Vec::new();
        if !self.word("meta") {
            return Ok(meta);
        }
        self.expect(":")?;
        while !self.is_word("strings") && !self.is_word("condition") {
            let name = self.name("a piece of metadata")?.to_owned();
            self.expect("=")?;
            let negative = self.mark("-");
            let value = match self.peek() {
                Kind::Int(number) if negative => Meta::Int(-number),
                Kind::Int(number) => Meta::Int(*number),
                Kind::Text(text) if !negative => Meta::Text(String::from_utf8_lossy(text).into()),
                Kind::Word("true") if !negative => Meta::Bool(true),
                Kind::Word("false") if !negative => Meta::Bool(false),
                _ => return self.fault("write a text, a number, `true` or `false` here"),
            };
            self.advance();
            meta.push((name, value));
        }
        Ok(meta)
    }

    fn strings(&mut self) -> Result<Vec<StringDef>, Fault> {
        let mut strings: Vec<StringDef> = Vec::new();
        if !self.word("strings") {
            return Ok(strings);
        }
        self.expect(":")?;
        while !self.is_word("condition") {
            let at = self.at();
            let name = match self.peek() {
                Kind::String(name) if !name.ends_with('*') => *name,
                _ => {
                    return self
                        .fault("write a string, such as `$name = \"text\"`, or `condition:` here");
                }
            };
            if !name.is_empty() && strings.iter().any(|known| known.name == name) {
                return self.fault(format!("there is already a string `${name}` in this rule"));
            }
            if strings.len() == MAX_STRINGS {
                return self.fault(format!(
                    "a rule may have {MAX_STRINGS} strings; split this one"
                ));
            }
            self.advance();
            self.expect("=")?;
            let value_at = self.at();
            let value = self.peek().clone();
            self.advance();
            let modifiers = self.modifiers(&value)?;
            let body = match value {
                Kind::Text(text) if text.is_empty() => {
                    return Err(Fault::new(
                        value_at,
                        "an empty text is everywhere; write what to find",
                    ));
                }
                Kind::Text(text) => Body::Text(text),
                Kind::Hex(inner) => Body::Hex(hex::pieces(inner, value_at + 1)?),
                Kind::Regexp {
                    body,
                    nocase,
                    dot_all,
                } => {
                    let nocase = nocase || modifiers.nocase;
                    let (hir, greedy) = regexp::parse(body, value_at + 1, nocase, dot_all)?;
                    Body::Regexp { hir, greedy }
                }
                _ => {
                    let message = "write a text in quotes, hex in braces, or a regular expression in slashes here";
                    return Err(Fault::new(value_at, message));
                }
            };
            // Nothing can refer to it alone, but `them` does.
            let fixed = Fixed::Unused;
            strings.push(StringDef {
                name: name.to_owned(),
                body,
                modifiers,
                at,
                fixed,
            });
        }
        if strings.is_empty() {
            return self.fault("there is no string here; write one, or leave out `strings:`");
        }
        Ok(strings)
    }
}
