//! `querygate demo`: a throw-away Postgres with the gate in front.

use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_args: &Args) -> ExitCode {
    ExitCode::from(super::USAGE)
}
