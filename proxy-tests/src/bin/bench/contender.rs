//! The proxies compared, each started as its users would run it with one thread, before the same Postgres.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proxy_tests::DEADLINE;
use proxy_tests::gate::Gate;
use proxy_tests::postgres::{Cluster, Target, free_port};
use proxy_tests::process::{Watched, find_program, give, unprivileged_command};
use serde::Serialize;
use tempfile::TempDir;

use crate::stat::Usage;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// No proxy.
    Direct,
    /// This crate's byte relay.
    Relay,
    /// The gate with its default policy and one worker.
    Querygate,
    /// An earlier build of the gate, likewise.
    #[value(skip)]
    Earlier,
    /// The gate that puts on record what passes (`record_passing`). Only if named.
    Recording,
    /// The gate that looks up what functions do (`[impact]`). Only if named.
    Impact,
    /// The gate with the recipe of `docs/rego.md` as its policy. Only if named.
    Rego,
    /// PgBouncer in session mode.
    Pgbouncer,
    /// HAProxy in TCP mode.
    Haproxy,
}

impl Kind {
    pub(crate) const ALL: [Kind; 9] = [
        Kind::Direct,
        Kind::Relay,
        Kind::Querygate,
        Kind::Earlier,
        Kind::Recording,
        Kind::Impact,
        Kind::Rego,
        Kind::Pgbouncer,
        Kind::Haproxy,
    ];

    /// The gate with something switched on that it does not do as shipped.
    pub(crate) const VARIANTS: [Kind; 3] = [Kind::Recording, Kind::Impact, Kind::Rego];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Relay => "relay",
            Kind::Querygate => "querygate",
            Kind::Earlier => "earlier",
            Kind::Recording => "recording",
            Kind::Impact => "impact",
            Kind::Rego => "Rego",
            Kind::Pgbouncer => "PgBouncer",
            Kind::Haproxy => "HAProxy",
        }
    }

    /// The program it needs, when that is not ours.
    fn program(self) -> Option<&'static str> {
        match self {
            Kind::Direct
            | Kind::Relay
            | Kind::Querygate
            | Kind::Earlier
            | Kind::Recording
            | Kind::Impact
            | Kind::Rego => None,
            Kind::Pgbouncer => Some("pgbouncer"),
            Kind::Haproxy => Some("haproxy"),
        }
    }

    /// Why it can't be measured here, if it can't.
    pub(crate) fn missing(self) -> Option<String> {
        let program = self.program()?;
        find_program(program).is_none().then(|| format!("{}: skipped, `{program}` is not installed", self.name()))
    }

    /// What the program says of its version.
    pub(crate) fn version(self) -> Option<String> {
        let program = find_program(self.program()?)?;
        let flag = if self == Kind::Haproxy { "-v" } else { "--version" };
        let output = Command::new(program).arg(flag).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
    }
}

/// A running contender.
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) target: Target,
    process: Option<Running>,
}

enum Running {
    Gate(Box<Gate>, #[expect(dead_code, reason = "holds the policy until the gate ends")] Option<TempDir>),
    Other(Watched, #[expect(dead_code, reason = "holds the configuration until the process ends")] Option<TempDir>),
}

impl Contender {
    /// Starts it before `cluster`.
    pub(crate) fn start(kind: Kind, cluster: &Cluster, database: &str, earlier: Option<&Path>) -> Contender {
        let server = cluster.target().with_database(database);
        let (target, process) = match kind {
            Kind::Direct => (server, None),
            Kind::Relay => {
                let (process, address) = relay(server.port);
                (at(&server, address), Some(Running::Other(process, None)))
            }
            Kind::Querygate => gate(&server, &own_binary(), "", None),
            Kind::Earlier => gate(&server, earlier.unwrap_or(&own_binary()), "", None),
            Kind::Recording => gate(&server, &own_binary(), "[audit]\nrecord_passing = true", None),
            Kind::Impact => gate(&server, &own_binary(), &format!("[impact]\nuser = \"{}\"", server.user), None),
            Kind::Rego => {
                let dir = TempDir::with_prefix("qg-bench-").expect("a temporary directory");
                let file = dir.path().join("policy.rego");
                write(&file, recipe());
                let policy =
                    format!("[policy]\nengine = \"rego\"\nrego = [\"{}\"]\nfallback = \"shipped\"", file.display());
                gate(&server, &own_binary(), &policy, Some(dir))
            }
            Kind::Pgbouncer => configured(&server, pgbouncer),
            Kind::Haproxy => configured(&server, haproxy),
        };
        Contender { kind, target, process }
    }

    /// CPU time and memory of its process so far.
    pub(crate) fn usage(&self) -> Usage {
        match &self.process {
            None => Usage::default(),
            Some(Running::Gate(gate, _)) => Usage::of(gate.process.pid()),
            Some(Running::Other(process, _)) => Usage::of(process.pid()),
        }
    }
}

/// A gate with one worker, which as the others here speaks no TLS to the server.
fn gate(server: &Target, binary: &Path, toml: &str, policy: Option<TempDir>) -> (Target, Option<Running>) {
    let builder = Gate::builder().one_worker().upstream("sslmode = \"disable\"").toml(toml);
    let gate = builder.start_binary(server, binary);
    (gate.target(), Some(Running::Gate(Box::new(gate), policy)))
}

/// The policy that `docs/rego.md` has for a recipe.
fn recipe() -> &'static str {
    let text = include_str!("../../../docs/rego.md").split("```rego\n").nth(1);
    text.and_then(|rest| rest.split("```").next()).expect("the document has a recipe")
}

fn own_binary() -> PathBuf {
    std::env::current_exe().expect("a process knows its own path")
}

fn at(server: &Target, address: SocketAddr) -> Target {
    Target { port: address.port(), ..server.clone() }
}

fn relay(port: u16) -> (Watched, SocketAddr) {
    let mut command = Command::new(own_binary());
    command.args(["relay", &port.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
    let process = Watched::spawn(command);
    let address = process.wait_line(DEADLINE, |line| line.strip_prefix("listening on ")?.parse().ok());
    let address = address.unwrap_or_else(|| panic!("the relay did not start: {}", process.log()));
    (process, address)
}

/// Starts a proxy that is given its port in a file and does not retry: another process may have taken it meanwhile.
fn configured(server: &Target, start: impl Fn(&Path, &Target, u16) -> Option<Watched>) -> (Target, Option<Running>) {
    for _ in 0..10 {
        let dir = TempDir::with_prefix("qg-bench-").expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode of our own directory");
        give(dir.path());
        let port = free_port();
        if let Some(process) = start(dir.path(), server, port) {
            return (Target { port, ..server.clone() }, Some(Running::Other(process, Some(dir))));
        }
    }
    panic!("no free port found");
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("write a configuration");
    give(path);
}

fn pgbouncer(dir: &Path, server: &Target, port: u16) -> Option<Watched> {
    let (users, config) = (dir.join("users.txt"), dir.join("pgbouncer.ini"));
    write(&users, &format!("\"{}\" \"\"\n", server.user));
    write(
        &config,
        &format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = session\nmax_client_conn = 5000\ndefault_pool_size = 5000\n\
             log_connections = 0\nlog_disconnections = 0\nignore_startup_parameters = extra_float_digits\n",
            server.host,
            server.port,
            users.display()
        ),
    );
    let mut command = unprivileged_command(find_program("pgbouncer").expect("checked before"));
    command.arg(&config).stdout(Stdio::null());
    let process = Watched::spawn(command);
    process.wait_line(DEADLINE, |line| line.contains("process up").then_some(())).map(|()| process)
}

fn haproxy(dir: &Path, server: &Target, port: u16) -> Option<Watched> {
    let config = dir.join("haproxy.cfg");
    write(
        &config,
        &format!(
            "global\n  nbthread 1\n  maxconn 5000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
             listen postgres\n  bind 127.0.0.1:{port}\n  server postgres {}:{}\n",
            server.host, server.port
        ),
    );
    let mut command = unprivileged_command(find_program("haproxy").expect("checked before"));
    command.args(["-V", "-db", "-f"]).arg(&config).stdout(Stdio::null());
    let mut process = Watched::spawn(command);
    // It says nothing once it listens.
    proxy_tests::raw::eventually("HAProxy listens or ends", || {
        let listens = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        (listens || !process.is_running()).then_some(listens)
    })
    .then_some(process)
}
