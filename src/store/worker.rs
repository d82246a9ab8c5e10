//! The thread that owns the database and the audit file. Everything that waits is written in one go: one commit, one
//! synchronisation. Knows nobody's reasons for what it is given.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};
use tokio::sync::{oneshot, watch};

use super::chain::{Head, Line};
use super::checkpoint::Notary;
use super::database::Database;
use super::file::AuditFile;
use super::health::Pulse;
use super::project::{self, Refusal};
use super::read;
use super::redact::redact;
use super::{Event, Redact, StoreError};
use crate::clock;

/// Longest line. SQLite takes no values above 1,000,000,000 bytes.
const MAX_LINE_BYTES: usize = 900_000_000;
/// Most calls, and about how many bytes, that are written in one go.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 8 << 20;
/// How often a store that fails is tried.
const RETRY: Duration = Duration::from_secs(1);
/// Largest attempt to write whether writing works again.
const ATTEMPT_BYTES: usize = 64 << 20;

/// Where an event stands in the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its number, from 1.
    pub seq: u64,
    /// Its time on record.
    pub at: Timestamp,
    /// Its hash, which stands for the whole record up to it.
    pub hash: String,
}

type Reply = oneshot::Sender<Result<Vec<Recorded>, StoreError>>;

/// What the thread is asked to do.
pub(super) enum Job {
    Record(Vec<Event>, Reply),
    Use(Box<dyn FnOnce(&Connection) + Send>),
    Close(oneshot::Sender<()>),
}

/// What the thread owns.
pub(super) struct Worker {
    pub(super) database: Database,
    pub(super) file: Option<AuditFile>,
    pub(super) notary: Option<Notary>,
    pub(super) redact: Redact,
    pub(super) head: Head,
    pub(super) policy_version: String,
    pub(super) pulse: Arc<Pulse>,
    pub(super) heads: watch::Sender<Head>,
    /// Bytes of what could not be written last.
    pub(super) unwritten: usize,
}

impl Worker {
    /// Runs until it is told to close, or everybody who could ask is gone.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        // However it ends: whoever asks for its health afterwards must not hear that all is well.
        let ended = Ended(Arc::clone(&self.pulse));
        let mut next = None;
        loop {
            let job = match next.take() {
                Some(job) => Ok(job),
                None => self.wait(jobs),
            };
            self.pulse.begin();
            match job {
                Ok(Job::Record(events, reply)) => next = self.gather(jobs, (events, reply)),
                Ok(Job::Use(use_it)) => use_it(&self.database.connection),
                Ok(Job::Close(done)) => {
                    self.checkpoint(true);
                    drop(self);
                    // Whoever is told that it is closed must not find it healthy.
                    drop(ended);
                    // Whoever closed it may have stopped waiting.
                    let _unheard = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => {
                    self.checkpoint(true);
                    return;
                }
            }
            self.checkpoint(false);
            self.pulse.end();
        }
    }

    fn wait(&self, jobs: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
        let retry = self.pulse.is_failing().then_some(RETRY);
        let due = self.notary.as_ref().and_then(Notary::due);
        let due = due.map(|due| due.saturating_duration_since(clock::now()));
        match retry.into_iter().chain(due).min() {
            Some(time) => jobs.recv_timeout(time),
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn checkpoint(&mut self, last: bool) {
        if let Some(notary) = &mut self.notary {
            notary.consider(&self.head, (clock::now(), clock::wall()), last);
        }
    }

    /// Takes what else waits to be recorded, and records it. Returns the first job of another kind that came along.
    fn gather(&mut self, jobs: &Receiver<Job>, first: (Vec<Event>, Reply)) -> Option<Job> {
        let mut bytes = first.0.iter().map(weight).fold(0, usize::saturating_add);
        let mut batch = vec![first];
        let mut other = None;
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            match jobs.try_recv() {
                Ok(Job::Record(events, reply)) => {
                    bytes = events.iter().map(weight).fold(bytes, usize::saturating_add);
                    batch.push((events, reply));
                }
                Ok(job @ (Job::Use(_) | Job::Close(_))) => {
                    other = Some(job);
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        self.record(batch);
        other
    }

    fn record(&mut self, batch: Vec<(Vec<Event>, Reply)>) {
        let (events, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let results = match self.write(events) {
            Ok(results) => {
                self.pulse.works();
                results
            }
            Err(why) => {
                self.pulse.fails(&why);
                // Fail closed: what is not known to be on the disk was not recorded.
                replies.iter().map(|_| Err(StoreError::Failing(why.clone()))).collect()
            }
        };
        for (reply, result) in replies.into_iter().zip(results) {
            // Whoever asked may have stopped waiting.
            let _unheard = reply.send(result);
        }
    }

    /// One transaction, then the file. An error is everybody's; a result is one call's.
    fn write(&mut self, calls: Vec<Vec<Event>>) -> Result<Vec<Result<Vec<Recorded>, StoreError>>, String> {
        let mut draft =
            Draft { head: self.head.clone(), policy_version: self.policy_version.clone(), lines: Vec::new() };
        self.unwritten = self.unwritten.max(1);
        if let Some(file) = &mut self.file {
            file.prepare(&self.database.connection, 0)?;
        }
        let sql = |error: rusqlite::Error| error.to_string();
        let connection = &mut self.database.connection;
        let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        let mut results = Vec::with_capacity(calls.len());
        for events in calls {
            let before = draft.clone_state();
            let part = transaction.savepoint().map_err(sql)?;
            match draft.add(&part, self.redact, events) {
                Ok(recorded) => {
                    part.commit().map_err(sql)?;
                    results.push(Ok(recorded));
                }
                Err(refusal) => {
                    let error = one_calls(refusal)?;
                    // Dropped without a commit, a savepoint is rolled back.
                    part.finish().map_err(sql)?;
                    draft.restore(before);
                    results.push(Err(error));
                }
            }
        }
        self.unwritten = draft.lines.len();
        if let Some(file) = &mut self.file {
            file.prepare(&transaction, draft.lines.len())?;
        }
        transaction.commit().map_err(sql)?;
        let seq = draft.head.seq;
        (self.head, self.policy_version) = (draft.head, draft.policy_version);
        if let Some(file) = &mut self.file {
            file.append(&draft.lines, seq)?;
        }
        self.unwritten = 0;
        self.heads.send_replace(self.head.clone());
        Ok(results)
    }

    /// Nothing was asked for a while.
    fn idle(&mut self) {
        if self.pulse.is_failing() {
            match self.attempt() {
                Ok(()) => {
                    self.heads.send_replace(self.head.clone());
                    self.pulse.works();
                }
                Err(why) => self.pulse.fails(&why),
            }
        }
    }

    /// Writes as much as what failed last, without recording anything.
    fn attempt(&mut self) -> Result<(), String> {
        let room = self.unwritten.clamp(1, ATTEMPT_BYTES);
        let connection = &self.database.connection;
        if let Some(file) = &mut self.file {
            file.prepare(connection, room)?;
        }
        let room = i64::try_from(room).unwrap_or(i64::MAX);
        connection
            .execute("INSERT OR REPLACE INTO attempt (id, room) VALUES (1, zeroblob(?1))", params![room])
            .and_then(|_| connection.execute("DELETE FROM attempt", []))
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

/// Lines on their way into the record.
struct Draft {
    head: Head,
    policy_version: String,
    /// With their line feeds.
    lines: Vec<u8>,
}

impl Draft {
    fn add(&mut self, connection: &Connection, setting: Redact, events: Vec<Event>) -> Result<Vec<Recorded>, Refusal> {
        let mut recorded = Vec::with_capacity(events.len());
        for event in events {
            let event = &redact(setting, event, |id| read::redacted(connection, id));
            if let Some(version) = project::policy_version(event) {
                version.clone_into(&mut self.policy_version);
            }
            let line = Line::after(&self.head, clock::wall(), &self.policy_version, event)?;
            if line.text.len() > MAX_LINE_BYTES {
                return Err(Refusal::Event(StoreError::TooLarge { bytes: line.text.len() }));
            }
            project::apply(connection, &line, event)?;
            self.lines.extend_from_slice(line.text.as_bytes());
            self.lines.push(b'\n');
            self.head = line.head();
            recorded.push(Recorded { seq: line.seq, at: line.at, hash: line.hash });
        }
        Ok(recorded)
    }

    fn clone_state(&self) -> (Head, String, usize) {
        (self.head.clone(), self.policy_version.clone(), self.lines.len())
    }

    fn restore(&mut self, (head, policy_version, length): (Head, String, usize)) {
        self.head = head;
        self.policy_version = policy_version;
        self.lines.truncate(length);
    }
}

/// Tells an event that cannot be recorded from a database that cannot be written.
fn one_calls(refusal: Refusal) -> Result<StoreError, String> {
    match refusal {
        Refusal::Event(error) => Ok(error),
        Refusal::Database(error) => match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
                Ok(StoreError::Unreadable(error.to_string()))
            }
            _ => Err(error.to_string()),
        },
    }
}

/// About how many bytes an event has.
fn weight(event: &Event) -> usize {
    const REST: usize = 1_024;
    match event {
        Event::Held { request } => request.weight().saturating_add(REST),
        Event::Examined { impact, .. } => impact.weight().saturating_add(REST),
        Event::Started { .. }
        | Event::Stopped
        | Event::PolicyChanged { .. }
        | Event::Noticed { .. }
        | Event::WouldHaveHeld { .. }
        | Event::WouldHaveRejected { .. }
        | Event::Passed { .. }
        | Event::Announced { .. }
        | Event::NotAnnounced { .. }
        | Event::Answered(_)
        | Event::Decided { .. }
        | Event::Escalated { .. }
        | Event::Reminded { .. }
        | Event::Ended { .. }
        | Event::Executed { .. }
        | Event::Undone { .. }
        | Event::Granted { .. }
        | Event::Revoked { .. }
        | Event::Used { .. }
        | Event::Lapsed { .. }
        | Event::Reviewed { .. } => REST,
    }
}

struct Ended(Arc<Pulse>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end();
        self.0.closed();
    }
}
