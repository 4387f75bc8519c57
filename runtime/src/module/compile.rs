//! From a component's bytes to machine code.
//!
//! The daemon compiles in a [child](crate::child): the compiler needs a hundred times the module's size for a second.

use std::process::ExitCode;
use std::time::Duration;

use wasmtime::Engine;

use crate::child::{Ended, Refusal, Work};
use crate::sandbox::Sandbox;

/// The command of the child.
pub(crate) const COMMAND: &str = "compile-module";
const WORK: Work = Work {
    command: COMMAND,
    worker: "the compiler",
    input: "the module",
    least_memory: 32 << 20,
    deadline: Duration::from_secs(120),
};

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

impl From<Ended> for CompileError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Invalid(why) => Self::Invalid(why),
            Ended::Failed(why) => Self::Failed(why),
            Ended::Interrupted(why) => Self::Interrupted(why),
        }
    }
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
            Self::Child => Ok(WORK.ask(module)?),
        }
    }
}

/// The child: module in, machine code out.
pub(crate) fn child() -> ExitCode {
    WORK.serve(|module| {
        let engine = Sandbox::compiler().map_err(|error| Refusal::Broken(format!("{error:#}")))?;
        let code = engine.precompile_component(module);
        code.map_err(|error| match error.is::<wasmtime::OutOfMemory>() {
            true => Refusal::Memory(error.to_string()),
            false => Refusal::Invalid(format!("{error:#}")),
        })
    })
}
