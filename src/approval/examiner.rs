//! Has the database asked what a held statement would touch. Knows requests and the prober; knows no desk and no channel.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::hold::HoldRequest;
use crate::impact::{Ask, Impact, Own, Prober, Value, Waiting, changes_beside, measure};
use crate::judge::{Measure, READING};

/// What asking yields.
pub type Examining<'a> = Pin<Box<dyn Future<Output = Impact> + Send + 'a>>;

/// What a look at locks yields.
pub type Looking<'a> = Pin<Box<dyn Future<Output = Result<BTreeMap<i32, Vec<Waiting>>, String>> + Send + 'a>>;

/// Whoever is asked.
pub trait Examiner: Send + Sync + 'static {
    /// What the request's statement would touch; within bounded time, and without side effects. What cannot be had is said to be
    /// unknown.
    ///
    /// # Cancellation safety
    /// A dropped future asks no more.
    fn examine<'a>(&'a self, request: &'a HoldRequest) -> Examining<'a>;

    /// Who waits now for locks that any of the backends `pids` holds, by backend.
    ///
    /// # Errors
    /// Why it could not be had.
    fn blocked<'a>(&'a self, database: &'a str, pids: &'a [i32]) -> Looking<'a>;

    /// How long others may wait for a held statement's transaction; `None`: for ever.
    fn patience(&self) -> Option<Duration>;

    /// How what it would touch `now` differs from what people were shown, in sentences; empty: what they answered still holds.
    fn changes(&self, shown: &Impact, now: &Impact) -> Vec<String> {
        self.changes_beside(shown, now, &Own::default())
    }

    /// The same, less what statements of the same text have done themselves that have run by now.
    fn changes_beside(&self, shown: &Impact, now: &Impact, own: &Own) -> Vec<String>;
}

impl Examiner for Prober {
    fn examine<'a>(&'a self, request: &'a HoldRequest) -> Examining<'a> {
        Box::pin(async move {
            if request.statement.lossy {
                // Fail closed: what would be asked about is not what would run.
                return Impact::unknown("the text is not UTF-8, or the server takes it for another encoding");
            }
            self.probe(&ask(request)).await
        })
    }

    fn blocked<'a>(&'a self, database: &'a str, pids: &'a [i32]) -> Looking<'a> {
        Box::pin(self.blocked_by(database, pids))
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.blocking()).filter(|time| !time.is_zero())
    }

    fn changes_beside(&self, shown: &Impact, now: &Impact, own: &Own) -> Vec<String> {
        changes_beside(shown, now, self.tolerance(), own)
    }
}

fn ask(request: &HoldRequest) -> Ask {
    let mut setting = request.setting.clone().unwrap_or_default();
    if request.beforehand.is_some() {
        // It passes only in sessions that began plainly, as what the user and the database are configured to begin with.
        setting.role = Some(request.origin.user.clone());
    }
    let values = request.parameters.iter().map(|parameter| Value {
        type_name: parameter.type_name.clone(),
        text: parameter.value.clone(),
        undecodable: parameter.raw,
    });
    Ask {
        database: request.origin.database.clone(),
        text: request.statement.text.as_ref().to_owned(),
        values: values.collect(),
        search_path: setting.search_path,
        role: setting.role,
        in_transaction: request.in_transaction,
        backend_pid: request.origin.backend_pid,
        settings: setting.reading,
    }
}

/// What rules compare with their conditions on impact. `opaque`: the text calls what nobody has looked into.
pub async fn measure_of(examiner: &dyn Examiner, request: &HoldRequest, opaque: bool) -> Measure {
    let impact = examiner.examine(request).await;
    // Fail closed: the rows that were counted need not be the ones it meets.
    let asked = request.setting.as_ref().is_some_and(|setting| setting.reading.len() == READING.len());
    let unseen = match (request.in_transaction, opaque) {
        (true, _) => Some("what its transaction has done so far is not seen"),
        (false, true) => Some("what the functions it calls do is not seen"),
        // Its conditions may mean other rows than those that were counted.
        (false, false) if !asked => Some("its session could not be asked for the settings its conditions are read by"),
        (false, false) => None,
    };
    measure(&impact, &request.effects, unseen)
}
