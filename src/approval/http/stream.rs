//! The event stream: a `snapshot` first, then every change. Knows the desk and server-sent events.
//!
//! A reader needs nothing else: after a lost connection it connects again and gets a new snapshot; one that is too slow
//! to be told every change gets a new snapshot too.

use std::convert::Infallible;
use std::sync::Arc;

use axum::response::sse;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_stream::wrappers::ReceiverStream;

use crate::approval::channel::RequestView;
use crate::approval::desk::Change;
use crate::approval::people::Person;
use crate::approval::{AdminSettings, ApprovalDesk};
use crate::hold::{Hold, Phase};

use super::handlers::{list_view, view};
use super::view::{ChangeView, Detail};

/// Ended requests a snapshot carries.
const SNAPSHOT_RECENT: usize = 50;

/// Changes waiting for one slow reader. The desk's own backlog comes before it.
const QUEUE: usize = 16;

pub(super) type Events = ReceiverStream<Result<sse::Event, Infallible>>;

/// Starts a stream for a person. It ends when the reader goes, at shutdown, or when the person's entry in the
/// configuration changes.
pub(super) fn start(
    desk: Arc<ApprovalDesk>,
    person: Person,
    settings: &AdminSettings,
    stop: watch::Receiver<bool>,
) -> Events {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let teller = Teller { desk, person, sender };
    let period = settings.keep_alive;
    // It ends by itself when the receiver is dropped.
    tokio::spawn(async move { teller.run(period, stop).await });
    ReceiverStream::new(receiver)
}

struct Teller {
    desk: Arc<ApprovalDesk>,
    person: Person,
    sender: mpsc::Sender<Result<sse::Event, Infallible>>,
}

/// The stream is over.
struct Over;

impl Teller {
    async fn run(self, period: std::time::Duration, mut stop: watch::Receiver<bool>) {
        // Subscribing before the snapshot misses nothing; what is told twice does no harm.
        let mut changes = self.desk.changes();
        if self.send(self.snapshot()).await.is_err() {
            return;
        }
        let period = period.max(std::time::Duration::from_millis(1));
        let start = Instant::from_std(crate::clock::now());
        let mut alive = interval_at(start.checked_add(period).unwrap_or(start), period);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                () = self.sender.closed() => return,
                _ = stop.wait_for(|stop| *stop) => return,
                change = changes.recv() => match change {
                    Ok(Change::Changed(view)) => self.change(&view),
                    Ok(Change::Remind(_)) => None,
                    Err(RecvError::Lagged(_)) => Some(self.snapshot()),
                    Err(RecvError::Closed) => return,
                },
                _ = alive.tick() => Some(sse::Event::default().comment("alive")),
            };
            // Fail closed: somebody whose rights changed has to prove again who they are.
            if self.desk.settings().people.named(&self.person.name) != Some(&self.person) {
                return;
            }
            if let Some(event) = event
                && self.send(event).await.is_err()
            {
                return;
            }
        }
    }

    async fn send(&self, event: sse::Event) -> Result<(), Over> {
        self.sender.send(Ok(event)).await.map_err(|_| Over)
    }

    fn snapshot(&self) -> sse::Event {
        let mut holds = self.desk.list(&self.person);
        holds.extend(self.desk.recent(&self.person, SNAPSHOT_RECENT));
        let list = list_view(&self.desk, &self.person, &holds);
        event("snapshot", &list)
    }

    fn change(&self, changed: &RequestView) -> Option<sse::Event> {
        if !self.desk.may_see(&self.person, &changed.request) {
            return None;
        }
        let (name, phase) = match (&changed.ended, &changed.decision) {
            (Some(ended), _) if changed.break_glass && !changed.is_unreviewed() => {
                ("reviewed", Phase::Ended(ended.clone()))
            }
            (Some(ended), _) if changed.execution.is_some() => ("executed", Phase::Ended(ended.clone())),
            (Some(ended), _) => ("ended", Phase::Ended(ended.clone())),
            (None, Some(decision)) => ("decided", Phase::Decided(decision.clone())),
            (None, None) if changed.revision == 1 => ("opened", Phase::Pending),
            (None, None) => ("changed", Phase::Pending),
        };
        let hold = Hold { request: Arc::clone(&changed.request), phase };
        let change =
            ChangeView { now: crate::clock::wall(), request: view(&self.desk, &self.person, &hold, Detail::List) };
        Some(event(name, &change))
    }
}

fn event(name: &str, data: &impl serde::Serialize) -> sse::Event {
    let event = sse::Event::default().event(name);
    // These types always serialise; if one ever did not, the reader is told to look again rather than nothing.
    event.json_data(data).unwrap_or_else(|_| sse::Event::default().event("trouble"))
}
