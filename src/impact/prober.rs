//! The public face of the room: what is asked, and the order in which the database is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::catalogue::{self, Path, QUICK};
use super::connection::{Asking, Dial};
use super::count::Counter;
use super::examine::Examiner;
use super::fingerprint::Rests;
use super::harmless::Value;
use super::pool::Pool;
use super::report::{Impact, Known, Waiting};
use super::settings::ImpactSettings;
use super::statement::Outline;
use super::survey::{self, Mark};
use super::{check, fingerprint, locks, statement, weigh};
use crate::clock;
use crate::judge::{BookParts, READING};

/// What is asked about: a text, and what of its session decides what it means.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Database of the session.
    pub database: String,
    /// The whole text; one statement or several.
    pub text: String,
    /// Bound values, `$1` first. Empty in the simple protocol.
    pub values: Vec<Value>,
    /// `search_path` as SHOW prints it. `None`: taken from the role's and database's settings, which is noted.
    pub search_path: Option<String>,
    /// The session's current role.
    pub role: Option<String>,
    /// The session is inside a transaction block.
    pub in_transaction: bool,
    /// Its backend, for locks and temporary tables.
    pub backend_pid: Option<i32>,
    /// Settings by which literals are read, as the session says; those that are not among [`READING`] are ignored.
    pub settings: Vec<(String, String)>,
}

/// Asks Postgres what statements would touch. Shared by all holds.
pub struct Prober {
    settings: ImpactSettings,
    dial: Dial,
    seats: Semaphore,
    pool: Arc<Pool>,
    surveyed: Arc<survey::Bodies>,
}

/// Answers about functions' bodies that are remembered.
const BODIES: usize = 4096;

/// What a look at all functions of a database may take besides the budget: there may be thousands, and nobody waits for it.
const SURVEY: Duration = Duration::from_secs(10);

impl Prober {
    /// A prober that connects with `dial`. Does not connect yet.
    pub fn new(settings: ImpactSettings, dial: Dial) -> Self {
        let seats = Semaphore::new(settings.connections.clamp(1, Semaphore::MAX_PERMITS));
        let surveyed = Arc::new(survey::Bodies::new(BODIES));
        Self { settings, dial, seats, pool: Arc::default(), surveyed }
    }

    /// Rows may grow by this share before they count as more; see [`super::changes()`].
    pub fn tolerance(&self) -> f64 {
        self.settings.tolerance
    }

    /// How long others may wait for a held statement's transaction; zero: for ever.
    pub fn blocking(&self) -> Duration {
        self.settings.blocking
    }

    /// What `ask` would touch. Takes no longer than the budget (and a moment); never fails: what went wrong is in the answer.
    ///
    /// # Cancellation safety
    /// A dropped future closes its connection; the server rolls back.
    pub async fn probe(&self, ask: &Ask) -> Impact {
        let mut impact = Impact::unknown("");
        impact.trouble = self.fill(ask, &mut impact).await.err();
        impact
    }

    /// What the prober's role lacks in `database`, in plain words; empty if nothing.
    ///
    /// # Errors
    /// Why it cannot even be asked.
    pub async fn check(&self, database: &str) -> Result<Vec<String>, String> {
        let asking = self.open(database).await?;
        let missing = check::missing(&asking, &self.settings.user).await;
        asking.close().await;
        missing
    }

    /// What the prober's role may do in `database` besides looking, in plain words; empty if nothing.
    ///
    /// # Errors
    /// Why it cannot even be asked.
    pub async fn excess(&self, database: &str) -> Result<Vec<String>, String> {
        let asking = self.open(database).await?;
        let excess = check::excess(&asking, &self.settings.user).await;
        asking.close().await;
        excess
    }

    /// Who waits now for locks that any of these backends of `database` holds, by backend.
    ///
    /// # Errors
    /// Why it could not be had.
    pub async fn blocked_by(&self, database: &str, pids: &[i32]) -> Result<BTreeMap<i32, Vec<Waiting>>, String> {
        let asking = self.open(database).await?;
        let blocked = locks::blocked_by(&asking, pids).await;
        asking.close().await;
        blocked
    }

    pub(super) fn settings(&self) -> &ImpactSettings {
        &self.settings
    }

    /// A connection for one look, which has the budget's time from now on.
    pub(super) async fn open(&self, database: &str) -> Result<Asking, String> {
        self.open_for(database, self.settings.budget).await
    }

    async fn open_for(&self, database: &str, time: Duration) -> Result<Asking, String> {
        let now = clock::now();
        let deadline = now.checked_add(time).unwrap_or(now);
        Asking::open(&self.settings, &self.dial, &self.pool, database, deadline).await
    }

    /// What everybody's functions in `database` do, and what calls them unseen; `None`: as at the look that `known` is the mark of.
    ///
    /// # Errors
    /// Why it could not be had: whoever judges by it takes every function for one that writes.
    pub async fn survey(&self, database: &str, known: Option<&Mark>) -> Result<Option<(Mark, BookParts)>, String> {
        let _seat = self.seat().await?;
        let asking = self.open_for(database, self.settings.budget.saturating_add(SURVEY)).await?;
        let found = survey::of(&asking, known).await;
        asking.close().await;
        let Some((mark, found)) = found? else { return Ok(None) };
        let (database, surveyed) = (database.to_owned(), Arc::clone(&self.surveyed));
        let harmless = self.settings.harmless_extensions.clone();
        let weighing = tokio::task::spawn_blocking(move || weigh::weigh(&database, &found, &harmless, &surveyed));
        let parts = weighing.await.map_err(|_| "the functions' bodies could not be read".to_owned())?;
        Ok(Some((mark, parts)))
    }

    pub(super) async fn seat(&self) -> Result<SemaphorePermit<'_>, String> {
        let seat = tokio::time::timeout(self.settings.budget, self.seats.acquire()).await;
        seat.map_err(|_| "too many are being looked into".to_owned())?.map_err(|_| "nobody looks any more".to_owned())
    }

    async fn fill(&self, ask: &Ask, impact: &mut Impact) -> Result<(), String> {
        if ask.text.len() > self.settings.statement_bytes {
            return Err(format!("the text is longer than {} bytes", self.settings.statement_bytes));
        }
        let begun = clock::now();
        let (text, values) = (ask.text.clone(), ask.values.clone());
        let outlines = tokio::task::spawn_blocking(move || statement::outlines(&text, &values));
        let outlines = outlines.await.map_err(|_| "the text cannot be parsed".to_owned())??;
        let _seat = self.seat().await?;
        // Reading the text and waiting for a seat have taken of the time.
        let spent = clock::now().saturating_duration_since(begun);
        let asking = self.open_for(&ask.database, self.settings.budget.saturating_sub(spent)).await?;
        let filled = self.examine(&asking, ask, &outlines, impact).await;
        asking.close().await;
        filled
    }

    async fn examine(
        &self,
        asking: &Asking,
        ask: &Ask,
        outlines: &[Outline],
        impact: &mut Impact,
    ) -> Result<(), String> {
        mirror(asking, &ask.settings).await?;
        catalogue::names_are_certain(asking, &ask.text).await?;
        if let Some(pid) = ask.backend_pid {
            impact.session = Some(locks::of(asking, pid, self.settings.listed).await.into());
        }
        let path = catalogue::path(asking, ask.search_path.as_deref(), ask.role.as_deref(), ask.backend_pid).await?;
        impact.notes = notes(ask, &path, outlines.len(), self.settings.statements);
        let mut seen = BTreeSet::new();
        let mut examiner = Examiner::new(Counter::new(asking, &self.settings), &path, ask);
        for (index, outline) in outlines.iter().enumerate().take(self.settings.statements) {
            impact.statements.push(examiner.statement(index, outline, &mut seen).await);
        }
        let complete = outlines.len() <= self.settings.statements && examiner.complete;
        if outlines.len() > self.settings.statements {
            examiner.cut = Some("not every statement was looked at".to_owned());
        }
        self.definitions(asking, ask, &examiner, &seen, impact).await;
        impact.looked = complete && !seen.is_empty() && impact.fingerprint.known().is_some();
        let touched = impact.statements.iter().flat_map(|statement| {
            let objects = statement.objects.iter().filter_map(|object| object.resolved.known());
            objects.chain(statement.cascades.iter().filter_map(|cascade| cascade.child.as_ref()))
        });
        let touched: BTreeSet<u32> = touched.map(|resolved| resolved.oid).collect();
        impact.kin = catalogue::kin(asking, &touched).await.ok();
        // Fail closed: who may not read the rows, or might not, is not told how many there are.
        let may_read = catalogue::may_read(asking, path.role.as_deref(), &seen).await;
        impact.requester_may_see = complete && may_read.unwrap_or_default();
        Ok(())
    }
}

impl Prober {
    /// Fills in the fingerprint, and what is not part of it.
    async fn definitions(
        &self,
        asking: &Asking,
        ask: &Ask,
        examiner: &Examiner<'_>,
        seen: &BTreeSet<u32>,
        impact: &mut Impact,
    ) {
        let found = if let Some(why) = &examiner.cut {
            Err(why.clone())
        } else {
            let operators = (!examiner.by_words).then_some(&examiner.operators);
            let rests = Rests { path: examiner.path, text: &ask.text, relations: seen, operators };
            fingerprint::of(asking, &rests).await
        };
        match found {
            Ok((mut definitions, uncompared)) => {
                definitions.extend(examiner.along.iter().cloned());
                impact.uncompared = examiner.uncompared.iter().cloned().chain(uncompared).collect();
                impact.fingerprint = Known::Known(fingerprint::hash(&definitions));
                impact.definitions = definitions;
            }
            // Fail closed: this is said to whoever decides.
            Err(why) => impact.fingerprint = Known::Unknown(why),
        }
    }
}

/// Reads literals as the session does.
async fn mirror(asking: &Asking, settings: &[(String, String)]) -> Result<(), String> {
    for (name, value) in settings {
        if READING.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            asking.ask(QUICK, "SELECT set_config($1, $2, true)", &[name, value]).await?;
        }
    }
    Ok(())
}

fn notes(ask: &Ask, path: &Path, statements: usize, limit: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if path.assumed {
        notes.push("the session's search_path is not known: names were looked up by its role's settings".to_owned());
    }
    if ask.in_transaction {
        notes.push("what the session's transaction has done so far is not seen".to_owned());
    }
    if statements > 1 {
        notes.push("each statement is looked at by itself, as if those before it had not run".to_owned());
    }
    if statements > limit {
        notes.push(format!("only the first {limit} of {statements} statements were looked at"));
    }
    notes
}
