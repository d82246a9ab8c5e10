//! What Slack delivers, taken once and worked on apart from the reading. Knows no sockets and no HTTP.
//!
//! What may decide something is in the store before it is acknowledged, and leaves it when it was worked on. What a crash leaves
//! behind there is worked on after the next start: its statement is over by then, and whoever clicked hears so. Looks at windows,
//! lists and the App Home live in memory: what opens them is dead after three seconds.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::approval::channel::Desk;
use crate::store::Store;

use super::interaction::Interaction;
use super::{Inner, stopped};

/// Interactions that wait to be worked on. A full inbox acknowledges nothing, so Slack says so to whoever clicked.
const WAITING: usize = 1_024;
/// Interactions worked on at once.
const AT_ONCE: usize = 32;
/// Longest work on one.
const WORK: Duration = Duration::from_secs(90);
/// Deliveries remembered, to know them when they come again.
const REMEMBERED: usize = 16_384;
/// Slack waits three seconds for an acknowledgement; what is not stored by then is none.
const STORING: Duration = Duration::from_secs(2);
/// Between looks at whether Slack is back, for what a crash left behind.
const RETRY: Duration = Duration::from_secs(2);

/// Takes deliveries. Cheap to clone.
#[derive(Clone)]
pub(super) struct Inbox {
    sender: mpsc::Sender<Parcel>,
    seen: Arc<Mutex<Seen>>,
    drawer: Drawer,
}

/// Something to be worked on.
#[derive(Debug)]
struct Parcel {
    interaction: Interaction,
    /// Its name in the store, if it is there.
    stored: Option<String>,
    /// It is from before a restart.
    old: bool,
}

/// The channel's part of the store.
#[derive(Clone)]
struct Drawer {
    store: Store,
    channel: String,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It will be worked on (or needs no work): acknowledge it.
    Accepted,
    /// It was delivered before: acknowledge it, and nothing else.
    Again,
    /// There is no room, or it could not be stored: do not acknowledge it.
    Refused,
}

#[derive(Default)]
struct Seen {
    keys: HashSet<String>,
    order: VecDeque<String>,
}

impl Inbox {
    /// An inbox whose work ends when `stop` says `true` (or its sender is gone). What a crash left behind is worked on first.
    pub(super) async fn start(
        inner: Arc<Inner>,
        desk: Arc<dyn Desk>,
        store: Store,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let drawer = Drawer { store, channel: inner.settings.name.clone() };
        let (inbox, receiver) = Self::new(drawer.clone());
        let left = drawer.left().await;
        for (delivery, _) in &left {
            inbox.seen.lock().await.remember(delivery);
        }
        let sender = inbox.sender.clone();
        let slack = Arc::clone(&inner);
        let end = stop.clone();
        tokio::spawn(work(receiver, drawer, stop, move |parcel| {
            let (inner, desk) = (Arc::clone(&inner), Arc::clone(&desk));
            async move { inner.handle(&desk, parcel.interaction, parcel.old).await }
        }));
        tokio::spawn(replay(slack, left, sender, end));
        inbox
    }

    fn new(drawer: Drawer) -> (Self, mpsc::Receiver<Parcel>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender, seen: Arc::default(), drawer }, receiver)
    }

    /// Takes a delivery that Slack calls `key`; `None` for one that means nothing here.
    pub(super) async fn take(&self, key: &str, interaction: Option<Interaction>) -> Taken {
        let taken = timeout(STORING, self.take_here(key, interaction)).await;
        taken.unwrap_or_else(|_| {
            tracing::error!("Slack: an interaction could not be stored in time, so it was not acknowledged");
            let (drawer, key) = (self.drawer.clone(), key.to_owned());
            // It may be stored all the same; whoever clicked was told that it was not taken.
            tokio::spawn(async move { drawer.forget(&key).await });
            Taken::Refused
        })
    }

    async fn take_here(&self, key: &str, interaction: Option<Interaction>) -> Taken {
        // One lock around all of it: the same delivery may come over two sockets at once, and must not be acknowledged over one
        // of them before it is stored over the other.
        let mut seen = self.seen.lock().await;
        if seen.keys.contains(key) {
            return Taken::Again;
        }
        if let Some(interaction) = interaction {
            let Ok(room) = self.sender.try_reserve() else {
                return Taken::Refused;
            };
            let stored = interaction.act.bound().is_some().then(|| key.to_owned());
            if stored.is_some()
                && let Err(why) = self.drawer.keep(key, &interaction).await
            {
                // Fail closed: what a crash could lose is not acknowledged, so Slack tells whoever clicked.
                tracing::error!("Slack: an interaction cannot be stored, so it was not acknowledged: {why}");
                return Taken::Refused;
            }
            room.send(Parcel { interaction, stored, old: false });
        }
        seen.remember(key);
        Taken::Accepted
    }
}

impl Drawer {
    async fn keep(&self, delivery: &str, interaction: &Interaction) -> Result<(), String> {
        let what = serde_json::to_string(interaction).map_err(|error| error.to_string())?;
        self.store.keep(&self.channel, delivery, what).await.map_err(|error| error.to_string())
    }

    async fn forget(&self, delivery: &str) {
        if let Err(error) = self.store.forget(&self.channel, delivery).await {
            tracing::warn!("Slack: an interaction stays in the store and will come again after a restart: {error}");
        }
    }

    /// What an earlier process took and did not finish.
    async fn left(&self) -> Vec<(String, Option<Interaction>)> {
        let kept = self.store.kept(&self.channel).await.unwrap_or_else(|error| {
            tracing::error!("Slack: what was left to do before the start cannot be read: {error}");
            Vec::new()
        });
        let read = |(delivery, what): (String, String)| (delivery, serde_json::from_str(&what).ok());
        kept.into_iter().map(read).collect()
    }
}

impl Seen {
    fn remember(&mut self, key: &str) {
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        self.order.push_back(key.to_owned());
        self.keys.insert(key.to_owned());
    }
}

/// Hands over what an earlier process left behind, once Slack can be told about it.
async fn replay(
    inner: Arc<Inner>,
    left: Vec<(String, Option<Interaction>)>,
    sender: mpsc::Sender<Parcel>,
    mut stop: watch::Receiver<bool>,
) {
    if left.is_empty() {
        return;
    }
    tracing::info!("Slack: {} interactions were left to do before the start", left.len());
    while inner.workspace().await.is_err() {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = sleep(RETRY) => {}
        }
    }
    for (delivery, interaction) in left {
        // One of an older version that is not understood stays where it is.
        let Some(interaction) = interaction else { continue };
        if sender.send(Parcel { interaction, stored: Some(delivery), old: true }).await.is_err() {
            return;
        }
    }
}

/// Works on everything that is taken, each in a task of its own, so that neither a slow call nor a panic stops the next.
async fn work<F: Future<Output = ()> + Send + 'static>(
    mut receiver: mpsc::Receiver<Parcel>,
    drawer: Drawer,
    mut stop: watch::Receiver<bool>,
    handle: impl Fn(Parcel) -> F,
) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let parcel = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            parcel = receiver.recv() => parcel,
        };
        let Some(parcel) = parcel else { return };
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let stored = parcel.stored.clone();
        let task = tokio::spawn(timeout(WORK, handle(parcel)));
        let drawer = drawer.clone();
        tokio::spawn(async move {
            match task.await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => tracing::warn!("Slack: work on an interaction took too long"),
                Err(error) if error.is_cancelled() => return,
                Err(error) => tracing::error!("Slack: work on an interaction ended badly: {error}"),
            }
            if let Some(delivery) = stored {
                drawer.forget(&delivery).await;
            }
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::approval::slack::interaction::{Act, Clicker};
    use crate::store::StoreSettings;

    fn drawer() -> Drawer {
        let (store, _) = Store::open(&StoreSettings::default()).unwrap();
        Drawer { store, channel: "slack".to_owned() }
    }

    /// A click that may decide something.
    fn click(user: &str) -> Option<Interaction> {
        let act = Act::Click {
            action: "approve".to_owned(),
            value: format!("v1:qg-1:{}", "0f".repeat(32)),
            trigger: "1.2.3".to_owned(),
            place: None,
        };
        interaction(user).map(|interaction| Interaction { act, ..interaction })
    }

    #[allow(clippy::unnecessary_wraps, reason = "as the inbox takes it")]
    fn interaction(user: &str) -> Option<Interaction> {
        Some(Interaction { by: Clicker { user: user.to_owned(), teams: Vec::new() }, act: Act::Home })
    }

    #[tokio::test]
    async fn what_may_decide_is_stored_before_it_is_acknowledged_until_it_was_worked_on() {
        let drawer = drawer();
        let (inbox, receiver) = Inbox::new(drawer.clone());
        assert_eq!(inbox.take("a", click("U01")).await, Taken::Accepted);
        assert_eq!(inbox.take("b", interaction("U01")).await, Taken::Accepted);
        assert_eq!(drawer.left().await, [("a".to_owned(), click("U01"))], "a look at the App Home is not worth it");
        let (sender, stop) = watch::channel(false);
        let worker = tokio::spawn(work(receiver, drawer.clone(), stop, |_| async {}));
        // Nobody is told when it leaves, so it is looked at.
        while !drawer.left().await.is_empty() {
            tokio::task::yield_now().await;
        }
        sender.send_replace(true);
        worker.await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_stored_is_neither_acknowledged_nor_remembered() {
        let drawer = drawer();
        let (inbox, mut receiver) = Inbox::new(drawer.clone());
        drawer.store.clone().close().await;
        assert_eq!(inbox.take("a", click("U01")).await, Taken::Refused);
        assert_eq!(inbox.take("a", click("U01")).await, Taken::Refused);
        assert!(receiver.try_recv().is_err(), "nothing is worked on");
        assert_eq!(inbox.take("b", interaction("U01")).await, Taken::Accepted, "a look needs no store");
    }

    #[tokio::test]
    async fn a_delivery_counts_once_and_one_without_room_is_not_remembered() {
        let (inbox, mut receiver) = Inbox::new(drawer());
        assert_eq!(inbox.take("a", interaction("U01")).await, Taken::Accepted);
        assert_eq!(inbox.clone().take("a", interaction("U01")).await, Taken::Again);
        for n in 1..WAITING {
            assert_eq!(inbox.take(&n.to_string(), interaction("U01")).await, Taken::Accepted);
        }
        assert_eq!(inbox.take("late", interaction("U01")).await, Taken::Refused);
        receiver.try_recv().unwrap();
        assert_eq!(inbox.take("late", interaction("U01")).await, Taken::Accepted);
        assert_eq!(inbox.take("meaningless", None).await, Taken::Accepted);
        assert_eq!(inbox.take("meaningless", None).await, Taken::Again);
    }

    #[tokio::test]
    async fn memory_of_deliveries_is_bounded() {
        let (inbox, _receiver) = Inbox::new(drawer());
        for n in 0..=REMEMBERED {
            inbox.take(&n.to_string(), None).await;
        }
        assert_eq!(inbox.seen.lock().await.keys.len(), REMEMBERED);
        assert_eq!(inbox.take("0", None).await, Taken::Accepted);
        assert_eq!(inbox.take(&REMEMBERED.to_string(), None).await, Taken::Again);
    }

    #[tokio::test]
    async fn a_panic_in_one_piece_of_work_does_not_stop_the_next() {
        let (inbox, receiver) = Inbox::new(drawer());
        let (_sender, stop) = watch::channel(false);
        let done = Arc::new(AtomicUsize::new(0));
        let (told, mut heard) = mpsc::channel(AT_ONCE * 4);
        let counter = Arc::clone(&done);
        let worker = tokio::spawn(work(receiver, drawer(), stop, move |parcel| {
            let (counter, told) = (Arc::clone(&counter), told.clone());
            async move {
                assert!(parcel.interaction.by.user != "U0BAD", "as the test wants it");
                counter.fetch_add(1, Ordering::Relaxed);
                told.send(()).await.unwrap();
            }
        }));
        // More panics than there are permits: a permit must come back from each.
        for n in 0..AT_ONCE * 2 {
            inbox.take(&format!("bad {n}"), interaction("U0BAD")).await;
        }
        inbox.take("good", interaction("U01")).await;
        heard.recv().await.unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 1);
        drop(inbox);
        worker.await.unwrap();
    }
}
