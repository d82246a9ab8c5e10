//! The real `querygate serve`, started before a database and stopped on drop.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::DEADLINE;
use crate::api::Api;
use crate::postgres::Target;
use crate::process::{Watched, binary_dir};

/// A policy that lets everything through: what transparency is measured with.
pub const ALLOW_ALL: &str = "[[rule]]\nname = \"all\"\naction = \"allow\"\n";

/// Rules that hold every DELETE and let it be approved again in its session.
pub const AGAIN: &str = r#"
[[approval.profile]]
name = "again"
approver_groups = ["approvers"]
again = "15m"
[[rule]]
name = "deletes"
action = "hold"
effects = ["delete"]
approval = "again"
[[rule]]
name = "rest"
action = "allow"
"#;

/// Token of `ann`, who may approve.
pub const ANN: &str = "token-of-ann-for-tests-0123456789";
/// Token of `bob`, who may approve too.
pub const BOB: &str = "token-of-bob-for-tests-0123456789";
/// Token of `eve`, who may look but not approve.
pub const EVE: &str = "token-of-eve-for-tests-0123456789";

/// What the gate is started with.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    listen: String,
    host: Option<String>,
    upstream: String,
    limits: String,
    rest: String,
    allow_all: bool,
}

impl Builder {
    /// Lines for `[listen]`, or further tables of it.
    #[must_use]
    pub fn listen(mut self, toml: &str) -> Builder {
        self.listen.push_str(toml);
        self.listen.push('\n');
        self
    }

    /// Another way to the server than the target's host: a name, or the directory of its Unix socket.
    #[must_use]
    pub fn upstream_host(mut self, host: &str) -> Builder {
        self.host = Some(host.to_owned());
        self
    }

    /// Lines for `[upstream]`.
    #[must_use]
    pub fn upstream(mut self, toml: &str) -> Builder {
        self.upstream.push_str(toml);
        self.upstream.push('\n');
        self
    }

    /// Lines for `[limits]`.
    #[must_use]
    pub fn limits(mut self, toml: &str) -> Builder {
        self.limits.push_str(toml);
        self.limits.push('\n');
        self
    }

    /// Whole tables: `[hold]`, `[[rule]]`, `[log]` …
    #[must_use]
    pub fn toml(mut self, toml: &str) -> Builder {
        self.rest.push_str(toml);
        self.rest.push('\n');
        self
    }

    /// Lets everything through: every statement, replication, function calls.
    #[must_use]
    pub fn allow_all(mut self) -> Builder {
        self.allow_all = true;
        self.limits("allow_replication = true\nallow_function_call = true")
    }

    /// One thread for sessions: what single-threaded proxies are compared with.
    #[must_use]
    pub fn one_worker(self) -> Builder {
        self.limits("workers = 1")
    }

    /// Starts it before `target`'s server and waits until it listens.
    pub fn start(self, target: &Target) -> Gate {
        self.start_binary(target, &binary())
    }

    /// The same with another program file that understands `serve`.
    pub fn start_binary(self, target: &Target, binary: &Path) -> Gate {
        let dir = TempDir::with_prefix("qg-gate-").expect("a temporary directory");
        let config = dir.path().join("querygate.toml");
        fs::write(&config, self.config(target)).expect("write the configuration");
        // It holds tokens; the gate warns about one that everybody may read.
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).expect("mode of our own file");
        Gate::launch(binary, config, dir, target)
    }

    /// The configuration file.
    pub fn config(&self, target: &Target) -> String {
        let people = [("ann", ANN, "approvers"), ("bob", BOB, "approvers"), ("eve", EVE, "readers")]
            .map(|(name, token, group)| {
                format!("[[people]]\nname = \"{name}\"\ngroups = [\"{group}\"]\ntoken = \"{token}\"\n")
            })
            .concat();
        let policy = if self.allow_all { ALLOW_ALL } else { "" };
        format!(
            "[listen]\naddress = \"127.0.0.1:0\"\n{}\n[upstream]\nhost = \"{}\"\nport = {}\n{}\n[limits]\n{}\n\
             [admin]\naddress = \"127.0.0.1:0\"\n\n[approval]\napprover_groups = [\"approvers\"]\nunknown_requester = \"allow\"\n\n{people}\n{}\n{policy}",
            self.listen,
            self.host.as_deref().unwrap_or(&target.host),
            target.port,
            self.upstream,
            self.limits,
            self.rest
        )
    }
}

/// A running gate.
pub struct Gate {
    /// The process; its `pid()` is what CPU and memory are read of.
    pub process: Watched,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where the admin API listens.
    pub admin: SocketAddr,
    /// The configuration file, for tests that change it and reload.
    pub config: PathBuf,
    through: Target,
    dir: TempDir,
}

impl Gate {
    /// What to start it with.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Kills the gate as a power cut would, and starts it again on the same files.
    #[must_use]
    pub fn kill_and_restart(self) -> Gate {
        let Gate { mut process, config, through, dir, .. } = self;
        process.signal(Signal::SIGKILL);
        process.wait(DEADLINE);
        Gate::launch(&binary(), config, dir, &through)
    }

    fn launch(binary: &Path, config: PathBuf, dir: TempDir, target: &Target) -> Gate {
        let mut command = Command::new(binary);
        command.args(["serve", "--config"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        let process = Watched::spawn(command);
        let listening = |line: &str, what: &str| -> Option<SocketAddr> {
            let rest = line.split_once(what)?.1;
            rest.split(|c: char| c.is_whitespace() || c == '"' || c == '/').next()?.parse().ok()
        };
        let address = process
            .wait_line(DEADLINE, |line| listening(line, "listening on ").filter(|_| !line.contains("admin")))
            .unwrap_or_else(|| {
                panic!(
                    "the gate did not start:\n{}\n--- with\n{}",
                    process.log(),
                    fs::read_to_string(&config).unwrap_or_default()
                )
            });
        let admin = process
            .wait_line(DEADLINE, |line| {
                listening(line, "admin API on http://").or_else(|| listening(line, "admin API on "))
            })
            .unwrap_or_else(|| panic!("the gate named no admin address:\n{}", process.log()));
        Gate { process, address, admin, through: target.clone(), config, dir }
    }

    /// With the default policy, before `target`'s server.
    pub fn start(target: &Target) -> Gate {
        Gate::builder().start(target)
    }

    /// With a policy that allows everything.
    pub fn transparent(target: &Target) -> Gate {
        Gate::builder().allow_all().start(target)
    }

    /// The database it was started for, through the gate.
    pub fn target(&self) -> Target {
        Target { host: self.address.ip().to_string(), port: self.address.port(), ..self.through.clone() }
    }

    /// The directory of its configuration and its record.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The admin API as `ann`, who may approve.
    pub fn api(&self) -> Api {
        Api::new(self.admin, ANN)
    }
}

/// The binary that cargo built beside this test (the same as `querygate`), or the one `QUERYGATE_BIN` names.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("QUERYGATE_BIN").map_or_else(|| binary_dir().join("gate-under-test"), PathBuf::from);
    assert!(path.is_file(), "{} is missing: cargo builds it for this package's tests", path.display());
    path
}
