//! The configuration file, parsed into values that cannot be wrong. Unknown keys are errors; all errors are told at once.
//!
//! Start at [`Settings::load`]. Each room defines and documents its own settings; this module knows how they are written.

mod approval;
mod fingerprint;
mod impact;
mod integration;
mod owners;
mod people;
mod reader;
mod rego;
mod rules;
mod sections;
mod secret;
mod slack;
mod undo;
mod webhook;

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::approval::slack::settings::SlackSettings;
use crate::approval::webhook::WebhookSettings;
use crate::approval::{AdminSettings, ApprovalSettings};
use crate::hold::HoldSettings;
use crate::impact::ImpactSettings;
use crate::judge::{Evaluate, Glob, Policy, RegoParts};
use crate::server::evaluator::Evaluator;
use crate::server::passing::PassingSettings;
use crate::session::{ListenTlsSettings, SessionSettings, UpstreamSettings};
use crate::store::StoreSettings;

pub use fingerprint::{Fingerprint, fingerprint};
pub use reader::Problem;

/// Everything the configuration says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where clients connect.
    pub listen: ListenSettings,
    /// The server behind.
    pub upstream: UpstreamSettings,
    /// Limits and switches of sessions, and how long they wait.
    pub session: SessionSettings,
    /// Limits of the process.
    pub limits: ServerLimits,
    /// How much may wait.
    pub hold: HoldSettings,
    /// The record.
    pub store: StoreSettings,
    /// The admin API.
    pub admin: AdminSettings,
    /// What is put on record of statements that pass.
    pub passing: PassingSettings,
    /// Who is who and who decides.
    pub approval: ApprovalSettings,
    /// Asking people in Slack.
    pub slack: Option<SlackSettings>,
    /// Programs that are told of events.
    pub webhooks: Vec<WebhookSettings>,
    /// Asking the database what held statements would touch.
    pub impact: Option<ImpactSettings>,
    /// What is held.
    pub policy: Arc<Policy>,
    /// Load the configuration again when a file of it changes.
    pub watch: bool,
    /// What is logged.
    pub log: LogSettings,
}

/// Where clients connect.
#[derive(Debug, Clone)]
pub struct ListenSettings {
    /// Address and port; port 0 for any free one.
    pub address: SocketAddr,
    /// TLS for clients.
    pub tls: ListenTlsSettings,
}

/// Limits of the whole process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLimits {
    /// Client connections at once; further ones are told so and closed.
    pub connections: usize,
    /// Threads that carry sessions; `None` to go by the cores: see [`ServerLimits::workers`].
    pub workers: Option<usize>,
    /// Most bytes of verdicts remembered, per worker.
    pub verdict_cache_bytes: usize,
}

/// What is logged, to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A level (`info`) or directives (`info,querygate::session=debug`).
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

impl Default for Settings {
    /// What an empty file means.
    fn default() -> Self {
        let policy = Arc::new(Policy::shipped());
        Self {
            listen: ListenSettings::default(),
            upstream: UpstreamSettings::default(),
            session: SessionSettings::default(),
            limits: ServerLimits::default(),
            hold: HoldSettings::default(),
            store: StoreSettings::on_disk(),
            passing: PassingSettings::default(),
            admin: AdminSettings::default(),
            approval: ApprovalSettings { policy: Some(Arc::clone(&policy)), ..ApprovalSettings::default() },
            slack: None,
            webhooks: Vec::new(),
            impact: None,
            policy,
            watch: true,
            log: LogSettings::default(),
        }
    }
}

impl Default for ListenSettings {
    fn default() -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 6432)), tls: ListenTlsSettings::default() }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { connections: 1_000, workers: None, verdict_cache_bytes: 16 << 20 }
    }
}

impl ServerLimits {
    /// Threads that carry sessions on a machine with so many cores: one up to three, because Postgres needs them
    /// more than the gate does; half of them beyond.
    pub fn workers(&self, cores: usize) -> usize {
        self.workers.unwrap_or(if cores <= 3 { 1 } else { cores / 2 }).max(1)
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// A configuration that was understood, with what is odd about it.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// Not fatal, but worth telling.
    pub warnings: Vec<Problem>,
}

/// Why there are no settings.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// It has at least one error; warnings stand between them.
    Wrong(PathBuf, Vec<Problem>),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "cannot read the configuration {}: {error}", path.display()),
            Self::Wrong(path, problems) => {
                for (index, problem) in problems.iter().enumerate() {
                    write!(f, "{}{}", if index == 0 { "" } else { "\n" }, problem.display(path))?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for LoadError {}

impl Settings {
    /// Reads a configuration file, and the files and environment variables it names. Paths in it are relative to its directory.
    ///
    /// # Errors
    /// [`LoadError`], with every problem that could be found in one go.
    pub fn load(path: &Path) -> Result<Loaded, LoadError> {
        let text = fs::read_to_string(path).map_err(|error| LoadError::Unreadable(path.to_owned(), error))?;
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        let world = World { directory, mode: mode(path) };
        Self::parse(&text, &world).map_err(|problems| LoadError::Wrong(path.to_owned(), problems))
    }

    fn parse(text: &str, sources: &dyn Sources) -> Result<Loaded, Vec<Problem>> {
        let (settings, problems, _) = sections::read(text, sources);
        if problems.iter().any(|problem| problem.fatal) {
            return Err(problems);
        }
        Ok(Loaded { settings, warnings: problems })
    }
}

/// What a configuration may refer to outside its own text.
trait Sources {
    /// An environment variable.
    fn variable(&self, name: &str) -> Option<String>;
    /// A file's text, and whether others than its owner and group may read it.
    fn file(&self, path: &Path) -> io::Result<(String, bool)>;
    /// The files whose names match a pattern as written in the configuration, sorted. `*` and `?` stand in the last part only.
    fn matching(&self, pattern: &str) -> io::Result<Vec<PathBuf>>;
    /// A path as written in the configuration, made usable from here.
    fn path(&self, written: &Path) -> PathBuf;
    /// Everybody on this machine may read the configuration itself.
    fn is_public(&self) -> bool;
    /// Where a policy in Rego is evaluated.
    fn evaluator(&self, policy: &RegoParts) -> Result<Box<dyn Evaluate>, String>;
}

/// The real one.
struct World {
    directory: PathBuf,
    mode: u32,
}

/// Bit of a file's mode: readable by everybody.
const OTHERS_READ: u32 = 0o004;

impl Sources for World {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> io::Result<(String, bool)> {
        Ok((fs::read_to_string(path)?, mode(path) & OTHERS_READ != 0))
    }

    fn matching(&self, pattern: &str) -> io::Result<Vec<PathBuf>> {
        let path = self.path(Path::new(pattern));
        let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Ok(Vec::new());
        };
        let Ok(glob) = Glob::try_from(name.to_owned()) else { return Ok(Vec::new()) };
        // A file that is named need not be in a directory that can be listed.
        if !name.contains(['*', '?']) {
            return Ok(vec![path]);
        }
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| glob.matches(name)) && !entry.path().is_dir() {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    fn path(&self, written: &Path) -> PathBuf {
        self.directory.join(written)
    }

    fn is_public(&self) -> bool {
        self.mode & OTHERS_READ != 0
    }

    fn evaluator(&self, policy: &RegoParts) -> Result<Box<dyn Evaluate>, String> {
        Ok(Box::new(Evaluator::start(policy)?))
    }
}

/// Mode bits of a file; none if it is gone.
fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode())
}

#[cfg(test)]
mod tests;
