//! Runs the node's own modprobe(8), which knows its modules and its configuration. Where the node's root
//! is not the daemon's, in a child of this very executable that goes there first.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use super::error::Error;
use super::place::Tree;

/// The command line's word for the child; not for people.
pub(crate) const COMMAND: &str = "run-modprobe";
/// Where a node has it.
const PLACES: [&str; 4] = [
    "/usr/sbin/modprobe",
    "/sbin/modprobe",
    "/usr/bin/modprobe",
    "/bin/modprobe",
];

/// Starts the child.
#[derive(Debug)]
pub(super) struct Modprobe {
    /// What knows [`COMMAND`].
    executable: PathBuf,
}

impl Modprobe {
    pub(super) fn new(executable: PathBuf) -> Self {
        Self { executable }
    }

    /// Loads the module, or removes it.
    pub(super) fn run(&self, tree: &Tree, name: &str, load: bool) -> Result<(), Error> {
        let what = if load { "loaded" } else { "removed" };
        let failed = |problem: String| Error::KernelModule {
            name: name.to_owned(),
            what,
            problem,
        };
        let output = Command::new(&self.executable)
            .arg(COMMAND)
            .arg(tree.path())
            .arg(name)
            .args((!load).then_some("--remove"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .map_err(|error| failed(format!("cannot start modprobe: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String = said.trim().chars().take(1000).collect();
        match said.is_empty() {
            true => Err(failed(format!("modprobe ended with {}", output.status))),
            false => Err(failed(said)),
        }
    }
}

/// The child: `ROOT NAME [--remove]`.
pub(crate) fn child(arguments: &[OsString]) -> ExitCode {
    let Err(error) = become_modprobe(arguments);
    let _ = writeln!(io::stderr(), "{error}");
    ExitCode::FAILURE
}

/// Returns only if that failed.
fn become_modprobe(arguments: &[OsString]) -> io::Result<std::convert::Infallible> {
    let [root, name, rest @ ..] = arguments else {
        return Err(io::Error::other("usage: run-modprobe ROOT NAME [--remove]"));
    };
    if Path::new(root) != Path::new("/") {
        rustix::process::chroot(Path::new(root))?;
        rustix::process::chdir("/")?;
    }
    let mut last = io::Error::other("the node has no modprobe; install kmod there");
    for place in PLACES {
        let error = Command::new(place)
            .args(rest)
            .arg("--")
            .arg(name)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .exec();
        if error.kind() != io::ErrorKind::NotFound {
            last = error;
        }
    }
    Err(last)
}
