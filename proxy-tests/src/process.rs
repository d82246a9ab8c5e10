//! Child processes whose standard error is watched line by line, and the user that servers refusing root run as.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User, chown};
use querygate::clock;

/// The directory of the binaries that cargo built beside this test: `target/debug`.
pub fn binary_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("a process knows its own path");
    let dir = exe.parent().expect("an executable has a directory");
    // Tests live in `deps`, binaries beside it.
    if dir.file_name() == Some(OsStr::new("deps")) {
        dir.parent().expect("`deps` has a parent").to_path_buf()
    } else {
        dir.to_path_buf()
    }
}

/// Finds a program in `PATH`, the usual system directories and the newest `/usr/lib/postgresql/*/bin`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let mut server_dirs: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    server_dirs.sort();
    server_dirs.reverse();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(server_dirs)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

/// Like [`find_program`], for a program the test cannot do without.
pub fn program(name: &str) -> PathBuf {
    find_program(name).unwrap_or_else(|| panic!("`{name}` is not installed (Debian: postgresql, postgresql-contrib)"))
}

/// The user for servers that refuse to run as root; `None` when we are not root anyway.
pub fn unprivileged() -> Option<(Uid, Gid)> {
    if !Uid::effective().is_root() {
        return None;
    }
    ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten()).map(|user| (user.uid, user.gid))
}

/// A command that runs as [`unprivileged`], in a directory that user can read.
pub fn unprivileged_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null());
    if let Some((uid, gid)) = unprivileged() {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    command
}

/// Gives `path` to the user of [`unprivileged`].
pub fn give(path: &Path) {
    if let Some((uid, gid)) = unprivileged() {
        chown(path, Some(uid), Some(gid)).unwrap_or_else(|error| panic!("chown {}: {error}", path.display()));
    }
}

/// Resident memory of a process, KiB.
pub fn resident_kib(pid: u32) -> u64 {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .expect("the process runs")
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok())
        .expect("a size")
}

#[derive(Default)]
struct Log {
    lines: Vec<String>,
    ended: bool,
}

/// A child process and everything it wrote to standard error. Killed on drop, also when the test panics.
pub struct Watched {
    child: Child,
    name: String,
    log: Arc<(Mutex<Log>, Condvar)>,
}

impl Watched {
    /// Starts `command` with its standard error captured.
    pub fn spawn(mut command: Command) -> Watched {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let stderr = child.stderr.take().expect("stderr is piped");
        let log: Arc<(Mutex<Log>, Condvar)> = Arc::default();
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stderr);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                writer.0.lock().unwrap_or_else(PoisonError::into_inner).lines.push(text);
                writer.1.notify_all();
            }
            writer.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
            writer.1.notify_all();
        });
        Watched { child, name, log }
    }

    /// Waits for the first line that `pick` turns into something; `None` when the process closed its standard error
    /// (ended) or `within` passed.
    pub fn wait_line<T>(&self, within: Duration, mut pick: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let give_up = clock::now() + within;
        let mut seen = 0;
        let mut log = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while seen < log.lines.len() {
                if let Some(found) = pick(&log.lines[seen]) {
                    return Some(found);
                }
                seen += 1;
            }
            let left = give_up.saturating_duration_since(clock::now());
            if log.ended || left.is_zero() {
                return None;
            }
            log = self.log.1.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything written to standard error so far.
    pub fn log(&self) -> String {
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).lines.join("\n")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are positive i32"));
        kill(pid, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it ended by itself.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        // The end of standard error is the event; every child here holds it open for as long as it lives.
        assert!(self.wait_line(within, |_| None::<()>).is_none());
        assert!(
            self.log.0.lock().unwrap_or_else(PoisonError::into_inner).ended,
            "{} still runs after {within:?}; it said:\n{}",
            self.name,
            self.log()
        );
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- standard error of {}:\n{}", self.name, self.log());
        }
    }
}
