//! Conditions. Each expression is a number or undefined; `true` and `false` are 1 and 0.

use super::ast::{Expr, Numbers, Operator, Place, Quantity, Range, Read, StringRef};
use super::rules::{Rule, Rules};
use super::scanner::{Input, Match};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

/// None is undefined.
pub(crate) type Value = Option<Number>;

pub(crate) fn is_true(value: Value) -> bool {
    match value {
        Some(Number::Int(number)) => number != 0,
        Some(Number::Float(number)) => number != 0.0,
        None => false,
    }
}

fn truth(value: bool) -> Value {
    Some(Number::Int(value.into()))
}

fn int(value: Value) -> Option<i64> {
    match value {
        Some(Number::Int(number)) => Some(number),
        _ => None,
    }
}

pub(crate) struct Evaluation<'e> {
    rules: &'e Rules,
    input: Input<'e>,
    found: &'e [Vec<Match>],
    results: Vec<bool>,
    variables: Vec<i64>,
    current: Option<usize>,
    /// How many are left.
    pub(crate) steps: u64,
}

impl<'e> Evaluation<'e> {
    pub(crate) fn new(
        rules: &'e Rules,
        input: Input<'e>,
        found: &'e [Vec<Match>],
        steps: u64,
    ) -> Self {
        let (results, variables) = (Vec::new(), Vec::new());
        Self {
            rules,
            input,
            found,
            results,
            variables,
            current: None,
            steps,
        }
    }

    /// Whether each rule matches; those that are not possible don't.
    pub(crate) fn rules(&mut self, possible: &[bool]) -> Vec<bool> {
        for (rule, possible) in self.rules.rules.iter().zip(possible) {
            let result = *possible && is_true(self.value(rule, &rule.condition));
            self.results.push(result);
        }
        let mut results = std::mem::take(&mut self.results);
        let failed: Vec<&str> = self
            .rules
            .rules
            .iter()
            .zip(&results)
            .filter(|(rule, result)| rule.global && !**result)
            .map(|(rule, _)| rule.namespace.as_str())
            .collect();
        if !failed.is_empty() {
            for (rule, result) in self.rules.rules.iter().zip(&mut results) {
                *result &= !failed.contains(&rule.namespace.as_str());
            }
        }
        results
    }

    pub(crate) fn value(&mut self, rule: &Rule, expression: &Expr) -> Value {
        self.steps = self.steps.saturating_sub(1);
        if self.steps == 0 {
            return None;
        }
        match expression {
            Expr::Int(number) => Some(Number::Int(*number)),
            Expr::Float(number) => Some(Number::Float(*number)),
            Expr::Filesize => Some(Number::Int(self.input.size as i64)),
            Expr::Variable(slot) => self.variables.get(*slot).map(|number| Number::Int(*number)),
            Expr::Read(read, at) => self.read(rule, *read, at).map(Number::Int),
            Expr::Count(string, range) => self.count(rule, *string, range.as_ref()),
            Expr::Offset(string, index) => {
                let found = self.indexed(rule, *string, index)?;
                Some(Number::Int(found.offset as i64))
            }
            Expr::Length(string, index) => {
                let found = self.indexed(rule, *string, index)?;
                Some(Number::Int(found.length as i64))
            }
            Expr::Found(string, place) => {
                let matches = self.matches(rule, *string);
                self.is_found(rule, matches, place)
            }
            Expr::Not(inner) => self
                .value(rule, inner)
                .map(|number| Number::Int((!is_true(Some(number))).into())),
            Expr::Negative(inner) => self.value(rule, inner).map(|number| match number {
                Number::Int(number) => Number::Int(number.wrapping_neg()),
                Number::Float(number) => Number::Float(-number),
            }),
            Expr::Complement(inner) => {
                int(self.value(rule, inner)).map(|number| Number::Int(!number))
            }
            Expr::Defined(inner) => truth(self.value(rule, inner).is_some()),
            Expr::And(all) => truth(all.iter().all(|one| is_true(self.value(rule, one)))),
            Expr::Or(any) => truth(any.iter().any(|one| is_true(self.value(rule, one)))),
            Expr::Binary(operator, sides) => {
                let left = self.value(rule, &sides.0)?;
                let right = self.value(rule, &sides.1)?;
                binary(*operator, left, right)
            }
            Expr::Rule(number) => truth(self.results.get(*number).copied().unwrap_or(false)),
            Expr::OfStrings(quantity, set, place) => {
                let mut met = 0;
                for string in set {
                    let matches = self.matches(rule, StringRef::This(*string));
                    met += usize::from(is_true(self.is_found(rule, matches, place)));
                }
                self.enough(rule, quantity, met, set.len())
            }
            Expr::OfRules(quantity, set) => {
                let results = set.iter().filter_map(|number| self.results.get(*number));
                let met = results.filter(|result| **result).count();
                self.enough(rule, quantity, met, set.len())
            }
            Expr::ForStrings(quantity, set, body) => {
                let outer = self.current;
                let mut met = 0;
                for string in set {
                    self.current = Some(*string);
                    met += usize::from(is_true(self.value(rule, body)));
                }
                self.current = outer;
                self.enough(rule, quantity, met, set.len())
            }
            Expr::ForNumbers(quantity, slot, numbers, body) => {
                self.for_numbers(rule, quantity, *slot, numbers, body)
            }
        }
    }

    fn matches(&self, rule: &Rule, string: StringRef) -> &'e [Match] {
        let place = match string {
            StringRef::This(place) => Some(place),
            StringRef::Current => self.current,
        };
        let string = place.and_then(|place| self.rules.strings.get(rule.strings.start + place));
        let matches = string.and_then(|string| self.found.get(string.parts.start));
        matches.map_or(&[], Vec::as_slice)
    }

    fn count(&mut self, rule: &Rule, string: StringRef, range: Option<&Range>) -> Value {
        let matches = self.matches(rule, string);
        let count = match range {
            None => matches.len(),
            Some(range) => {
                let (low, high) = self.bounds(rule, range)?;
                within(matches, low, high).len()
            }
        };
        Some(Number::Int(count as i64))
    }

    fn indexed(&mut self, rule: &Rule, string: StringRef, index: &Expr) -> Option<Match> {
        let index = int(self.value(rule, index))?;
        let index = usize::try_from(index).ok()?.checked_sub(1)?;
        self.matches(rule, string).get(index).copied()
    }

    fn is_found(&mut self, rule: &Rule, matches: &[Match], place: &Place) -> Value {
        match place {
            Place::Anywhere => truth(!matches.is_empty()),
            Place::At(at) => {
                let at = int(self.value(rule, at));
                truth(at.is_some_and(|at| !within(matches, at, at).is_empty()))
            }
            Place::In(range) => {
                let (low, high) = self.bounds(rule, range)?;
                truth(!within(matches, low, high).is_empty())
            }
        }
    }

    fn bounds(&mut self, rule: &Rule, range: &Range) -> Option<(i64, i64)> {
        let low = int(self.value(rule, &range.0.0))?;
        let high = int(self.value(rule, &range.0.1))?;
        Some((low, high))
    }

    fn read(&mut self, rule: &Rule, read: Read, at: &Expr) -> Option<i64> {
        let at = usize::try_from(int(self.value(rule, at))?).ok()?;
        let bytes = self.input.data.get(at..at.checked_add(read.bytes)?)?;
        let shift = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        let number = match read.big_endian {
            true => bytes.iter().fold(0, shift),
            false => bytes.iter().rev().fold(0, shift),
        };
        let spare = 64 - 8 * read.bytes as u32;
        Some(match read.signed {
            true => (number << spare) as i64 >> spare,
            false => number as i64,
        })
    }

    fn for_numbers(
        &mut self,
        rule: &Rule,
        quantity: &Quantity,
        slot: usize,
        numbers: &Numbers,
        body: &Expr,
    ) -> Value {
        let (mut met, mut total) = (0, 0);
        self.variables.truncate(slot);
        self.variables.push(0);
        match numbers {
            Numbers::Range(range) => {
                let Some((low, high)) = self.bounds(rule, range) else {
                    return truth(false);
                };
                for number in low..=high {
                    met += usize::from(self.iteration(rule, slot, number, body));
                    total += 1;
                    let decided = match quantity {
                        Quantity::Any => met > 0,
                        Quantity::All => met < total,
                        _ => false,
                    };
                    if decided || self.steps == 0 {
                        break;
                    }
                }
            }
            Numbers::List(list) => {
                for number in list {
                    let number = int(self.value(rule, number));
                    met += usize::from(
                        number.is_some_and(|number| self.iteration(rule, slot, number, body)),
                    );
                    total += 1;
                }
            }
        }
        // As with YARA, a loop over nothing fails, even if it is about all.
        if total == 0 {
            return truth(false);
        }
        self.enough(rule, quantity, met, total)
    }

    fn iteration(&mut self, rule: &Rule, slot: usize, number: i64, body: &Expr) -> bool {
        if let Some(variable) = self.variables.get_mut(slot) {
            *variable = number;
        }
        is_true(self.value(rule, body))
    }

    fn enough(&mut self, rule: &Rule, quantity: &Quantity, met: usize, total: usize) -> Value {
        let met = met as i64;
        let total = total as i64;
        truth(match quantity {
            Quantity::All => met == total,
            Quantity::Any => met > 0,
            Quantity::None => met == 0,
            Quantity::Count(count) => match int(self.value(rule, count))? {
                0 => met == 0,
                count => met >= count,
            },
            Quantity::Percent(percent) => {
                let percent = int(self.value(rule, percent))?;
                met.saturating_mul(100) >= percent.saturating_mul(total)
            }
        })
    }
}

/// Those whose offset is in a range, both ends included.
fn within(matches: &[Match], low: i64, high: i64) -> &[Match] {
    let Ok(high) = u64::try_from(high) else {
        return &[];
    };
    let low = u64::try_from(low).unwrap_or(0);
    let first = matches.partition_point(|found| found.offset < low);
    let end = matches.partition_point(|found| found.offset <= high);
    matches.get(first..end).unwrap_or(&[])
}

fn binary(operator: Operator, left: Number, right: Number) -> Value {
    let (left, right) = match (left, right) {
        (Number::Int(left), Number::Int(right)) => return integers(operator, left, right),
        (left, right) => (float(left), float(right)),
    };
    match operator {
        Operator::Equal => truth((left - right).abs() < f64::EPSILON),
        Operator::Unequal => truth((left - right).abs() >= f64::EPSILON),
        Operator::Less => truth(left < right),
        Operator::LessOrEqual => truth(left <= right),
        Operator::Greater => truth(left > right),
        Operator::GreaterOrEqual => truth(left >= right),
        Operator::Add => Some(Number::Float(left + right)),
        Operator::Subtract => Some(Number::Float(left - right)),
        Operator::Multiply => Some(Number::Float(left * right)),
        Operator::Divide => Some(Number::Float(left / right)),
        _ => None,
    }
}

fn float(number: Number) -> f64 {
    match number {
        Number::Int(number) => number as f64,
        Number::Float(number) => number,
    }
}

fn integers(operator: Operator, left: i64, right: i64) -> Value {
    let shift = |shifted: fn(i64, u32) -> i64| match u32::try_from(right) {
        Ok(by @ 0..64) => Some(shifted(left, by)),
        Ok(_) => Some(0),
        Err(_) if right > 0 => Some(0),
        Err(_) => None,
    };
    let number = match operator {
        Operator::Equal => (left == right).into(),
        Operator::Unequal => (left != right).into(),
        Operator::Less => (left < right).into(),
        Operator::LessOrEqual => (left <= right).into(),
        Operator::Greater => (left > right).into(),
        Operator::GreaterOrEqual => (left >= right).into(),
        Operator::BitOr => left | right,
        Operator::BitXor => left ^ right,
        Operator::BitAnd => left & right,
        Operator::ShiftLeft => shift(i64::wrapping_shl)?,
        Operator::ShiftRight => shift(i64::wrapping_shr)?,
        Operator::Add => left.wrapping_add(right),
        Operator::Subtract => left.wrapping_sub(right),
        Operator::Multiply => left.wrapping_mul(right),
        Operator::Divide => left.checked_div(right)?,
        Operator::Remainder => left.checked_rem(right)?,
    };
    Some(Number::Int(number))
}
