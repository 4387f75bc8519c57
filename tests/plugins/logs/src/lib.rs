//! Behaves well or badly, as its configuration says: `config` has the reference, `fault` what it can
//! do to its host, and this file the good behaviour.
mod config;
mod fault;

use bulkhead_sdk::{Batch, Logs, Output, Plugin, Result, Snapshot, bail, info};

use config::{Config, When};

struct Fixture {
    config: Config,
    /// What `readFile` found.
    file: Option<String>,
    batches: u64,
    lines: u64,
}

impl Plugin for Fixture {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let file = config
            .read_file
            .as_ref()
            .map(|path| match std::fs::read(path) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
                Err(error) => format!("error: {error}"),
            });
        if let Some(text) = &file {
            info!("{text}"; "readFile" = text);
        }
        let mut fixture = Self {
            config,
            file,
            batches: 0,
            lines: 0,
        };
        fixture.faults(When::Init, None, None)?;
        Ok(fixture)
    }

    fn snapshot(&mut self) -> Option<Snapshot> {
        // A fault in here has no error to return; the others end the instance by themselves.
        let _ = self.faults(When::Snapshot, None, None);
        self.config.count.then(|| Snapshot {
            version: 1,
            data: self.lines.to_le_bytes().to_vec(),
        })
    }

    fn restore(&mut self, snapshot: Snapshot) -> Result<()> {
        self.faults(When::Restore, None, None)?;
        if snapshot.version != 1 {
            bail!("cannot read snapshot version {}", snapshot.version);
        }
        self.lines = u64::from_le_bytes(snapshot.data.as_slice().try_into()?);
        Ok(())
    }
}

impl Logs for Fixture {
    fn start(&mut self, destinations: &[String]) -> Result<()> {
        self.faults(When::Start, None, None)?;
        for name in &self.config.route {
            if !destinations.contains(name) {
                bail!(
                    "no destination `{name}`; there are: {}",
                    destinations.join(", ")
                );
            }
        }
        Ok(())
    }

    fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        self.batches += 1;
        let Config {
            contains, encode, ..
        } = &self.config;
        let chosen = |text: &[u8]| {
            contains.is_empty()
                || text
                    .windows(contains.len())
                    .any(|part| part == contains.as_bytes())
        };
        if let Some(size) = encode.filter(|&size| size > 0) {
            let lines: Vec<_> = batch.lines().filter(|line| chosen(line.bytes())).collect();
            for chunk in lines.chunks(size) {
                let mut payload = out.payload();
                for &line in chunk {
                    payload.take(line);
                    payload.body().extend(line.bytes());
                    payload.body().push(b'\n');
                }
                if !self.config.route.is_empty() {
                    payload.route(&self.config.route);
                }
            }
            return self.faults(When::Process, Some(batch), Some(out));
        }
        for line in batch {
            self.lines += 1;
            if !chosen(line.bytes()) {
                continue;
            }
            if !self.config.changes_lines() {
                out.keep(line);
                continue;
            }
            let mut edit = match &self.config.prefix {
                Some(prefix) => out.rewrite_with(line, |body| {
                    body.extend(prefix.as_bytes());
                    body.extend(line.bytes());
                }),
                None => out.edit(line),
            };
            if let Some(version) = &self.config.version {
                edit.field("version", version);
            }
            if self.config.count {
                edit.field("count", self.lines);
            }
            if let Some(file) = &self.file {
                edit.field("file", file);
            }
            if !self.config.route.is_empty() {
                edit.route(&self.config.route);
            }
        }
        self.faults(When::Process, Some(batch), Some(out))
    }
}

bulkhead_sdk::export!(Fixture: Logs);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use bulkhead_sdk::testing::{self, Harness};

    use super::Fixture;

    fn fixture(config: &str) -> Harness<Fixture> {
        Harness::new(config).unwrap()
    }

    #[test]
    fn keeps_all_unless_told_otherwise() {
        let answer = fixture("null").process(testing::lines(["a", "b"])).unwrap();
        assert_eq!(answer.verdict(), "keep-all");
        let mut filter = fixture(r#"{"contains":"b"}"#);
        assert_eq!(
            filter.process(testing::lines(["a", "abc"])).unwrap().kept(),
            [1]
        );
    }

    #[test]
    fn stamps_and_counts_over_an_update() {
        let config = r#"{"version":"v2","count":true}"#;
        let mut old = fixture(config);
        old.process(testing::lines(["a", "b"])).unwrap();
        let mut new = fixture(config);
        new.restore(old.snapshot().unwrap()).unwrap();
        let answer = new.process(testing::lines(["c"])).unwrap();
        assert_eq!(
            answer.line(0).fields(),
            &serde_json::json!({"version":"v2","count":3})
        );
    }

    #[test]
    fn encodes_payloads() {
        let answer = fixture(r#"{"encode":2}"#)
            .process(testing::lines(["a", "b", "c"]))
            .unwrap();
        let bytes: Vec<_> = answer
            .payloads()
            .iter()
            .map(|payload| &payload.bytes[..])
            .collect();
        assert_eq!(bytes, [b"a\nb\n".as_slice(), b"c\n"]);
    }

    #[test]
    fn every_garbage_is_refused() {
        for kind in [
            "indexOutOfRange",
            "notAscending",
            "bodyOutOfBounds",
            "fieldsOutOfBounds",
            "unknownRoute",
            "reservedFlags",
            "invalidFields",
            "invalidBody",
            "payloadOutOfBounds",
            "payloadLineOutOfRange",
            "payloadTakesTooMany",
        ] {
            let config =
                format!(r#"{{"faults":[{{"do":"{kind}","marker":"bad","afterBatches":1}}]}}"#);
            let mut fixture = fixture(&config);
            assert!(
                fixture.process(testing::lines(["bad", "a"])).is_ok(),
                "{kind} too early"
            );
            assert!(
                fixture.process(testing::lines(["good", "a"])).is_ok(),
                "{kind} unmarked"
            );
            assert!(
                fixture.process(testing::lines(["bad", "a"])).is_err(),
                "{kind} accepted"
            );
        }
    }
}
