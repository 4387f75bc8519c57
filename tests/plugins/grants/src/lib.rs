//! Uses what a manifest grants. A component imports what it might use, so this one is not part of
//! `fixture-logs`: that would need these grants in every test.
use bulkhead_sdk::{Batch, Logs, Output, Plugin, Result, info, node, state, warn};

/// What it uses.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Config {
    /// Counts lines under the key `lines`, in decimal, and adds the count as field `line`.
    count: bool,
    /// In the first batch, writes values of 4 KiB under `fill/N` until this many bytes are written,
    /// and reports a refusal as a log record with field `stored`.
    fill: u64,
    /// Adds these facts about the node to each line, as fields of the same name.
    facts: Vec<String>,
}

struct Grants {
    config: Config,
    facts: node::Facts,
    filled: bool,
}

impl Plugin for Grants {
    type Config = Config;
    fn new(config: Config) -> Result<Self> {
        let facts = match config.facts.is_empty() {
            true => node::Facts::default(),
            false => node::facts(),
        };
        Ok(Self {
            config,
            facts,
            filled: false,
        })
    }
}

impl Grants {
    fn fill(&mut self) {
        let value = [b'x'; 4096];
        let mut stored = 0;
        while stored < self.config.fill {
            if let Err(error) = state::set(&format!("fill/{stored}"), &value) {
                warn!("{error}"; "stored" = stored);
                return;
            }
            stored += value.len() as u64;
        }
        info!("filled"; "stored" = stored);
    }
}

impl Logs for Grants {
    fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        if !std::mem::replace(&mut self.filled, true) {
            self.fill();
        }
        let mut count = match state::get("lines")? {
            Some(count) => std::str::from_utf8(&count)?.parse::<u64>()?,
            None => 0,
        };
        for line in batch {
            let mut edit = out.edit(line);
            if self.config.count {
                count += 1;
                edit.field("line", count);
            }
            for name in &self.config.facts {
                edit.field(name, self.facts.get(name));
            }
        }
        if self.config.count {
            state::set("lines", count.to_string().as_bytes())?;
        }
        Ok(())
    }
}

bulkhead_sdk::export!(Grants: Logs);
