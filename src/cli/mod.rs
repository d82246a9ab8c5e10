//! The command line: `serve`, `check`, `config check`, `policy`, `requests`, `audit`, `slack`, `demo`. May use everything.

use std::process::ExitCode;
use std::thread;

use clap::{Parser, Subcommand};

use crate::server::evaluator;
use crate::server::settings::LoadError;

mod out;

pub mod audit;
pub mod check;
pub mod config;
pub mod demo;
pub mod impact;
pub mod policy;
pub mod requests;
pub mod serve;
pub mod slack;
pub mod undo;

pub(crate) use out::{complain, say, tell, unless_unread};

/// Exit status for wrong usage or configuration.
pub const USAGE: u8 = 2;

#[derive(Debug, Parser)]
#[command(name = "querygate", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gate.
    Serve(serve::Args),
    /// Say what the policy would do with SQL, without running it.
    Check(check::Args),
    /// Work with the configuration file.
    Config(config::Args),
    /// Test, lint and replay a policy.
    Policy(policy::Args),
    /// List and decide held statements.
    Requests(requests::Args),
    /// Prove, search and export the record.
    Audit(audit::Args),
    /// Set up and check the Slack app.
    Slack(slack::Args),
    /// See what statements would touch, and whether the gate may look.
    Impact(impact::Args),
    /// Undo what a released statement did, and set databases up for it.
    Undo(undo::Args),
    /// Try it: a throw-away Postgres, the gate, and a live view to approve in.
    Demo(demo::Args),
    /// Evaluate a policy in Rego for the gate that started this.
    #[command(name = evaluator::SUBCOMMAND, hide = true)]
    RegoEvaluator,
}

/// Why there is no configuration. Problems in a file begin with its name and line, as compilers write them, so that
/// editors find them; everything else begins with the program's name.
fn load_error(error: &LoadError) -> String {
    match error {
        LoadError::Unreadable(..) => format!("querygate: {error}"),
        LoadError::Wrong(..) => error.to_string(),
    }
}

/// Deep trees are walked by recursion; sessions have the same.
const STACK_BYTES: usize = 256 << 20;

/// Runs `judge` where any statement can be read.
fn on_deep_stack<T: Send>(judge: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let judging = thread::Builder::new().name("judge".to_owned()).stack_size(STACK_BYTES);
        match judging.spawn_scoped(scope, judge) {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err("judging failed: this is a bug".to_owned())),
            Err(error) => Err(format!("cannot start a thread to judge on: {error}")),
        }
    })
}

/// Runs the command line and returns the process's exit status.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Requests(args) => requests::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Slack(args) => slack::run(&args),
        Command::Impact(args) => impact::run(&args),
        Command::Undo(args) => undo::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::RegoEvaluator => evaluator::serve().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
    }
}
