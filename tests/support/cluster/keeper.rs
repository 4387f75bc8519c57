//! Starts processes that end with the test's.

use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};

type Order = (Command, Sender<std::io::Result<Child>>);

/// A thread that starts processes and lives as long as they shall: the kernel ends them with the
/// thread that started them, and those of tests are short-lived.
pub struct Keeper(Sender<Order>);

impl Keeper {
    pub fn start() -> Self {
        let (sender, orders) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                let _ = answer.send(command.spawn());
            }
        });
        Self(sender)
    }

    pub fn spawn(&self, command: Command) -> Child {
        let what = format!("{command:?}");
        let (answer, child) = channel();
        self.0.send((command, answer)).unwrap();
        let child = child.recv().unwrap();
        child.unwrap_or_else(|error| panic!("{what}: {error}; is util-linux installed?"))
    }
}
