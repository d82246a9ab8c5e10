//! Undos that were committed: their database tells, and they go on record with the request that was undone. So the record knows of undos in
//! transactions that ended later, past the gate, or while no gate ran. Start at [`start`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::settings::Settings;
use super::undo::{Keeper, Told};
use crate::approval::ApprovalDesk;
use crate::approval::recovery;
use crate::clock;
use crate::hold::{Board, Decision, Event, HoldId, Undone};
use crate::impact::Dial;
use crate::store::Store;

/// How often databases are asked at least.
const ROUND: Duration = Duration::from_secs(60);
/// Among the latest requests is the one that undid.
const LATEST: usize = 200;

/// Asks while the gate runs, if rows are kept.
pub(super) fn start(
    settings: &Settings,
    dial: Dial,
    board: &Board,
    desk: &Arc<ApprovalDesk>,
    store: &Store,
    stop: &watch::Receiver<bool>,
) {
    let Some(undo) = &settings.session.undo else { return };
    let (databases, round) = (undo.databases.clone(), undo.clear_interval.min(ROUND));
    let clerk = Clerk { keeper: Keeper::new(undo.clone(), dial), desk: Arc::clone(desk), store: store.clone() };
    tokio::spawn(clerk.work(databases, round, board.clone(), stop.clone()));
}

struct Clerk {
    keeper: Keeper,
    desk: Arc<ApprovalDesk>,
    store: Store,
}

impl Clerk {
    async fn work(self, databases: Vec<String>, round: Duration, board: Board, mut stop: watch::Receiver<bool>) {
        let mut events = board.subscribe();
        let mut rounds = tokio::time::interval(round);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ask: Vec<String> = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = rounds.tick() => databases.clone(),
                event = events.next() => match event {
                    Some(Ok(Event::Executed(request, _))) if request.undoes.is_some() => {
                        databases.iter().filter(|database| **database == request.origin.database).cloned().collect()
                    }
                    // What was missed comes with the next round.
                    Some(Ok(_) | Err(_)) => continue,
                    None => return,
                },
            };
            for database in &ask {
                if let Err(why) = self.ask(database).await {
                    tracing::warn!(%database, "whether anything was undone cannot be told: {why}");
                }
            }
        }
    }

    async fn ask(&self, database: &str) -> Result<(), String> {
        for told in self.keeper.told(database).await? {
            if self.put_on_record(database, &told).await? {
                self.keeper.heard(database, told.number).await?;
            }
        }
        Ok(())
    }

    /// `false`: it is a request of another gate's.
    async fn put_on_record(&self, database: &str, told: &Told) -> Result<bool, String> {
        let now = clock::wall();
        let id = HoldId(told.request.clone());
        if !recovery::take_up(&self.desk, &self.store, &id, now).await? {
            return Ok(false);
        }
        let at = Timestamp::from_microsecond(told.at).unwrap_or(now);
        let history = self.store.history(&id).await.map_err(|error| error.to_string())?;
        // The gate may have ended before the database knew that it has heard.
        if recovery::undone(&history).any(|undone| undone.number == told.number && undone.at == at) {
            return Ok(true);
        }
        let by = self.who_did(database, told, &id).await?;
        let Told { number, role, restored, conflicts, .. } = told;
        let count = |rows: i64| u64::try_from(rows).unwrap_or_default();
        let (restored, conflicts) = (count(*restored), count(*conflicts));
        let undone = Undone { number: *number, by, role: role.clone(), at, restored, conflicts };
        tracing::info!(request = %id, %undone, "undone");
        self.desk.undone(&id, undone, now).await?;
        Ok(true)
    }

    /// The latest request that was let through to do it in that session.
    async fn who_did(&self, database: &str, told: &Told, undone: &HoldId) -> Result<Option<HoldId>, String> {
        let latest = self.store.recent(LATEST).await.map_err(|error| error.to_string())?;
        let found = latest.into_iter().find(|stored| {
            let origin = &stored.request.origin;
            stored.request.undoes.as_ref() == Some(undone)
                && origin.database == database
                && origin.backend_pid == Some(told.pid)
                && matches!(stored.decision, Some(Decision::Approve { .. }))
        });
        Ok(found.map(|stored| stored.request.id))
    }
}
