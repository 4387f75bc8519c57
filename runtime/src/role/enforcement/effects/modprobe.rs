//! Runs the node's own modprobe(8), which knows its modules and its configuration. Where the node's root
//! is not the daemon's, in a child of this very executable that goes there first.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::error::Error;
use super::place::Tree;

/// The command line's word for the child; not for people.
pub(crate) const COMMAND: &str = "run-modprobe";
/// How long it may take: some drivers look for their devices first.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it is waited for once it was killed: in the middle of a system call it does not end.
const DYING: Duration = Duration::from_secs(2);
/// What is read of what it says.
const MAX_SAID: usize = 4096;
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
    patience: Duration,
}

impl Modprobe {
    pub(super) fn new(executable: PathBuf) -> Self {
        Self {
            executable,
            patience: PATIENCE,
        }
    }

    /// Loads the module, or removes it.
    pub(super) fn run(&self, tree: &Tree, name: &str, load: bool) -> Result<(), Error> {
        let what = if load { "loaded" } else { "removed" };
        let failed = |problem: String| Error::KernelModule {
            name: name.to_owned(),
            what,
            problem,
        };
        let mut child = Command::new(&self.executable)
            .arg(COMMAND)
            .arg(tree.path())
            .arg(name)
            .args((!load).then_some("--remove"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // With what its configuration has it run.
            .process_group(0)
            .spawn()
            .map_err(|error| failed(format!("cannot start modprobe: {error}")))?;
        let mut said = Vec::new();
        let status = match wait(&mut child, self.patience, &mut said) {
            Ok(Some(status)) => status,
            Ok(None) => {
                kill(child);
                return Err(failed(format!(
                    "modprobe had not ended after {} s and was killed; see the node's kernel log (dmesg), and `install` in its configuration of modprobe",
                    self.patience.as_secs()
                )));
            }
            Err(error) => {
                kill(child);
                return Err(failed(format!("cannot wait for modprobe: {error}")));
            }
        };
        if status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&said);
        let said: String = said.trim().chars().take(1000).collect();
        match said.is_empty() {
            true => Err(failed(format!("modprobe ended with {status}"))),
            false => Err(failed(said)),
        }
    }
}

/// Waits for a child to end, and takes what it says meanwhile. None if it does not in time.
fn wait(
    child: &mut Child,
    patience: Duration,
    said: &mut Vec<u8>,
) -> io::Result<Option<ExitStatus>> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut pipe = child.stderr.take();
    if let Some(pipe) = &pipe {
        rustix::io::ioctl_fionbio(pipe, true)?;
    }
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let of_process = PollFd::new(&process, PollFlags::IN);
        let of_pipe = (pipe.as_ref()).map(|pipe| PollFd::new(pipe, PollFlags::IN));
        let mut watched: Vec<PollFd<'_>> = [of_process].into_iter().chain(of_pipe).collect();
        match poll(&mut watched, Some(&left)) {
            Err(Errno::INTR) => continue,
            polled => polled?,
        };
        let has_ended = (watched.first()).is_some_and(|it| !it.revents().is_empty());
        if let Some(open) = &mut pipe
            && !take(open, said)?
        {
            pipe = None;
        }
        if has_ended {
            return child.wait().map(Some);
        }
    }
}

/// Takes what is in a pipe. Whether there may be more later.
fn take(pipe: &mut ChildStderr, said: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = [0; MAX_SAID];
    match pipe.read(&mut piece) {
        Ok(0) => Ok(false),
        Ok(count) => {
            let room = MAX_SAID.saturating_sub(said.len()).min(count);
            said.extend_from_slice(piece.get(..room).unwrap_or_default());
            Ok(true)
        }
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(true),
            _ => Err(error),
        },
    }
}

/// Kills a child with all that it has started. One that does not end soon is waited for by a thread of its
/// own.
fn kill(mut child: Child) {
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    match wait(&mut child, DYING, &mut Vec::new()) {
        Ok(Some(_)) => {}
        _ => {
            std::thread::spawn(move || child.wait());
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::sandbox::NodeFolders;

    #[test]
    fn one_that_hangs_is_killed_and_reaped() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let script = format!(
            "#!/bin/sh\necho $$ > {:?}\necho hm >&2\nexec /bin/sleep 600\n",
            at("pid")
        );
        fs::write(at("script"), script).unwrap();
        fs::set_permissions(at("script"), fs::Permissions::from_mode(0o755)).unwrap();
        let tree = Tree::open(&NodeFolders {
            root: folder.path().into(),
            private: [].into(),
        });
        let modprobe = Modprobe {
            executable: at("script"),
            patience: Duration::from_secs(2),
        };
        let error = modprobe.run(&tree.unwrap(), "dummy", true).unwrap_err();
        assert!(error.to_string().contains("after 2 s"), "{error}");
        let pid = fs::read_to_string(at("pid")).unwrap();
        let process = Path::new("/proc").join(pid.trim());
        assert!(!process.exists(), "{process:?}");
    }
}
