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
/// What a thread's stack is set aside: std::thread.
const STACK: u64 = 2 << 20;
/// Not so little that it could not even start.
const LEAST_MEMORY: u64 = 32 << 20;
/// The child ends itself after this long.
const DEADLINE: Duration = Duration::from_secs(120);
/// Exit codes of the child beside 0.
const INVALID: u8 = 1;
const BROKEN: u8 = 2;
const LATE: i32 = 3;

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
    // Not a path: it still names this executable when a newer one has taken its place.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(COMMAND)
        .env_clear()
        // What it may have is counted as it is taken, not as it is set aside.
        .env("MIMALLOC_ARENA_EAGER_COMMIT", "0");
    // Kubernetes and systemd may end all of a cgroup if its memory runs out: memory.oom.group.
    if let Some(free) = cgroup::memory_free() {
        command.env(MEMORY, free.max(LEAST_MEMORY).to_string());
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
    // As the standard library says it.
    if said.contains("memory allocation of ") {
        return Err(CompileError::Interrupted(
            "the compiler needs more memory than is free: raise the daemon's memory limit, or make the module smaller".to_owned(),
        ));
    }
    let message = explain(output.status, &said);
    Err(match output.status.signal() {
        // From outside: whoever needed memory, or an operator.
        Some(9 | 15) => CompileError::Interrupted(message),
        _ => CompileError::Failed(message),
    })
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
    let most = std::env::var(MEMORY).ok();
    if let Some(most) = most.and_then(|text| text.parse::<u64>().ok()) {
        // The kernel counts the threads' stacks, of which hardly anything is touched.
        let threads = std::thread::available_parallelism().map_or(1, |it| it.get() as u64);
        let most = most.saturating_add(threads * STACK);
        let most = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        let _ = rustix::process::setrlimit(Resource::Data, most);
    }
    std::thread::spawn(|| {
        std::thread::sleep(DEADLINE);
        std::process::exit(LATE);
    });
    let mut module = Vec::new();
    let result = io::stdin()
        .read_to_end(&mut module)
        .map_err(|error| (BROKEN, format!("cannot read the module: {error}")))
        .and_then(|_| Sandbox::compiler().map_err(|error| (BROKEN, format!("{error:#}"))))
        .and_then(|engine| {
            let code = engine.precompile_component(&module);
            code.map_err(|error| (INVALID, format!("{error:#}")))
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
