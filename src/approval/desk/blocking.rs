//! A held statement's transaction keeps its locks while people are asked. Where that keeps others waiting for too long it is withdrawn. Knows no SQL and
//! no channel.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::ApprovalDesk;
use crate::approval::examiner::Examiner;
use crate::clock;
use crate::hold::{Cause, HoldId, HoldRequest};
use crate::impact::Waiting;

/// Between two looks: a quarter of the patience, within these.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Since when each held statement has been seen to keep others waiting. What a session has waited before the first look is not known: its query may
/// have run for long before it came to wait.
#[derive(Debug, Default)]
pub(in crate::approval) struct Seen(HashMap<HoldId, Timestamp>);

impl ApprovalDesk {
    /// Looks at locks again and again, as long as somebody can be asked about them.
    pub(in crate::approval) async fn watch_locks(self: Arc<Self>) {
        let Some(examiner) = self.examiner.clone() else { return };
        let Some(patience) = examiner.patience() else { return };
        let mut seen = Seen::default();
        loop {
            tokio::time::sleep(patience.checked_div(4).unwrap_or_default().clamp(PAUSE.0, PAUSE.1)).await;
            self.look_at_locks(&*examiner, patience, &mut seen).await;
        }
    }

    /// One look.
    pub(in crate::approval) async fn look_at_locks(
        &self,
        examiner: &dyn Examiner,
        patience: Duration,
        seen: &mut Seen,
    ) {
        let holding = self.holding_locks();
        seen.0.retain(|id, _| holding.values().flatten().any(|request| request.id == *id));
        for (database, requests) in holding {
            let pids: Vec<i32> = requests.iter().filter_map(|request| request.origin.backend_pid).collect();
            match examiner.blocked(&database, &pids).await {
                Ok(blocked) => self.weigh(&requests, &blocked, patience, seen),
                // Nobody is known to wait; who was seen to wait may still.
                Err(why) => tracing::warn!(%database, "who waits for held statements cannot be told: {why}"),
            }
        }
    }

    fn weigh(
        &self,
        requests: &[Arc<HoldRequest>],
        blocked: &BTreeMap<i32, Vec<Waiting>>,
        patience: Duration,
        seen: &mut Seen,
    ) {
        let now = clock::wall();
        for request in requests {
            let Some(waiting) = request.origin.backend_pid.and_then(|pid| blocked.get(&pid)) else {
                seen.0.remove(&request.id);
                continue;
            };
            let since = *seen.0.entry(request.id.clone()).or_insert(now);
            let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
            if waited >= patience {
                self.withdraw_for(request, waiting, now);
            }
        }
    }

    fn withdraw_for(&self, request: &HoldRequest, waiting: &[Waiting], now: Timestamp) {
        let names: Vec<String> = waiting.iter().take(5).map(waits).collect();
        tracing::warn!(request = %request.id, waiting = names.join(", "), "withdrawn: its transaction keeps others waiting");
        if let Some(place) = self.place(&request.id) {
            place.case().kept_waiting(&names.join(", "), now);
        }
        // It may have been decided meanwhile; then that counts.
        let _ = self.board.fail(&request.id, Cause::BlocksOthers, now);
    }

    /// Statements that wait for people inside of a transaction, by database.
    fn holding_locks(&self) -> BTreeMap<String, Vec<Arc<HoldRequest>>> {
        let mut all: BTreeMap<String, Vec<Arc<HoldRequest>>> = BTreeMap::new();
        for hold in self.board.list() {
            if hold.request.in_transaction && hold.request.origin.backend_pid.is_some() {
                all.entry(hold.request.origin.database.clone()).or_default().push(hold.request);
            }
        }
        all
    }
}

fn waits(waiting: &Waiting) -> String {
    let user = waiting.user.as_deref().unwrap_or("somebody");
    match waiting.application.as_deref() {
        Some(application) if !application.is_empty() => format!("{user} ({application}, pid {})", waiting.pid),
        Some(_) | None => format!("{user} (pid {})", waiting.pid),
    }
}
