//! `querygate policy`: tests, lints and replays a policy without a gate. May use everything.

mod cases;
mod lint;
mod replay;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::complain;
use crate::judge::Verdict;
use crate::server::settings::{Loaded, Settings};

/// Exit status when a case failed, or something was found.
const FOUND: u8 = 1;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run files of cases: who sends what, and what the policy says to it. Exit status 0 if all are so, 1 if not, 2 for wrong
    /// usage or files.
    Test {
        /// The configuration with the policy; the shipped policy without it.
        #[arg(long, value_name = "FILE", env = "QUERYGATE_CONFIG")]
        config: Option<PathBuf>,
        /// Files of `[[case]]` tables.
        #[arg(value_name = "CASES", required = true)]
        cases: Vec<PathBuf>,
    },
    /// Say what is odd about a policy: rules that are never asked, that allow what is dangerous to everybody, or wait for a freeze
    /// that is over. Exit status 0 if nothing is, 1 if something is, 2 for wrong usage or files.
    Lint {
        /// The configuration with the policy.
        #[arg(long, value_name = "FILE", env = "QUERYGATE_CONFIG", default_value = "querygate.toml")]
        config: PathBuf,
    },
    /// Say what a changed policy would have done with the statements on record: those that were held, those that passed and were told
    /// of, and those that passed and were counted (`audit.record_passing`). Exit status 0 if nothing changes, 1 if something does, 2 for wrong usage or files.
    Replay {
        /// The audit file.
        #[arg(long, value_name = "FILE")]
        audit: PathBuf,
        /// The configuration with the changed policy.
        #[arg(long, value_name = "FILE")]
        against: PathBuf,
    },
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    let found = super::on_deep_stack(|| match &args.command {
        Command::Test { config, cases } => cases::run(config.as_deref(), cases),
        Command::Lint { config } => lint::run(config),
        Command::Replay { audit, against } => replay::run(audit, against),
    });
    match found {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(FOUND),
        Err(message) => {
            complain!("{message}");
            ExitCode::from(super::USAGE)
        }
    }
}

fn load(path: &std::path::Path) -> Result<Loaded, String> {
    Settings::load(path).map_err(|error| super::load_error(&error))
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Hold => "hold",
        Verdict::Reject => "reject",
    }
}
