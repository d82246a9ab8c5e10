//! `querygate slack`: prints the app's manifest, and says what is missing.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::approval::slack::Slack;
use crate::approval::slack::check::{FindingKind, MANIFEST};
use crate::cli::{complain, say, tell};
use crate::server::settings::Settings;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say which token, scope, channel or group is missing. Exit status 0 if nothing is, 1 if something is, 2 for a wrong configuration.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE", env = "QUERYGATE_CONFIG", default_value = "querygate.toml")]
        config: PathBuf,
    },
    /// Print the manifest to create the Slack app from.
    Manifest,
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    match &args.command {
        Command::Manifest => {
            tell!("{MANIFEST}");
            ExitCode::SUCCESS
        }
        Command::Check { config } => match Settings::load(config) {
            Ok(loaded) => check(loaded.settings),
            Err(error) => {
                complain!("{}", super::load_error(&error));
                ExitCode::from(super::USAGE)
            }
        },
    }
}

fn check(settings: Settings) -> ExitCode {
    let Some(slack) = settings.slack else {
        complain!("querygate: the configuration has no [slack] section");
        return ExitCode::from(super::USAGE);
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("querygate: {error}");
            return ExitCode::FAILURE;
        }
    };
    let slack = match Slack::new(slack, settings.approval.people) {
        Ok(slack) => slack,
        Err(error) => {
            complain!("querygate: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut code = ExitCode::SUCCESS;
    for finding in runtime.block_on(slack.check()) {
        let mark = match finding.kind {
            FindingKind::Good => "ok   ",
            FindingKind::Note => "note ",
            FindingKind::Wrong => {
                code = ExitCode::FAILURE;
                "WRONG"
            }
        };
        say!("{mark} {}", finding.text);
    }
    code
}
