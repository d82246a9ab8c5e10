//! `querygate config`: checks the configuration file, and prints one to start from.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::{complain, say, tell};
use crate::server::settings::{Loaded, Settings};
use crate::session::SslMode;
use crate::session::tls::{ListenTls, UpstreamTls};
use crate::store::checkpoint::PublicKey;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say what is wrong with a configuration file, and where. Exit status 0 if nothing is, 2 otherwise.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE", env = "QUERYGATE_CONFIG", default_value = "querygate.toml")]
        config: PathBuf,
    },
    /// Print a configuration with every key, its default and what it means.
    Example,
}

/// The documented configuration, as shipped.
const EXAMPLE: &str = include_str!("../../config.example.toml");

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    match &args.command {
        Command::Example => {
            tell!("{EXAMPLE}");
            ExitCode::SUCCESS
        }
        Command::Check { config } => match Settings::load(config) {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    complain!("{}", warning.display(config));
                }
                if let Err(error) = files(&loaded.settings) {
                    complain!("{}: error: {error}", config.display());
                    return ExitCode::from(super::USAGE);
                }
                say!("{}: {}", config.display(), summary(&loaded));
                ExitCode::SUCCESS
            }
            Err(error) => {
                complain!("{}", super::load_error(&error));
                ExitCode::from(super::USAGE)
            }
        },
    }
}

/// Reads what `serve` would read before it listens.
fn files(settings: &Settings) -> Result<(), String> {
    ListenTls::load(&settings.listen.tls).map_err(|error| format!("[listen.tls] {error}"))?;
    if let Some(key) = &settings.store.checkpoint_key {
        PublicKey::load(key).map_err(|error| format!("[audit] {error}"))?;
    }
    match settings.upstream.sslmode {
        SslMode::Disable => Ok(()),
        SslMode::Prefer | SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
            UpstreamTls::load(&settings.upstream).map(drop).map_err(|error| format!("[upstream] {error}"))
        }
    }
}

/// What the file comes to, in a line, so that one sees whether it is the right one.
fn summary(Loaded { settings, warnings }: &Loaded) -> String {
    let rules = settings.policy.rules().count();
    let people = settings.approval.people.iter().count();
    let approvers = settings.approval.people.iter().filter(|person| settings.approval.is_approver(person)).count();
    let version: String = settings.policy.version().chars().take(12).collect();
    format!(
        "valid{}; listens on {}, forwards to {}:{}; {rules} rules (policy {version}), {people} people, {approvers} of them approvers",
        if warnings.is_empty() { "" } else { ", with warnings" },
        settings.listen.address,
        settings.upstream.host,
        settings.upstream.port,
    )
}
