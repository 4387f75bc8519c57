//! Runs a plugin the way the host does.

use super::answer::Answer;
use super::backend::Backend;
use super::files::Files;
use super::found::Found;
use super::judged::{Judged, check_outline};
use super::node::Node;
use super::planned::Planned;
use crate::bindings::scanning::exports::bulkhead::plugin::scanning;
use crate::enforcement::Enforcement;
use crate::error::{Error, Result};
use crate::logs::{Batch, Logs};
use crate::metrics::{Metrics, Outcome};
use crate::plugin::{Plugin, Snapshot, config_schema};
use crate::scanning::{ScanKind, Scanning};

/// A plugin, made as the host makes it: in this thread, or in the sandbox if `bulkhead plugin test` says so.
///
/// ```
/// use bulkhead_sdk::{NoConfig, Plugin, Result, testing::Harness};
///
/// struct KeepAll;
/// # impl Plugin for KeepAll {
/// #     type Config = NoConfig;
/// #     fn new(_: NoConfig) -> Result<Self> { Ok(KeepAll) }
/// # }
/// let refused = Harness::<KeepAll>::new(r#"{"rate": 3}"#).err().unwrap();
/// assert_eq!(refused.field(), "rate");
/// ```
#[derive(Debug)]
pub struct Harness<P> {
    instance: Backend<P>,
    /// What a plugin that scans was asked once.
    scan_outline: Option<scanning::Outline>,
}

impl<P: Plugin> Harness<P> {
    /// Makes the plugin from its configuration as JSON text.
    ///
    /// ```
    /// # use bulkhead_sdk::{Plugin, Result, testing::Harness};
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Sample {
    ///     rate: u32,
    /// }
    /// # impl Plugin for Sample {
    /// #     type Config = Self;
    /// #     fn new(config: Self) -> Result<Self> { Ok(config) }
    /// # }
    /// assert!(Harness::<Sample>::new(r#"{"rate": 3}"#).is_ok());
    /// assert!(Harness::<Sample>::new(r#"{"rate": "many"}"#).is_err());
    /// ```
    pub fn new(config: &str) -> Result<Self> {
        let mut instance = Backend::new();
        instance
            .init(config)
            .map_err(|refusal| Error::new(refusal.message).at(refusal.field))?;
        let scan_outline = None;
        Ok(Self {
            instance,
            scan_outline,
        })
    }

    /// The JSON Schema of the plugin's configuration.
    ///
    /// ```
    /// # use bulkhead_sdk::{NoConfig, Plugin, Result, testing::Harness};
    /// # struct KeepAll;
    /// # impl Plugin for KeepAll {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(KeepAll) }
    /// # }
    /// assert!(Harness::<KeepAll>::config_schema().contains("NoConfig"));
    /// ```
    pub fn config_schema() -> String {
        config_schema::<P>()
    }

    /// What the plugin hands to a successor.
    ///
    /// ```
    /// # use bulkhead_sdk::{NoConfig, Plugin, Result, Snapshot, testing::Harness};
    /// # struct Counter(u8);
    /// # impl Plugin for Counter {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(Counter(7)) }
    /// #     fn snapshot(&mut self) -> Option<Snapshot> {
    /// #         Some(Snapshot { version: 1, data: vec![self.0] })
    /// #     }
    /// # }
    /// let snapshot = Harness::<Counter>::new("{}")?.snapshot();
    /// assert_eq!(snapshot, Some(Snapshot { version: 1, data: vec![7] }));
    /// # Result::<()>::Ok(())
    /// ```
    pub fn snapshot(&mut self) -> Option<Snapshot> {
        let raw = self.instance.snapshot()?;
        Some(Snapshot {
            version: raw.version,
            data: raw.data,
        })
    }

    /// Hands a predecessor's state to the plugin.
    ///
    /// ```
    /// # use bulkhead_sdk::{NoConfig, Plugin, Result, Snapshot, testing::Harness};
    /// # struct Counter(u8);
    /// # impl Plugin for Counter {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(Counter(7)) }
    /// #     fn snapshot(&mut self) -> Option<Snapshot> {
    /// #         Some(Snapshot { version: 1, data: vec![self.0] })
    /// #     }
    /// #     fn restore(&mut self, snapshot: Snapshot) -> Result<()> {
    /// #         self.0 = 1 + snapshot.data[0];
    /// #         Ok(())
    /// #     }
    /// # }
    /// let mut old = Harness::<Counter>::new("{}")?;
    /// let mut new = Harness::<Counter>::new("{}")?;
    /// new.restore(old.snapshot().unwrap())?;
    /// # assert_eq!(new.snapshot().unwrap().data, [8]);
    /// # Result::<()>::Ok(())
    /// ```
    pub fn restore(&mut self, snapshot: Snapshot) -> Result<()> {
        let Snapshot { version, data } = snapshot;
        self.instance
            .restore(crate::__private::lifecycle::SnapshotData { version, data })
            .map_err(|refusal| Error::new(refusal.message).at(refusal.field))
    }
}

impl<P: Logs> Harness<P> {
    /// Tells the plugin the names of the destinations.
    ///
    /// ```
    /// # use bulkhead_sdk::{Batch, Logs, NoConfig, Output, Plugin, Result, testing::Harness};
    /// # struct Errors;
    /// # impl Plugin for Errors {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(Errors) }
    /// # }
    /// # impl Logs for Errors {
    /// #     fn start(&mut self, destinations: &[String]) -> Result<()> {
    /// #         match destinations.iter().any(|name| name == "errors") {
    /// #             true => Ok(()),
    /// #             false => bulkhead_sdk::bail!("no destination `errors`"),
    /// #         }
    /// #     }
    /// #     fn process(&mut self, _: &Batch, _: &mut Output) -> Result<()> { Ok(()) }
    /// # }
    /// let mut plugin = Harness::<Errors>::new("{}")?;
    /// assert!(plugin.start(&["archive", "errors"]).is_ok());
    /// assert!(plugin.start(&["archive"]).is_err());
    /// # Result::<()>::Ok(())
    /// ```
    pub fn start(&mut self, destinations: &[&str]) -> Result<()> {
        let destinations: Vec<String> = destinations.iter().map(|&name| name.into()).collect();
        self.instance.start(&destinations).map_err(Error::new)
    }

    /// Asks the plugin about a batch, and checks its answer as the host would.
    ///
    /// ```
    #[doc = include_str!("../logs/example.txt")]
    /// # plugin!(|batch, out| out.keep_all(batch));
    /// let mut plugin = Harness::<MyPlugin>::new("{}")?;
    /// let answer = plugin.process(lines(["a", "b"]))?;
    /// assert!(answer.line(0).is_kept());
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn process(&mut self, batch: Batch) -> Result<Answer> {
        let verdict = self
            .instance
            .process(batch.raw.clone())
            .map_err(Error::new)?;
        Answer::check(batch, verdict)
    }
}

impl<P: Metrics> Harness<P> {
    /// The names of the plugin's collectors, in order.
    ///
    /// ```
    #[doc = include_str!("../metrics/example.txt")]
    /// # plugin!(Collector::new("loadavg").content("/proc/loadavg"), |_, _| ());
    /// assert_eq!(Harness::<MyPlugin>::new("{}")?.collectors()?, ["loadavg"]);
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn collectors(&mut self) -> Result<Vec<String>> {
        let collectors = self.instance.collectors().map_err(Error::new)?;
        Ok(collectors.into_iter().map(|each| each.name).collect())
    }

    /// Runs one collector on those of `files` that it wants, and checks its answer as the host would.
    ///
    /// ```
    #[doc = include_str!("../metrics/example.txt")]
    /// # plugin!(Collector::new("loadavg").content("/proc/loadavg"), |view, out| {
    /// #     let first = view.text("/proc/loadavg").unwrap().split(' ').next().unwrap();
    /// #     let load = out.gauge("node_load1", "");
    /// #     out.add(load, &[], first.parse().unwrap());
    /// # });
    /// let files = Files::new().file("/proc/loadavg", "0.25 0.5 1 1/100 42\n");
    /// let found = Harness::<MyPlugin>::new("{}")?.collect("loadavg", &files)?;
    /// assert_eq!(found.value("node_load1"), Some(0.25));
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn collect(&mut self, collector: &str, files: &Files) -> Result<Found> {
        self.collect_after(collector, files, &[])
    }

    /// The same, in a collection in which other collectors came before.
    ///
    /// ```
    /// use bulkhead_sdk::metrics::Outcome;
    #[doc = include_str!("../metrics/example.txt")]
    /// # plugin!(Collector::new("scrape"), |view, out| {
    /// #     let failed = out.gauge("failed", "");
    /// #     out.add(failed, &[], view.outcomes().filter(|outcome| !outcome.ok).count() as f64);
    /// # });
    /// let before = [Outcome { collector: 0, ok: false, seconds: 0.5 }];
    /// let found = Harness::<MyPlugin>::new("{}")?.collect_after("scrape", &Files::new(), &before)?;
    /// assert_eq!(found.value("failed"), Some(1.0));
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn collect_after(
        &mut self,
        collector: &str,
        files: &Files,
        outcomes: &[Outcome],
    ) -> Result<Found> {
        let collectors = self.instance.collectors().map_err(Error::new)?;
        let index = collectors
            .iter()
            .position(|each| each.name == collector)
            .ok_or_else(|| Error::new(format!("the plugin has no collector {collector:?}")))?;
        let view = files.view(&collectors[index].wants, outcomes)?;
        let families = self
            .instance
            .collect(index as u32, view)
            .map_err(Error::new)?;
        Found::check(&families)
    }
}

impl<P: Enforcement> Harness<P> {
    /// Shows the plugin as much of `node` as it wants to see, and checks its answer as the host would.
    ///
    /// ```
    #[doc = include_str!("../enforcement/example.txt")]
    /// # plugin!(|view, plan| if view.file("/etc/motd").unwrap().text() != Some("Hello\n") {
    /// #     plan.write_file("motd", "/etc/motd", "Hello\n");
    /// # });
    /// let mut node = Node::new().file("/etc/motd", "Go away\n");
    /// let mut plugin = Harness::<MyPlugin>::new("{}")?;
    /// let planned = plugin.plan(&node)?;
    /// node.apply(&planned)?;
    /// assert!(plugin.plan(&node)?.is_empty());
    /// # assert_eq!(node.text("/etc/motd"), Some("Hello\n"));
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn plan(&mut self, node: &Node) -> Result<Planned> {
        let outline = self.instance.outline().map_err(Error::new)?;
        let view = node.view(&outline.wants)?;
        let plan = self.instance.plan(view).map_err(Error::new)?;
        Planned::check(outline, plan)
    }
}

impl<P: Scanning> Harness<P> {
    /// Passes all files of `node` to the plugin, as in a full pass, and checks its answers as the host
    /// would.
    ///
    /// ```
    #[doc = include_str!("../scanning/example.txt")]
    /// # plugin!(|outline| { outline.files(FileInterest::content(64)); }, |batch, out| {
    /// #     for file in batch.files().filter(|file| file.whole().unwrap().starts_with(b"stratum+tcp:")) {
    /// #         out.file(&file, "miner");
    /// #     }
    /// # }, |_, _| ());
    /// let node = Node::new().file("/tmp/x", "stratum+tcp://pool").file("/tmp/y", "harmless");
    /// let found = Harness::<MyPlugin>::new("{}")?.scan(&node)?;
    /// assert_eq!(found.subjects("miner"), ["/tmp/x"]);
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn scan(&mut self, node: &Node) -> Result<Judged> {
        let interest = self.scan_outline()?.files;
        let mut judged = Judged::default();
        self.instance.begin(ScanKind::Full).map_err(Error::new)?;
        if let Some(interest) = interest {
            self.pass(&node.batches(&interest, None)?, &mut judged)?;
        }
        let found = self.instance.end(true).map_err(Error::new)?;
        judged.add(found, None)?;
        Ok(judged)
    }

    /// Passes one file to the plugin, to which something happened.
    ///
    /// ```
    #[doc = include_str!("../scanning/example.txt")]
    /// # plugin!(|outline| { outline.files(FileInterest::content(64)); }, |batch, out| {
    /// #     for file in batch.files().filter(|file| file.whole().unwrap().starts_with(b"stratum+tcp:")) {
    /// #         out.file(&file, "miner");
    /// #     }
    /// # }, |_, _| ());
    /// let node = Node::new().file("/tmp/x", "stratum+tcp://pool").file("/tmp/y", "harmless");
    /// let mut plugin = Harness::<MyPlugin>::new("{}")?;
    /// assert!(plugin.scan_event(&node, "/tmp/y")?.is_empty());
    /// # assert_eq!(plugin.scan_event(&node, "/tmp/x")?.subjects("miner"), ["/tmp/x"]);
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn scan_event(&mut self, node: &Node, path: &str) -> Result<Judged> {
        let Some(interest) = self.scan_outline()?.files else {
            return Err(Error::new("the plugin wants no files"));
        };
        let mut judged = Judged::default();
        self.pass(&node.batches(&interest, Some(path))?, &mut judged)?;
        Ok(judged)
    }

    /// Shows the plugin as much of `node` as it wants to see, and checks its answer as the host would.
    ///
    /// ```
    /// use bulkhead_sdk::scanning::Password;
    #[doc = include_str!("../scanning/example.txt")]
    /// # plugin!(|outline| { outline.want_users(); }, |_, _| (), |view, out| {
    /// #     for user in view.users().iter().filter(|user| user.uid == 0 && user.name != "root") {
    /// #         out.other(format!("user/{}", user.name), "uid-0");
    /// #     }
    /// # });
    /// let node = Node::new().account("mallory", 0, Password::Empty);
    /// let found = Harness::<MyPlugin>::new("{}")?.assess(&node)?;
    /// assert_eq!(found.subjects("uid-0"), ["user/mallory"]);
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn assess(&mut self, node: &Node) -> Result<Judged> {
        let view = node.scan_view(&self.scan_outline()?.wants)?;
        let found = self.instance.assess(view).map_err(Error::new)?;
        let mut judged = Judged::default();
        judged.add(found, None)?;
        Ok(judged)
    }

    fn pass(&mut self, batches: &[scanning::Batch], judged: &mut Judged) -> Result<()> {
        for batch in batches {
            let found = self.instance.scan(batch.clone()).map_err(Error::new)?;
            judged.add(found, Some(batch))?;
        }
        Ok(())
    }

    fn scan_outline(&mut self) -> Result<scanning::Outline> {
        if let Some(known) = &self.scan_outline {
            return Ok(known.clone());
        }
        let outline = self.instance.scan_outline().map_err(Error::new)?;
        check_outline(&outline)?;
        Ok(self.scan_outline.insert(outline).clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::plugin::NoConfig;
    use crate::scanning::{Batch, FileInterest, Findings, Outline};

    /// Finds an `x` in each piece, and what has the SHA-256 of an empty file.
    struct Seeker;

    const EMPTY: [u8; 4] = [0xe3, 0xb0, 0xc4, 0x42];

    impl Plugin for Seeker {
        type Config = NoConfig;
        fn new(_: NoConfig) -> Result<Self> {
            Ok(Self)
        }
    }

    impl Scanning for Seeker {
        fn outline(&mut self) -> Result<Outline> {
            let mut outline = Outline::new();
            outline.files(FileInterest::content(8).sha256().others());
            outline.rule_set("1");
            Ok(outline)
        }

        fn scan(&mut self, batch: &Batch, out: &mut Findings) -> Result<()> {
            for file in batch {
                for piece in file.pieces() {
                    for at in piece.bytes().iter().enumerate().filter(|it| *it.1 == b'x') {
                        let at = piece.position() + at.0 as u64;
                        out.file(&file, "x").fingerprint(at.to_string());
                    }
                }
                if file
                    .sha256()
                    .is_some_and(|digest| digest.starts_with(&EMPTY))
                {
                    out.file(&file, "empty");
                }
                if file.kind() == crate::scanning::FileKind::Symlink {
                    out.file(&file, "link");
                }
            }
            Ok(())
        }

        fn end(&mut self, complete: bool, out: &mut Findings) -> Result<()> {
            out.other(format!("pass/{complete}"), "end");
            Ok(())
        }
    }

    #[test]
    fn pieces_make_one_file() {
        let node = Node::new()
            .file("/a", "x-x-x-x-x-x")
            .file("/b", "y")
            .file("/c", "")
            .link("/d", "/a")
            .odd_file(b"/\xff", "x");
        for size in [1, 2, 3, 8, 100] {
            let node = node.clone().piece_size(size);
            let mut plugin = Harness::<Seeker>::new("{}").unwrap();
            let found = plugin.scan(&node).unwrap();
            let at = found.all().iter().filter(|it| it.subject == "/a");
            let at: Vec<_> = at.map(|it| it.fingerprint.as_str()).collect();
            // What is behind the first eight bytes is not passed.
            assert_eq!(at, ["0", "2", "4", "6"], "{size}");
            assert_eq!(found.subjects("x").last(), Some(&"/\u{fffd}"));
            assert_eq!(found.subjects("empty"), ["/c"]);
            assert_eq!(found.subjects("link"), ["/d"]);
            assert_eq!(found.subjects("end"), ["pass/true"]);
        }
        let mut plugin = Harness::<Seeker>::new("{}").unwrap();
        let event = plugin.scan_event(&node, "/b").unwrap();
        assert!(event.is_empty(), "{event:?}");
    }

    #[test]
    fn what_was_found_of_a_file_that_does_not_go_on_is_let_go() {
        let mut plugin = Harness::<Seeker>::new("{}").unwrap();
        let node = Node::new().file("/a", "x-x-").file("/b", "y");
        let interest = plugin.scan_outline().unwrap().files.unwrap();
        let batches = node.clone().piece_size(2).batches(&interest, None).unwrap();
        assert!(plugin.instance.scan(batches[0].clone()).unwrap().is_empty());
        // The host gave the file up, and goes on with another.
        let other = node.batches(&interest, Some("/b")).unwrap();
        assert!(plugin.instance.scan(other[0].clone()).unwrap().is_empty());
    }
}
