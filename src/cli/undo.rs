//! `querygate undo`: brings back what a released statement changed, by way of the gate, which holds that like anything else; and sets
//! databases up so that it can. Start at [`run`].

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::approval::{one_line, spell_out};
use crate::cli::{complain, say, tell};
use crate::server::settings::Settings;
use crate::server::undo::Keeper;
use crate::server::upstream_dial;
use crate::session::upstream::Upstream;
use crate::undo::{UndoSettings, cover};

mod restore;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    restore: restore::Asked,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the SQL that sets a database up, for the role in `[undo]` to run there. It holds a key: keep it to yourself.
    Install {
        #[command(flatten)]
        config: Config,
        /// A role that may undo. Repeat it for several.
        #[arg(long, value_name = "ROLE")]
        may_undo: Vec<String>,
        /// A role that may read what is kept, so that approvers are told which rows of an undo conflict: that of `[impact]`, unless it is a
        /// member of `pg_read_all_data`. Repeat it for several.
        #[arg(long, value_name = "ROLE")]
        may_look: Vec<String>,
        /// Run it in this database instead of printing it.
        #[arg(long, value_name = "DATABASE")]
        run: Option<String>,
    },
    /// Print the SQL that has rows of tables kept, for their owner to run.
    Cover {
        /// Tables, each as `schema.table`.
        #[arg(required = true)]
        tables: Vec<String>,
    },
    /// Say what is missing. Exit status 0 if nothing, 1 if something, 2 for a wrong configuration.
    Check {
        #[command(flatten)]
        config: Config,
        /// The database. Left out: all of `[undo]`.
        database: Option<String>,
    },
    /// List what is kept.
    List {
        #[command(flatten)]
        config: Config,
        /// The database.
        database: String,
    },
}

#[derive(Debug, clap::Args)]
struct Config {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "QUERYGATE_CONFIG", default_value = "querygate.toml")]
    config: PathBuf,
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    let Some(command) = &args.command else { return in_runtime(restore::run(&args.restore)) };
    match command {
        Command::Cover { tables } => print_cover(tables),
        Command::Install { config, may_undo, may_look, run } => {
            with_keeper(config, async |settings, keeper| match run {
                None => {
                    tell!("{}", settings.install(may_undo, may_look));
                    Ok(true)
                }
                Some(database) => keeper.run(database, &settings.install(may_undo, may_look)).await.map(|()| true),
            })
        }
        Command::Check { config, database } => with_keeper(config, async |settings, keeper| {
            let databases = database.as_ref().map_or(&settings.databases[..], std::slice::from_ref);
            let mut complete = true;
            for database in databases {
                let missing = keeper.missing(database).await?;
                complete &= missing.is_empty();
                if missing.is_empty() {
                    say!("nothing is missing in database {}", one_line(database));
                }
                for line in missing {
                    say!("{}: {}", one_line(database), one_line(&line));
                }
            }
            Ok(complete)
        }),
        Command::List { config, database } => with_keeper(config, async |_, keeper| {
            for line in keeper.list(database).await? {
                say!("{}", spell_out(&one_line(&line)));
            }
            Ok(true)
        }),
    }
}

fn print_cover(tables: &[String]) -> ExitCode {
    let mut sql = String::new();
    for table in tables {
        let Some((schema, name)) =
            table.split_once('.').filter(|(schema, name)| !schema.is_empty() && !name.is_empty())
        else {
            complain!("querygate: `{}` is not written as schema.table", one_line(table));
            return ExitCode::from(super::USAGE);
        };
        sql.push_str(&cover(schema, name));
    }
    tell!("{sql}");
    ExitCode::SUCCESS
}

fn with_keeper(config: &Config, work: impl AsyncFnOnce(&UndoSettings, &Keeper) -> Result<bool, String>) -> ExitCode {
    let settings = match Settings::load(&config.config) {
        Ok(loaded) => loaded.settings,
        Err(error) => {
            complain!("{}", super::load_error(&error));
            return ExitCode::from(super::USAGE);
        }
    };
    let Some(undo) = settings.session.undo.clone() else {
        complain!("querygate: the configuration has no [undo] section");
        return ExitCode::from(super::USAGE);
    };
    let upstream = match Upstream::new(&settings.upstream, settings.session.tcp_keepalive) {
        Ok(upstream) => upstream,
        Err(error) => {
            complain!("querygate: TLS towards the server ([upstream]): {error}");
            return ExitCode::from(super::USAGE);
        }
    };
    let keeper = Keeper::new(undo.clone(), upstream_dial(Arc::new(upstream)));
    in_runtime(async {
        match work(&undo, &keeper).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(why) => {
                complain!("querygate: {}", one_line(&why));
                ExitCode::FAILURE
            }
        }
    })
}

fn in_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            complain!("querygate: {error}");
            ExitCode::FAILURE
        }
    }
}
