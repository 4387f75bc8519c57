//! Which findings are asked for in the API and from the command line, and the answer.

use glob::Pattern;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::finding::Severity;
use super::query::{Page, Query, States};
use super::report::FindingReport;

/// Findings in one answer, unless asked for.
const LIMIT: usize = 100;
/// Findings in one answer, at most.
pub const MOST: usize = 1000;

/// Which findings, as it is written in the API: all that is left out does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Asked {
    /// Of plugins of this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Of plugins of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Of rules by id, a glob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// At least so severe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// One or more states, with commas between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Whose path or name begins so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Whose state changed then or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// At most so many in one page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Findings, latest first.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindingList {
    /// As many as were asked for, or fewer.
    pub items: Vec<FindingReport>,
    /// To be passed as `cursor` for the next page, even if this one is empty; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl From<Page> for FindingList {
    fn from(page: Page) -> Self {
        Self {
            items: page.items,
            next: page.next.map(|next| next.to_string()),
        }
    }
}

impl Asked {
    /// What is meant.
    ///
    /// # Errors
    /// What makes no sense, and what does.
    pub fn read(self) -> Result<Query, String> {
        let rule = self.rule.map(|rule| {
            Pattern::new(&rule)
                .map_err(|_| format!("rule: {rule:?} is no glob; write for example `ssh-*`"))
        });
        let severity = self.severity.map(|text| {
            let known = Severity::ALL.into_iter().find(|it| it.as_str() == text);
            known.ok_or_else(|| {
                format!("severity: {text:?} is none; write info, low, medium, high or critical")
            })
        });
        let since = self.since.map(|text| {
            text.parse::<Timestamp>().map_err(|_| {
                format!("since: {text:?} is no time; write for example 2027-01-31T12:00:00Z")
            })
        });
        let before = self.cursor.map(|text| {
            text.parse().map_err(|_| {
                format!("cursor: {text:?} is none; pass the `next` of the page before")
            })
        });
        Ok(Query {
            namespace: self.namespace,
            name: self.name,
            rule: rule.transpose()?,
            severity: severity.transpose()?,
            states: self
                .state
                .as_deref()
                .map_or(Ok(States::default()), states)?,
            subject: self.subject,
            since: since.transpose()?,
            before: before.transpose()?,
            limit: self.limit.unwrap_or(LIMIT).clamp(1, MOST),
        })
    }
}

fn states(text: &str) -> Result<States, String> {
    let mut states = States {
        open: false,
        suppressed: false,
        resolved: false,
    };
    for state in text.split(',') {
        match state {
            "open" => states.open = true,
            "suppressed" => states.suppressed = true,
            "resolved" => states.resolved = true,
            other => {
                return Err(format!(
                    "state: {other:?} is none; write open, suppressed or resolved, or several with commas between"
                ));
            }
        }
    }
    Ok(states)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(change: impl FnOnce(&mut Asked)) -> Result<Query, String> {
        let mut asked = Asked::default();
        change(&mut asked);
        asked.read()
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn filters_are_read() {
        let query = read(|it| {
            it.rule = text("ssh-*");
            it.severity = text("high");
            it.state = text("open,resolved");
            it.since = text("2027-01-31T12:00:00Z");
            it.cursor = text("17");
            it.limit = Some(5000);
        });
        let query = query.unwrap();
        assert!(query.rule.unwrap().matches("ssh-x"));
        assert_eq!(query.severity, Some(Severity::High));
        let states = (
            query.states.open,
            query.states.suppressed,
            query.states.resolved,
        );
        assert_eq!(states, (true, false, true));
        assert_eq!(query.since.unwrap().as_second(), 1_801_396_800);
        assert_eq!((query.before, query.limit), (Some(17), MOST));
        let query = read(|_| ()).unwrap();
        assert_eq!((query.states, query.limit), (States::default(), LIMIT));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (odd, said) in [
            (read(|it| it.rule = text("[")), "rule: \"[\" is no glob"),
            (
                read(|it| it.severity = text("grave")),
                "severity: \"grave\" is none",
            ),
            (read(|it| it.state = text("open,")), "state: \"\" is none"),
            (
                read(|it| it.since = text("yesterday")),
                "since: \"yesterday\" is no time",
            ),
            (read(|it| it.cursor = text("x")), "cursor: \"x\" is none"),
        ] {
            let odd = odd.unwrap_err();
            assert!(odd.starts_with(said), "{odd}");
        }
    }
}
