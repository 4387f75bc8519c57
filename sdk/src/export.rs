//! `export!`: makes a component of a plugin. What the macro expands to is as small as the orphan
//! rules allow; the work is in functions here.

use std::rc::Rc;

use crate::bindings::enforcement::exports::bulkhead::plugin::enforcement;
use crate::bindings::lifecycle::exports::bulkhead::plugin::lifecycle as raw;
use crate::bindings::logs::exports::bulkhead::plugin::logs;
use crate::bindings::metrics::exports::bulkhead::plugin::metrics;
use crate::bindings::scanning::exports::bulkhead::plugin::scanning;
use crate::enforcement::{self as enforcing, Enforcement, Names, Plan};
use crate::error::Error;
use crate::logs::{Batch, Logs, Output};
use crate::metrics::{Collector, Families, Metrics, View};
use crate::plugin::{Plugin, Snapshot, config_schema, configure};
use crate::scanning::{self as judging, Findings, Scanning};

/// Exports a plugin with its roles. Once in a crate of type `cdylib`:
///
/// ```
/// # use bulkhead_sdk::{Batch, Logs, NoConfig, Output, Plugin, Result};
/// # struct KeepAll;
/// # impl Plugin for KeepAll {
/// #     type Config = NoConfig;
/// #     fn new(_: NoConfig) -> Result<Self> { Ok(KeepAll) }
/// # }
/// # impl Logs for KeepAll {
/// #     fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
/// #         out.keep_all(batch);
/// #         Ok(())
/// #     }
/// # }
/// bulkhead_sdk::export!(KeepAll: Logs);
/// ```
///
/// The component has the crate's name and version, and the schema of the plugin's configuration.
/// Compiled natively, it only checks that the plugin has the roles.
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($role:ident),+ $(,)?) => {
        const _: () = {
            // Named even where there is no sandbox, so that a missing trait shows in native tests.
            $($crate::__export_role!(check $role $plugin);)+

            #[cfg(target_arch = "wasm32")]
            struct Component;

            #[cfg(target_arch = "wasm32")]
            ::std::thread_local! {
                static INSTANCE: ::std::cell::RefCell<$crate::__private::Instance<$plugin>> =
                    ::std::cell::RefCell::default();
            }

            #[cfg(target_arch = "wasm32")]
            impl $crate::__private::lifecycle::Guest for Component {
                fn describe() -> $crate::__private::lifecycle::Description {
                    $crate::__private::describe::<$plugin>(
                        ::std::env!("CARGO_PKG_NAME"),
                        ::std::env!("CARGO_PKG_VERSION"),
                    )
                }
                fn init(
                    config: ::std::string::String,
                ) -> ::std::result::Result<(), $crate::__private::lifecycle::Refusal> {
                    INSTANCE.with_borrow_mut(|instance| instance.init(&config))
                }
                fn snapshot() -> ::std::option::Option<$crate::__private::lifecycle::SnapshotData> {
                    INSTANCE.with_borrow_mut(|instance| instance.snapshot())
                }
                fn restore(
                    snapshot: $crate::__private::lifecycle::SnapshotData,
                ) -> ::std::result::Result<(), $crate::__private::lifecycle::Refusal> {
                    INSTANCE.with_borrow_mut(|instance| instance.restore(snapshot))
                }
            }

            #[cfg(target_arch = "wasm32")]
            $crate::__private::bindings::lifecycle::export_lifecycle!(
                Component with_types_in $crate::__private::bindings::lifecycle
            );

            $(
                #[cfg(target_arch = "wasm32")]
                $crate::__export_role!(export $role Component INSTANCE);
            )+
        };
    };
}

/// One pair of arms for each role.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_role {
    (check Logs $plugin:ty) => {
        const _: fn() = $crate::__private::is_logs::<$plugin>;
    };
    (export Logs $component:ident $instance:ident) => {
        impl $crate::__private::logs::Guest for $component {
            fn start(
                destinations: ::std::vec::Vec<::std::string::String>,
            ) -> ::std::result::Result<(), ::std::string::String> {
                $instance.with_borrow_mut(|instance| instance.start(&destinations))
            }
            fn process(
                batch: $crate::__private::logs::Batch,
            ) -> ::std::result::Result<$crate::__private::logs::Verdict, ::std::string::String> {
                $instance.with_borrow_mut(|instance| instance.process(batch))
            }
        }
        $crate::__private::bindings::logs::export_logs!(
            $component with_types_in $crate::__private::bindings::logs
        );
    };
    (check Metrics $plugin:ty) => {
        const _: fn() = $crate::__private::is_metrics::<$plugin>;
    };
    (export Metrics $component:ident $instance:ident) => {
        impl $crate::__private::metrics::Guest for $component {
            fn start() -> ::std::result::Result<
                ::std::vec::Vec<$crate::__private::metrics::Collector>,
                ::std::string::String,
            > {
                $instance.with_borrow_mut(|instance| instance.collectors())
            }
            fn collect(
                collector: ::std::primitive::u32,
                view: $crate::__private::metrics::View,
            ) -> ::std::result::Result<$crate::__private::metrics::Families, ::std::string::String>
            {
                $instance.with_borrow_mut(|instance| instance.collect(collector, view))
            }
        }
        $crate::__private::bindings::metrics::export_metrics!(
            $component with_types_in $crate::__private::bindings::metrics
        );
    };
    (check Enforcement $plugin:ty) => {
        const _: fn() = $crate::__private::is_enforcement::<$plugin>;
    };
    (export Enforcement $component:ident $instance:ident) => {
        impl $crate::__private::enforcement::Guest for $component {
            fn start() -> ::std::result::Result<
                $crate::__private::enforcement::Outline,
                ::std::string::String,
            > {
                $instance.with_borrow_mut(|instance| instance.outline())
            }
            fn plan(
                view: $crate::__private::enforcement::View,
            ) -> ::std::result::Result<$crate::__private::enforcement::Proposal, ::std::string::String>
            {
                $instance.with_borrow_mut(|instance| instance.plan(view))
            }
        }
        $crate::__private::bindings::enforcement::export_enforcement!(
            $component with_types_in $crate::__private::bindings::enforcement
        );
    };
    (check Scanning $plugin:ty) => {
        const _: fn() = $crate::__private::is_scanning::<$plugin>;
    };
    (export Scanning $component:ident $instance:ident) => {
        impl $crate::__private::scanning::Guest for $component {
            fn start() -> ::std::result::Result<
                $crate::__private::scanning::Outline,
                ::std::string::String,
            > {
                $instance.with_borrow_mut(|instance| instance.scan_outline())
            }
            fn begin(
                kind: $crate::__private::scanning::ScanKind,
            ) -> ::std::result::Result<(), ::std::string::String> {
                $instance.with_borrow_mut(|instance| instance.begin(kind))
            }
            fn scan(
                batch: $crate::__private::scanning::Batch,
            ) -> ::std::result::Result<
                ::std::vec::Vec<$crate::__private::scanning::Finding>,
                ::std::string::String,
            > {
                $instance.with_borrow_mut(|instance| instance.scan(batch))
            }
            fn end(
                complete: ::std::primitive::bool,
            ) -> ::std::result::Result<
                ::std::vec::Vec<$crate::__private::scanning::Finding>,
                ::std::string::String,
            > {
                $instance.with_borrow_mut(|instance| instance.end(complete))
            }
            fn assess(
                view: $crate::__private::scanning::View,
            ) -> ::std::result::Result<
                ::std::vec::Vec<$crate::__private::scanning::Finding>,
                ::std::string::String,
            > {
                $instance.with_borrow_mut(|instance| instance.assess(view))
            }
        }
        $crate::__private::bindings::scanning::export_scanning!(
            $component with_types_in $crate::__private::bindings::scanning
        );
    };
    ($what:ident $role:ident $($rest:tt)*) => {
        ::std::compile_error!(::std::concat!(
            "`", ::std::stringify!($role), "` is not a role; a plugin may have: Logs, Metrics, Enforcement, Scanning"
        ));
    };
}

/// The one instance of a plugin in its component.
#[derive(Debug)]
pub struct Instance<P> {
    plugin: Option<P>,
    output: Output,
    families: Families,
    /// What the plugin wants to see, by name.
    names: Rc<Names>,
    scan_names: Rc<judging::Names>,
    /// Findings of a file whose last piece is still to come.
    held: Vec<scanning::Finding>,
}

impl<P> Default for Instance<P> {
    fn default() -> Self {
        Self {
            plugin: None,
            output: Output::default(),
            families: Families::default(),
            names: Rc::default(),
            scan_names: Rc::default(),
            held: Vec::new(),
        }
    }
}

/// The answer to `describe`.
pub fn describe<P: Plugin>(name: &str, version: &str) -> raw::Description {
    raw::Description {
        name: name.to_owned(),
        version: version.to_owned(),
        config_schema: config_schema::<P>(),
    }
}

/// Compiles for plugins with the role `logs`.
pub fn is_logs<P: Logs>() {}

/// Compiles for plugins with the role `metrics`.
pub fn is_metrics<P: Metrics>() {}

/// Compiles for plugins with the role `enforcement`.
pub fn is_enforcement<P: Enforcement>() {}

/// Compiles for plugins with the role `scanning`.
pub fn is_scanning<P: Scanning>() {}

fn refusal(error: Error) -> raw::Refusal {
    let (field, message) = error.into_parts();
    raw::Refusal { field, message }
}

fn not_initialised() -> Error {
    Error::new("called before `init` accepted a configuration")
}

impl<P: Plugin> Instance<P> {
    /// Makes the plugin.
    pub fn init(&mut self, config: &str) -> Result<(), raw::Refusal> {
        crate::log::lead_here();
        self.plugin = Some(configure(config).map_err(refusal)?);
        Ok(())
    }

    /// What the plugin wants to hand on.
    pub fn snapshot(&mut self) -> Option<raw::SnapshotData> {
        let Snapshot { version, data } = self.plugin.as_mut()?.snapshot()?;
        Some(raw::SnapshotData { version, data })
    }

    /// Hands a predecessor's state to the plugin.
    pub fn restore(&mut self, snapshot: raw::SnapshotData) -> Result<(), raw::Refusal> {
        let plugin = self
            .plugin
            .as_mut()
            .ok_or_else(|| refusal(not_initialised()))?;
        let raw::SnapshotData { version, data } = snapshot;
        plugin.restore(Snapshot { version, data }).map_err(refusal)
    }
}

impl<P: Logs> Instance<P> {
    /// Tells the plugin its destinations.
    pub fn start(&mut self, destinations: &[String]) -> Result<(), String> {
        let plugin = self
            .plugin
            .as_mut()
            .ok_or_else(|| not_initialised().to_string())?;
        plugin
            .start(destinations)
            .map_err(|error| error.to_string())
    }

    /// Asks the plugin about a batch.
    pub fn process(&mut self, batch: logs::Batch) -> Result<logs::Verdict, String> {
        let plugin = self
            .plugin
            .as_mut()
            .ok_or_else(|| not_initialised().to_string())?;
        let batch = Batch::from_raw(batch);
        plugin
            .process(&batch, &mut self.output)
            .and_then(|()| self.output.finish(batch.len()))
            .map_err(|error| {
                self.output.clear();
                error.to_string()
            })
    }
}

impl<P: Metrics> Instance<P> {
    /// Asks the plugin for its collectors.
    pub fn collectors(&mut self) -> Result<Vec<metrics::Collector>, String> {
        let plugin = self
            .plugin
            .as_mut()
            .ok_or_else(|| not_initialised().to_string())?;
        let collectors = plugin.collectors().map_err(|error| error.to_string())?;
        Ok(collectors.into_iter().map(Collector::into_raw).collect())
    }

    /// Runs one collector.
    pub fn collect(
        &mut self,
        collector: u32,
        view: metrics::View,
    ) -> Result<metrics::Families, String> {
        let plugin = self
            .plugin
            .as_mut()
            .ok_or_else(|| not_initialised().to_string())?;
        let view = View::from_raw(view);
        let collected = plugin.collect(collector as usize, &view, &mut self.families);
        // Taken in any case, so that nothing of a failed collector shows up in the next.
        let families = self.families.take();
        collected
            .map(|()| families)
            .map_err(|error| error.to_string())
    }
}

impl<P: Enforcement> Instance<P> {
    /// Asks the plugin what it is about.
    pub fn outline(&mut self) -> Result<enforcement::Outline, String> {
        let plugin = self
            .plugin
            .as_mut()
            .ok_or_else(|| not_initialised().to_string())?;
        let outline = plugin.outline().map_err(|error| error.to_string())?;
        let (raw, names) = outline.into_parts();
        self.names = Rc::new(names);
        Ok(raw)
    }

    /// Asks the plugin what should be changed.
    pub fn plan(&mut self, view: enforcement::View) -> Result<enforcement::Proposal, String> {
        let plugin = self
            .plugin
            .as_mut()
            .ok_or_else(|| not_initialised().to_string())?;
        let view = enforcing::View::new(view, Rc::clone(&self.names));
        let mut plan = Plan::default();
        plugin
            .plan(&view, &mut plan)
            .and_then(|()| plan.finish())
            .map_err(|error| error.to_string())
    }
}

impl<P: Scanning> Instance<P> {
    /// Asks the plugin what it is about.
    pub fn scan_outline(&mut self) -> Result<scanning::Outline, String> {
        let outline = self.scanner()?.outline();
        let (raw, names) = outline
            .and_then(judging::Outline::into_parts)
            .map_err(|error| error.to_string())?;
        self.scan_names = Rc::new(names);
        Ok(raw)
    }

    /// Tells the plugin that a pass begins.
    pub fn begin(&mut self, kind: scanning::ScanKind) -> Result<(), String> {
        self.scanner()?
            .begin(kind)
            .map_err(|error| error.to_string())
    }

    /// Asks the plugin about files.
    pub fn scan(&mut self, batch: scanning::Batch) -> Result<Vec<scanning::Finding>, String> {
        let batch = judging::Batch::new(batch, self.scan_names.digests);
        let mut findings = std::mem::take(&mut self.held);
        if batch.goes_on_from_last() {
            for held in &mut findings {
                held.subject = scanning::Subject::File(0);
            }
        } else {
            findings.clear();
        }
        findings.extend(self.find(|plugin, out| plugin.scan(&batch, out))?);
        if let Some(unfinished) = batch.unfinished() {
            self.held = findings
                .extract_if(.., |finding| {
                    matches!(finding.subject, scanning::Subject::File(it) if it == unfinished)
                })
                .collect();
        }
        Ok(findings)
    }

    /// Tells the plugin that a pass is over.
    pub fn end(&mut self, complete: bool) -> Result<Vec<scanning::Finding>, String> {
        self.find(|plugin, out| plugin.end(complete, out))
    }

    /// Asks the plugin about the node as it is.
    pub fn assess(&mut self, view: scanning::View) -> Result<Vec<scanning::Finding>, String> {
        let view = judging::View::new(view, Rc::clone(&self.scan_names));
        self.find(|plugin, out| plugin.assess(&view, out))
    }

    fn find(
        &mut self,
        ask: impl FnOnce(&mut P, &mut Findings) -> crate::Result<()>,
    ) -> Result<Vec<scanning::Finding>, String> {
        let mut findings = Findings::new(Rc::clone(&self.scan_names));
        ask(self.scanner()?, &mut findings)
            .and_then(|()| findings.finish())
            .map_err(|error| error.to_string())
    }

    fn scanner(&mut self) -> Result<&mut P, String> {
        let plugin = self.plugin.as_mut();
        plugin.ok_or_else(|| not_initialised().to_string())
    }
}
