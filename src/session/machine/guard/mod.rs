//! Guarded execution: a released statement runs with a ceiling on the rows it writes and with time limits of its own. Knows the
//! protocol; knows no rules and no people.
//!
//! # How
//!
//! *A Query in an idle session* would be committed by the time its command tag tells the rows. So the gate sends BEGIN before it and
//! COMMIT or ROLLBACK behind it, and keeps the tag back until that is answered: where COMMIT fails (a deferred constraint), the
//! client sees an error in place of the tag, as it would without the gate.
//!
//! *In a transaction that is open*, and *in the extended protocol*, where everything up to Sync is one transaction, nothing is committed
//! before the tag is here. Past the ceiling the backend is made to raise an error, as for a rejection: that undoes the statement
//! like any other error, the transaction is left as after any other error, and no savepoint is needed. (A savepoint would be
//! released or rolled back by then; what is left of it in either case is a transaction that has failed.)
//!
//! Time limits are set with SET LOCAL, and set back in the same transaction once the statement has ended. Where it fails they need
//! not be: whatever ends or rolls back the failed transaction undoes SET LOCAL too (`AtEOXact_GUC`). What may not run in a transaction
//! (VACUUM, CREATE INDEX CONCURRENTLY) has them set for its session, and set back after it.
//!
//! *Rows kept for an undo* are kept in the same transaction: `querygate_undo.draw` and then `begin` are the last of what comes before the statement and
//! `finish` the first of what comes behind it. Where either fails, the statement is undone as by any error.
//!
//! While the gate's own commands are on their way nothing of the client's is handled.
//!
//! Start at [`Plan`]; [`Guarding`] is one that is being carried out.

mod ending;
mod keep;
mod plan;
#[cfg(test)]
mod tests;

pub(super) use plan::{How, Place, Plan};

use keep::Keeping;

use super::errand::Errand;
use super::result::Seen;
use super::{Action, Machine, Outbox};
use crate::undo::Warrant;
use crate::wire::frame;
use crate::wire::reply::Report;

/// The server's own word on a failing command of the gate's is not repeated for ever.
const MAX_TRIES: u8 = 3;

/// A released statement under guard.
#[derive(Debug)]
pub(super) struct Guarding {
    pub(super) plan: Plan,
    /// Has the session keep the statement's rows, where its plan says so.
    warrant: Option<Box<Warrant>>,
    /// How far keeping them is.
    keeping: Keeping,
    /// Names the request to the client.
    request: Box<str>,
    /// A Query, not a portal.
    query: bool,
    /// The portal, once it is bound.
    pub(super) portal: Box<[u8]>,
    /// Nothing of its transaction came before it, so the Sync ends that. (A batch may have begun a block, which the status does not
    /// tell before its Sync.)
    pub(super) alone: bool,
    pub(super) stage: Stage,
    /// Sets back what was set.
    restore: Vec<String>,
    /// The answer that ends the statement, kept back until what follows is done.
    kept: Option<Vec<u8>>,
    /// What the command tag counts.
    rows: Option<u64>,
    /// Its first word, where it counts rows.
    verb: Option<&'static str>,
    /// The statement, or a command behind it, has failed.
    failed: bool,
    tries: u8,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Nothing is sent.
    New,
    /// The session is asked for its limits.
    Asking,
    /// It has answered.
    Asked(Vec<Option<String>>),
    /// It is being set.
    Setting,
    /// It is set, and the session has drawn this ticket, for which keeping may begin.
    Drawn(String),
    /// The statement may go.
    Set,
    /// A command before it failed, and the client has the error: the statement does not go.
    Failed,
    /// Its portal is bound, and to be executed next.
    Bound,
    /// It runs.
    Running,
    /// It ran; what was set for the session is set back behind the Sync.
    AwaitSync,
    /// Commands behind it are on their way.
    Ending(End),
}

/// What the commands behind a statement do.
#[derive(Debug)]
pub(super) enum End {
    /// Its result stands: COMMIT, or setting back.
    Keep,
    /// It failed: ROLLBACK.
    Undo,
    /// It passed the ceiling: ROLLBACK, then this.
    Over(Report),
}

impl Guarding {
    pub(super) fn new(plan: Plan, warrant: Option<Box<Warrant>>, request: Box<str>, query: bool, alone: bool) -> Self {
        Self {
            plan,
            warrant,
            keeping: Keeping::Not,
            request,
            query,
            portal: Box::default(),
            alone,
            stage: Stage::New,
            restore: Vec::new(),
            kept: None,
            rows: None,
            verb: None,
            failed: false,
            tries: 0,
        }
    }

    /// What the session is asked. SET LOCAL outside of a transaction block lasts until the Sync behind it (and warns), so in an idle
    /// session this also tells what a setting is when nothing sets it.
    pub(super) fn questions(&self) -> Vec<String> {
        let ask = |name: &str| match self.plan.how {
            How::Session => {
                vec![format!("SHOW {name}"), format!("SET LOCAL {name} TO DEFAULT"), format!("SHOW {name}")]
            }
            How::Block | How::Local | How::Nothing => vec![format!("SHOW {name}")],
        };
        self.plan.timeouts.iter().flat_map(|(name, _)| ask(name)).collect()
    }

    /// What is set now that the session has answered; `None`: it did not say what it has.
    pub(super) fn prepare(&mut self, answers: &[Option<String>]) -> Option<Vec<String>> {
        let (mut set, mut restore) = (Vec::new(), Vec::new());
        if self.plan.how == How::Block {
            set.push("BEGIN".to_owned());
        }
        let stride = if self.plan.how == How::Session { 3 } else { 1 };
        if answers.len() != self.plan.timeouts.len().checked_mul(stride)? {
            return None;
        }
        for ((name, wanted), answers) in self.plan.timeouts.iter().zip(answers.chunks(stride)) {
            let own = millis(answers.first()?.as_deref()?)?;
            if own != 0 && own <= u64::from(wanted.millis()) {
                // The session's own is stricter.
                continue;
            }
            let wanted = wanted.millis();
            match self.plan.how {
                How::Block => set.push(format!("SET LOCAL {name} = {wanted}")),
                How::Local | How::Nothing => {
                    set.push(format!("SET LOCAL {name} = {wanted}"));
                    restore.push(format!("SET LOCAL {name} = {own}"));
                }
                How::Session => {
                    set.push(format!("SET {name} = {wanted}"));
                    let usual = millis(answers.get(2)?.as_deref()?)?;
                    restore.push(if usual == own { format!("RESET {name}") } else { format!("SET {name} = {own}") });
                }
            }
        }
        self.restore = restore;
        set.extend(self.draws());
        Some(set)
    }

    /// Its rows are fetched a few at a time, but its time limits are set for one Execute.
    fn in_steps(&self) -> Report {
        Report::error("0A000", "querygate: the statement was undone: under time limits its rows are fetched at once")
            .with_detail(format!("Request {} has a guard with time limits. Nothing of it stays: its transaction has failed, as by any error.", self.request))
            .with_hint("Execute it without a limit of rows (fetch size).")
    }

    /// Why the statement is undone, if it is.
    fn over(&self, undone: &str) -> Option<Report> {
        let most = self.plan.max_rows?;
        let message = match self.rows {
            Some(rows) if rows <= most => return None,
            Some(rows) => {
                format!("querygate: the statement was undone: it wrote {rows} rows, and at most {most} were approved")
            }
            // Fail closed.
            None => format!(
                "querygate: the statement was undone: nothing tells how many rows it wrote, and at most {most} were approved"
            ),
        };
        let detail = if self.request.is_empty() {
            format!("The rule that let it pass without asking anybody allows at most {most} rows. {undone}")
        } else {
            format!("Request {} has a guard of at most {most} rows. {undone}", self.request)
        };
        Some(
            Report::error("54000", message)
                .with_detail(detail)
                .with_hint("Narrow the statement, or ask the owners of the gate's policy about max_rows."),
        )
    }
}

/// What SHOW says of a time limit, in milliseconds; the unit is the largest that fits (`convert_int_from_base_unit`).
fn millis(shown: &str) -> Option<u64> {
    let unit = shown.find(|c: char| !c.is_ascii_digit()).unwrap_or(shown.len());
    let (number, unit) = shown.split_at(unit);
    let factor = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

impl Machine {
    /// A released statement runs, or is about to end, with commands of the gate's own to follow: nobody may cut in.
    #[must_use]
    pub fn is_guarding(&self) -> bool {
        self.guard.is_some() && !self.replies.is_empty()
    }

    /// Gives the session commands of the gate's own, and waits for the answers.
    pub(super) fn run_errand<T: AsRef<[u8]>>(&mut self, commands: &[T], out: &mut Outbox) {
        let name = self.own_name("guards");
        self.send_backend(Errand::messages(&name, commands), out);
        self.replies.push(super::replies::Expect::Errand(Box::new(Errand::new(commands.len()))));
        self.asking = true;
        self.batch.open = true;
        self.await_answers(out);
    }

    /// The gate ends the statement with this; the record has to know, too.
    fn tell_undone(&mut self, report: &Report) {
        let error = Some((report.sqlstate.to_owned(), report.message.clone().into_owned()));
        let seen = Seen { error, ..Seen::default() };
        self.watch = None;
        self.act(Action::Executed(seen));
    }

    /// Makes the backend fail the statement, in its protocol.
    pub(super) fn undo(&mut self, query: bool, report: Report, out: &mut Outbox) {
        self.tell_undone(&report);
        if query {
            self.refuse_query(report, out);
        } else {
            self.refuse_extended(report, out);
        }
        // Whatever came of it is known before anything else is handled.
        self.settle = true;
    }

    /// Fail closed: what the gate began in the session cannot be ended.
    fn guard_is_lost(&mut self) {
        self.guard = None;
        self.close(
            Report::fatal("58000", "querygate: what was set for a guarded statement could not be set back")
                .with_detail("The session is closed, so that nothing stays changed in it."),
        );
    }
}

/// A frame the backend sent.
fn frame_of(tag: u8, body: Option<&[u8]>) -> Vec<u8> {
    frame::build(tag, &[body.unwrap_or_default()])
}
