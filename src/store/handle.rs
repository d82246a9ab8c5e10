//! The store as everybody else sees it.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, params};
use tokio::sync::{oneshot, watch};

use super::chain::Head;
use super::checkpoint::Notary;
use super::database::Database;
use super::health::{Health, Pulse};
use super::read::{self, StoredEvent, StoredRequest};
use super::worker::{Job, Recorded, Worker};
use super::{Event, StoreError, StoreSettings, checkpoint, file};
use crate::hold::HoldId;

/// The record. Cheap to clone; the last clone's end ends its thread.
#[derive(Debug, Clone)]
pub struct Store {
    jobs: SyncSender<Job>,
    pulse: Arc<Pulse>,
    heads: watch::Receiver<Head>,
    patience: Duration,
}

/// What was found when the store was opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    /// The end of the record.
    pub head: Head,
    /// Requests without an outcome, oldest first: their clients are gone, for no connection outlives the gate.
    pub open: Vec<StoredRequest>,
    /// Requests that one person alone approved and nobody has looked at since.
    pub unreviewed: Vec<StoredRequest>,
    /// Lines the audit file lacked and was given.
    pub appended: u64,
}

impl Store {
    /// Opens the record, checks all of it, and brings the audit file up to it. Blocks for as long as reading it takes.
    ///
    /// # Errors
    ///
    /// Somebody else has it, it cannot be read or written, it is damaged, or audit file and store disagree.
    pub fn open(settings: &StoreSettings) -> Result<(Self, Recovered), StoreError> {
        let database = Database::open(settings.path.as_deref())?;
        let shown = settings.path.as_deref().unwrap_or(Path::new("memory"));
        let connection = &database.connection;
        let (file, verified) = file::open(shown, connection, settings.audit_file.as_deref())?;
        let notary = notary(settings, connection, &verified.head)?;
        let recovered = Recovered {
            head: verified.head.clone(),
            open: read::open_requests(connection)?,
            unreviewed: read::unreviewed(connection)?,
            appended: verified.appended,
        };
        let (jobs, queue) = sync_channel(settings.queue.max(1));
        let (sender, heads) = watch::channel(verified.head.clone());
        let pulse = Arc::new(Pulse::new());
        let worker = Worker {
            database,
            file,
            notary,
            redact: settings.redact,
            head: verified.head,
            policy_version: verified.policy_version,
            pulse: Arc::clone(&pulse),
            heads: sender,
            unwritten: 0,
        };
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || worker.run(&queue));
        thread.map_err(|error| StoreError::file(shown, &format!("cannot start its thread: {error}")))?;
        Ok((Self { jobs, pulse, heads, patience: settings.patience }, recovered))
    }

    /// Puts an event on record. `Ok` means that it is on the disk, in the store and in the audit file.
    ///
    /// # Cancellation safety
    /// The event may go on record although nobody hears of it.
    ///
    /// # Errors
    ///
    /// It is not known to be on record. With [`StoreError::Slow`], or if the audit file fails just after the store was
    /// written, it may come to be; act as if it were not, and record what happens instead.
    pub async fn record(&self, event: Event) -> Result<Recorded, StoreError> {
        let mut recorded = self.record_all(vec![event]).await?;
        recorded.pop().ok_or(StoreError::Closed)
    }

    /// Puts events on record, next to each other, all or none.
    ///
    /// # Cancellation safety
    /// As [`Store::record`].
    ///
    /// # Errors
    ///
    /// As [`Store::record`].
    pub async fn record_all(&self, events: Vec<Event>) -> Result<Vec<Recorded>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Record(events, reply))?;
        self.answer(answer).await?
    }

    /// Whether the record can be written, as far as known. Never waits.
    #[must_use]
    pub fn health(&self) -> Health {
        self.pulse.health(self.patience)
    }

    /// The end of the record. Changes with every event, so whoever delivers events can wait for the next one.
    #[must_use]
    pub fn heads(&self) -> watch::Receiver<Head> {
        self.heads.clone()
    }

    /// Requests without an outcome, oldest first.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn open_requests(&self) -> Result<Vec<StoredRequest>, StoreError> {
        self.ask(read::open_requests).await
    }

    /// Requests that one person alone approved and nobody has looked at since, oldest first.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn unreviewed(&self) -> Result<Vec<StoredRequest>, StoreError> {
        self.ask(read::unreviewed).await
    }

    /// Requests that were approved before they run and whose time is not over at `now`, oldest first.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn beforehand(&self, now: jiff::Timestamp) -> Result<Vec<StoredRequest>, StoreError> {
        self.ask(move |connection| read::beforehand(connection, now)).await
    }

    /// Requests whose standing approval nothing on record has ended, oldest first, and how often each was used.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn standing(&self) -> Result<Vec<(StoredRequest, u64)>, StoreError> {
        self.ask(read::standing).await
    }

    /// The latest requests, newest first.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn recent(&self, limit: usize) -> Result<Vec<StoredRequest>, StoreError> {
        self.ask(move |connection| read::recent(connection, limit)).await
    }

    /// One request.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn find(&self, id: &HoldId) -> Result<Option<StoredRequest>, StoreError> {
        let id = id.clone();
        self.ask(move |connection| read::find(connection, &id)).await
    }

    /// Where a request was announced: channels and references.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn announcements(&self, id: &HoldId) -> Result<Vec<(String, String)>, StoreError> {
        let id = id.clone();
        self.ask(move |connection| read::announcements(connection, &id)).await
    }

    /// Everything on record about one request, oldest first.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn history(&self, id: &HoldId) -> Result<Vec<StoredEvent>, StoreError> {
        let id = id.clone();
        self.ask(move |connection| read::history(connection, &id)).await
    }

    /// Events behind the one numbered `seq`, oldest first.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn events_after(&self, seq: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.ask(move |connection| read::events_after(connection, seq, limit)).await
    }

    /// How far the consumer of this name has come: the number of the last event it is done with; 0 for none.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn cursor(&self, name: &str) -> Result<u64, StoreError> {
        let name = name.to_owned();
        self.ask(move |connection| read::cursor(connection, &name)).await
    }

    /// Notes that the consumer of this name is done with every event up to `seq`. Durable when it returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn advance(&self, name: &str, seq: u64) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.ask(move |connection| {
            let sql =
                "INSERT INTO cursors (name, seq) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET seq = excluded.seq";
            let changed = connection.execute(sql, params![name, super::project::number(seq)]);
            changed.map(drop).map_err(|error| StoreError::Failing(error.to_string()))
        })
        .await
    }

    /// Ends the store in good order: what waits is written, the files are closed and unlocked when it returns.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        // A full queue empties, unless the disk hangs; the files are sound without a goodbye, too.
        if let Err(StoreError::Closed | StoreError::QueueFull) = self.send(Job::Close(done)) {
            return;
        }
        let _waited = tokio::time::timeout(self.patience, closed).await;
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Use(Box::new(move |connection| {
            // Whoever asked may have stopped waiting.
            let _unheard = reply.send(question(connection));
        }));
        self.send(job)?;
        self.answer(answer).await?
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::QueueFull,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    async fn answer<T>(&self, answer: oneshot::Receiver<T>) -> Result<T, StoreError> {
        match tokio::time::timeout(self.patience, answer).await {
            Ok(answer) => answer.map_err(|_| StoreError::Closed),
            Err(_) => Err(StoreError::Slow),
        }
    }
}

/// Who signs checkpoints, if there is a key and a file to put them beside.
fn notary(settings: &StoreSettings, connection: &Connection, head: &Head) -> Result<Option<Notary>, StoreError> {
    let Some((key, record)) = settings.checkpoint_key.as_ref().zip(settings.record()) else {
        return Ok(None);
    };
    let due = (settings.checkpoint_every, settings.checkpoint_interval);
    let hash_of = |seq| read::hash(connection, seq);
    Notary::open(key, checkpoint::beside(record), due, head, hash_of).map(Some)
}
