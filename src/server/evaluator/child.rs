//! The process that evaluates: limits itself, takes a policy, then answers inputs until nobody asks any more.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::panic;

use nix::sys::resource::{Resource, setrlimit};

use super::Answer;
use crate::judge::{Evaluate as _, Interpreter, RegoParts};

/// What the program has of its own before it takes the policy, in bytes, generously.
const OWN: u64 = 16 << 20;

/// Evaluates for whoever is at the other end of standard input, a socket.
///
/// # Errors
/// When standard input is none, or breaks.
pub fn serve() -> io::Result<()> {
    // What is wrong is answered; of what ends the process the library says more than a panic would.
    panic::set_hook(Box::new(|_| {}));
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut lines = BufReader::new(socket.try_clone()?);
    let Some(policy) = line(&mut lines)? else { return Ok(()) };
    let interpreter = match prepare(&policy) {
        Ok(interpreter) => interpreter,
        Err(why) => return answer(&socket, &Answer::Failed(why)),
    };
    drop(policy);
    answer(&socket, &Answer::Decision(serde_json::Value::Null))?;
    while let Some(input) = line(&mut lines)? {
        let said = match interpreter.evaluate(&input) {
            Ok(decision) => Answer::Decision(decision),
            Err(why) => Answer::Failed(why),
        };
        answer(&socket, &said)?;
    }
    Ok(())
}

fn prepare(policy: &str) -> Result<Interpreter, String> {
    let parts: RegoParts = serde_json::from_str(policy).map_err(|error| error.to_string())?;
    let most = parts.memory.saturating_add(OWN);
    // Fail closed: without a limit nothing is evaluated.
    setrlimit(Resource::RLIMIT_DATA, most, most).map_err(|error| format!("its memory cannot be limited: {error}"))?;
    // What it was asked is nobody's business.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|error| format!("core files cannot be prevented: {error}"))?;
    Interpreter::new(&parts)
}

fn line(lines: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    Ok((lines.read_line(&mut line)? > 0).then_some(line))
}

fn answer(mut socket: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    socket.write_all(&line)
}
