//! Tells one channel of every request it should show, until it has understood. Knows channels only by their trait.
//!
//! A channel may be slow, down or lying; nothing waits for it. It is told states, not changes, so that only the newest of a
//! request is ever owed to it. Start at [`run`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::channel::{Channel, ChannelError};
use super::desk::{ApprovalDesk, Change};
use super::reach::Reach;
use crate::clock;
use crate::hold::HoldId;
use crate::store::Event;

/// A channel that does not answer for so long is taken for down.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pauses between attempts: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// What a channel is still to be told.
#[derive(Debug, Default)]
struct Owed {
    show: BTreeSet<HoldId>,
    remind: BTreeSet<HoldId>,
    /// Requests it could not be told of, with the number of attempts and the time of the next.
    later: BTreeMap<HoldId, (u32, Instant)>,
}

/// Tells the only channel there is; see [`run_among`].
pub async fn run(desk: Arc<ApprovalDesk>, channel: Arc<dyn Channel>, stop: watch::Receiver<bool>) {
    let reach = Reach::new(Arc::clone(&desk), [channel.name().to_owned()], []);
    run_among(desk, channel, reach, stop).await;
}

/// Works until `stop` says true; what has changed by then is still told. Reports to `reach` whom it could not tell.
pub async fn run_among(
    desk: Arc<ApprovalDesk>,
    channel: Arc<dyn Channel>,
    reach: Reach,
    mut stop: watch::Receiver<bool>,
) {
    let mut changes = desk.changes();
    let mut owed = Owed::default();
    owed.everything(&desk, channel.name());
    loop {
        // What has come meanwhile is taken in before the channel is told anything.
        while let Ok(change) = changes.try_recv() {
            owed.note(&desk, channel.name(), change);
        }
        if let Some(id) = owed.due() {
            tell(&desk, &*channel, &id, &mut owed, &reach).await;
            continue;
        }
        if let Some(id) = owed.remind.pop_first() {
            remind(&desk, &*channel, &id).await;
            continue;
        }
        let change = tokio::select! {
            change = changes.recv() => Some(change),
            () = wait(owed.next_attempt()) => None,
            // An error means that the sender is gone, which is a stop too.
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match change {
            Some(Ok(change)) => owed.note(&desk, channel.name(), change),
            Some(Err(RecvError::Lagged(_))) => owed.everything(&desk, channel.name()),
            Some(Err(RecvError::Closed)) => return,
            None => {}
        }
    }
    // How things ended is still told, once; what cannot be told now is told after the next start.
    while let Ok(change) = changes.try_recv() {
        owed.note(&desk, channel.name(), change);
    }
    while let Some(id) = owed.show.pop_first() {
        tell(&desk, &*channel, &id, &mut owed, &reach).await;
    }
}

async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl Owed {
    fn note(&mut self, desk: &ApprovalDesk, channel: &str, change: Change) {
        match change {
            Change::Changed(view) if concerns(desk, &view.request.id, channel) => {
                self.later.remove(&view.request.id);
                self.show.insert(view.request.id.clone());
            }
            Change::Remind(id) if concerns(desk, &id, channel) => {
                self.remind.insert(id);
            }
            Change::Changed(_) | Change::Remind(_) => {}
        }
    }

    /// Every request the desk knows.
    fn everything(&mut self, desk: &ApprovalDesk, channel: &str) {
        let ids = desk.places().into_iter().map(|place| place.case().view.request.id.clone());
        self.show.extend(ids.filter(|id| concerns(desk, id, channel)));
    }

    fn due(&mut self) -> Option<HoldId> {
        if let Some(id) = self.show.pop_first() {
            return Some(id);
        }
        let now = now();
        let id = self.later.iter().find(|(_, (_, at))| *at <= now).map(|(id, _)| id.clone())?;
        Some(id)
    }

    fn next_attempt(&self) -> Option<Instant> {
        self.later.values().map(|(_, at)| *at).min()
    }
}

fn concerns(desk: &ApprovalDesk, id: &HoldId, channel: &str) -> bool {
    desk.place(id).is_some_and(|place| {
        let shown_there = place.references().contains_key(channel);
        let (channels, alone) = {
            let case = place.case();
            (case.channels(), case.view.break_glass)
        };
        // What one person released alone is told everywhere.
        alone || shown_there || channels.is_empty() || channels.contains(channel)
    })
}

async fn tell(desk: &ApprovalDesk, channel: &dyn Channel, id: &HoldId, owed: &mut Owed, reach: &Reach) {
    let Some(place) = desk.place(id) else {
        owed.later.remove(id);
        return;
    };
    let view = place.case().view.clone();
    let known = place.references().get(channel.name()).cloned();
    // Nobody is asked about the use of a standing approval; the request it was given for tells of it.
    let is_use = view.decision.as_ref().is_some_and(|decision| decision.under().is_some());
    if known.is_none() && (is_use || view.ended.is_some() && !view.is_unreviewed()) {
        // Nobody was told of it there, and there is nothing left to decide or to look at.
        owed.later.remove(id);
        return;
    }
    let shown = timeout(PATIENCE, channel.show(&view, known.as_deref())).await;
    let shown = shown.unwrap_or_else(|_| {
        Err(ChannelError { why: format!("no answer within {} s", PATIENCE.as_secs()), permanent: false })
    });
    match shown {
        Ok(reference) => {
            owed.later.remove(id);
            reach.reached(id, channel.name());
            if known.as_deref() == Some(&reference) {
                return;
            }
            let event =
                Event::Announced { id: id.clone(), channel: channel.name().to_owned(), reference: reference.clone() };
            place.references().insert(channel.name().to_owned(), reference);
            if let Err(why) = desk.record.record(vec![event]).await {
                tracing::error!(request = %id, channel = channel.name(), "cannot record an announcement: {why}");
            }
        }
        Err(error) => {
            let attempts = owed.later.get(id).map_or(0, |(attempts, _)| *attempts);
            if attempts == 0 {
                tracing::warn!(request = %id, channel = channel.name(), "cannot announce: {error}");
                let event =
                    Event::NotAnnounced { id: id.clone(), channel: channel.name().to_owned(), why: error.why.clone() };
                if let Err(why) = desk.record.record(vec![event]).await {
                    tracing::error!(request = %id, "cannot record that an announcement failed: {why}");
                }
            }
            reach.failed(id, channel.name());
            let pause = if error.permanent { PAUSE.1 } else { back_off(attempts) };
            let next = now().checked_add(pause).unwrap_or_else(now);
            owed.later.insert(id.clone(), (attempts.saturating_add(1), next));
        }
    }
}

async fn remind(desk: &ApprovalDesk, channel: &dyn Channel, id: &HoldId) {
    let Some(place) = desk.place(id) else { return };
    let view = place.case().view.clone();
    let Some(reference) = place.references().get(channel.name()).cloned() else {
        return;
    };
    if (view.decision.is_some() || view.ended.is_some()) && !view.is_unreviewed() {
        return;
    }
    match timeout(PATIENCE, channel.remind(&view, &reference)).await {
        Ok(Ok(())) => {
            let event = Event::Reminded { id: id.clone(), channel: channel.name().to_owned() };
            if let Err(why) = desk.record.record(vec![event]).await {
                tracing::error!(request = %id, "cannot record a reminder: {why}");
            }
        }
        Ok(Err(error)) => tracing::warn!(request = %id, channel = channel.name(), "cannot remind: {error}"),
        Err(_) => tracing::warn!(request = %id, channel = channel.name(), "cannot remind: no answer"),
    }
}

fn now() -> Instant {
    Instant::from_std(clock::now())
}

/// Doubles from attempt to attempt, up to the longest pause.
fn back_off(attempts: u32) -> Duration {
    PAUSE.0.saturating_mul(2_u32.saturating_pow(attempts.min(10))).min(PAUSE.1)
}
