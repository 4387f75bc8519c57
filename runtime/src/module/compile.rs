//! From a component's bytes to machine code.
//!
//! The daemon compiles in a process of its own: the compiler needs a hundred times the module's size
//! for a second, which allocators keep once they have it, and whatever a hostile module does to a
//! compiler (memory, stack, a bug) must not reach the node's plugins. The child is this very
//! executable, gets the bytes on its standard input and nothing else, may not have more memory than
//! nobody else has when it starts, and is the first to be killed when it runs out all the same.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit};
use wasmtime::Engine;

use crate::cgroup;
use crate::sandbox::Sandbox;

/// The command line's word for the child; not for people.
pub(crate) const COMMAND: &str = "compile-module";
/// How many bytes of memory the child may have.
const MEMORY: &str = "BULKHEAD_COMPILER_MEMORY";
/// With less than this it is not even started.
const LEAST_MEMORY: u64 = 32 << 20;
/// What of the free memory is left to others meanwhile, at least: the kernel's own, and guests that grow.
const RESERVE: u64 = 16 << 20;
/// Each of its threads takes of its memory: more of them hardly help a module that is not huge.
const THREADS: usize = 8;
/// The child ends itself after this long.
const DEADLINE: Duration = Duration::from_secs(120);
/// Exit codes of the child beside 0.
const INVALID: u8 = 1;
const BROKEN: u8 = 2;
const LATE: i32 = 3;
const NO_MEMORY: u8 = 4;

/// Where modules are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compiler {
    /// In a child process. Only for the `bulkhead` executable, which knows the child's command.
    Child,
    /// In this process: for one that ends soon.
    InProcess,
}

/// Why a module has no machine code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is not a valid component. The module must change.
    #[error("{0}")]
    Invalid(String),
    /// The compiler failed; the module may be too large for this node.
    #[error("{0}")]
    Failed(String),
    /// The node did not let the compiler finish; another try may succeed.
    #[error("{0}")]
    Interrupted(String),
}

impl Compiler {
    /// The component's machine code, as `Component::serialize` would give it. Takes about a
    /// millisecond per KiB, so not for async code.
    ///
    /// # Errors
    /// If the module is not a valid component, or the compiler fails.
    pub fn compile(self, engine: &Engine, module: &[u8]) -> Result<Vec<u8>, CompileError> {
        match self {
            Self::InProcess => engine
                .precompile_component(module)
                .map_err(|error| CompileError::Invalid(format!("{error:#}"))),
            Self::Child => in_child(module),
        }
    }
}

fn in_child(module: &[u8]) -> Result<Vec<u8>, CompileError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| CompileError::Interrupted(format!("{what}: {error}"))
    };
    let threads = std::thread::available_parallelism().map_or(1, |it| it.get().min(THREADS));
    // Not a path: it still names this executable when a newer one has taken its place.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(COMMAND)
        .env_clear()
        .env("RAYON_NUM_THREADS", threads.to_string())
        // What it may have is counted as it is taken, not as it is set aside.
        .env("MIMALLOC_ARENA_EAGER_COMMIT", "0");
    // Kubernetes and systemd may end all of a cgroup if its memory runs out: memory.oom.group.
    if let Some(free) = cgroup::memory_free() {
        let memory = share(free, module.len() as u64).ok_or_else(no_memory)?;
        command.env(MEMORY, memory.to_string());
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed("cannot start the compiler"))?;
    // The child reads all of its input before it writes anything, so nobody waits for the other. A
    // child that ended early says why below.
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(module);
    }
    let output = child
        .wait_with_output()
        .map_err(failed("cannot wait for the compiler"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.code() == Some(INVALID.into()) {
        return Err(CompileError::Invalid(said));
    }
    Err(verdict(output.status, &said))
}

/// What of the free memory the compiler may have, if that is enough to try. The code comes to this process, too.
fn share(free: u64, module: u64) -> Option<u64> {
    let reserve = RESERVE.max(free / 8) + module.saturating_mul(3);
    let memory = free.saturating_sub(reserve);
    (memory >= LEAST_MEMORY).then_some(memory)
}

fn no_memory() -> CompileError {
    CompileError::Interrupted(
        "the compiler needs more memory than is free: raise the daemon's memory limit, or make the module smaller; it is tried again".to_owned(),
    )
}

/// Why the child did not do it.
fn verdict(status: ExitStatus, said: &str) -> CompileError {
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
        return no_memory();
    }
    let message = explain(status, said);
    match status.signal() {
        // From outside: whoever needed memory, or an operator.
        Some(9 | 15) => CompileError::Interrupted(message),
        _ => CompileError::Failed(message),
    }
}

fn explain(status: ExitStatus, said: &str) -> String {
    if status.code() == Some(LATE) {
        return format!(
            "compiling took longer than {} s; make the module smaller",
            DEADLINE.as_secs()
        );
    }
    let how = match (status.signal(), status.code()) {
        (Some(9), _) => "was killed, perhaps because memory ran out: raise the daemon's memory limit or make the module smaller".to_owned(),
        (Some(signal), _) => format!("ended by signal {signal}"),
        (None, code) => format!("ended with status {}", code.unwrap_or(-1)),
    };
    if said.is_empty() {
        return format!("the compiler {how}");
    }
    format!("the compiler {how}; it said: {said}")
}

/// The child: module in, machine code out.
pub(crate) fn child() -> ExitCode {
    // Should the daemon end, nobody waits for the result.
    let parent_gone = Some(rustix::process::Signal::KILL);
    let _ = rustix::process::set_parent_process_death_signal(parent_gone);
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let _ = rustix::process::nice(5);
    limit_memory();
    std::thread::spawn(|| {
        std::thread::sleep(DEADLINE);
        std::process::exit(LATE);
    });
    let mut module = Vec::new();
    let result = io::stdin()
        .read_to_end(&mut module)
        .map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => (NO_MEMORY, error.to_string()),
            _ => (BROKEN, format!("cannot read the module: {error}")),
        })
        .and_then(|_| Sandbox::compiler().map_err(|error| (BROKEN, format!("{error:#}"))))
        .and_then(|engine| {
            let code = engine.precompile_component(&module);
            code.map_err(|error| match error.is::<wasmtime::OutOfMemory>() {
                true => (NO_MEMORY, error.to_string()),
                false => (INVALID, format!("{error:#}")),
            })
        })
        .and_then(|code| {
            let written = io::stdout().write_all(&code);
            written.map_err(|error| (BROKEN, format!("cannot write the code: {error}")))
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            let _ = write!(io::stderr(), "{message}");
            ExitCode::from(code)
        }
    }
}

/// Takes no more than it is told, beside what it has: getrlimit(2), `RLIMIT_DATA`, which what is only set aside does
/// not count towards.
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

    #[test]
    fn the_compiler_leaves_memory_to_others() {
        const MIB: u64 = 1 << 20;
        assert_eq!(share(800 * MIB, 0), Some(700 * MIB));
        assert_eq!(share(100 * MIB, 2 * MIB), Some(78 * MIB));
        // Not enough to try.
        assert_eq!(share(47 * MIB, 0), None);
        assert_eq!(share(100 * MIB, 40 * MIB), None);
    }

    #[test]
    fn a_module_is_not_refused_because_memory_ran_out() {
        let ends = |status: i32, said: &str| verdict(ExitStatus::from_raw(status), said);
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
                matches!(verdict, CompileError::Interrupted(_)),
                "{said}: {verdict}"
            );
        }
        for (status, said) in [
            (code(101), "thread 'main' panicked: index out of bounds"),
            (11, ""),
            (code(LATE), ""),
        ] {
            let verdict = ends(status, said);
            assert!(
                matches!(verdict, CompileError::Failed(_)),
                "{said}: {verdict}"
            );
        }
    }
}
