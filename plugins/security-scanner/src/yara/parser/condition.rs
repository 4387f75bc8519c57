//! Conditions. Weakest first: `or`, `and`, `not` and `defined`, equality, order, `|`, `^`, `&`, shifts,
//! sums, products, signs.

use super::{Fault, KEYWORDS, Kind, Parser};
use crate::yara::ast::{Expr, Fixed, Operator, Place, Quantity, Range, Read, StringRef};

const MAX_DEPTH: usize = 48;
/// Of one condition, without `and`, `or` and the comparisons between them: the others nest, and are
/// evaluated by recursion on a small stack.
const MAX_OPERATORS: usize = 250;

/// The levels of operators that take numbers, weakest first.
const LEVELS: &[&[(&str, Operator)]] = &[
    &[("==", Operator::Equal), ("!=", Operator::Unequal)],
    &[
        ("<", Operator::Less),
        ("<=", Operator::LessOrEqual),
        (">", Operator::Greater),
        (">=", Operator::GreaterOrEqual),
    ],
    &[("|", Operator::BitOr)],
    &[("^", Operator::BitXor)],
    &[("&", Operator::BitAnd)],
    &[("<<", Operator::ShiftLeft), (">>", Operator::ShiftRight)],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[
        ("*", Operator::Multiply),
        ("\\", Operator::Divide),
        ("%", Operator::Remainder),
    ],
];
const NO_CONDITION: &str = "write a condition here, such as `$name` or `any of them`";
/// The level of `|`: where a number stands, without comparisons.
pub(super) const NUMBER: usize = 2;

impl<'t> Parser<'t> {
    pub(super) fn expression(&mut self) -> Result<Expr, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self
                .fault("this condition is nested too deeply; move a part into a rule of its own");
        }
        let mut any = vec![self.conjunction()?];
        while self.word("or") {
            any.push(self.conjunction()?);
        }
        self.depth -= 1;
        Ok(one_or(any, Expr::Or))
    }

    fn conjunction(&mut self) -> Result<Expr, Fault> {
        let mut all = vec![self.negation()?];
        while self.word("and") {
            all.push(self.negation()?);
        }
        Ok(one_or(all, Expr::And))
    }

    fn negation(&mut self) -> Result<Expr, Fault> {
        let make: fn(Box<Expr>) -> Expr = if self.word("not") {
            Expr::Not
        } else if self.word("defined") {
            Expr::Defined
        } else {
            return self.binary(0);
        };
        self.count_operator()?;
        self.negation().map(|inner| make(Box::new(inner)))
    }

    fn count_operator(&mut self) -> Result<(), Fault> {
        self.operators += 1;
        match self.operators > MAX_OPERATORS {
            true => self.fault(format!(
                "a condition computes with {MAX_OPERATORS} operators at most; move a part into a rule of \
                 its own"
            )),
            false => Ok(()),
        }
    }

    /// Levels from the strongest down to `level`. Not by recursion: parentheses nest, and each would take
    /// as many frames as there are levels.
    pub(super) fn binary(&mut self, level: usize) -> Result<Expr, Fault> {
        let mut left = self.unary()?;
        for level in (level..LEVELS.len()).rev() {
            left = self.go_on(level, left)?;
        }
        Ok(left)
    }

    /// What follows the first operand of a level.
    fn go_on(&mut self, level: usize, mut left: Expr) -> Result<Expr, Fault> {
        let operators = LEVELS.get(level).copied().unwrap_or_default();
        let mut nests = level >= NUMBER;
        while let Some(operator) = self.operator(operators) {
            let at = self.at();
            self.advance();
            if std::mem::replace(&mut nests, true) {
                self.count_operator()?;
            }
            let right = self.binary(level + 1)?;
            let whole_only = matches!(
                operator,
                Operator::BitOr
                    | Operator::BitXor
                    | Operator::BitAnd
                    | Operator::ShiftLeft
                    | Operator::ShiftRight
                    | Operator::Remainder
            );
            if whole_only && (left.is_float() || right.is_float()) {
                return Err(Fault::new(at, "this operator takes whole numbers only"));
            }
            left = Expr::Binary(operator, Box::new((left, right)));
        }
        if level == NUMBER && self.is_word("of") {
            self.advance();
            return self.of(Quantity::Count(left));
        }
        let percent =
            matches!(self.peek(), Kind::Mark("%")) && matches!(self.ahead(1), Kind::Word("of"));
        if level == NUMBER && percent {
            self.next += 2;
            return self.of(Quantity::Percent(left));
        }
        Ok(left)
    }

    fn operator(&self, operators: &[(&str, Operator)]) -> Option<Operator> {
        let Kind::Mark(mark) = self.peek() else {
            return None;
        };
        let percent_of = *mark == "%" && matches!(self.ahead(1), Kind::Word("of"));
        let found = operators
            .iter()
            .find(|(known, _)| known == mark && !percent_of);
        found.map(|(_, operator)| *operator)
    }

    pub(super) fn number(&mut self) -> Result<Expr, Fault> {
        self.binary(NUMBER)
    }

    fn unary(&mut self) -> Result<Expr, Fault> {
        let make: fn(Box<Expr>) -> Expr = if self.mark("-") {
            Expr::Negative
        } else if self.mark("~") {
            Expr::Complement
        } else {
            return self.primary();
        };
        self.count_operator()?;
        let at = self.at();
        let inner = self.unary()?;
        if inner.is_float() && matches!(make(Box::new(Expr::Int(0))), Expr::Complement(_)) {
            return Err(Fault::new(at, "`~` takes whole numbers only"));
        }
        Ok(make(Box::new(inner)))
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let kind = self.peek().clone();
        match kind {
            Kind::Int(number) => self.advanced(Expr::Int(number)),
            Kind::Float(number) => self.advanced(Expr::Float(number)),
            Kind::Mark("(") => {
                self.advance();
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Kind::String(name) => self.found(name),
            Kind::Count(name) => {
                let string = self.string(name, "#")?;
                self.used(string, Fixed::Anywhere);
                let range = if self.word("in") {
                    Some(self.range()?)
                } else {
                    None
                };
                Ok(Expr::Count(string, range))
            }
            Kind::Offset(name) => {
                let string = self.string(name, "@")?;
                let index = self.index(string)?;
                Ok(Expr::Offset(string, index))
            }
            Kind::Length(name) => {
                let string = self.string(name, "!")?;
                let index = self.index(string)?;
                Ok(Expr::Length(string, index))
            }
            Kind::Text(_) | Kind::Regexp { .. } => self.fault(
                "texts cannot be compared here: there are no modules or variables to compare them \
                 with; write it as a string of the rule",
            ),
            Kind::Word(word) => self.named(word),
            _ => self.fault(NO_CONDITION),
        }
    }

    fn advanced(&mut self, expression: Expr) -> Result<Expr, Fault> {
        self.advance();
        Ok(expression)
    }

    fn named(&mut self, word: &'t str) -> Result<Expr, Fault> {
        let variable = self.variables.iter().rposition(|known| *known == word);
        if let Some(variable) = variable {
            return self.advanced(Expr::Variable(variable));
        }
        if let Some(read) = read(word) {
            self.advance();
            self.expect("(")?;
            let at = self.number()?;
            self.expect(")")?;
            return Ok(Expr::Read(read, Box::new(at)));
        }
        match word {
            "true" => self.advanced(Expr::Int(1)),
            "false" => self.advanced(Expr::Int(0)),
            "filesize" => self.advanced(Expr::Filesize),
            "all" | "any" | "none" => {
                let quantity = self.quantity_word(word);
                match self.word("of") {
                    true => self.of(quantity),
                    false => self.fault(format!("write `of` after `{word}`")),
                }
            }
            "for" => self.for_loop(),
            "entrypoint" => self.fault(
                "`entrypoint` is not supported: programs are not parsed; use offsets from the start",
            ),
            _ if KEYWORDS.contains(&word) => self.fault(NO_CONDITION),
            _ => match self.known.get(word) {
                Some(rule) => self.advanced(Expr::Rule(*rule)),
                None => self.fault(format!(
                    "there is no rule `{word}` before this one; if it comes later, move it up"
                )),
            },
        }
    }

    pub(super) fn quantity_word(&mut self, word: &str) -> Quantity {
        self.advance();
        match word {
            "all" => Quantity::All,
            "any" => Quantity::Any,
            _ => Quantity::None,
        }
    }

    /// The string that a name without its first character stands for.
    fn string(&mut self, name: &str, sigil: &str) -> Result<StringRef, Fault> {
        if name.is_empty() {
            if !self.in_string_loop {
                return self.fault(format!(
                    "`{sigil}` alone is the string of a loop; write its name"
                ));
            }
            self.advance();
            return Ok(StringRef::Current);
        }
        match self.strings.iter().position(|string| string.name == name) {
            Some(place) => {
                self.advance();
                Ok(StringRef::This(place))
            }
            None => self.fault(format!(
                "this rule has no string `${name}`; define it in `strings:`"
            )),
        }
    }

    /// Notes where a string has to be for the condition.
    pub(super) fn used(&mut self, string: StringRef, place: Fixed) {
        let StringRef::This(string) = string else {
            return;
        };
        if let Some(string) = self.strings.get_mut(string) {
            string.fixed = match string.fixed {
                Fixed::Unused => place,
                same if same == place => place,
                _ => Fixed::Anywhere,
            };
        }
    }

    fn found(&mut self, name: &str) -> Result<Expr, Fault> {
        if name.ends_with('*') {
            return self.fault("write this in a set, as in `any of ($a*)`");
        }
        let string = self.string(name, "$")?;
        let place = self.place()?;
        let fixed = match &place {
            Place::At(at) => match at.as_ref() {
                Expr::Int(at) if *at >= 0 => Fixed::At(*at as u64),
                _ => Fixed::Anywhere,
            },
            _ => Fixed::Anywhere,
        };
        self.used(string, fixed);
        Ok(Expr::Found(string, place))
    }

    pub(super) fn place(&mut self) -> Result<Place, Fault> {
        if self.word("at") {
            return Ok(Place::At(Box::new(self.number()?)));
        }
        match self.word("in") {
            true => Ok(Place::In(self.range()?)),
            false => Ok(Place::Anywhere),
        }
    }

    /// `(LOW..HIGH)`
    pub(super) fn range(&mut self) -> Result<Range, Fault> {
        self.expect("(")?;
        let low = self.number()?;
        self.expect("..")?;
        let high_at = self.at();
        let high = self.number()?;
        self.expect(")")?;
        if matches!((&low, &high), (Expr::Int(low), Expr::Int(high)) if low > high) {
            return Err(Fault::new(
                high_at,
                "a range goes from the lower number to the higher one",
            ));
        }
        Ok(Range(Box::new((low, high))))
    }

    /// `[1]`, or the first one.
    fn index(&mut self, string: StringRef) -> Result<Box<Expr>, Fault> {
        self.used(string, Fixed::Anywhere);
        let mut index = Expr::Int(1);
        if self.mark("[") {
            index = self.number()?;
            self.expect("]")?;
        }
        Ok(Box::new(index))
    }
}

fn one_or(mut all: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match all.pop() {
        Some(only) if all.is_empty() => only,
        last => {
            all.extend(last);
            many(all)
        }
    }
}

fn read(word: &str) -> Option<Read> {
    let (signed, rest) = match word.strip_prefix('u') {
        Some(rest) => (false, rest),
        None => (true, word),
    };
    let rest = rest.strip_prefix("int")?;
    let (bits, big_endian) = match rest.strip_suffix("be") {
        Some(bits) => (bits, true),
        None => (rest, false),
    };
    let bytes = match bits {
        "8" => 1,
        "16" => 2,
        "32" => 4,
        _ => return None,
    };
    Some(Read {
        bytes,
        signed,
        big_endian,
    })
}
