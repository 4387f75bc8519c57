//! `bulkhead plugin`: what authors of plugins need, from the first line to a ConfigMap.

mod answer_calls;
mod build;
mod cargo;
mod check;
mod crate_folder;
mod declared;
mod inspect;
mod names;
mod new;
mod pack;
mod puppet;
mod record;
mod recording;
mod replay;
mod run;
mod sdk;
mod sections;
mod show;
mod test;

use std::process::ExitCode;

use clap::Subcommand;

use super::Failed;

/// Write, build, try, check and pack plugins.
#[derive(Subcommand)]
pub(super) enum Plugin {
    New(new::New),
    Build(build::Build),
    Check(check::Check),
    Run(run::Run),
    Test(test::Test),
    Record(record::Record),
    Replay(replay::Replay),
    Inspect(inspect::Inspect),
    Pack(pack::Pack),
    /// Tests' own child; see `answer_calls`.
    #[command(hide = true)]
    AnswerCalls(answer_calls::AnswerCalls),
}

impl Plugin {
    pub(super) fn execute(self) -> Result<ExitCode, Failed> {
        match self {
            Self::New(command) => command.execute(),
            Self::Build(command) => command.execute(),
            Self::Check(command) => command.execute(),
            Self::Run(command) => command.execute(),
            Self::Test(command) => command.execute(),
            Self::Record(command) => command.execute(),
            Self::Replay(command) => command.execute(),
            Self::AnswerCalls(command) => command.execute(),
            Self::Inspect(command) => command.execute(),
            Self::Pack(command) => command.execute(),
        }
    }
}

/// For a command that does one thing after the other.
fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::new(format!("cannot start: {error}")))
}
