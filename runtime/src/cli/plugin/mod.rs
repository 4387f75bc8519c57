//! `bulkhead plugin`: what authors of plugins need, from the first line to a ConfigMap.

mod build;
mod cargo;
mod check;
mod crate_folder;
mod declared;
mod inspect;
mod names;
mod new;
mod pack;
mod sdk;

use std::process::ExitCode;

use clap::Subcommand;

use super::Failed;

/// Write, build, try, check and pack plugins.
#[derive(Subcommand)]
pub(super) enum Plugin {
    New(new::New),
    Build(build::Build),
    Check(check::Check),
    Inspect(inspect::Inspect),
    Pack(pack::Pack),
}

impl Plugin {
    pub(super) fn execute(self) -> Result<ExitCode, Failed> {
        match self {
            Self::New(command) => command.execute(),
            Self::Build(command) => command.execute(),
            Self::Check(command) => command.execute(),
            Self::Inspect(command) => command.execute(),
            Self::Pack(command) => command.execute(),
        }
    }
}
