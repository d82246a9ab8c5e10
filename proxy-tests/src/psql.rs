//! Runs `psql` and other client programs of Postgres, and Python scripts in the environment that `.ci/setup` made.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::postgres::Target;
use crate::process::program;

/// What a finished program said.
#[derive(Debug)]
pub struct Said {
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    fn of(output: &Output) -> Said {
        Said {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test unless the exit status is 0; then the standard output.
    pub fn ok(self) -> String {
        assert_eq!(self.status, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }
}

/// `psql` without start-up files, unaligned tuples only, stopping at the first error.
#[derive(Debug, Clone)]
pub struct Psql {
    conninfo: String,
    arguments: Vec<String>,
    password: Option<String>,
}

impl Psql {
    /// Connects to `target`.
    pub fn new(target: &Target) -> Psql {
        Psql::conninfo(target.conninfo(""))
    }

    /// Connects as a libpq connection string says.
    pub fn conninfo(conninfo: impl Into<String>) -> Psql {
        let arguments = ["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"].map(str::to_owned).to_vec();
        Psql { conninfo: conninfo.into(), arguments, password: None }
    }

    /// A further argument.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Psql {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The password it gives when asked.
    #[must_use]
    pub fn password(mut self, password: &str) -> Psql {
        self.password = Some(password.to_owned());
        self
    }

    /// Runs one `-c` command.
    pub fn command(&self, sql: &str) -> Said {
        Said::of(&self.process().args(["-c", sql]).stdin(Stdio::null()).output().expect("psql runs"))
    }

    /// Runs a script given on standard input.
    pub fn script(&self, script: &str) -> Said {
        Said::of(&feed(&mut self.process(), script.as_bytes()))
    }

    /// Starts `psql -c` and leaves it running, with its output captured.
    pub fn start(&self, sql: &str) -> Child {
        self.process()
            .args(["-c", sql])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql runs")
    }

    fn process(&self) -> Command {
        let mut command = client(program("psql"));
        command.args(&self.arguments).arg("-d").arg(&self.conninfo);
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password);
        }
        command
    }
}

/// Waits for a program started with captured output.
pub fn finish(child: Child) -> Said {
    Said::of(&child.wait_with_output().expect("the program ends"))
}

/// Runs a client program with a connection string for `target` in `-d`.
pub fn tool(name: &str, target: &Target, arguments: &[&str]) -> Said {
    let mut command = client(program(name));
    command.args(arguments).arg("-d").arg(target.conninfo(""));
    Said::of(&command.stdin(Stdio::null()).output().expect("the program runs"))
}

/// Runs a client program with `input` on standard input.
pub fn tool_with_input(name: &str, target: &Target, arguments: &[&str], input: &[u8]) -> Said {
    let mut command = client(program(name));
    command.args(arguments).arg("-d").arg(target.conninfo(""));
    Said::of(&feed(&mut command, input))
}

/// Runs `pgbench` against `target` (it takes no connection string in Postgres 15).
pub fn pgbench(target: &Target, arguments: &[&str]) -> Said {
    Said::of(&pgbench_command(target, arguments).output().expect("pgbench runs"))
}

/// The command of [`pgbench`].
pub fn pgbench_command(target: &Target, arguments: &[&str]) -> Command {
    let mut command = client(program("pgbench"));
    command
        .args(["-h", &target.host, "-p", &target.port.to_string(), "-U", &target.user])
        .args(arguments)
        .arg(&target.database);
    command.env("PGSSLMODE", "disable").stdin(Stdio::null());
    command
}

/// The Python of the virtual environment that `.ci/setup` made; `None` when it was not run here.
pub fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let python =
        std::env::var_os("QUERYGATE_TEST_PYTHON").map_or_else(|| root.join("target/venv/bin/python"), PathBuf::from);
    python.is_file().then_some(python)
}

/// Runs a Python script of `proxy-tests/python` with arguments.
pub fn python_script(script: &str, arguments: &[&str]) -> Said {
    let python = python().expect("`.ci/setup` makes target/venv with psycopg and asyncpg");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
    Said::of(&client(python).arg(path).args(arguments).stdin(Stdio::null()).output().expect("python runs"))
}

/// A command that sees none of the caller's libpq settings.
fn client(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("PGPASSFILE", "/nonexistent").env("PSQL_HISTORY", "/dev/null").env("LC_ALL", "C").env("PGTZ", "UTC");
    command
}

fn feed(command: &mut Command, input: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that stops reading says why in its output.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().expect("the program ends")
    })
}
