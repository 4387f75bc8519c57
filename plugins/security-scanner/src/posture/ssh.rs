//! What the SSH server allows.

use std::collections::BTreeMap;

use bulkhead_sdk::scanning::{Findings, Outline, Severity, View, WantId};

use super::{Check, rule};

const MAIN: &str = "/etc/ssh/sshd_config";
const PARTS: &str = "/etc/ssh/sshd_config.d/*.conf";
const UNCLEAR: &str = "posture.ssh-unclear";

/// A setting, the rule about it, what it is when nobody sets it, and what is fine.
struct Setting {
    key: &'static str,
    id: &'static str,
    default: &'static str,
    fine: &'static [&'static str],
    severity: Severity,
    title: &'static str,
    why: &'static str,
    how: &'static str,
}

const SETTINGS: [Setting; 3] = [
    Setting {
        key: "permitrootlogin",
        id: "posture.ssh-root-login",
        default: "prohibit-password",
        fine: &[
            "no",
            "prohibit-password",
            "without-password",
            "forced-commands-only",
        ],
        severity: Severity::High,
        title: "root can log in through SSH with a password",
        why: "Everybody knows the name of the account; only the password is left to guess, and the log does not say who it was.",
        how: "Set `PermitRootLogin no`, or `prohibit-password` where keys of root are needed.",
    },
    Setting {
        key: "passwordauthentication",
        id: "posture.ssh-passwords",
        default: "yes",
        fine: &["no"],
        severity: Severity::Medium,
        title: "SSH takes passwords",
        why: "Passwords can be guessed and are used elsewhere; keys are not.",
        how: "Set `PasswordAuthentication no` once everybody has a key.",
    },
    Setting {
        key: "permitemptypasswords",
        id: "posture.ssh-empty-passwords",
        default: "no",
        fine: &["no"],
        severity: Severity::Critical,
        title: "SSH takes empty passwords",
        why: "An account without a password is open to everybody who reaches the port.",
        how: "Set `PermitEmptyPasswords no`.",
    },
];

/// The SSH server.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Config {
    /// Settings that are not judged: `PasswordAuthentication`.
    ignore: Vec<String>,
    #[serde(skip)]
    wants: Option<WantId>,
}

impl Config {
    fn judged(&self) -> impl Iterator<Item = &'static Setting> {
        let ignored = |key: &str| self.ignore.iter().any(|it| it.eq_ignore_ascii_case(key));
        SETTINGS.iter().filter(move |setting| !ignored(setting.key))
    }
}

impl Check for Config {
    fn outline(&mut self, outline: &mut Outline) {
        for it in self.judged() {
            outline.rule(rule(it.id, it.severity, it.title, it.why, it.how));
        }
        outline.rule(rule(
            UNCLEAR,
            Severity::Info,
            "Not all that the SSH server is told can be judged",
            "What holds for some users or addresses (`Match`) and files elsewhere (`Include`) are not looked at, so the server may allow more than is said here.",
            "Ask the server itself: `sshd -T -C user=NAME`.",
        ));
        outline.want_file(MAIN);
        self.wants = Some(outline.want_file(PARTS));
    }

    fn assess(&self, view: &View, out: &mut Findings) {
        let Some(main) = view.file(MAIN).filter(|file| file.kind().is_some()) else {
            // There is no server.
            return;
        };
        let Some(text) = main.text() else {
            out.path(MAIN, UNCLEAR)
                .message("it cannot be read, or is no text");
            return;
        };
        let mut read = Read::default();
        read.text(MAIN, text, &mut |read| {
            for file in self.wants.into_iter().flat_map(|want| view.files(want)) {
                match file.text() {
                    // What is included in a part is not looked at.
                    Some(text) => read.text(&file.path(), text, &mut |_| {}),
                    None => read.unclear.push(format!("{} cannot be read", file.path())),
                }
            }
        });
        for it in self.judged() {
            let found = read.first.get(it.key);
            let (value, place) = match found {
                Some((value, place)) => (value.as_str(), place.as_str()),
                None => (it.default, "nowhere, it is the default"),
            };
            if !it.fine.contains(&value) {
                out.path(MAIN, it.id)
                    .message(format!("{} is {value}", it.key))
                    .evidence("value", value)
                    .evidence("set", place);
            }
        }
        if !read.unclear.is_empty() {
            out.path(MAIN, UNCLEAR).message(read.unclear.join("; "));
        }
    }
}

/// What was set first: later values do not count.
#[derive(Default)]
struct Read {
    first: BTreeMap<String, (String, String)>,
    unclear: Vec<String>,
}

impl Read {
    /// A file, up to its first `Match`. `include` reads the parts.
    fn text(&mut self, path: &str, text: &str, include: &mut dyn FnMut(&mut Self)) {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // Keys end with blanks or an equals sign.
            let end = line
                .find(|it: char| it.is_whitespace() || it == '=')
                .unwrap_or(line.len());
            let (key, value) = line.split_at(end);
            let value = value.trim_start_matches(|it: char| it.is_whitespace() || it == '=');
            let value = value
                .split(" #")
                .next()
                .unwrap_or_default()
                .trim()
                .trim_matches('"');
            let place = format!("{path}:{}", number + 1);
            match key.to_ascii_lowercase().as_str() {
                "match" => {
                    self.unclear.push(format!(
                        "{place}: Match, and what follows it, is not judged"
                    ));
                    return;
                }
                "include"
                    if value.starts_with("/etc/ssh/sshd_config.d/")
                        || value.starts_with("sshd_config.d/") =>
                {
                    include(self)
                }
                "include" => self
                    .unclear
                    .push(format!("{place}: Include {value} is not looked at")),
                key => {
                    let value = (value.to_ascii_lowercase(), place);
                    self.first.entry(key.to_owned()).or_insert(value);
                }
            }
        }
    }
}
