//! Work on what a plugin brings that could take the daemon with it, in a process of its own: what it takes of memory is
//! gone with it, which allocators would keep, and whatever hostile input does to it (memory, stack, a bug) does not
//! reach the node's plugins.
//!
//! The child is this very executable, gets the input on its standard input and nothing else, may not have more memory
//! than nobody else has when it starts, and is the first to be killed when it runs out all the same.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit};

use crate::{allocator, cgroup};

/// How many bytes of memory the child may have.
const MEMORY: &str = "BULKHEAD_CHILD_MEMORY";
/// What of the free memory is left to others meanwhile, at least: the kernel's own, and guests that grow.
const RESERVE: u64 = 16 << 20;
/// Each of its threads takes of its memory: more of them hardly help with what is not huge.
const THREADS: usize = 8;
/// Held by who has something done: each child is given most of the memory that is free.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// Exit codes of the child beside 0.
const INVALID: u8 = 1;
const BROKEN: u8 = 2;
const LATE: i32 = 3;
const NO_MEMORY: u8 = 4;

/// A kind of work.
#[derive(Debug)]
pub(crate) struct Work {
    /// The command line's word for the child; not for people.
    pub(crate) command: &'static str,
    /// Who does it, in messages: "the compiler".
    pub(crate) worker: &'static str,
    /// What should be smaller if it takes too much: "the module".
    pub(crate) input: &'static str,
    /// Bytes of memory without which it is not even started.
    pub(crate) least_memory: u64,
    /// The child ends itself after this long.
    pub(crate) deadline: Duration,
}

/// Why there is no result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The child's verdict about its input.
    Invalid(String),
    /// The child did not get to the end with this input.
    Failed(String),
    /// The node did not let it finish; another try may succeed.
    Interrupted(String),
}

/// Why the child has no result.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Its verdict about the input.
    Invalid(String),
    /// Its memory ran out.
    Memory(String),
    /// Something else than the input.
    Broken(String),
}

impl Work {
    /// Has it done. Waits for the child, so not for async code.
    ///
    /// # Errors
    /// If there is no result.
    pub(crate) fn ask(&self, input: &[u8]) -> Result<Vec<u8>, Ended> {
        let failed = |what: &str| {
            let what = format!("cannot {what} {}", self.worker);
            move |error: io::Error| Ended::Interrupted(format!("{what}: {error}"))
        };
        let threads = std::thread::available_parallelism().map_or(1, |it| it.get().min(THREADS));
        let _one_at_a_time = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // Not a path: it still names this executable when a newer one has taken its place.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg(self.command)
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env(allocator::SETTINGS, allocator::OF_A_CHILD);
        // Kubernetes and systemd may end all of a cgroup if its memory runs out: memory.oom.group.
        if let Some(free) = cgroup::memory_free() {
            let memory = self
                .share(free, input.len() as u64)
                .ok_or_else(|| self.no_memory())?;
            command.env(MEMORY, memory.to_string());
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed("start"))?;
        // The child reads all of its input before it writes anything, so nobody waits for the other. A
        // child that ended early says why below.
        if let Some(mut to) = child.stdin.take() {
            let _ = to.write_all(input);
        }
        let output = child.wait_with_output().map_err(failed("wait for"))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.code() == Some(INVALID.into()) {
            return Err(Ended::Invalid(said));
        }
        Err(self.verdict(output.status, &said))
    }

    fn no_memory(&self) -> Ended {
        Ended::Interrupted(format!(
            "{} needs more memory than is free: raise the daemon's memory limit, or make {} smaller; it is tried again",
            self.worker, self.input
        ))
    }

    /// Why the child did not do it.
    fn verdict(&self, status: ExitStatus, said: &str) -> Ended {
        // As the standard library, and what starts threads, say it.
        let words = [
            "memory allocation of ",
            "out of memory",
            "spawn thread",
            "thread pool",
        ];
        let gave_up = status.signal() == Some(6) || status.code() == Some(101);
        if status.code() == Some(NO_MEMORY.into())
            || (gave_up && words.iter().any(|it| said.contains(it)))
        {
            return self.no_memory();
        }
        let message = self.explain(status, said);
        match status.signal() {
            // From outside: whoever needed memory, or an operator.
            Some(9 | 15) => Ended::Interrupted(message),
            _ => Ended::Failed(message),
        }
    }

    fn explain(&self, status: ExitStatus, said: &str) -> String {
        let (worker, input) = (self.worker, self.input);
        if status.code() == Some(LATE) {
            let seconds = self.deadline.as_secs();
            return format!("{worker} took longer than {seconds} s; make {input} smaller");
        }
        let how = match (status.signal(), status.code()) {
            (Some(9), _) => format!(
                "was killed, perhaps because memory ran out: raise the daemon's memory limit or make {input} smaller"
            ),
            (Some(signal), _) => format!("ended by signal {signal}"),
            (None, code) => format!("ended with status {}", code.unwrap_or(-1)),
        };
        if said.is_empty() {
            return format!("{worker} {how}");
        }
        format!("{worker} {how}; it said: {said}")
    }

    /// What of the free memory the child may have, if that is enough to try. What it gives comes to this process, too.
    fn share(&self, free: u64, input: u64) -> Option<u64> {
        let reserve = RESERVE.max(free / 8) + input.saturating_mul(3);
        let memory = free.saturating_sub(reserve);
        (memory >= self.least_memory).then_some(memory)
    }

    /// The child: input in, result out.
    pub(crate) fn serve(&self, work: impl FnOnce(&[u8]) -> Result<Vec<u8>, Refusal>) -> ExitCode {
        // Should the daemon end, nobody waits for the result.
        let parent_gone = Some(rustix::process::Signal::KILL);
        let _ = rustix::process::set_parent_process_death_signal(parent_gone);
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        let _ = rustix::process::nice(5);
        limit_memory();
        let deadline = self.deadline;
        std::thread::spawn(move || {
            std::thread::sleep(deadline);
            std::process::exit(LATE);
        });
        let mut input = Vec::new();
        let read = io::stdin().read_to_end(&mut input);
        let result = read
            .map_err(|error| match error.kind() {
                io::ErrorKind::OutOfMemory => Refusal::Memory(error.to_string()),
                _ => Refusal::Broken(format!("cannot read the input: {error}")),
            })
            .and_then(|_| work(&input))
            .and_then(|output| {
                let written = io::stdout().write_all(&output);
                written
                    .map_err(|error| Refusal::Broken(format!("cannot write the result: {error}")))
            });
        let (code, message) = match result {
            Ok(()) => return ExitCode::SUCCESS,
            Err(Refusal::Invalid(message)) => (INVALID, message),
            Err(Refusal::Memory(message)) => (NO_MEMORY, message),
            Err(Refusal::Broken(message)) => (BROKEN, message),
        };
        let _ = write!(io::stderr(), "{message}");
        ExitCode::from(code)
    }
}

/// Takes no more than it is told, beside what it has: getrlimit(2), `RLIMIT_DATA`, which what jemalloc sets aside
/// for itself, some MiB, counts towards.
fn limit_memory() {
    let told = std::env::var(MEMORY).ok();
    let Some(memory) = told.and_then(|text| text.parse::<u64>().ok()) else {
        return;
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = status.lines().find_map(|line| {
        let text = line.strip_prefix("VmData:")?.trim().strip_suffix("kB")?;
        text.trim().parse::<u64>().ok()
    });
    let most = memory.saturating_add(kibibytes.unwrap_or(0) << 10);
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    let _ = rustix::process::setrlimit(Resource::Data, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = Work {
        command: "none",
        worker: "the compiler",
        input: "the module",
        least_memory: 32 << 20,
        deadline: Duration::from_secs(120),
    };

    #[test]
    fn a_child_leaves_memory_to_others() {
        const MIB: u64 = 1 << 20;
        assert_eq!(WORK.share(800 * MIB, 0), Some(700 * MIB));
        assert_eq!(WORK.share(100 * MIB, 2 * MIB), Some(78 * MIB));
        // Not enough to try.
        assert_eq!(WORK.share(47 * MIB, 0), None);
        assert_eq!(WORK.share(100 * MIB, 40 * MIB), None);
    }

    #[test]
    fn input_is_not_refused_because_memory_ran_out() {
        let ends = |status: i32, said: &str| WORK.verdict(ExitStatus::from_raw(status), said);
        let code = |code: i32| code << 8;
        for (status, said) in [
            (6, "memory allocation of 1234 bytes failed"),
            (code(101), "failed to spawn thread: Os { code: 11 }"),
            (code(101), "unhandled out-of-memory error: out of memory"),
            (code(NO_MEMORY.into()), "out of memory"),
            (9, ""),
        ] {
            let verdict = ends(status, said);
            assert!(
                matches!(verdict, Ended::Interrupted(_)),
                "{said}: {verdict:?}"
            );
        }
        for (status, said) in [
            (code(101), "thread 'main' panicked: index out of bounds"),
            (11, ""),
            (code(LATE), ""),
        ] {
            let verdict = ends(status, said);
            assert!(matches!(verdict, Ended::Failed(_)), "{said}: {verdict:?}");
        }
    }
}
