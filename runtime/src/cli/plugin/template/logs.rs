//! @NAME@: greets in every line, and drops the empty ones.

use bulkhead_sdk::{Batch, Logs, NoConfig, Output, Plugin, Result};

// To configure it, give it fields, derive `serde::Deserialize` and `schemars::JsonSchema`, and write
// `type Config = Self`: the manifest's `config` is read into it, and checked before.
struct @TYPE@;

impl Plugin for @TYPE@ {
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Logs for @TYPE@ {
    fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        for line in batch.lines().filter(|line| !line.bytes().is_empty()) {
            out.edit(line).field("greeting", "hello");
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
        let mut plugin = Harness::<super::@TYPE@>::new("{}")?;
        let answer = plugin.process(lines(["first", "", "third"]))?;
        assert_eq!(answer.kept(), [0, 2]);
        assert_eq!(answer.line(0).fields()["greeting"], "hello");
        assert_eq!(answer.line(2).body_text(), "third");
        Ok(())
    }
}
