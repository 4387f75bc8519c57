//! @NAME@: greets in every line, and drops the empty ones.

use bulkhead_sdk::{Batch, Logs, Output, Plugin, Result};

/// What stands under `config` in plugin.yaml.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct @TYPE@ {
    /// Each line gets it as the field `greeting`.
    greeting: String,
}

impl Plugin for @TYPE@ {
    type Config = Self;
    fn new(config: Self) -> Result<Self> {
        Ok(config)
    }
}

impl Logs for @TYPE@ {
    fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        for line in batch.lines().filter(|line| !line.bytes().is_empty()) {
            out.edit(line).field("greeting", self.greeting.as_str());
        }
        Ok(())
    }
}

bulkhead_sdk::export!(@TYPE@: Logs);

#[cfg(test)]
mod tests {
    use bulkhead_sdk::testing::{Harness, lines};

    #[test]
    fn greets_in_every_line() -> bulkhead_sdk::Result<()> {
        let mut plugin = Harness::<super::@TYPE@>::new(r#"{"greeting": "hello"}"#)?;
        let answer = plugin.process(lines(["first", "", "third"]))?;
        assert_eq!(answer.kept(), [0, 2]);
        assert_eq!(answer.line(0).fields()["greeting"], "hello");
        assert_eq!(answer.line(2).body_text(), "third");
        Ok(())
    }
}
