//! A rule as it was written, with names resolved.

use regex_syntax::hir::Hir;

/// What a rule says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meta {
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// `true` or `false`.
    Bool(bool),
}

#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) private: bool,
    pub(crate) global: bool,
    pub(crate) tags: Vec<String>,
    pub(crate) meta: Vec<(String, Meta)>,
    pub(crate) strings: Vec<StringDef>,
    pub(crate) condition: Expr,
}

#[derive(Debug)]
pub(crate) struct StringDef {
    /// Without the `$`; empty for one without a name.
    pub(crate) name: String,
    pub(crate) body: Body,
    pub(crate) modifiers: Modifiers,
    pub(crate) at: usize,
    /// Of all places where it is used, the only one where a match counts.
    pub(crate) fixed: Fixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fixed {
    Unused,
    At(u64),
    Anywhere,
}

#[derive(Debug)]
pub(crate) enum Body {
    Text(Vec<u8>),
    /// Pieces with gaps between them.
    Hex(Vec<Piece>),
    Regexp {
        hir: Hir,
        greedy: bool,
    },
}

/// A part of a hex string, and how many bytes may be between the one before and it.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) gap: (u64, u64),
    pub(crate) hir: Hir,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Modifiers {
    pub(crate) nocase: bool,
    pub(crate) wide: bool,
    pub(crate) ascii: bool,
    pub(crate) fullword: bool,
    pub(crate) private: bool,
    pub(crate) xor: Option<(u8, u8)>,
    pub(crate) base64: Option<Vec<u8>>,
    pub(crate) base64wide: Option<Vec<u8>>,
}

/// A string of the rule, by its place in it, or the one that the loop around is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StringRef {
    This(usize),
    Current,
}

#[derive(Debug)]
pub(crate) enum Expr {
    Int(i64),
    Float(f64),
    Filesize,
    Variable(usize),
    Read(Read, Box<Expr>),
    Count(StringRef, Option<Range>),
    Offset(StringRef, Box<Expr>),
    Length(StringRef, Box<Expr>),
    Found(StringRef, Place),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Complement(Box<Expr>),
    Defined(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Binary(Operator, Box<(Expr, Expr)>),
    /// By its place among all rules.
    Rule(usize),
    OfStrings(Box<Quantity>, Vec<usize>, Place),
    OfRules(Box<Quantity>, Vec<usize>),
    ForStrings(Box<Quantity>, Vec<usize>, Box<Expr>),
    ForNumbers(Box<Quantity>, usize, Numbers, Box<Expr>),
}

#[derive(Debug)]
pub(crate) struct Range(pub(crate) Box<(Expr, Expr)>);

#[derive(Debug)]
pub(crate) enum Place {
    Anywhere,
    At(Box<Expr>),
    In(Range),
}

#[derive(Debug)]
pub(crate) enum Numbers {
    Range(Range),
    List(Vec<Expr>),
}

#[derive(Debug)]
pub(crate) enum Quantity {
    All,
    Any,
    None,
    Count(Expr),
    Percent(Expr),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    pub(crate) bytes: usize,
    pub(crate) signed: bool,
    pub(crate) big_endian: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    BitOr,
    BitXor,
    BitAnd,
    ShiftLeft,
    ShiftRight,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Expr {
    /// Whether it can be said without looking for strings.
    pub(crate) fn is_cheap(&self) -> bool {
        match self {
            Self::Int(_) | Self::Float(_) | Self::Filesize => true,
            Self::Read(_, inner)
            | Self::Not(inner)
            | Self::Negative(inner)
            | Self::Complement(inner)
            | Self::Defined(inner) => inner.is_cheap(),
            Self::And(all) | Self::Or(all) => all.iter().all(Self::is_cheap),
            Self::Binary(_, sides) => sides.0.is_cheap() && sides.1.is_cheap(),
            _ => false,
        }
    }

    /// Whether it is a number with a fraction.
    pub(crate) fn is_float(&self) -> bool {
        match self {
            Self::Float(_) => true,
            Self::Negative(inner) => inner.is_float(),
            Self::Binary(
                Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide,
                sides,
            ) => sides.0.is_float() || sides.1.is_float(),
            _ => false,
        }
    }
}
