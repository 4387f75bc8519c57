//! Rules in the language of YARA, without its modules.
//!
//! [`Rules::compile`] reads rule text, [`Scanner::scan`] judges data. What differs from YARA 4.2:
//! - no modules, no `include`, no `entrypoint`, no external variables: each is refused by name;
//! - a match of a regular expression reaches 4096 bytes before and after its rarest bytes;
//! - work on one file is bounded, and a file that needs more is reported as [`Report::incomplete`].

pub(crate) mod ast;
mod atoms;
mod automaton;
mod base64;
mod chain;
pub(crate) mod error;
mod evaluate;
mod filter;
mod lexer;
mod needle;
pub(crate) mod parser;
mod rules;
mod scanner;
mod verify;

pub use ast::Meta;
pub use error::Error;
pub use rules::{Compiler, Rule, Rules};
pub use scanner::{Hit, Incomplete, Input, Limits, Match, Report, Scanner};
