//! A connection to the node's systemd over D-Bus, made when it is needed and kept for one look or one batch
//! of changes. Blocks, on a small runtime of its own.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;
use zbus::connection::Builder;
use zbus::zvariant::{DynamicType, Type};
use zbus::{Connection, Message};

use super::error::Error;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// The longest that connecting takes, or one call.
const PATIENCE: Duration = Duration::from_secs(25);

/// Where systemd is, and the connection once there is one.
pub(super) struct Bus<'a> {
    /// The bus's sockets, in the order in which they are tried.
    sockets: &'a [PathBuf],
    session: Option<Session>,
}

/// An open connection.
pub(super) struct Session {
    // Before the runtime, so that it is dropped first.
    pub(super) connection: Connection,
    runtime: Runtime,
}

impl<'a> Bus<'a> {
    pub(super) fn new(sockets: &'a [PathBuf]) -> Self {
        let session = None;
        Self { sockets, session }
    }

    /// The connection.
    pub(super) fn session(&mut self) -> Result<&Session, Error> {
        let session = match self.session.take() {
            Some(session) if !session.connection.is_closed() => session,
            _ => Session::open(self.sockets)?,
        };
        Ok(self.session.insert(session))
    }
}

impl Session {
    fn open(sockets: &[PathBuf]) -> Result<Self, Error> {
        let shown: Vec<String> = sockets.iter().map(|it| it.display().to_string()).collect();
        let away = |problem: &dyn Display| Error::NoBus {
            address: shown.join(" and "),
            problem: problem.to_string(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| away(&error))?;
        let connecting = async {
            let mut last = None;
            for socket in sockets {
                match std::os::unix::net::UnixStream::connect(socket) {
                    Ok(stream) => {
                        let builder = Builder::unix_stream(stream).method_timeout(PATIENCE);
                        return builder.build().await.map_err(|error| away(&explain(error)));
                    }
                    Err(error) => last = Some(error),
                }
            }
            Err(match last {
                Some(error) => away(&error),
                None => away(&"no socket is known"),
            })
        };
        let connection = runtime
            .block_on(async { tokio::time::timeout(PATIENCE, connecting).await })
            .unwrap_or_else(|_| Err(away(&"no answer")))?;
        Ok(Self {
            connection,
            runtime,
        })
    }

    /// Runs something that uses the connection.
    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Calls a method of systemd's manager.
    pub(super) async fn call<B, R>(&self, method: &str, body: &B) -> Result<R, String>
    where
        B: Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        self.call_at(MANAGER_PATH, MANAGER, method, body).await
    }

    /// Calls a method of one of systemd's objects.
    pub(super) async fn call_at<B, R>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<R, String>
    where
        B: Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        let answer: Message = self
            .connection
            .call_method(Some(SYSTEMD), path, Some(interface), method, body)
            .await
            .map_err(explain)?;
        let body = answer.body();
        body.deserialize().map_err(explain)
    }
}

/// What systemd said, or what happened on the way.
fn explain(error: zbus::Error) -> String {
    match error {
        zbus::Error::MethodError(_, Some(message), _) => message,
        error => error.to_string(),
    }
}
