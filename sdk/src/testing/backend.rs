//! Where a plugin under test is: in this thread, or in the sandbox. The same calls, the same answers.

use super::remote::Remote;
use crate::bindings::enforcement::exports::bulkhead::plugin::enforcement;
use crate::bindings::lifecycle::exports::bulkhead::plugin::lifecycle;
use crate::bindings::logs::exports::bulkhead::plugin::logs;
use crate::bindings::metrics::exports::bulkhead::plugin::metrics;
use crate::bindings::scanning::exports::bulkhead::plugin::scanning;
use crate::enforcement::Enforcement;
use crate::export::Instance;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::plugin::{Plugin, config_schema};
use crate::scanning::Scanning;

#[derive(Debug)]
pub(super) enum Backend<P> {
    Native(Box<Instance<P>>),
    Sandboxed(Remote),
}

/// Calls whichever there is.
macro_rules! call {
    ($this:ident, $name:literal, ($($argument:expr),*), $native:ident ( $($given:expr),* )) => {
        match $this {
            Self::Native(instance) => instance.$native($($given),*),
            Self::Sandboxed(remote) => remote.call($name, &($($argument,)*)),
        }
    };
}

/// No arguments at all, as JSON has it.
const NONE: [(); 0] = [];

impl<P: Plugin> Backend<P> {
    pub(super) fn new() -> Self {
        let Some(mut remote) = Remote::start() else {
            return Self::Native(Box::default());
        };
        let description: lifecycle::Description = remote.call("lifecycle.describe", &NONE);
        assert!(
            description.config_schema == config_schema::<P>(),
            "the module {} has another configuration than {}: in the sandbox, only the plugin that the crate exports can be tested",
            description.name,
            std::any::type_name::<P>()
        );
        Self::Sandboxed(remote)
    }

    pub(super) fn init(&mut self, config: &str) -> Result<(), lifecycle::Refusal> {
        call!(self, "lifecycle.init", (config), init(config))
    }

    pub(super) fn snapshot(&mut self) -> Option<lifecycle::SnapshotData> {
        match self {
            Self::Native(instance) => instance.snapshot(),
            Self::Sandboxed(remote) => remote.call("lifecycle.snapshot", &NONE),
        }
    }

    pub(super) fn restore(
        &mut self,
        snapshot: lifecycle::SnapshotData,
    ) -> Result<(), lifecycle::Refusal> {
        call!(self, "lifecycle.restore", (snapshot), restore(snapshot))
    }
}

impl<P: Logs> Backend<P> {
    pub(super) fn start(&mut self, destinations: &[String]) -> Result<(), String> {
        call!(self, "logs.start", (destinations), start(destinations))
    }

    pub(super) fn process(&mut self, batch: logs::Batch) -> Result<logs::Verdict, String> {
        call!(self, "logs.process", (batch), process(batch))
    }
}

impl<P: Metrics> Backend<P> {
    pub(super) fn collectors(&mut self) -> Result<Vec<metrics::Collector>, String> {
        match self {
            Self::Native(instance) => instance.collectors(),
            Self::Sandboxed(remote) => remote.call("metrics.start", &NONE),
        }
    }

    pub(super) fn collect(
        &mut self,
        collector: u32,
        view: metrics::View,
    ) -> Result<metrics::Families, String> {
        call!(
            self,
            "metrics.collect",
            (collector, view),
            collect(collector, view)
        )
    }
}

impl<P: Enforcement> Backend<P> {
    pub(super) fn outline(&mut self) -> Result<enforcement::Outline, String> {
        match self {
            Self::Native(instance) => instance.outline(),
            Self::Sandboxed(remote) => remote.call("enforcement.start", &NONE),
        }
    }

    pub(super) fn plan(
        &mut self,
        view: enforcement::View,
    ) -> Result<enforcement::Proposal, String> {
        call!(self, "enforcement.plan", (view), plan(view))
    }
}

impl<P: Scanning> Backend<P> {
    pub(super) fn scan_outline(&mut self) -> Result<scanning::Outline, String> {
        match self {
            Self::Native(instance) => instance.scan_outline(),
            Self::Sandboxed(remote) => remote.call("scanning.start", &NONE),
        }
    }

    pub(super) fn begin(&mut self, kind: scanning::ScanKind) -> Result<(), String> {
        call!(self, "scanning.begin", (kind), begin(kind))
    }

    pub(super) fn scan(
        &mut self,
        batch: scanning::Batch,
    ) -> Result<Vec<scanning::Finding>, String> {
        call!(self, "scanning.scan", (batch), scan(batch))
    }

    pub(super) fn end(&mut self, complete: bool) -> Result<Vec<scanning::Finding>, String> {
        call!(self, "scanning.end", (complete), end(complete))
    }

    pub(super) fn assess(
        &mut self,
        view: scanning::View,
    ) -> Result<Vec<scanning::Finding>, String> {
        call!(self, "scanning.assess", (view), assess(view))
    }
}
