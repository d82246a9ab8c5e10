//! Whether anybody can be told of a request. A rule may say that a statement is refused at once while none of its channels can
//! be reached; this is where that is found out. Knows channels by name only.
//!
//! Start at [`Reach`]. Publishers and webhooks report to it; it asks the desk which channels a request has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::audience::Audience;
use super::desk::{ApprovalDesk, Change};
use super::profile::Unreachable;
use crate::clock;
use crate::hold::{Cause, HoldId};

/// What is known of the ways to reach people. Cheap to clone.
#[derive(Clone)]
pub struct Reach {
    inner: Arc<Inner>,
}

struct Inner {
    desk: Arc<ApprovalDesk>,
    /// Channels that announce requests.
    announcing: BTreeSet<String>,
    /// Programs that are told of every event: they count for requests whose profile names them.
    told: BTreeSet<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Could not be reached with what they were told last.
    down: BTreeSet<String>,
    /// Could not be told of a request.
    failed: BTreeMap<HoldId, BTreeSet<String>>,
}

impl Reach {
    /// Of these channels and these programs. None of them is taken for down before it was tried.
    #[must_use]
    pub fn new(
        desk: Arc<ApprovalDesk>,
        announcing: impl IntoIterator<Item = String>,
        told: impl IntoIterator<Item = String>,
    ) -> Self {
        let (announcing, told) = (announcing.into_iter().collect(), told.into_iter().collect());
        Self { inner: Arc::new(Inner { desk, announcing, told, state: Mutex::default() }) }
    }

    /// Looks at every new request until `stop` says true: its channels may be known to be down.
    pub async fn watch(self, mut stop: watch::Receiver<bool>) {
        let mut changes = self.inner.desk.changes();
        self.judge_all();
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                // An error means that the sender is gone, which is a stop too.
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match change {
                Ok(Change::Changed(view)) => self.judge(&view.request.id),
                Ok(Change::Remind(_)) => {}
                Err(RecvError::Lagged(_)) => self.judge_all(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// A channel could not be told of a request.
    pub(super) fn failed(&self, id: &HoldId, channel: &str) {
        self.state().failed.entry(id.clone()).or_default().insert(channel.to_owned());
        self.judge(id);
    }

    /// A channel was told of a request.
    pub(super) fn reached(&self, id: &HoldId, channel: &str) {
        if let Some(failed) = self.state().failed.get_mut(id) {
            failed.remove(channel);
        }
    }

    /// A program did not take what it was told.
    pub(super) fn down(&self, name: &str) {
        if self.state().down.insert(name.to_owned()) {
            self.judge_all();
        }
    }

    /// A program took what it was told.
    pub(super) fn up(&self, name: &str) {
        self.state().down.remove(name);
    }

    fn judge_all(&self) {
        let places = self.inner.desk.places();
        let ids: Vec<HoldId> = places.iter().map(|place| place.case().view.request.id.clone()).collect();
        for id in ids {
            self.judge(&id);
        }
    }

    /// Refuses a request that wants that and that nobody can be told of.
    fn judge(&self, id: &HoldId) {
        let Some(place) = self.inner.desk.place(id) else {
            self.state().failed.remove(id);
            return;
        };
        let (open, unreachable, audience) = {
            let case = place.case();
            (case.is_pending(), case.profile.unreachable, case.view.audience.clone())
        };
        if !open {
            self.state().failed.remove(id);
            return;
        }
        let announced = !place.references().is_empty();
        if unreachable == Unreachable::Reject && !announced && self.nobody_is_left(id, &audience) {
            // Fail closed, and at once, because the configuration wants that.
            let _over_already = self.inner.desk.board.fail(id, Cause::Unreachable, clock::wall());
        }
    }

    /// None of a request's channels can be reached. A channel that does not exist reaches nobody.
    fn nobody_is_left(&self, id: &HoldId, audience: &Audience) -> bool {
        let Inner { announcing, told, .. } = &*self.inner;
        let announcing = announcing.iter().filter(|name| audience.includes(name));
        let all: Vec<&String> = announcing.chain(told.iter().filter(|name| audience.names(name))).collect();
        // Without any channel people look through the API: then nothing is unreachable.
        if audience.is_everywhere() && all.is_empty() {
            return false;
        }
        let state = self.state();
        let failed = state.failed.get(id);
        all.into_iter().all(|name| state.down.contains(name) || failed.is_some_and(|failed| failed.contains(name)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves a whole state behind.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
