//! `querygate check`: says what the policy would do with SQL.

use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_args: &Args) -> ExitCode {
    ExitCode::from(super::USAGE)
}
