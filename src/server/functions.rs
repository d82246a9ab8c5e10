//! Keeps what is known of databases' functions up to date while sessions use them. Knows no SQL and no statement: the prober looks,
//! and sessions judge by what it found.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::settings::Settings;
use crate::approval::http::Troubles;
use crate::clock;
use crate::impact::{Mark, Prober};
use crate::judge::Book;
use crate::session::functions::{Books, Shelf};
use crate::session::shared::Shared;

/// Between two looks at a database that is used.
const EVERY: Duration = Duration::from_secs(1);
/// A look that is due so soon after a tick is begun with it.
const SLACK: Duration = Duration::from_millis(500);
/// A look that takes long, and finds nothing new, is rare: the server spends no more than this share of its time on them.
const SHARE: u32 = 20;
/// However long one takes, the next one comes then.
const RARELY: Duration = Duration::from_secs(10);
/// What is known is out of date after so many looks that should have been.
const MISSED: u32 = 5;

/// Where sessions find what is known, if anybody is to look.
pub(super) fn books(settings: &Settings) -> Option<Arc<Books>> {
    settings.impact.as_ref().filter(|impact| impact.functions).map(|_| Arc::default())
}

/// Begins to look, if somebody can and is to.
pub(super) fn start(
    shared: &Arc<Shared>,
    prober: Option<Arc<Prober>>,
    books: Option<&Arc<Books>>,
    stop: &watch::Receiver<bool>,
) {
    if let (Some(prober), Some(books)) = (prober, books) {
        tokio::spawn(keep(Arc::downgrade(shared), prober, Arc::clone(books), stop.clone()));
    }
}

/// What the health endpoint is told.
pub(super) fn troubles(books: Option<Arc<Books>>) -> Option<Troubles> {
    books.map(|books| Troubles::new(move || books.troubles()))
}

/// What is known to whoever looks.
#[derive(Default)]
struct Looked {
    mark: Option<Mark>,
    /// When the next look is due.
    next: Option<Instant>,
    running: bool,
}

/// What a look came to.
struct Done {
    database: String,
    mark: Option<Mark>,
    took: Duration,
}

/// Looks, until the gate ends.
async fn keep(shared: Weak<Shared>, prober: Arc<Prober>, books: Arc<Books>, mut stop: watch::Receiver<bool>) {
    let mut known: HashMap<String, Looked> = HashMap::new();
    let mut looks: JoinSet<Done> = JoinSet::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = books.wanted() => {}
            _ = ticks.tick() => {}
            Some(done) = looks.join_next() => match done {
                Ok(done) => note(&mut known, done),
                Err(error) => {
                    tracing::error!("a look at a database's functions ended badly: {error}");
                    // Whose it was is not known; one more look harms nobody.
                    for looked in known.values_mut() {
                        looked.running = false;
                    }
                }
            },
        }
        for (database, shelf) in books.shelves() {
            let looked = known.entry(database.clone()).or_default();
            let now = clock::now().checked_add(SLACK).unwrap_or_else(clock::now);
            let due = looked.next.is_none_or(|next| now >= next) || shelf.is_wanted();
            if looked.running || !due {
                continue;
            }
            let Some(answers) = shelf.begin() else {
                shelf.rests();
                continue;
            };
            looked.running = true;
            let mark = looked.mark.take();
            looks.spawn(look(Weak::clone(&shared), Arc::clone(&prober), database, shelf, mark, answers));
        }
    }
}

fn note(known: &mut HashMap<String, Looked>, done: Done) {
    let looked = known.entry(done.database).or_default();
    looked.running = false;
    looked.mark = done.mark;
    looked.next = clock::now().checked_add(pause(done.took));
}

/// Between a look that took so long and the next.
fn pause(took: Duration) -> Duration {
    took.saturating_mul(SHARE).clamp(EVERY, RARELY)
}

async fn look(
    shared: Weak<Shared>,
    prober: Arc<Prober>,
    database: String,
    shelf: Arc<Shelf>,
    mark: Option<Mark>,
    answers: u64,
) -> Done {
    let began = clock::now();
    let found = prober.survey(&database, mark.as_ref()).await;
    let took = clock::now().saturating_duration_since(began);
    // What has changed once may change again: how long it takes to find nothing new is what counts.
    let took = if matches!(found, Ok(Some(_))) { Duration::ZERO } else { took };
    let fresh = pause(took).saturating_mul(MISSED);
    let mark = match found {
        Ok(found) => {
            if shelf.trouble().is_some() {
                tracing::info!(database, "what its functions do is known");
            }
            let (mark, book) = match found {
                Some((mark, parts)) => (Some(mark), Some(Book::known(parts))),
                None => (mark, None),
            };
            if let Some(shared) = shared.upgrade() {
                shared.put_book(&shelf, book, answers, fresh);
            }
            mark
        }
        Err(why) => {
            // Fail closed: what is known gets out of date, and what sessions ask for stays unanswered.
            if shelf.failed(&why) {
                tracing::warn!(
                    database,
                    "what its functions do cannot be looked up, so statements that call any are held: {why}"
                );
            }
            None
        }
    };
    Done { database, mark, took }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_take_long_are_rare() {
        assert_eq!(pause(Duration::from_millis(3)), EVERY);
        assert_eq!(pause(Duration::from_millis(100)), Duration::from_secs(2));
        assert_eq!(pause(Duration::from_secs(9)), RARELY);
    }
}
