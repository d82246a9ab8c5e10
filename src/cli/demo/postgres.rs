//! A throw-away Postgres cluster: found, made, started, stopped, removed. Knows nothing of the gate.
//!
//! Start at [`Binaries::find`] and [`Cluster::start`].

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Gid, Pid, Uid, User, geteuid};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// The superuser of the cluster; only the demo itself uses it.
const SUPERUSER: &str = "demo_admin";

/// In the name of the Unix socket only: the cluster has no TCP port, so the gate is the one way in over the network.
pub(super) const PORT: u16 = 5432;

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How often a dropped cluster is looked at before it is killed.
const DROP_LOOKS: u32 = 120;

/// Users to become when we are root, which Postgres refuses to run as.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// The role that asks what held statements would touch.
pub(super) const LOOKER: &str = "querygate_impact";

/// Where Postgres may be besides PATH and what `pg_config` says: parent directory and what follows the version.
const PLACES: [(&str, &str); 6] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr/lib64/pgsql", "bin"),
    ("/usr", "bin"),
    ("/usr/local", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "bin"),
];

/// Set to `true`, everything is to end.
pub(super) type Stop = watch::Receiver<bool>;

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostgresError {
    #[error(
        "PostgreSQL is not installed where it could be found (PATH, pg_config, /usr/lib/postgresql/*/bin). Get it with\n\
         \x20   Debian, Ubuntu:  sudo apt-get install postgresql\n\
         \x20   Fedora:          sudo dnf install postgresql-server\n\
         \x20   macOS:           brew install postgresql\n\
         or name the directory with --postgres-bin, or run everything in containers from a checkout: docker compose up"
    )]
    NotFound,
    #[error("{0} has no initdb, postgres and psql")]
    NotThere(PathBuf),
    #[error("Postgres does not run as root, and this machine has neither of the users {USERS:?} to run it as")]
    NoUser,
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{tool} failed:\n{said}")]
    Tool { tool: &'static str, said: String },
    #[error("Postgres did not start; its log says:\n{0}")]
    NotStarted(String),
    #[error("interrupted")]
    Interrupted,
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> PostgresError {
    let what = what.into();
    move |source| PostgresError::Io { what, source }
}

/// The programs of an installation.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    initdb: PathBuf,
    postgres: PathBuf,
    pub(super) psql: PathBuf,
}

impl Binaries {
    /// In the directory named, or wherever Postgres is usually installed; the newest version first.
    pub(super) fn find(named: Option<&Path>) -> Result<Self, PostgresError> {
        if let Some(named) = named {
            return Self::in_directory(named).ok_or_else(|| PostgresError::NotThere(named.to_owned()));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(pg_config())
            .chain(installations())
            .find_map(|directory| Self::in_directory(&directory))
            .ok_or(PostgresError::NotFound)
    }

    fn in_directory(directory: &Path) -> Option<Self> {
        let directory = fs::canonicalize(directory).ok()?;
        let program = |name: &str| Some(directory.join(name)).filter(|path| path.is_file());
        Some(Self {
            initdb: program("initdb")?,
            postgres: program("postgres")?,
            psql: program("psql").or_else(|| on_path("psql"))?,
        })
    }

    /// `PostgreSQL 15.18`, as the server says it.
    pub(super) async fn version(&self) -> String {
        let said = Command::new(&self.postgres).arg("--version").output().await;
        let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let words: Vec<_> = said.split_whitespace().filter(|word| *word != "postgres").take(2).collect();
        words.join(" ").replace(['(', ')'], "")
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

fn pg_config() -> Option<PathBuf> {
    let output = std::process::Command::new("pg_config").arg("--bindir").output().ok()?;
    let directory = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(directory.trim()))
}

/// Directories of installed versions, the newest first.
fn installations() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (parent, bin) in PLACES {
        let Ok(entries) = fs::read_dir(parent) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = name.trim_start_matches("postgresql@").trim_start_matches("pgsql-");
            if let Ok(version) = version.split('.').next().unwrap_or_default().parse::<u32>() {
                found.push((version, entry.path().join(bin)));
            }
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, directory)| directory).collect()
}

/// A running cluster with the sample shop. [`Cluster::stop`] ends it in good order, its drop at once; both remove
/// every trace.
pub(super) struct Cluster {
    directory: TempDir,
    server: Child,
    /// The password of user `app`.
    pub(super) password: String,
}

impl Cluster {
    /// Makes a cluster and loads the shop.
    pub(super) async fn start(binaries: &Binaries, stop: &Stop) -> Result<Self, PostgresError> {
        let owner = Owner::choose()?;
        let directory = tempfile::Builder::new().prefix("querygate-demo-").tempdir();
        let directory = directory.map_err(io_error("cannot make a temporary directory"))?;
        owner.give(directory.path())?;
        let admin_password = secret()?;
        init(binaries, &owner, directory.path(), &admin_password, stop).await?;
        let server = launch(binaries, &owner, directory.path())?;
        let mut cluster = Self { directory, server, password: secret()? };
        let ready = match cluster.wait_until_ready(stop).await {
            Ok(()) => cluster.load(binaries, &admin_password, stop).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ready {
            cluster.stop().await;
            return Err(error);
        }
        Ok(cluster)
    }

    /// The directory of its Unix socket.
    pub(super) fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// Stops the server and removes its directory.
    pub(super) async fn stop(mut self) {
        // Fast shutdown (PostgreSQL documentation, "Shutting Down the Server"); what does not heed it is dropped.
        self.signal(Signal::SIGINT);
        let _late = timeout(STOP_DEADLINE, self.server.wait()).await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.server.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It fails only if the server is gone already.
            let _gone = kill(Pid::from_raw(pid), signal);
        }
    }

    async fn wait_until_ready(&mut self, stop: &Stop) -> Result<(), PostgresError> {
        let pid_file = self.directory.path().join("data/postmaster.pid");
        let mut stop = stop.clone();
        let ready = async {
            // Its eighth line is the state (src/include/utils/pidfile.h, LOCK_FILE_LINE_PM_STATUS).
            while !fs::read_to_string(&pid_file)
                .is_ok_and(|text| text.lines().nth(7).is_some_and(|state| state.trim() == "ready"))
            {
                sleep(LOOK_AGAIN).await;
            }
        };
        let started = tokio::select! {
            () = ready => true,
            _ = self.server.wait() => false,
            () = sleep(START_DEADLINE) => false,
            _ = stop.wait_for(|stop| *stop) => return Err(PostgresError::Interrupted),
        };
        if started {
            return Ok(());
        }
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        Err(PostgresError::NotStarted(log))
    }

    /// The application's role, its database, its rows, and who looks what statements would touch.
    async fn load(&self, binaries: &Binaries, admin_password: &str, stop: &Stop) -> Result<(), PostgresError> {
        let role = format!(
            "CREATE ROLE app LOGIN PASSWORD '{0}'; CREATE ROLE {LOOKER} LOGIN PASSWORD '{0}'; \
             GRANT pg_read_all_data, pg_read_all_stats TO {LOOKER}",
            self.password
        );
        let steps = [
            (SUPERUSER, "postgres", admin_password, role),
            (SUPERUSER, "postgres", admin_password, "CREATE DATABASE shop OWNER app".to_owned()),
            ("app", "shop", &self.password, include_str!("shop.sql").to_owned()),
        ];
        for (user, database, password, sql) in steps {
            let mut psql = psql(binaries, password);
            psql.args(["-q", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", database, "-p", &PORT.to_string(), "-h"]);
            psql.arg(self.socket_directory()).arg("-c").arg(sql);
            run("psql", psql, stop).await?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    /// Ends what still runs, so that the directory, which goes next, stays gone. Waits: there is nothing else to do.
    fn drop(&mut self) {
        // Immediate shutdown takes the children along; a kill leaves them to notice by themselves.
        for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
            self.signal(signal);
            for _ in 0..DROP_LOOKS {
                if !matches!(self.server.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::park_timeout(LOOK_AGAIN);
            }
        }
    }
}

/// A psql that reads nobody's settings.
pub(super) fn psql(binaries: &Binaries, password: &str) -> Command {
    let mut command = Command::new(&binaries.psql);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
    command.env("PGPASSWORD", password).env("LC_ALL", "C").env("PGCLIENTENCODING", "UTF8");
    command.args(["-X", "-w"]).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Whom Postgres runs as.
struct Owner {
    /// `None`: as ourselves.
    other: Option<(Uid, Gid)>,
}

impl Owner {
    fn choose() -> Result<Self, PostgresError> {
        if !geteuid().is_root() {
            return Ok(Self { other: None });
        }
        USERS
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self { other: Some((user.uid, user.gid)) })
            .ok_or(PostgresError::NoUser)
    }

    fn give(&self, path: &Path) -> Result<(), PostgresError> {
        let Some((user, group)) = self.other else {
            return Ok(());
        };
        chown(path, Some(user.as_raw()), Some(group.as_raw()))
            .map_err(io_error(format!("cannot give {} away", path.display())))
    }

    /// A program of that user, in a process group of its own so that Ctrl-C in the terminal is ours to handle.
    fn command(&self, program: &Path, directory: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((user, group)) = self.other {
            command.uid(user.as_raw()).gid(group.as_raw());
        }
        command.current_dir(directory).env("LC_ALL", "C").process_group(0).kill_on_drop(true).stdin(Stdio::null());
        command
    }
}

async fn init(
    binaries: &Binaries,
    owner: &Owner,
    directory: &Path,
    password: &str,
    stop: &Stop,
) -> Result<(), PostgresError> {
    let password_file = directory.join("password");
    fs::write(&password_file, password).map_err(io_error("cannot write the password file"))?;
    owner.give(&password_file)?;
    let mut initdb = owner.command(&binaries.initdb, directory);
    initdb.args(["-D", "data", "-U", SUPERUSER, "-E", "UTF8", "--no-locale", "--no-sync"]);
    initdb.args(["-A", "scram-sha-256", "--pwfile", "password"]);
    let made = run("initdb", initdb, stop).await;
    // It holds a password; with the directory it would go too, only later.
    let _gone_later = fs::remove_file(&password_file);
    made
}

fn launch(binaries: &Binaries, owner: &Owner, directory: &Path) -> Result<Child, PostgresError> {
    let log = fs::File::create(directory.join("log")).map_err(io_error("cannot write the log"))?;
    let log_too = log.try_clone().map_err(io_error("cannot write the log"))?;
    let mut postgres = owner.command(&binaries.postgres, directory);
    postgres.args(["-D", "data", "-p", &PORT.to_string(), "-c", "listen_addresses=", "-c", "fsync=off", "-k"]);
    postgres.arg(directory).stdout(log).stderr(log_too);
    postgres.spawn().map_err(io_error("cannot start postgres"))
}

/// Runs a tool to its end, or to ours.
async fn run(tool: &'static str, mut command: Command, stop: &Stop) -> Result<(), PostgresError> {
    let mut stop = stop.clone();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(io_error(format!("cannot start {tool}")))?;
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let output = child.wait_with_output();
    tokio::pin!(output);
    let output = tokio::select! {
        output = &mut output => output.map_err(io_error(tool))?,
        _ = stop.wait_for(|stop| *stop) => {
            // With the processes it started, which would go on writing into the directory.
            if let Some(group) = group {
                let _gone = killpg(group, Signal::SIGKILL);
            }
            let _ended = output.await;
            return Err(PostgresError::Interrupted);
        }
    };
    if ExitStatus::success(&output.status) {
        return Ok(());
    }
    Err(PostgresError::Tool { tool, said: String::from_utf8_lossy(&output.stderr).into_owned() })
}

/// 32 hexadecimal digits nobody can guess.
pub(super) fn secret() -> Result<String, PostgresError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| PostgresError::Io {
        what: "no random numbers".to_owned(),
        source: io::Error::other(error.to_string()),
    })?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

/// So that a psql line can be pasted: the bare name if the shell would find this psql, else its path.
pub(super) fn as_typed(psql: &Path) -> String {
    let found = on_path("psql").and_then(|path| fs::canonicalize(path).ok());
    if found.is_some() { "psql".to_owned() } else { psql.to_string_lossy().into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_postgres_is_named_and_help_is_given() {
        let empty = tempfile::tempdir().unwrap();
        let error = Binaries::find(Some(empty.path())).unwrap_err();
        assert!(matches!(&error, PostgresError::NotThere(path) if path == empty.path()));
        assert!(PostgresError::NotFound.to_string().contains("apt-get install postgresql"));
    }

    #[test]
    fn secrets_differ_and_fit_into_a_url() {
        let (one, two) = (secret().unwrap(), secret().unwrap());
        assert_ne!(one, two);
        assert!(one.len() == 32 && one.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
