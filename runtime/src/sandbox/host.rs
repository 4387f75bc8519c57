//! What lives in a guest's store, and the host functions of the contract.
//!
//! Host functions check everything that the guest passes and never block the runtime.

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bindings::plugin::bulkhead::plugin::{log, node, node_stats, state};
use super::journal::Journal;
use super::kernel::{self, Kernel};
use super::limits::{CpuLimit, MemoryLimit};
use super::stdio::Output;
use super::tap::Listening;
use crate::manifest::LogLevel;

/// A plugin's durable key-value store, as the host functions use it. Calls may block briefly.
pub trait KeyValue: Send + Sync + 'static {
    /// The value of `key`.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError>;
    /// Sets `key`, or deletes it if `value` is `None`. `quota` is in bytes of keys and values
    /// together; it comes with each call because revisions with different grants share the store.
    ///
    /// # Errors
    /// If that would pass the quota, or the store cannot be read.
    fn put(&self, key: String, value: Option<Vec<u8>>, quota: u64) -> Result<(), KeyValueError>;
    /// At most `limit` keys that start with `prefix`, in order.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn list(&self, prefix: &str, limit: usize) -> Result<Vec<String>, KeyValueError>;
}

/// Why a key-value call failed.
#[derive(Debug, thiserror::Error)]
pub enum KeyValueError {
    /// The write would pass the quota, in bytes.
    #[error("over the quota of {0} bytes")]
    OverQuota(u64),
    /// The store could not be read.
    #[error("{0}")]
    Unavailable(String),
}

impl From<KeyValueError> for state::Error {
    fn from(error: KeyValueError) -> Self {
        match error {
            KeyValueError::OverQuota(quota) => Self::OverQuota(quota),
            KeyValueError::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

/// Facts about the node by name, as `bulkhead:plugin/node` documents them.
pub type Facts = Vec<(String, String)>;

/// A guest's store data.
pub struct Host {
    pub(super) wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) memory: MemoryLimit,
    pub(super) cpu: CpuLimit,
    pub(super) stderr: Output,
    pub(super) journal: Journal,
    pub(super) state: Option<Arc<dyn KeyValue>>,
    pub(super) quota: u64,
    pub(super) facts: Arc<Facts>,
    pub(super) kernel: Kernel,
    pub(super) listening: Listening,
}

impl Host {
    /// What the call is made with, a tuple: for whoever listens.
    pub fn called_with(&mut self, arguments: &impl serde::Serialize) {
        self.listening.arguments(arguments);
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl log::Host for Host {
    async fn write(
        &mut self,
        level: log::Level,
        target: String,
        message: String,
        fields: String,
    ) -> wasmtime::Result<()> {
        self.listening
            .imported("log.write", &(level, &target, &message, &fields), &());
        let level = match level {
            log::Level::Trace => LogLevel::Trace,
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        self.journal.write(level, &target, message, fields);
        Ok(())
    }

    async fn least_level(&mut self) -> wasmtime::Result<log::Level> {
        let least = match self.journal.least() {
            LogLevel::Trace => log::Level::Trace,
            LogLevel::Debug => log::Level::Debug,
            LogLevel::Info => log::Level::Info,
            LogLevel::Warn => log::Level::Warn,
            LogLevel::Error => log::Level::Error,
        };
        self.listening.imported("log.least-level", &(), &least);
        Ok(least)
    }
}

/// The longest key, in bytes.
const KEY_BYTES: usize = 512;
/// The most keys that one call lists.
const KEYS_LISTED: usize = 1000;

impl Host {
    /// Runs `call` on the plugin's store on a thread that may block.
    async fn on_state<R: Send + 'static>(
        &mut self,
        call: impl FnOnce(&dyn KeyValue) -> Result<R, KeyValueError> + Send + 'static,
    ) -> wasmtime::Result<Result<R, state::Error>> {
        let Some(state) = self.state.clone() else {
            // Not linked without the grant; said plainly all the same.
            return Ok(Err(state::Error::Unavailable("not granted".into())));
        };
        let answer = tokio::task::spawn_blocking(move || call(&*state)).await?;
        Ok(answer.map_err(Into::into))
    }
}

fn valid_key(key: &str) -> Result<(), state::Error> {
    if key.is_empty() || key.len() > KEY_BYTES {
        return Err(state::Error::InvalidKey);
    }
    Ok(())
}

impl state::Host for Host {
    async fn get(
        &mut self,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, state::Error>> {
        let asked = self.listening.copy(&key);
        let answer = match valid_key(&key) {
            Ok(()) => self.on_state(move |state| state.get(&key)).await?,
            Err(error) => Err(error),
        };
        self.listening.imported("state.get", &(asked,), &answer);
        Ok(answer)
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), state::Error>> {
        let quota = self.quota;
        let asked = (self.listening.copy(&key), self.listening.copy(&value));
        let answer = match valid_key(&key) {
            Ok(()) => {
                self.on_state(move |state| state.put(key, Some(value), quota))
                    .await?
            }
            Err(error) => Err(error),
        };
        self.listening.imported("state.set", &asked, &answer);
        Ok(answer)
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), state::Error>> {
        let quota = self.quota;
        let asked = self.listening.copy(&key);
        let answer = match valid_key(&key) {
            Ok(()) => {
                self.on_state(move |state| state.put(key, None, quota))
                    .await?
            }
            Err(error) => Err(error),
        };
        self.listening.imported("state.delete", &(asked,), &answer);
        Ok(answer)
    }

    async fn list_keys(
        &mut self,
        prefix: String,
    ) -> wasmtime::Result<Result<Vec<String>, state::Error>> {
        let asked = self.listening.copy(&prefix);
        let answer = self
            .on_state(move |state| state.list(&prefix, KEYS_LISTED))
            .await?;
        self.listening
            .imported("state.list-keys", &(asked,), &answer);
        Ok(answer)
    }
}

impl node::Host for Host {
    async fn facts(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let facts = Facts::clone(&self.facts);
        self.listening.imported("node.facts", &(), &facts);
        Ok(facts)
    }
}

impl node_stats::Host for Host {
    async fn filesystems(
        &mut self,
        mount_points: Vec<String>,
    ) -> wasmtime::Result<Vec<Result<node_stats::Filesystem, String>>> {
        let asked = self.listening.copy(&mount_points);
        let answer = self.kernel.filesystems(mount_points).await;
        self.listening
            .imported("node-stats.filesystems", &(asked,), &answer);
        Ok(answer)
    }

    async fn read_clock(&mut self) -> wasmtime::Result<Result<node_stats::Clock, String>> {
        let answer = kernel::clock();
        self.listening
            .imported("node-stats.read-clock", &(), &answer);
        Ok(answer)
    }

    async fn read_system_name(&mut self) -> wasmtime::Result<node_stats::SystemName> {
        let answer = kernel::system_name();
        self.listening
            .imported("node-stats.read-system-name", &(), &answer);
        Ok(answer)
    }

    async fn read_time_zone(&mut self) -> wasmtime::Result<(String, i32)> {
        let answer = self.kernel.time_zone().await;
        self.listening
            .imported("node-stats.read-time-zone", &(), &answer);
        Ok(answer)
    }
}

/// Which of the contract's imports are linked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Granted {
    pub(super) state: bool,
    pub(super) node_facts: bool,
    pub(super) node_stats: bool,
}

/// Links WASI alone.
pub(super) fn link_wasi(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

/// Links WASI, with nothing behind files and sockets unless granted, and the granted imports.
pub(super) fn link(linker: &mut Linker<Host>, granted: Granted) -> wasmtime::Result<()> {
    link_wasi(linker)?;
    log::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    if granted.state {
        state::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    }
    if granted.node_facts {
        node::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    }
    if granted.node_stats {
        node_stats::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    }
    #[cfg(feature = "test-faults")]
    linker.instance("bulkhead:test/faults@0.1.0")?.func_wrap(
        "kill",
        |_, (): ()| -> wasmtime::Result<()> {
            rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            )?;
            Ok(())
        },
    )?;
    Ok(())
}
