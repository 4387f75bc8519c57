//! Keeps a greeting as it should be.
use bulkhead_sdk::enforcement::{Rule, RuleId, Severity, View};
use bulkhead_sdk::{Enforcement, Outline, Plan, Plugin, Result};

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The file of the greeting.
    path: String,
    /// What it says.
    text: String,
}

struct Motd {
    config: Config,
    rule: Option<RuleId>,
}

impl Plugin for Motd {
    type Config = Config;
    fn new(config: Config) -> Result<Self> {
        Ok(Motd { config, rule: None })
    }
}

impl Enforcement for Motd {
    fn outline(&mut self) -> Result<Outline> {
        let mut outline = Outline::new();
        let rule = Rule::new("greeting", "Visitors are greeted").severity(Severity::Low);
        self.rule = Some(outline.rule(rule));
        outline.want_file(&self.config.path);
        Ok(outline)
    }

    fn plan(&mut self, view: &View, plan: &mut Plan) -> Result<()> {
        let Some(rule) = self.rule else { return Ok(()) };
        let Config { path, text } = &self.config;
        if view.file(path).and_then(|file| file.text()) == Some(text.as_str()) {
            plan.pass(rule, "");
        } else {
            plan.write_file("greeting", path, text.as_str())
                .rule(rule)
                .because("it says something else");
            plan.fail(rule, "it says something else");
        }
        Ok(())
    }
}

bulkhead_sdk::export!(Motd: Enforcement);
