//! The command line: one command a file.

mod check;
mod endpoint;
mod enforcement;
mod kubectl;
mod plugin;
mod run;
mod scanning;
mod screen;
mod status;
mod table;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Exit codes: 0 done, 1 failed or problems found, 2 wrong usage (or something to change, or found, of the
/// commands that say so), 3 no daemon answers.
pub(crate) const UNREACHABLE: u8 = 3;
/// The audience of status tokens.
const AUDIENCE: &str = "bulkhead.dev";

#[derive(Parser)]
#[command(
    version,
    about = "One process per node that hosts node agents as sandboxed WebAssembly plugins",
    after_help = "Exit codes: 0 done, 1 failed or problems found, 2 wrong usage, 3 no daemon answers.\n\nExamples:\n  bulkhead run --manifests ./manifests --state ./state\n  bulkhead status\n  bulkhead check manifests/*.yaml"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Status(status::Status),
    Check(check::Check),
    #[command(subcommand)]
    Enforcement(enforcement::Enforcement),
    #[command(subcommand)]
    Scanning(scanning::Scanning),
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    /// The daemon's own child; see `module::compile`.
    #[command(name = crate::module::COMPILE_COMMAND, hide = true)]
    CompileModule,
    /// The daemon's own child; see `plugin::schema`.
    #[command(name = crate::plugin::CHECK_COMMAND, hide = true)]
    CheckConfig,
    /// The daemon's own child; see `role::enforcement::effects`.
    #[command(name = crate::role::enforcement::effects::MODPROBE_COMMAND, hide = true)]
    RunModprobe {
        #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
}

/// Reads the command line, does what it says and returns the exit code.
pub fn main() -> ExitCode {
    crate::allocator::keep_pages_small();
    let program = std::env::args_os().next();
    let result = if kubectl::is_meant(program.as_deref()) {
        kubectl::main()
    } else {
        run(Arguments::parse().command)
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "error: {error}");
        ExitCode::from(error.code)
    })
}

fn run(command: Command) -> Result<ExitCode, Failed> {
    match command {
        Command::Run(command) => command.execute(),
        Command::Status(command) => command.execute(),
        Command::Check(command) => command.execute(),
        Command::Enforcement(command) => command.execute(),
        Command::Scanning(command) => command.execute(),
        Command::Plugin(command) => command.execute(),
        Command::CompileModule => Ok(crate::module::compile_child()),
        Command::CheckConfig => Ok(crate::plugin::check_child()),
        Command::RunModprobe { arguments } => Ok(
            crate::role::enforcement::effects::modprobe_child(&arguments),
        ),
    }
}

/// What a command ends with, if not well.
#[derive(Debug)]
struct Failed {
    message: String,
    code: u8,
}

impl Failed {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Prints to stdout. A reader that has gone away is no error; says whether it is still there.
fn print(text: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    written.and_then(|()| stdout.flush()).is_ok()
}

/// `12.3 MiB`.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let unit_name = UNITS[unit];
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {unit_name}")
    }
}
