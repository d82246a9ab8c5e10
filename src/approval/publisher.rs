//! Tells one channel of every request it should show, until it has understood. Knows channels only by their trait.
//!
//! A channel may be slow, down or lying; nothing waits for it. It is told states, not changes, so that only the newest of a
//! request is ever owed to it. Start at [`run`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::channel::{Channel, ChannelError, Rest, Shown};
use super::desk::{ApprovalDesk, Change, Place};
use super::reach::Reach;
use crate::clock;
use crate::hold::HoldId;
use crate::store::Event;

/// A channel that does not answer for so long is taken for down.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests told of at once. What is told of one may be paced; the others go on.
const AT_ONCE: usize = 8;
/// Pauses between attempts: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// What a channel is still to be told.
#[derive(Debug, Default)]
struct Owed {
    show: BTreeSet<HoldId>,
    remind: BTreeSet<HoldId>,
    /// Requests it could not be told of, with the number of attempts and the time of the next.
    later: BTreeMap<HoldId, (u32, Instant)>,
    /// Requests it is being told of: one thing at a time of each, so that nothing older is told after something newer.
    busy: BTreeSet<HoldId>,
}

/// One thing to tell.
#[derive(Debug)]
struct Task {
    id: HoldId,
    remind: bool,
    /// Failed ones before.
    attempts: u32,
}

/// What became of it.
#[derive(Debug, Clone, Copy)]
enum Told {
    Shown,
    Failed { permanent: bool },
    Reminded,
}

/// Tells the channel.
#[derive(Clone)]
struct Teller {
    desk: Arc<ApprovalDesk>,
    channel: Arc<dyn Channel>,
    reach: Reach,
}

impl Teller {
    async fn work(self, task: Task) -> (Task, Told) {
        let told = if task.remind {
            remind(&self.desk, &*self.channel, &task.id).await;
            Told::Reminded
        } else {
            tell(&self.desk, &*self.channel, &task, &self.reach).await
        };
        (task, told)
    }
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
    let teller = Teller { desk: Arc::clone(&desk), channel: Arc::clone(&channel), reach };
    let mut telling = JoinSet::new();
    owed.everything(&desk, channel.name());
    loop {
        // What has come meanwhile is taken in before the channel is told anything.
        while let Ok(change) = changes.try_recv() {
            owed.note(&desk, channel.name(), change);
        }
        // Requests do not wait for each other: one may be paced where another is not.
        while telling.len() < AT_ONCE
            && let Some(task) = owed.take()
        {
            telling.spawn(teller.clone().work(task));
        }
        let change = tokio::select! {
            Some(told) = telling.join_next() => {
                owed.settle(told);
                None
            }
            change = changes.recv() => Some(change),
            () = wait(owed.next_attempt()), if telling.len() < AT_ONCE => None,
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
    loop {
        while telling.len() < AT_ONCE
            && let Some(task) = owed.take_last()
        {
            telling.spawn(teller.clone().work(task));
        }
        match telling.join_next().await {
            Some(told) => owed.settle(told),
            None => return,
        }
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

    /// The next thing to tell, of a request that nobody is telling of now.
    fn take(&mut self) -> Option<Task> {
        if let Some(task) = self.take_last() {
            return Some(task);
        }
        let now = now();
        let free = |id: &HoldId| !self.busy.contains(id);
        let due = self.later.iter().find(|(id, (_, at))| *at <= now && free(id)).map(|(id, _)| id.clone());
        let (id, remind) = match due {
            Some(id) => (id, false),
            None => (self.remind.iter().find(|id| free(id))?.clone(), true),
        };
        if remind {
            self.remind.remove(&id);
        }
        Some(self.begin(id, remind))
    }

    /// The same, of what has changed only.
    fn take_last(&mut self) -> Option<Task> {
        let id = self.show.iter().find(|id| !self.busy.contains(*id))?.clone();
        self.show.remove(&id);
        Some(self.begin(id, false))
    }

    fn begin(&mut self, id: HoldId, remind: bool) -> Task {
        self.busy.insert(id.clone());
        let attempts = self.later.get(&id).map_or(0, |(attempts, _)| *attempts);
        Task { id, remind, attempts }
    }

    /// A task is over.
    fn settle(&mut self, told: Result<(Task, Told), JoinError>) {
        let (task, told) = match told {
            Ok(told) => told,
            Err(error) => {
                // Which request it was is not known any more; none may be blocked for that.
                tracing::error!("telling a channel ended badly: {error}");
                self.busy.clear();
                return;
            }
        };
        self.busy.remove(&task.id);
        match told {
            Told::Reminded => {}
            Told::Shown => {
                self.later.remove(&task.id);
            }
            Told::Failed { permanent } => {
                let pause = if permanent { PAUSE.1 } else { back_off(task.attempts) };
                let next = now().checked_add(pause).unwrap_or_else(now);
                self.later.insert(task.id, (task.attempts.saturating_add(1), next));
            }
        }
    }

    fn next_attempt(&self) -> Option<Instant> {
        let free = self.later.iter().filter(|(id, _)| !self.busy.contains(*id));
        free.map(|(_, (_, at))| *at).min()
    }
}

fn concerns(desk: &ApprovalDesk, id: &HoldId, channel: &str) -> bool {
    desk.place(id).is_some_and(|place| {
        let shown_there = place.references().contains_key(channel);
        let case = place.case();
        // What one person released alone is told everywhere.
        shown_there || case.view.break_glass || case.view.audience.includes(channel)
    })
}

/// Tells until the channel has shown it wherever it can.
async fn tell(desk: &ApprovalDesk, channel: &dyn Channel, task: &Task, reach: &Reach) -> Told {
    loop {
        if let Some(told) = tell_once(desk, channel, task, reach).await {
            return told;
        }
    }
}

/// `None`: it is announced in one conversation more, which is on record, and has to be in others.
async fn tell_once(desk: &ApprovalDesk, channel: &dyn Channel, task: &Task, reach: &Reach) -> Option<Told> {
    let id = &task.id;
    let Some(place) = desk.place(id) else {
        return Some(Told::Shown);
    };
    let view = place.case().view.clone();
    if view.examining {
        // It is told of once that is done.
        return Some(Told::Shown);
    }
    let known = place.references().get(channel.name()).cloned();
    // Nobody is asked about the use of a standing approval; the request it was given for tells of it.
    let is_use = view.decision.as_ref().is_some_and(|decision| decision.under().is_some());
    if known.is_none() && (is_use || view.ended.is_some() && !view.is_unreviewed()) {
        // Nobody was told of it there, and there is nothing left to decide or to look at.
        return Some(Told::Shown);
    }
    let shown = timeout(PATIENCE, channel.show(&view, known.as_deref())).await;
    let shown = shown.unwrap_or_else(|_| {
        Err(ChannelError { why: format!("no answer within {} s", PATIENCE.as_secs()), permanent: false })
    });
    let rest = match shown {
        Ok(Shown { reference, rest }) => {
            reach.reached(id, channel.name());
            if known.as_deref() != Some(&reference) {
                announced(desk, &place, id, channel.name(), reference).await;
            }
            rest
        }
        Err(error) => {
            reach.failed(id, channel.name());
            Rest::Failed(error)
        }
    };
    match rest {
        Rest::Nothing => Some(Told::Shown),
        Rest::More => None,
        Rest::Failed(error) => {
            if task.attempts == 0 {
                not_announced(desk, id, channel.name(), &error).await;
            }
            Some(Told::Failed { permanent: error.permanent })
        }
    }
}

async fn announced(desk: &ApprovalDesk, place: &Place, id: &HoldId, channel: &str, reference: String) {
    let event = Event::Announced { id: id.clone(), channel: channel.to_owned(), reference: reference.clone() };
    place.references().insert(channel.to_owned(), reference);
    if let Err(why) = desk.record.record(vec![event]).await {
        tracing::error!(request = %id, channel, "cannot record an announcement: {why}");
    }
}

async fn not_announced(desk: &ApprovalDesk, id: &HoldId, channel: &str, error: &ChannelError) {
    tracing::warn!(request = %id, channel, "cannot announce: {error}");
    let event = Event::NotAnnounced { id: id.clone(), channel: channel.to_owned(), why: error.why.clone() };
    if let Err(why) = desk.record.record(vec![event]).await {
        tracing::error!(request = %id, "cannot record that an announcement failed: {why}");
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
