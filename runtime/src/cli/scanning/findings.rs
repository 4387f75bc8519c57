//! `bulkhead scanning findings`: what was found.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::super::table::{table, tame};
use super::super::{Failed, OutputFormat, print};
use super::Daemon;
use crate::control::ScanOrder;
use crate::role::scanning::findings::{Asked, MOST};

/// List what was found, latest first.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead scanning findings\n  bulkhead scanning findings security --severity high --limit 20\n  bulkhead scanning findings --rule 'ssh-*' --in-state open,resolved --since 2027-01-31T12:00:00Z\n  bulkhead scanning findings --subject /usr/bin/ --output json | jq .evidence"
)]
pub(in crate::cli) struct Findings {
    /// The plugin, NAME or NAMESPACE/NAME; all unless given.
    plugin: Option<String>,
    /// Of these rules; * and ? stand for parts of the id.
    #[arg(long, value_name = "GLOB")]
    rule: Option<String>,
    /// At least so severe: info, low, medium, high or critical.
    #[arg(long)]
    severity: Option<String>,
    /// One or more of open, suppressed and resolved, with commas between; open,suppressed unless given.
    #[arg(long, value_name = "STATES")]
    in_state: Option<String>,
    /// Whose path or name begins so.
    #[arg(long, value_name = "PREFIX")]
    subject: Option<String>,
    /// Whose state changed then or later (RFC 3339).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// At most so many; all unless given.
    #[arg(long)]
    limit: Option<usize>,
    #[command(flatten)]
    daemon: Daemon,
}

impl Findings {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        let heading = [
            "NUMBER", "SEVERITY", "STATE", "PLUGIN", "RULE", "CHANGED", "SUBJECT", "MESSAGE",
        ];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        let mut left = self.limit.unwrap_or(usize::MAX);
        let mut cursor = None;
        while left > 0 {
            let order = ScanOrder::Findings {
                plugin: self.plugin.clone(),
                asked: Box::new(self.page(left, cursor)),
            };
            let page = self.daemon.send(&order).await?.findings;
            let items = page["items"].as_array().map_or(&[][..], Vec::as_slice);
            match self.daemon.output {
                OutputFormat::Json => {
                    let lines: String = items.iter().map(|item| format!("{item}\n")).collect();
                    if !print(&lines) {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                OutputFormat::Text => rows.extend(items.iter().map(row)),
            }
            left = left.saturating_sub(items.len());
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        if self.daemon.output == OutputFormat::Text {
            print(&match rows.len() {
                1 => "no such findings\n".to_owned(),
                _ => tame(&table(&rows)),
            });
        }
        Ok(ExitCode::SUCCESS)
    }

    fn page(&self, left: usize, cursor: Option<String>) -> Asked {
        Asked {
            rule: self.rule.clone(),
            severity: self.severity.clone(),
            state: self.in_state.clone(),
            subject: self.subject.clone(),
            since: self.since.clone(),
            limit: Some(left.min(MOST)),
            cursor,
            ..Asked::default()
        }
    }
}

fn row(finding: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let subject = &finding["subject"];
    // A line feed in a name would begin another row.
    let one_line = |text: String| text.replace('\n', " ");
    vec![
        finding["number"].to_string(),
        text(&finding["severity"]),
        text(&finding["state"]),
        text(&finding["plugin"]),
        text(&finding["rule"]),
        text(&finding["changed"]),
        one_line(match subject["kind"] == "file" {
            true => text(&subject["path"]),
            false => text(&subject["name"]),
        }),
        one_line(text(&finding["message"])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_finding_is_one_row() {
        let mut finding = json!({
            "number": 17, "severity": "high", "state": "open", "plugin": "local/a", "rule": "r",
            "changed": "2027-01-31T12:00:00Z", "message": "two\nlines",
            "subject": {"kind": "file", "path": "/tmp/a\nb"}
        });
        let last = |finding: &Value| row(finding).split_off(6);
        assert_eq!(last(&finding), ["/tmp/a b", "two lines"]);
        finding["subject"] = json!({"kind": "other", "name": "user/mallory"});
        assert_eq!(last(&finding), ["user/mallory", "two lines"]);
    }
}
