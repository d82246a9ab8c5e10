//! What Slack delivers, taken once and worked on apart from the reading. Knows no sockets and no HTTP.
//!
//! It lives in memory: a click is about a statement whose client waits on this process, so what a crash forgets here had
//! ended with it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};

use crate::approval::channel::Desk;

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

/// Takes deliveries. Cheap to clone.
#[derive(Clone)]
pub(super) struct Inbox {
    sender: mpsc::Sender<Interaction>,
    seen: Arc<Mutex<Seen>>,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It will be worked on (or needs no work): acknowledge it.
    Accepted,
    /// It was delivered before: acknowledge it, and nothing else.
    Again,
    /// There is no room: do not acknowledge it.
    Full,
}

#[derive(Default)]
struct Seen {
    keys: HashSet<String>,
    order: VecDeque<String>,
}

impl Inbox {
    /// An inbox whose work ends when `stop` says `true` (or its sender is gone).
    pub(super) fn start(inner: Arc<Inner>, desk: Arc<dyn Desk>, stop: watch::Receiver<bool>) -> Self {
        let (inbox, receiver) = Self::new();
        tokio::spawn(work(receiver, stop, move |interaction| {
            let (inner, desk) = (Arc::clone(&inner), Arc::clone(&desk));
            async move { inner.handle(&desk, interaction).await }
        }));
        inbox
    }

    fn new() -> (Self, mpsc::Receiver<Interaction>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender, seen: Arc::default() }, receiver)
    }

    /// Takes a delivery that Slack calls `key`; `None` for one that means nothing here.
    pub(super) fn take(&self, key: &str, interaction: Option<Interaction>) -> Taken {
        // One lock around all of it: the same delivery may come over two sockets at once.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.keys.contains(key) {
            return Taken::Again;
        }
        if let Some(interaction) = interaction
            && self.sender.try_send(interaction).is_err()
        {
            return Taken::Full;
        }
        seen.remember(key);
        Taken::Accepted
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

/// Works on everything that is taken, each in a task of its own, so that neither a slow call nor a panic stops the next.
async fn work<F: Future<Output = ()> + Send + 'static>(
    mut receiver: mpsc::Receiver<Interaction>,
    mut stop: watch::Receiver<bool>,
    handle: impl Fn(Interaction) -> F,
) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let interaction = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            interaction = receiver.recv() => interaction,
        };
        let Some(interaction) = interaction else { return };
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let task = tokio::spawn(tokio::time::timeout(WORK, handle(interaction)));
        tokio::spawn(async move {
            match task.await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => tracing::warn!("Slack: work on an interaction took too long"),
                Err(error) => tracing::error!("Slack: work on an interaction ended badly: {error}"),
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

    #[allow(clippy::unnecessary_wraps, reason = "as the inbox takes it")]
    fn interaction(user: &str) -> Option<Interaction> {
        Some(Interaction { by: Clicker { user: user.to_owned(), teams: Vec::new() }, act: Act::Home })
    }

    #[test]
    fn a_delivery_counts_once_and_one_without_room_is_not_remembered() {
        let (inbox, mut receiver) = Inbox::new();
        assert_eq!(inbox.take("a", interaction("U01")), Taken::Accepted);
        assert_eq!(inbox.clone().take("a", interaction("U01")), Taken::Again);
        for n in 1..WAITING {
            assert_eq!(inbox.take(&n.to_string(), interaction("U01")), Taken::Accepted);
        }
        assert_eq!(inbox.take("late", interaction("U01")), Taken::Full);
        receiver.try_recv().unwrap();
        assert_eq!(inbox.take("late", interaction("U01")), Taken::Accepted);
        assert_eq!(inbox.take("meaningless", None), Taken::Accepted);
        assert_eq!(inbox.take("meaningless", None), Taken::Again);
    }

    #[test]
    fn memory_of_deliveries_is_bounded() {
        let (inbox, _receiver) = Inbox::new();
        for n in 0..=REMEMBERED {
            inbox.take(&n.to_string(), None);
        }
        assert_eq!(inbox.seen.lock().unwrap().keys.len(), REMEMBERED);
        assert_eq!(inbox.take("0", None), Taken::Accepted);
        assert_eq!(inbox.take(&REMEMBERED.to_string(), None), Taken::Again);
    }

    #[tokio::test]
    async fn a_panic_in_one_piece_of_work_does_not_stop_the_next() {
        let (inbox, receiver) = Inbox::new();
        let (_sender, stop) = watch::channel(false);
        let done = Arc::new(AtomicUsize::new(0));
        let (told, mut heard) = mpsc::channel(AT_ONCE * 4);
        let counter = Arc::clone(&done);
        let worker = tokio::spawn(work(receiver, stop, move |interaction| {
            let (counter, told) = (Arc::clone(&counter), told.clone());
            async move {
                assert!(interaction.by.user != "U0BAD", "as the test wants it");
                counter.fetch_add(1, Ordering::Relaxed);
                told.send(()).await.unwrap();
            }
        }));
        // More panics than there are permits: a permit must come back from each.
        for n in 0..AT_ONCE * 2 {
            inbox.take(&format!("bad {n}"), interaction("U0BAD"));
        }
        inbox.take("good", interaction("U01"));
        heard.recv().await.unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 1);
        drop(inbox);
        worker.await.unwrap();
    }
}
