//! The error of a plugin: a message that reads as one sentence, and the configuration field it is
//! about. It keeps no source error, because it crosses to the host as text.

use std::fmt;

/// `Result` with [`Error`] unless another error type is named.
///
/// ```
/// use bulkhead_sdk::Result;
///
/// fn first(line: &str) -> Result<u32> {
///     Ok(line.split(' ').next().unwrap_or_default().parse()?)
/// }
/// fn parsed(text: &str) -> Result<u32, std::num::ParseIntError> {
///     text.parse()
/// }
/// assert_eq!(first("12 apples")?, parsed("12")?);
/// # Result::<()>::Ok(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a plugin could not do what it was asked.
///
/// Any [`std::error::Error`] converts into it with `?`, and its causes stay in the message:
///
/// ```
/// fn parse(text: &str) -> bulkhead_sdk::Result<u16> {
///     Ok(text.trim().parse()?)
/// }
/// assert_eq!(
///     parse("many").unwrap_err().to_string(),
///     "invalid digit found in string"
/// );
/// ```
///
/// To write one by hand, use [`bail!`](crate::bail) or [`Error::new`].
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    field: String,
    message: String,
}

impl Error {
    /// An error with a message: what is wrong, and what the reader can do about it.
    ///
    /// ```
    /// let error = bulkhead_sdk::Error::new("no route `errors`; write `default`");
    /// assert_eq!(error.field(), "");
    /// ```
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            field: String::new(),
            message: message.into(),
        }
    }

    /// Says which field of the configuration the error is about. Called again on the way out, it
    /// puts the outer field in front.
    ///
    /// ```
    /// use bulkhead_sdk::Error;
    /// let error = Error::new("not a number").at("[2].rate").at("sample");
    /// assert_eq!(error.field(), "sample[2].rate");
    /// assert_eq!(error.to_string(), "sample[2].rate: not a number");
    /// ```
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        let outer = field.into();
        self.field = match self.field.as_str() {
            "" => outer,
            inner if inner.starts_with('[') || outer.is_empty() => outer + inner,
            inner => outer + "." + inner,
        };
        self
    }

    /// Puts what was being done in front of the message.
    ///
    /// ```
    /// let error = bulkhead_sdk::Error::new("permission denied").context("cannot read /etc/zones");
    /// assert_eq!(error.to_string(), "cannot read /etc/zones: permission denied");
    /// ```
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// Path of the configuration field, for example `filters[2].pattern`; empty if it is about none.
    ///
    /// ```
    /// assert_eq!(bulkhead_sdk::Error::new("is empty").at("name").field(), "name");
    /// ```
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The message without the field.
    ///
    /// ```
    /// assert_eq!(bulkhead_sdk::Error::new("is empty").at("name").message(), "is empty");
    /// ```
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn into_parts(self) -> (String, String) {
        (self.field, self.message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// As [`fmt::Display`]: it is what a test that unwraps prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// `Error` itself is no `std::error::Error`: the two would overlap, as in every such type.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many errors repeat their cause in their own text; saying it twice helps nobody.
            if !message.ends_with(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        Self::new(message)
    }
}

/// Adds context to the error of a `Result`, or makes one of a `None`.
///
/// ```
/// use bulkhead_sdk::{Context, Result};
/// fn limit(text: &str) -> Result<u32> {
///     text.parse().at("limit")
/// }
/// assert_eq!(limit("x").unwrap_err().field(), "limit");
/// assert_eq!(None::<u8>.context("nothing there").unwrap_err().to_string(), "nothing there");
/// ```
pub trait Context<T>: Sized {
    /// Puts what was being done in front of the message; see [`Error::context`].
    ///
    /// ```
    /// use bulkhead_sdk::Context;
    /// let error = "x".parse::<u8>().context("cannot read the limit").unwrap_err();
    /// assert_eq!(error.message(), "cannot read the limit: invalid digit found in string");
    /// ```
    fn context(self, doing: impl fmt::Display) -> Result<T>;

    /// Says which field of the configuration the error is about; see [`Error::at`].
    ///
    /// ```
    /// use bulkhead_sdk::Context;
    /// assert_eq!("x".parse::<u8>().at("rate").unwrap_err().field(), "rate");
    /// ```
    fn at(self, field: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.into().context(doing))
    }

    fn at(self, field: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().at(field))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Error::new(doing.to_string()))
    }

    fn at(self, field: impl Into<String>) -> Result<T> {
        self.ok_or_else(|| Error::new("is missing").at(field))
    }
}

/// Returns an [`Error`] with a formatted message from the function around it.
///
/// ```
/// fn check(rate: u32) -> bulkhead_sdk::Result<()> {
///     if rate == 0 {
///         bulkhead_sdk::bail!("a rate of {rate} keeps nothing; use a filter to drop lines");
///     }
///     Ok(())
/// }
/// assert!(check(0).is_err());
/// ```
#[macro_export]
macro_rules! bail {
    ($($message:tt)+) => {
        return ::std::result::Result::Err($crate::Error::new(::std::format!($($message)+)))
    };
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError, bool);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            if self.1 {
                write!(f, "bad rate: {}", self.0)
            } else {
                write!(f, "bad rate")
            }
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn keeps_the_cause_chain_once() {
        let cause = || "x".parse::<u8>().unwrap_err();
        for repeats in [false, true] {
            assert_eq!(
                Error::from(Outer(cause(), repeats)).to_string(),
                "bad rate: invalid digit found in string"
            );
        }
    }

    #[test]
    fn joins_fields_by_kind() {
        let error = Error::new("m").at("name").at("[1]").at("rules").at("a");
        assert_eq!(error.field(), "a.rules[1].name");
    }
}
