//! A policy in Rego is evaluated in a process of its own, which is this program again: the interpreter looks at a clock only between
//! its steps and at its memory not at all, and one call of a builtin can take either without end. The kernel bounds what a process
//! allocates, and a process can be killed. Knows no rules, and nothing of what is asked.
//!
//! The two talk in lines of JSON over a socket: first the policy, then an input and its answer at a time.
//!
//! Start at [`Evaluator::start`]; the other end is [`serve`].

mod child;

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use child::serve;

use crate::clock;
use crate::judge::{Evaluate, RegoParts};

/// The subcommand that [`serve`]s.
pub const SUBCOMMAND: &str = "rego-evaluator";

/// This program, even if another stands under its name by now.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Processes kept for the next question.
const KEPT: usize = 8;
/// How long it may take until a process is ready to be asked.
const READY: Duration = Duration::from_secs(10);
/// What an evaluation gets beyond its limit before its process is killed: as long again, and at least this.
const GRACE: Duration = Duration::from_millis(30);
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 256 << 10;
/// What a process may say of its end, in bytes.
const MAX_LAST_WORDS: u64 = 4 << 10;

/// What a process answers.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// It is ready, or this is the decision document.
    Decision(Value),
    /// Why there is none.
    Failed(String),
}

/// Evaluates in processes of its own; there are as many as are needed at a time.
#[derive(Debug)]
pub struct Evaluator {
    program: PathBuf,
    policy: String,
    limit: Duration,
    memory: u64,
    /// `None`: none are kept any more.
    idle: Mutex<Option<Vec<Process>>>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    socket: UnixStream,
}

/// Why there is no answer.
#[derive(Clone, Copy)]
enum Lost {
    /// It did not come in time.
    Late,
    /// There is nobody who would give one.
    Gone,
    TooLong,
}

impl Evaluator {
    /// Starts a first process with this policy.
    ///
    /// # Errors
    /// Why there is none, or what the compiler says.
    pub fn start(parts: &RegoParts) -> Result<Self, String> {
        let program = match Path::new(THIS_PROGRAM) {
            path if path.exists() => path.to_owned(),
            _ => std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?,
        };
        let policy = serde_json::to_string(parts).map_err(|error| error.to_string())?;
        let idle = Mutex::new(Some(Vec::new()));
        let evaluator = Self { program, policy, limit: parts.limit, memory: parts.memory, idle };
        let first = evaluator.process()?;
        evaluator.keep(first);
        Ok(evaluator)
    }

    /// A process that has the policy.
    fn process(&self) -> Result<Process, String> {
        let mut process = Process::spawn(&self.program)
            .map_err(|error| format!("the process that evaluates cannot be started: {error}"))?;
        match process.ask(&self.policy, READY) {
            Ok(Answer::Decision(_)) => Ok(process),
            Ok(Answer::Failed(why)) => Err(why),
            Err(lost) => Err(self.why(lost, process)),
        }
    }

    fn idle(&self) -> Option<Process> {
        loop {
            let mut process = self.idle.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.pop()?;
            // Somebody may have killed it since.
            if matches!(process.child.try_wait(), Ok(None)) {
                return Some(process);
            }
        }
    }

    fn keep(&self, process: Process) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(idle) = idle.as_mut().filter(|idle| idle.len() < KEPT) {
            idle.push(process);
        }
    }

    fn why(&self, lost: Lost, process: Process) -> String {
        let (limit, memory) = (self.limit, self.memory);
        match lost {
            Lost::Late => format!("it took longer than {limit:?} (`rego_limit`)"),
            Lost::TooLong => format!("its answer is longer than {MAX_ANSWER} bytes"),
            Lost::Gone => {
                let (words, ended) = process.last_words();
                // What the standard library says as it gives up.
                if words.contains("memory allocation of") {
                    format!("it needed more memory than {memory} bytes (`rego_memory`)")
                } else if words.contains("overflowed its stack") {
                    "it recursed too deeply".to_owned()
                } else {
                    format!("the process that evaluates it has ended: {ended}")
                }
            }
        }
    }
}

impl Evaluate for Evaluator {
    fn evaluate(&self, input: &str) -> Result<Value, String> {
        let mut process = self.idle().map_or_else(|| self.process(), Ok)?;
        match process.ask(input, self.limit.saturating_add(self.limit.max(GRACE))) {
            Ok(answer) => {
                self.keep(process);
                match answer {
                    Answer::Decision(decision) => Ok(decision),
                    Answer::Failed(why) => Err(why),
                }
            }
            // Fail closed: no answer is no decision. The process goes with the evaluation.
            Err(lost) => Err(self.why(lost, process)),
        }
    }

    fn retire(&self) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Process {
    fn spawn(program: &Path) -> io::Result<Self> {
        let (socket, other) = UnixStream::pair()?;
        let child = Command::new(program)
            .arg(SUBCOMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(other)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self { child, socket })
    }

    fn ask(&mut self, line: &str, patience: Duration) -> Result<Answer, Lost> {
        let until = clock::now().checked_add(patience);
        self.socket.set_write_timeout(Some(left(until)?)).map_err(|_| Lost::Gone)?;
        for bytes in [line.as_bytes(), b"\n"] {
            self.socket.write_all(bytes).map_err(|error| lost(&error))?;
        }
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while answer.last() != Some(&b'\n') {
            self.socket.set_read_timeout(Some(left(until)?)).map_err(|_| Lost::Gone)?;
            let count = match self.socket.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(lost(&error)),
            };
            if count == 0 {
                return Err(Lost::Gone);
            }
            answer.extend(buffer.iter().take(count));
            if answer.len() > MAX_ANSWER {
                return Err(Lost::TooLong);
            }
        }
        // Fail closed: what cannot be read is no answer.
        serde_json::from_slice(&answer).map_err(|_| Lost::Gone)
    }

    /// What it said, and how it ended; called when it has closed its socket.
    fn last_words(mut self) -> (String, String) {
        let mut words = Vec::new();
        let _ = self.child.kill();
        if let Some(stderr) = self.child.stderr.take() {
            let _ = stderr.take(MAX_LAST_WORDS).read_to_end(&mut words);
        }
        let ended = match self.child.wait() {
            Ok(status) => status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}")),
            Err(error) => error.to_string(),
        };
        (String::from_utf8_lossy(&words).into_owned(), ended)
    }
}

impl Drop for Process {
    /// Kills it.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Time that is left; none is late.
fn left(until: Option<Instant>) -> Result<Duration, Lost> {
    let left = until.map(|until| until.saturating_duration_since(clock::now())).unwrap_or_default();
    if left.is_zero() { Err(Lost::Late) } else { Ok(left) }
}

fn lost(error: &io::Error) -> Lost {
    let is_late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    if is_late { Lost::Late } else { Lost::Gone }
}
