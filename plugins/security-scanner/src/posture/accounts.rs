//! Users who can do more than they should.

use bulkhead_sdk::scanning::{Findings, Outline, Password, Severity, View};

use super::{Check, rule};

const ROOT: &str = "posture.uid-0";
const EMPTY: &str = "posture.empty-password";

/// Users.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Config {
    /// Users beside `root` that may have the number 0.
    allow_uid0: Vec<String>,
}

impl Check for Config {
    fn outline(&mut self, outline: &mut Outline) {
        outline.rule(rule(
            ROOT,
            Severity::Critical,
            "Another user than root has the number 0",
            "The kernel knows users by number: this one is root under another name, with a password of its own.",
            "Give the user another number, or remove it (`userdel NAME`), and find out who made it.",
        ));
        outline.rule(rule(
            EMPTY,
            Severity::Critical,
            "A user has an empty password",
            "Whoever knows the name can log in where passwords are asked for.",
            "Lock the account (`passwd -l NAME`) or set a password.",
        ));
        outline.want_users();
    }

    fn assess(&self, view: &View, out: &mut Findings) {
        for user in view.users() {
            let subject = || crate::posture::subject("user", &user.name);
            if user.uid == 0 && user.name != "root" && !self.allow_uid0.contains(&user.name) {
                out.other(subject(), ROOT)
                    .message(format!("{} has the number 0", user.name))
                    .evidence("shell", &user.shell);
            }
            if user.password == Password::Empty {
                out.other(subject(), EMPTY)
                    .message(format!("{} has an empty password", user.name))
                    .evidence("uid", user.uid)
                    .evidence("shell", &user.shell);
            }
        }
    }
}
