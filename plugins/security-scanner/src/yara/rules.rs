//! Rules as they are scanned with.

use std::collections::HashSet;
use std::ops::Range;

use super::ast::{self, Expr, Fixed, Meta};
use super::automaton::Automaton;
use super::error::{Error, Fault};
use super::filter::Filter;
use super::needle::{Atom, Needle, Needles, Shape};
use super::parser;
use crate::clamav::ndb;

/// What data is scanned for.
#[derive(Debug)]
pub struct Rules {
    pub(crate) rules: Vec<Rule>,
    pub(crate) strings: Vec<ScanString>,
    pub(crate) parts: Vec<Part>,
    pub(crate) needles: Vec<Needle>,
    pub(crate) automata: Vec<Automaton>,
    pub(crate) filter: Filter,
    /// Literal needles that the condition asks for in one place only, and the place: they are compared
    /// there, and not looked for elsewhere.
    pub(crate) placed: Vec<(u32, u64)>,
}

/// A rule, without its strings.
#[derive(Debug)]
pub struct Rule {
    /// What it is called.
    pub name: String,
    /// Of which text it is: rules of one text see each other.
    pub namespace: String,
    /// Used by other rules only, and never reported.
    pub private: bool,
    /// What follows the name.
    pub tags: Vec<String>,
    /// What it says about itself.
    pub meta: Vec<(String, Meta)>,
    pub(crate) global: bool,
    pub(crate) condition: Expr,
    pub(crate) strings: Range<usize>,
}

#[derive(Debug)]
pub(crate) struct ScanString {
    pub(crate) name: String,
    pub(crate) private: bool,
    pub(crate) parts: Range<usize>,
    /// Of matches that begin in one place, the longest one counts.
    pub(crate) longest: bool,
}

/// What is found on its own, and then joined with what is before it.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) gap: (u64, u64),
}

impl Rules {
    /// Compiles rules in the language of YARA, each text in its namespace. The error names the namespace
    /// that it is in.
    pub fn compile<'t>(
        texts: impl IntoIterator<Item = (&'t str, &'t str)>,
    ) -> Result<Self, (String, Error)> {
        let mut compiler = Compiler::default();
        for (namespace, text) in texts {
            let added = compiler.yara(namespace, text);
            added.map_err(|error| (namespace.to_owned(), error))?;
        }
        Ok(compiler.finish())
    }

    /// All rules, in the order of their texts.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// Collects rules of all languages.
#[derive(Debug, Default)]
pub struct Compiler {
    rules: Vec<Rule>,
    strings: Vec<ScanString>,
    parts: Vec<Part>,
    needles: Needles,
    placed: Vec<(u32, u64)>,
}

impl Compiler {
    /// Adds rules in the language of YARA.
    pub fn yara(&mut self, namespace: &str, text: &str) -> Result<(), Error> {
        let rules = parser::parse(text, self.rules.len());
        let added = rules.and_then(|rules| {
            rules
                .into_iter()
                .try_for_each(|rule| self.rule(namespace, rule))
        });
        added.map_err(|fault| fault.locate(text))
    }

    /// Adds ClamAV's signatures of content, a text of `.ndb` lines. Those that are not supported are left
    /// out, and answered.
    pub fn ndb(&mut self, namespace: &str, text: &str) -> Vec<Error> {
        let mut left_out = Vec::new();
        for (line, at) in crate::clamav::lines(text) {
            let added = ndb::rule(line, at).and_then(|rule| self.rule(namespace, rule));
            left_out.extend(added.err().map(|fault| fault.locate(text)));
        }
        left_out
    }

    fn rule(&mut self, namespace: &str, rule: ast::Rule) -> Result<(), Fault> {
        let first = self.strings.len();
        let number = self.rules.len() as u32;
        for string in rule.strings {
            let start = self.parts.len();
            let first_needle = self.needles.needles.len();
            let gaps = self.needles.add(&string, number, start as u32);
            let gaps = gaps.map_err(|why| Fault::new(string.at, why))?;
            self.parts.extend(gaps.into_iter().map(|gap| Part { gap }));
            let literal = |needle: &Needle| {
                matches!(
                    needle.shape,
                    Shape::Exact(_) | Shape::Nocase(_) | Shape::Xor(..)
                )
            };
            let all_literal = self.needles.needles[first_needle..].iter().all(literal);
            let alone = self.parts.len() == start + 1;
            if let (Fixed::At(place), true) = (string.fixed, all_literal && alone) {
                let needles = first_needle..self.needles.needles.len();
                self.placed
                    .extend(needles.map(|needle| (needle as u32, place)));
            }
            self.strings.push(ScanString {
                name: string.name,
                private: string.modifiers.private,
                parts: start..self.parts.len(),
                longest: matches!(string.body, ast::Body::Regexp { greedy: true, .. }),
            });
        }
        self.rules.push(Rule {
            name: rule.name,
            namespace: namespace.to_owned(),
            private: rule.private,
            tags: rule.tags,
            meta: rule.meta,
            global: rule.global,
            condition: rule.condition,
            strings: first..self.strings.len(),
        });
        Ok(())
    }

    /// All of them, ready to scan with.
    pub fn finish(self) -> Rules {
        let Needles {
            needles,
            automata,
            atoms,
            by_byte,
        } = self.needles;
        let placed: HashSet<u32> = self.placed.iter().map(|(needle, _)| *needle).collect();
        let elsewhere = |atom: &Atom| !placed.contains(&atom.needle);
        let atoms: Vec<Atom> = atoms.into_iter().filter(elsewhere).collect();
        let by_byte: Vec<Atom> = by_byte.into_iter().filter(elsewhere).collect();
        let filter = Filter::new(&atoms, &by_byte);
        Rules {
            rules: self.rules,
            strings: self.strings,
            parts: self.parts,
            needles,
            automata,
            filter,
            placed: self.placed,
        }
    }
}
