//! Plans what it is told to, and does to its host what it is told to.

use std::hint::black_box;

use bulkhead_sdk::enforcement::{
    Enforcement, ModuleChange, Outline, Plan, Rule, RuleId, UnitChange, View,
};
use bulkhead_sdk::{Error, Plugin, Result};

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct Fixture {
    /// Files whose content it wants to see beside those that it keeps.
    files: Vec<String>,
    sysctls: Vec<String>,
    modules: Vec<String>,
    units: Vec<String>,
    /// Files that are to have this content: a rule each.
    keep: Vec<Kept>,
    /// Changes that are in each plan.
    changes: Vec<Change>,
    #[serde(rename = "do")]
    act: Act,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    path: String,
    #[serde(default)]
    content: String,
    /// The content is this line so many times.
    line: Option<String>,
    #[serde(default)]
    times: usize,
    mode: Option<u32>,
    #[serde(default)]
    secret: bool,
    #[serde(default)]
    after: Vec<String>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Change {
    id: String,
    #[serde(flatten)]
    action: Action,
    #[serde(default)]
    after: Vec<String>,
    #[serde(default)]
    when_changed: Vec<String>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Action {
    Write { path: String, content: String },
    Permissions { path: String, mode: u32 },
    Directory(String),
    Symlink { path: String, target: String },
    Remove(String),
    Sysctl { name: String, value: String },
    Load(String),
    Restart(String),
}

#[derive(Clone, Copy, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Act {
    #[default]
    Nothing,
    Panic,
    Loop,
    Error,
    /// More changes than anybody may plan: the contract is broken.
    Many,
}

struct Plans {
    config: Fixture,
    rules: Vec<RuleId>,
}

impl Plugin for Plans {
    type Config = Fixture;
    fn new(config: Fixture) -> Result<Self> {
        let rules = Vec::new();
        let mut config = config;
        for kept in &mut config.keep {
            if let Some(line) = &kept.line {
                kept.content = format!("{line}\n").repeat(kept.times);
            }
        }
        Ok(Self { config, rules })
    }
}

impl Enforcement for Plans {
    fn outline(&mut self) -> Result<Outline> {
        let mut outline = Outline::new();
        for file in &self.config.files {
            outline.want_file(file);
        }
        for name in &self.config.sysctls {
            outline.want_sysctl(name);
        }
        for name in &self.config.modules {
            outline.want_module(name);
        }
        for name in &self.config.units {
            outline.want_unit(name);
        }
        for kept in &self.config.keep {
            outline.want_file(&kept.path);
            let title = format!("{} is as it should be", kept.path);
            let rule = outline.rule(Rule::new(&kept.path, &title));
            self.rules.push(rule);
        }
        Ok(outline)
    }

    fn plan(&mut self, view: &View, plan: &mut Plan) -> Result<()> {
        match self.config.act {
            Act::Nothing => {}
            #[allow(clippy::panic, reason = "that is its purpose")]
            Act::Panic => panic!("the fixture panics"),
            Act::Loop => loop {
                black_box(());
            },
            Act::Error => return Err(Error::new("fixture error")),
            Act::Many => {
                for i in 0..5000 {
                    plan.remove(&i.to_string(), "/nowhere");
                }
            }
        }
        for (kept, rule) in self.config.keep.iter().zip(&self.rules) {
            let entry = view.file(&kept.path);
            let same = entry.is_some_and(|entry| {
                let mode = kept.mode.is_none_or(|mode| entry.mode() == mode);
                entry.content() == kept.content.as_bytes() && mode
            });
            if same {
                plan.pass(*rule, "");
                continue;
            }
            plan.fail(*rule, "it differs");
            let mut change = plan
                .write_file(&kept.path, &kept.path, kept.content.as_bytes())
                .rule(*rule)
                .because("it differs");
            if let Some(mode) = kept.mode {
                change = change.mode(mode);
            }
            for id in &kept.after {
                change = change.after(id);
            }
            if kept.secret {
                change.secret();
            }
        }
        for change in &self.config.changes {
            let id = &change.id;
            let mut planned = match &change.action {
                Action::Write { path, content } => plan.write_file(id, path, content.as_bytes()),
                Action::Permissions { path, mode } => plan.set_permissions(id, path).mode(*mode),
                Action::Directory(path) => plan.make_directory(id, path),
                Action::Symlink { path, target } => plan.make_symlink(id, path, target),
                Action::Remove(path) => plan.remove(id, path),
                Action::Sysctl { name, value } => plan.set_sysctl(id, name, value, true, false),
                Action::Load(name) => plan.change_module(id, name, ModuleChange::Load),
                Action::Restart(name) => plan.change_unit(id, name, UnitChange::Restart),
            };
            for id in &change.after {
                planned = planned.after(id);
            }
            if !change.when_changed.is_empty() {
                planned.when_changed(change.when_changed.iter().map(String::as_str));
            }
        }
        Ok(())
    }
}

bulkhead_sdk::export!(Plans: Enforcement);
