//! `querygate audit`: proves that the record is whole, looks things up in it, and hands it on. Reads only; a gate may be
//! writing meanwhile.

mod export;
mod search;
mod select;
#[cfg(test)]
mod tests;
mod verify;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::server::settings::Settings;
use crate::store::lines::Lines;
use crate::store::{StoreError, StoreSettings};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Find anything that was edited, removed, inserted, moved or cut off.
    Verify(verify::Args),
    /// Print the events that match.
    Search(search::Args),
    /// Write the record as one JSON array or as CSV for spreadsheets.
    Export(export::Args),
}

/// Which record.
#[derive(Debug, clap::Args)]
struct Which {
    /// Configuration that says where the record is; without one, where a gate without one keeps it.
    #[arg(long, value_name = "FILE", env = "QUERYGATE_CONFIG")]
    config: Option<PathBuf>,
    /// The audit file.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The store.
    #[arg(long, value_name = "DB")]
    store: Option<PathBuf>,
}

impl Which {
    /// Where the configuration says the record is.
    fn configured(&self) -> Result<StoreSettings, Trouble> {
        let Some(path) = &self.config else {
            return Ok(StoreSettings::on_disk());
        };
        let loaded = Settings::load(path).map_err(|error| Trouble::Usage(super::load_error(&error)))?;
        Ok(loaded.settings.store)
    }

    /// Its lines: from the file if there is one, otherwise from the store.
    fn lines(&self) -> Result<Lines, Trouble> {
        let usage = |error: StoreError| Trouble::Usage(format!("querygate: {error}"));
        match (&self.file, &self.store) {
            (Some(_), Some(_)) => Err(Trouble::Usage("querygate: give either --file or --store".to_owned())),
            (Some(file), None) => Lines::of_file(file).map_err(usage),
            (None, Some(store)) => Lines::of_store(store).map_err(usage),
            (None, None) => {
                let StoreSettings { path, audit_file, .. } = self.configured()?;
                match (audit_file, path) {
                    (Some(file), _) => Lines::of_file(&file).map_err(usage),
                    (None, Some(store)) => Lines::of_store(&store).map_err(usage),
                    (None, None) => Err(Trouble::Usage("querygate: no record is configured".to_owned())),
                }
            }
        }
    }
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
enum Trouble {
    /// It could not begin.
    Usage(String),
    /// Reading or writing failed on the way.
    Reading(StoreError),
    Writing(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Writing(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Reading(error)
    }
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = match &args.command {
        Command::Verify(args) => verify::run(args, &mut out),
        Command::Search(args) => search::run(args, &mut out, crate::clock::wall()),
        Command::Export(args) => export::run(args, &mut out, crate::clock::wall()),
    };
    let result = result.and_then(|sound| out.flush().map(|()| sound).map_err(Trouble::Writing));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Trouble::Usage(words)) => {
            complain(&words);
            ExitCode::from(super::USAGE)
        }
        Err(Trouble::Reading(error)) => {
            complain(&format!("querygate: {error}"));
            ExitCode::FAILURE
        }
        // Whoever reads has heard enough (`… | head`).
        Err(Trouble::Writing(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Trouble::Writing(error)) => {
            complain(&format!("querygate: cannot write: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn complain(words: &str) {
    // Nothing can be done if not even this can be written.
    let _unheard = writeln!(io::stderr(), "{words}");
}

/// A path as findings begin with it.
fn shown(path: &Path) -> String {
    crate::approval::one_line(&path.display().to_string())
}
