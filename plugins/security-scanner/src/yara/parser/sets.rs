//! How many of a set, and loops.

use super::condition::NUMBER;
use super::{Fault, Kind, Parser};
use crate::yara::ast::{Expr, Fixed, Numbers, Quantity, StringRef};

const MAX_LOOPS: usize = 4;

impl Parser<'_> {
    pub(super) fn of(&mut self, quantity: Quantity) -> Result<Expr, Fault> {
        let quantity = Box::new(quantity);
        let of_rules =
            matches!(self.peek(), Kind::Mark("(")) && matches!(self.ahead(1), Kind::Word(_));
        if of_rules {
            return Ok(Expr::OfRules(quantity, self.rule_set()?));
        }
        let set = self.string_set()?;
        let place = self.place()?;
        Ok(Expr::OfStrings(quantity, set, place))
    }

    /// `them` or `($a, $b*)`
    fn string_set(&mut self) -> Result<Vec<usize>, Fault> {
        let mut set = Vec::new();
        if self.word("them") {
            set.extend(0..self.strings.len());
            if set.is_empty() {
                self.next -= 1;
                return self.fault("this rule has no strings; define them in `strings:`");
            }
        } else {
            self.expect("(")?;
            loop {
                let Kind::String(pattern) = *self.peek() else {
                    return self.fault("write a string here, such as `$a` or `$a*`");
                };
                let prefix = pattern.strip_suffix('*');
                let before = set.len();
                set.extend((0..self.strings.len()).filter(|place| {
                    let name = self.strings[*place].name.as_str();
                    prefix.map_or(name == pattern, |prefix| name.starts_with(prefix))
                }));
                if set.len() == before {
                    return self.fault(format!("this rule has no string `${pattern}`"));
                }
                self.advance();
                if !self.mark(",") {
                    break;
                }
            }
            self.expect(")")?;
        }
        for string in &set {
            self.used(StringRef::This(*string), Fixed::Anywhere);
        }
        Ok(set)
    }

    /// `(name, prefix*)`
    fn rule_set(&mut self) -> Result<Vec<usize>, Fault> {
        self.expect("(")?;
        let mut set = Vec::new();
        loop {
            let at = self.at();
            let name = self.name("a rule")?;
            let before = set.len();
            if self.mark("*") {
                let known = self
                    .known
                    .iter()
                    .filter(|(known, _)| known.starts_with(name));
                set.extend(known.map(|(_, place)| *place));
            } else {
                set.extend(self.known.get(name));
            }
            if set.len() == before {
                let message = format!("there is no rule `{name}` before this one");
                return Err(Fault::new(at, message));
            }
            if !self.mark(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(set)
    }

    pub(super) fn for_loop(&mut self) -> Result<Expr, Fault> {
        self.advance();
        let quantity = match *self.peek() {
            Kind::Word(word @ ("all" | "any" | "none")) => self.quantity_word(word),
            _ => Quantity::Count(self.binary(NUMBER + 1)?),
        };
        let quantity = Box::new(quantity);
        if self.word("of") {
            let set = self.string_set()?;
            self.expect(":")?;
            let outer = std::mem::replace(&mut self.in_string_loop, true);
            let body = self.body()?;
            self.in_string_loop = outer;
            return Ok(Expr::ForStrings(quantity, set, body));
        }
        if self.variables.len() == MAX_LOOPS {
            return self.fault(format!(
                "loops over numbers are nested {MAX_LOOPS} deep at most"
            ));
        }
        let variable = self.name("a variable")?;
        if !self.word("in") {
            return self.fault("write `in` here, as in `for any i in (1..#a) : (...)`");
        }
        let numbers = self.numbers()?;
        self.expect(":")?;
        self.variables.push(variable);
        let body = self.body()?;
        self.variables.pop();
        Ok(Expr::ForNumbers(
            quantity,
            self.variables.len(),
            numbers,
            body,
        ))
    }

    fn body(&mut self) -> Result<Box<Expr>, Fault> {
        self.expect("(")?;
        let body = self.expression()?;
        self.expect(")")?;
        Ok(Box::new(body))
    }

    /// `(1..10)` or `(1, 5, 9)`
    fn numbers(&mut self) -> Result<Numbers, Fault> {
        let start = self.next;
        self.expect("(")?;
        let mut list = vec![self.number()?];
        if matches!(self.peek(), Kind::Mark("..")) {
            self.next = start;
            return Ok(Numbers::Range(self.range()?));
        }
        while self.mark(",") {
            list.push(self.number()?);
        }
        self.expect(")")?;
        Ok(Numbers::List(list))
    }
}
