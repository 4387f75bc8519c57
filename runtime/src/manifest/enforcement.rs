//! What is done with the changes that a plugin with the role `enforcement` plans.

use std::fmt;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::quoted;
use super::quantity::{ByteSize, Period};

/// Whether and when changes are made. All has defaults.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Enforcement {
    /// Whether changes are made, or only reported.
    pub mode: Mode,
    /// How often everything is looked at, beside when something of it was seen to change.
    pub interval: Period,
    /// Whether the files that the plugin wants are watched, so that an edit is seen at once.
    pub watch: bool,
    /// When changes may be made (UTC); always if there is none. Outside they are only reported.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// What was there before is kept within these bounds, oldest out first.
    pub keep: Keep,
}

impl Default for Enforcement {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            interval: Period::seconds(600),
            watch: true,
            windows: Vec::new(),
            keep: Keep::default(),
        }
    }
}

impl Enforcement {
    /// Whether changes may be made at this time, as far as windows go.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.windows.is_empty() || self.windows.iter().any(|window| window.holds(now))
    }
}

/// Whether changes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// They are only reported.
    #[default]
    Audit,
    /// They are made.
    Enforce,
}

/// A time of the week, by UTC.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// The days on which it begins; every day if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// When it begins.
    pub from: TimeOfDay,
    /// When it ends: on the next day if that is not later than `from`.
    pub to: TimeOfDay,
}

impl Window {
    /// Whether it is open at this time.
    pub fn holds(&self, now: Timestamp) -> bool {
        let now = now.to_zoned(TimeZone::UTC);
        let minute = TimeOfDay(now.hour() as u16 * 60 + now.minute() as u16);
        let begins_on = |weekday: Weekday| {
            self.days.is_empty() || self.days.iter().any(|day| day.weekday() == weekday)
        };
        let today = begins_on(now.weekday());
        let yesterday = || {
            let before = now.date().checked_sub(1.day());
            before.is_ok_and(|date| begins_on(date.weekday()))
        };
        match self.from < self.to {
            true => today && (self.from..self.to).contains(&minute),
            false => (today && minute >= self.from) || (minute < self.to && yesterday()),
        }
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "they are days")]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Day {
    fn weekday(self) -> Weekday {
        match self {
            Self::Monday => Weekday::Monday,
            Self::Tuesday => Weekday::Tuesday,
            Self::Wednesday => Weekday::Wednesday,
            Self::Thursday => Weekday::Thursday,
            Self::Friday => Weekday::Friday,
            Self::Saturday => Weekday::Saturday,
            Self::Sunday => Weekday::Sunday,
        }
    }
}

/// Hour and minute, as minutes since midnight.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay(u16);

impl TryFrom<String> for TimeOfDay {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = |text: &str, below: u16| {
            let all = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            let number: u16 = text.parse().ok().filter(|_| all)?;
            (number < below).then_some(number)
        };
        let parts = text.split_once(':');
        let time = parts
            .and_then(|(hour, minute)| Some(Self(digits(hour, 24)? * 60 + digits(minute, 60)?)));
        time.ok_or_else(|| {
            format!(
                "{} is no time of day\nwrite hour and minute, such as `\"02:30\"`, in quotes",
                quoted(&text)
            )
        })
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

/// How much of what was there before is kept.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Keep {
    /// The most bytes of files as they were.
    pub max_size: ByteSize,
    /// The most changes.
    pub changes: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            max_size: ByteSize::mebibytes(64),
            changes: 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn window(text: &str) -> Window {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_window_is_open_within_its_hours_and_days() {
        let night = window(r#"{"days":["saturday"],"from":"22:00","to":"04:00"}"#);
        // 2026-11-28 is a Saturday.
        for (time, open) in [
            ("2026-11-28T21:59:59Z", false),
            ("2026-11-28T22:00:00Z", true),
            ("2026-11-29T03:59:00Z", true),
            ("2026-11-29T04:00:00Z", false),
            ("2026-11-28T03:00:00Z", false),
            ("2026-11-29T23:00:00Z", false),
        ] {
            assert_eq!(night.holds(time.parse().unwrap()), open, "{time}");
        }
        let noon = window(r#"{"from":"12:00","to":"13:00"}"#);
        assert!(noon.holds("2026-11-28T12:30:00Z".parse().unwrap()));
        assert!(!noon.holds("2026-11-28T13:00:00Z".parse().unwrap()));
        let always = window(r#"{"from":"00:00","to":"00:00"}"#);
        assert!(always.holds("2026-11-28T05:00:00Z".parse().unwrap()));
    }

    #[test]
    fn times_of_day_are_hours_and_minutes() {
        for bad in ["", "24:00", "2:30", "02:60", "02:3x", "+2:30", "02:30:00"] {
            assert!(TimeOfDay::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        let time = TimeOfDay::try_from("02:05".to_owned()).unwrap();
        assert_eq!(time.to_string(), "02:05");
    }
}
