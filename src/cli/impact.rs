//! `querygate impact`: says what the role that looks statements up lacks, and what it finds out about a statement. Nothing of the statement is run.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::approval::{one_line, spell_out};
use crate::cli::{complain, say};
use crate::impact::{Ask, Prober, summary};
use crate::server::settings::Settings;
use crate::server::upstream_dial;
use crate::session::upstream::Upstream;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say what the role in `[impact]` lacks in a database, and what it may do besides reading. Exit status 0 if nothing, 1 if something, 2 for a wrong configuration.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE", env = "QUERYGATE_CONFIG", default_value = "querygate.toml")]
        config: PathBuf,
        /// The database to look at.
        database: String,
    },
    /// Say what a statement would touch, as approvers would be shown it. It is not run.
    Explain {
        /// The configuration file.
        #[arg(long, value_name = "FILE", env = "QUERYGATE_CONFIG", default_value = "querygate.toml")]
        config: PathBuf,
        /// The database it is meant for.
        #[arg(long)]
        database: String,
        /// The role that would run it. Left out: whose row security would bind it is not known.
        #[arg(long)]
        role: Option<String>,
        /// `search_path` of its session, as SHOW prints it. Left out: the role's own.
        #[arg(long)]
        search_path: Option<String>,
        /// The statement; `-` for standard input.
        sql: String,
    },
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    let (Command::Check { config, .. } | Command::Explain { config, .. }) = &args.command;
    let settings = match Settings::load(config) {
        Ok(loaded) => loaded.settings,
        Err(error) => {
            complain!("{}", super::load_error(&error));
            return ExitCode::from(super::USAGE);
        }
    };
    let Some(impact) = settings.impact.clone() else {
        complain!("querygate: the configuration has no [impact] section, or it is not enabled");
        return ExitCode::from(super::USAGE);
    };
    let upstream = match Upstream::new(&settings.upstream, settings.session.tcp_keepalive) {
        Ok(upstream) => upstream,
        Err(error) => {
            complain!("querygate: TLS towards the server ([upstream]): {error}");
            return ExitCode::from(super::USAGE);
        }
    };
    let prober = Prober::new(impact, upstream_dial(Arc::new(upstream)));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("querygate: {error}");
            return ExitCode::FAILURE;
        }
    };
    match &args.command {
        Command::Check { database, .. } => runtime.block_on(check(&prober, database)),
        Command::Explain { database, role, search_path, sql, .. } => {
            let text = match text(sql) {
                Ok(text) => text,
                Err(error) => {
                    complain!("querygate: cannot read the statement: {error}");
                    return ExitCode::FAILURE;
                }
            };
            let (database, role, search_path) = (database.clone(), role.clone(), search_path.clone());
            runtime.block_on(explain(&prober, Ask { database, text, search_path, role, ..Ask::default() }))
        }
    }
}

fn text(sql: &str) -> std::io::Result<String> {
    if sql != "-" {
        return Ok(sql.to_owned());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

async fn check(prober: &Prober, database: &str) -> ExitCode {
    let found = match prober.check(database).await {
        Ok(missing) => prober.excess(database).await.map(|excess| (missing, excess)),
        Err(why) => Err(why),
    };
    match found {
        Ok((missing, excess)) => {
            if missing.is_empty() {
                say!("nothing is missing in database {}", one_line(database));
            }
            for line in missing.iter().chain(&excess) {
                say!("{}", one_line(line));
            }
            if missing.is_empty() && excess.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            complain!("querygate: database {} cannot be asked: {}", one_line(database), one_line(&why));
            ExitCode::FAILURE
        }
    }
}

async fn explain(prober: &Prober, ask: Ask) -> ExitCode {
    let impact = prober.probe(&ask).await;
    for line in summary(&impact) {
        say!("{}", spell_out(&one_line(&line)));
    }
    if impact.trouble.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
