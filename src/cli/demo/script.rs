//! The demo playing by itself: real psql sessions through the gate, decisions over the admin API, and after each step a
//! look at the database. Prints what it does and what it checked.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout_at};

use super::Stage;
use super::postgres::{Binaries, psql};
use crate::approval::http::view::{AnswerBody, RequestView, State};
use crate::cli::requests::api::{Api, ApiError, Which};
use crate::cli::requests::text;

/// For each step; one takes well under a second.
const STEP_DEADLINE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Why the script stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScriptError {
    /// A step did not do what it says.
    #[error("{what}\n    expected: {expected}\n    but: {seen}")]
    Check { what: String, expected: String, seen: String },
    /// Nothing happened for too long.
    #[error("{0} took longer than {STEP_DEADLINE:?}")]
    Late(&'static str),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("cannot run psql: {0}")]
    Psql(#[from] std::io::Error),
    #[error("a thread ended early: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Plays all steps.
pub(super) async fn play(stage: &Stage) -> Result<(), ScriptError> {
    let script = Script { binaries: &stage.binaries, url: &stage.url, password: &stage.password, api: &stage.api };
    script.reads_pass().await?;
    script.approved_delete_runs().await?;
    script.rejected_drop_does_not().await?;
    script.ctrl_c_withdraws().await?;
    say!("\nEvery step did what it says.");
    Ok(())
}

struct Script<'a> {
    binaries: &'a Binaries,
    url: &'a str,
    password: &'a str,
    api: &'a Api,
}

/// What a finished psql left.
struct Said {
    success: bool,
    out: String,
    err: String,
}

impl Script<'_> {
    async fn reads_pass(&self) -> Result<(), ScriptError> {
        heading("A harmless statement passes, unnoticed");
        let said = self.run(&["SELECT count(*) FROM customers"]).await?;
        check("psql got its answer", "100", said.out.trim())?;
        check("and nothing else", "", said.err.trim())?;
        let pending = self.requests().await?;
        check("nobody was asked", 0, pending.len())
    }

    async fn approved_delete_runs(&self) -> Result<(), ScriptError> {
        const DELETE: &str = "DELETE FROM orders WHERE id = 1";
        heading("A DELETE is held, approved, and runs");
        check("rows before", "3", self.count("order_items WHERE order_id = 1").await?.as_str())?;
        let mut psql = self.start(&[DELETE])?;
        let request = self.held(DELETE).await?;
        check("the rows are still there", "3", self.count("order_items WHERE order_id = 1").await?.as_str())?;
        check("psql still waits", true, psql.try_wait()?.is_none())?;
        self.decide(&request, true, "the customer asked for it").await?;
        let said = heard(psql).await?;
        check("psql was told at once that it has to wait", true, said.err.contains(&request.id))?;
        let takes = "Impact: deletes 1 row (exact) of public.orders; cascades to 3 rows (exact) of public.order_items";
        check("with what would go", true, said.err.contains(takes))?;
        check("then it got the ordinary answer", "DELETE 1", said.out.trim())?;
        check("and exit status 0", true, said.success)?;
        check("the rows are gone", "0", self.count("order_items WHERE order_id = 1").await?.as_str())?;
        self.ended(&request, State::Released).await.map(drop)
    }

    async fn rejected_drop_does_not(&self) -> Result<(), ScriptError> {
        const DROP: &str = "DROP TABLE customers CASCADE";
        const REASON: &str = "we still have customers";
        heading("A DROP is held, rejected, and the session goes on");
        let psql = self.start(&[DROP, "SELECT 'still here'"])?;
        let request = self.held(DROP).await?;
        self.decide(&request, false, REASON).await?;
        let said = heard(psql).await?;
        check("psql got an ordinary error, SQLSTATE 42501", true, said.err.contains("42501"))?;
        check("which says why", true, said.err.contains(REASON))?;
        check("and the same session answers the next statement", "still here", said.out.trim())?;
        check("the table is still there", "100", self.count("customers").await?.as_str())?;
        self.ended(&request, State::Rejected).await.map(drop)
    }

    async fn ctrl_c_withdraws(&self) -> Result<(), ScriptError> {
        const DELETE: &str = "DELETE FROM orders";
        heading("A DELETE is held, and Ctrl-C in psql withdraws it");
        let psql = self.start(&[DELETE])?;
        let request = self.held(DELETE).await?;
        let pid = psql.id().and_then(|pid| i32::try_from(pid).ok());
        let interrupted = pid.is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGINT).is_ok());
        check("psql was interrupted", true, interrupted)?;
        let said = heard(psql).await?;
        check("psql got SQLSTATE 57014", true, said.err.contains("57014"))?;
        check("the rows are still there", "499", self.count("orders").await?.as_str())?;
        let ended = self.ended(&request, State::Withdrawn).await?;
        check("the record says why", Some("cancelled by the client"), ended.cause.as_deref())?;
        let late = self.ask(&request, true, "").await;
        let late = late.err().map(|error| error.exit_status());
        check("and an approval that comes now is refused", Some(5), late)
    }

    /// Starts psql with some statements.
    fn start(&self, statements: &[&str]) -> Result<Child, ScriptError> {
        let mut command = psql(self.binaries, self.password);
        command.args(["-A", "-t", "-v", "VERBOSITY=verbose", "-d", self.url]);
        for statement in statements {
            say!("    psql> {statement};");
            command.args(["-c", statement]);
        }
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    async fn run(&self, statements: &[&str]) -> Result<Said, ScriptError> {
        finish(self.start(statements)?).await
    }

    /// Rows, as a session of its own sees them.
    async fn count(&self, what: &str) -> Result<String, ScriptError> {
        let mut command = psql(self.binaries, self.password);
        command.args(["-A", "-t", "-d", self.url, "-c", &format!("SELECT count(*) FROM {what}")]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let said = finish(child).await?;
        Ok(format!("{}{}", said.out.trim(), said.err.trim()))
    }

    async fn requests(&self) -> Result<Vec<RequestView>, ScriptError> {
        let api = self.api.clone();
        let list = tokio::task::spawn_blocking(move || api.list(Which::Pending, 10)).await??;
        Ok(list.requests)
    }

    /// Waits until the statement is held, and shows what an approver sees.
    async fn held(&self, statement: &str) -> Result<RequestView, ScriptError> {
        let deadline = deadline();
        loop {
            if let Some(request) = self.requests().await?.pop() {
                let seen = text::request(&request, crate::clock::wall());
                say!("{}", indented(&seen));
                check("the very statement is shown", statement, request.statement.text.as_str())?;
                return Ok(request);
            }
            wait(deadline, "holding the statement").await?;
        }
    }

    async fn decide(&self, request: &RequestView, approve: bool, reason: &str) -> Result<(), ScriptError> {
        let verb = if approve { "approve" } else { "reject" };
        say!("    querygate requests {verb} {} --reason \"{reason}\"", request.id);
        let decided = self.ask(request, approve, reason).await?;
        say!("    {}", text::decided(&decided));
        Ok(())
    }

    async fn ask(&self, request: &RequestView, approve: bool, reason: &str) -> Result<RequestView, ApiError> {
        let (api, id) = (self.api.clone(), request.id.clone());
        let body = AnswerBody {
            reason: Some(reason.to_owned()),
            statement_sha256: Some(request.statement.sha256.clone()),
            ..AnswerBody::default()
        };
        let asked = tokio::task::spawn_blocking(move || api.decide(&id, approve, &body)).await;
        asked.map_err(|error| ApiError::Usage(error.to_string()))?
    }

    /// Waits for the outcome on record.
    async fn ended(&self, request: &RequestView, state: State) -> Result<RequestView, ScriptError> {
        let deadline = deadline();
        loop {
            let (api, id) = (self.api.clone(), request.id.clone());
            let now = tokio::task::spawn_blocking(move || api.show(&id)).await??;
            if now.ended_at.is_some() {
                check("the record agrees", state, now.state)?;
                return Ok(now);
            }
            wait(deadline, "recording the outcome").await?;
        }
    }
}

/// The same, showing what the person at psql saw.
async fn heard(child: Child) -> Result<Said, ScriptError> {
    let said = finish(child).await?;
    let lines = said.err.lines().chain(said.out.lines());
    for line in lines {
        say!("    psql| {}", crate::approval::spell_out(line));
    }
    Ok(said)
}

async fn finish(child: Child) -> Result<Said, ScriptError> {
    let output = timeout_at(deadline(), child.wait_with_output()).await;
    let output = output.map_err(|_| ScriptError::Late("psql"))??;
    Ok(Said {
        success: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn deadline() -> Instant {
    let now = Instant::from_std(crate::clock::now());
    now.checked_add(STEP_DEADLINE).unwrap_or(now)
}

async fn wait(deadline: Instant, what: &'static str) -> Result<(), ScriptError> {
    timeout_at(deadline, sleep(LOOK_AGAIN)).await.map_err(|_| ScriptError::Late(what))
}

/// Says what holds, or stops the script.
#[expect(clippy::needless_pass_by_value, reason = "callers compare literals")]
fn check<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, seen: T) -> Result<(), ScriptError> {
    if expected == seen {
        say!("    ✓ {what}");
        return Ok(());
    }
    say!("    ✗ {what}");
    Err(ScriptError::Check { what: what.to_owned(), expected: format!("{expected:?}"), seen: format!("{seen:?}") })
}

fn heading(words: &str) {
    say!("\n{words}");
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    │ {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_fails_stops_the_script_and_says_both() {
        assert!(check("same", 1, 1).is_ok());
        let error = check("rows before", "3", "4").unwrap_err().to_string();
        assert!(error.contains("rows before") && error.contains("\"3\"") && error.contains("\"4\""), "{error}");
    }
}
