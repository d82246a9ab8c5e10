//! Real Postgres clusters: throw-away ones with settings of their own, and one that all test processes share.
//!
//! `initdb` runs once per machine and version of this file; every cluster is a copy of its result. A [`Cluster`] is killed
//! when dropped, also by a panic. The shared one ([`shared`]) is kept by the `postgres-keeper` binary for as long as
//! any process holds a lease on it, because the test runner gives every test a process of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::DEADLINE;
use crate::process::{Watched, binary_dir, find_program, give, program, unprivileged_command};
use crate::raw::Raw;
use crate::tls::Certificates;

/// Changes whenever what `initdb` or the shared cluster's settings produce changes.
const TEMPLATE: &str = "1";
/// How long the shared cluster outlives its last lease: the gap between two test processes.
const KEEP: Duration = Duration::from_secs(10);

/// Where a client connects: host, port, database, user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Database user.
    pub user: String,
}

impl Target {
    /// A libpq connection string, with TLS off unless `more` says otherwise.
    pub fn conninfo(&self, more: &str) -> String {
        format!(
            "host={} port={} dbname={} user={} sslmode=disable connect_timeout=30 {more}",
            self.host, self.port, self.database, self.user
        )
    }

    /// The same place as another user.
    #[must_use]
    pub fn with_user(&self, user: &str) -> Target {
        Target { user: user.to_owned(), ..self.clone() }
    }

    /// The same place, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Target {
        Target { database: database.to_owned(), ..self.clone() }
    }
}

/// What a cluster is started with.
#[derive(Debug, Default)]
pub struct Builder {
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    certificates: Option<Certificates>,
}

impl Builder {
    /// A line of `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Builder {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A line of `pg_hba.conf`, before the default ones (which trust every connection).
    #[must_use]
    pub fn hba(mut self, line: &str) -> Builder {
        self.hba.push(line.to_owned());
        self
    }

    /// Turns TLS on with these certificates.
    #[must_use]
    pub fn tls(mut self, certificates: &Certificates) -> Builder {
        self.certificates = Some(certificates.clone());
        self
    }

    /// Starts the cluster and waits until it accepts connections.
    pub fn start(self) -> Cluster {
        let one_at_a_time = lock(&fixtures_dir().join("template.lock"), FlockArg::LockExclusive);
        let template = template();
        drop(one_at_a_time);
        // Another process can take a port between our probe and Postgres's bind; then try another.
        for _ in 0..10 {
            if let Some(cluster) = self.try_start(&template) {
                return cluster;
            }
        }
        panic!("no free port found for Postgres");
    }

    fn try_start(&self, template: &Path) -> Option<Cluster> {
        let dir = TempDir::with_prefix("qg-pg-").expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode of our own directory");
        give(dir.path());
        let data = dir.path().join("data");
        run(Command::new("cp").arg("-a").arg(template).arg(&data));
        let port = free_port();
        self.configure(&data, dir.path(), port);
        let mut command = unprivileged_command(program("postgres"));
        command.arg("-D").arg(&data).stdout(Stdio::null());
        let mut process = Watched::spawn(command);
        let up = process.wait_line(DEADLINE, |line| line.contains("ready to accept connections").then_some(()));
        if up.is_none() {
            let log = process.log();
            assert!(
                log.contains("could not bind") || log.contains("could not create any TCP/IP sockets"),
                "Postgres did not start:\n{log}"
            );
            process.wait(DEADLINE);
            return None;
        }
        Some(Cluster { process, socket_dir: dir.path().to_path_buf(), port, _dir: dir })
    }

    fn configure(&self, data: &Path, socket_dir: &Path, port: u16) {
        let mut conf = format!(
            "\nlisten_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\n\
             fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nautovacuum = off\n\
             max_connections = 200\nshared_buffers = 32MB\nlog_min_messages = log\nlc_messages = 'C'\ntimezone = 'UTC'\nlog_timezone = 'UTC'\n",
            socket_dir.display()
        );
        if let Some(certificates) = &self.certificates {
            let (cert, key) = (data.join("server.crt"), data.join("server.key"));
            fs::write(&cert, &certificates.certificate_pem).expect("write the certificate");
            fs::write(&key, &certificates.key_pem).expect("write the key");
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("mode of the key");
            give(&cert);
            give(&key);
            conf.push_str("ssl = on\n");
        }
        for (name, value) in &self.settings {
            conf.push_str(name);
            conf.push_str(" = '");
            conf.push_str(&value.replace('\'', "''"));
            conf.push_str("'\n");
        }
        append(&data.join("postgresql.conf"), &conf);
        let mut hba = String::from("local all all trust\n");
        for line in &self.hba {
            hba.push_str(line);
            hba.push('\n');
        }
        hba.push_str("host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n");
        fs::write(data.join("pg_hba.conf"), hba).expect("write pg_hba.conf");
    }
}

/// A running cluster of one's own.
pub struct Cluster {
    /// The postmaster.
    pub process: Watched,
    socket_dir: PathBuf,
    port: u16,
    _dir: TempDir,
}

impl Cluster {
    /// What to start it with.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The superuser `postgres` in the database `postgres`.
    pub fn target(&self) -> Target {
        Target {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            database: "postgres".to_owned(),
            user: "postgres".to_owned(),
        }
    }

    /// Directory of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Path of the Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.socket_dir.join(format!(".s.PGSQL.{}", self.port))
    }

    /// A superuser's connection over the Unix socket, which is trusted whatever `hba` lines say.
    pub fn admin(&self) -> Raw {
        let mut raw = Raw::connect_unix(self.socket());
        raw.start(&[("user", "postgres"), ("database", "postgres")]);
        raw
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Immediate shutdown: the postmaster takes its children with it, which killing it would not.
        if self.process.is_running() {
            self.process.signal(Signal::SIGQUIT);
            self.process.wait(DEADLINE);
        }
    }
}

/// A database of one's own on the shared cluster. It goes with the cluster: `DROP DATABASE` would wait for every backend of
/// every other test to answer, which one that waits for its client does not.
pub struct Database {
    target: Target,
    socket_dir: PathBuf,
    _lease: Lease,
}

impl Database {
    /// The superuser `postgres` in this database.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Directory of the cluster's Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// A name that no other test uses, for roles and other things that are not in a database.
    pub fn unique(&self, name: &str) -> String {
        format!("{}_{name}", self.target.database)
    }

    /// A direct connection.
    pub fn raw(&self) -> Raw {
        Raw::login(&self.target)
    }

    /// Runs statements over a direct connection; they must succeed.
    pub fn run(&self, sql: &str) {
        self.raw().rows(sql);
    }
}

/// A fresh database on the shared cluster, which is started if it does not run.
pub fn shared() -> Database {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let lease = lease();
    let state = &lease.state;
    let database = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let server = Target {
        host: "127.0.0.1".to_owned(),
        port: state.port,
        database: "postgres".to_owned(),
        user: "postgres".to_owned(),
    };
    let mut admin = Raw::login(&server);
    // A process id may come again.
    if admin.query(format!("CREATE DATABASE {database}")).iter().any(|frame| frame.tag == b'E') {
        admin.rows(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"));
        admin.rows(&format!("CREATE DATABASE {database}"));
    }
    Database { target: server.with_database(&database), socket_dir: state.socket_dir.clone(), _lease: lease }
}

#[derive(Debug, Serialize, Deserialize)]
struct Shared {
    port: u16,
    socket_dir: PathBuf,
}

struct Lease {
    state: Shared,
    _held: Option<Flock<File>>,
    _own: Option<Cluster>,
}

fn lease() -> Lease {
    let dir = fixtures_dir();
    let keeper = binary_dir().join("postgres-keeper");
    if !keeper.is_file() {
        // Built without the package's binaries: this process keeps a cluster for itself.
        let own = shared_builder().start();
        return Lease {
            state: Shared { port: own.port, socket_dir: own.socket_dir.clone() },
            _held: None,
            _own: Some(own),
        };
    }
    let _starting = lock(&dir.join("start.lock"), FlockArg::LockExclusive);
    let state_path = dir.join("shared.json");
    let kept = Flock::lock(open(&dir.join("keeper.lock")), FlockArg::LockExclusiveNonblock).is_err();
    if !kept {
        #[expect(clippy::zombie_processes, reason = "the keeper outlives this process on purpose")]
        let mut child = Command::new(keeper)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Not a member of this test's group, which the test runner ends.
            .process_group(0)
            .spawn()
            .expect("the keeper starts");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped"))
            .read_line(&mut said)
            .expect("the keeper's first line");
        assert!(!said.is_empty(), "the shared cluster did not start");
        fs::write(&state_path, said).expect("write the shared cluster's address");
    }
    let held = lock(&dir.join("lease.lock"), FlockArg::LockShared);
    let state = serde_json::from_slice(&fs::read(&state_path).expect("the shared cluster's address"))
        .expect("as the keeper wrote it");
    Lease { state, _held: Some(held), _own: None }
}

fn shared_builder() -> Builder {
    Cluster::builder()
        .setting("max_prepared_transactions", "10")
        .setting("wal_level", "logical")
        .setting("max_connections", "400")
}

/// The `postgres-keeper` binary: starts the shared cluster, says where it is, and stops it when nobody has had a lease
/// for a while.
pub fn keep() {
    let dir = fixtures_dir();
    let Ok(kept) = Flock::lock(open(&dir.join("keeper.lock")), FlockArg::LockExclusiveNonblock) else { return };
    let cluster = shared_builder().start();
    let state = Shared { port: cluster.port, socket_dir: cluster.socket_dir.clone() };
    println!("{}", serde_json::to_string(&state).expect("plain data"));
    // The starter holds `start.lock` until it has its lease, so this waits for the last lease, not the first.
    drop(lock(&dir.join("start.lock"), FlockArg::LockExclusive));
    loop {
        drop(lock(&dir.join("lease.lock"), FlockArg::LockExclusive));
        std::thread::park_timeout(KEEP);
        let _starting = lock(&dir.join("start.lock"), FlockArg::LockExclusive);
        if Flock::lock(open(&dir.join("lease.lock")), FlockArg::LockExclusiveNonblock).is_ok() {
            drop(cluster);
            // Before `start.lock` is released, so that nobody takes us for alive.
            drop(kept);
            return;
        }
    }
}

/// Where the template and the locks live: a directory that the unprivileged user can enter, one per build directory.
fn fixtures_dir() -> PathBuf {
    let key = binary_dir()
        .to_string_lossy()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let dir = std::env::temp_dir().join(format!("querygate-fixtures-{TEMPLATE}-{key:016x}"));
    fs::create_dir_all(&dir).expect("a directory for fixtures");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("mode of our own directory");
    dir
}

/// The result of `initdb`, made once. Call it under `template.lock`.
fn template() -> PathBuf {
    let dir = fixtures_dir();
    let done = dir.join("template");
    if !done.is_dir() {
        let building = dir.join("building");
        let _ = fs::remove_dir_all(&building);
        fs::create_dir(&building).expect("a directory for the template");
        give(&building);
        fs::set_permissions(&building, fs::Permissions::from_mode(0o700)).expect("mode of our own directory");
        run(unprivileged_command(program("initdb"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&building));
        fs::rename(&building, &done).expect("the finished template gets its name");
    }
    done
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    socket.local_addr().expect("a bound socket has an address").port()
}

/// Whether Postgres's server programs are installed.
pub fn is_installed() -> bool {
    find_program("initdb").is_some() && find_program("postgres").is_some()
}

fn open(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lock(path: &Path, how: FlockArg) -> Flock<File> {
    Flock::lock(open(path), how).unwrap_or_else(|(_, error)| panic!("lock {}: {error}", path.display()))
}

fn append(path: &Path, text: &str) {
    OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
