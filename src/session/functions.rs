//! What sessions know of their database's functions: a book per database, put there by whoever asks the database, and whether this
//! session may trust it. Knows no connection that asks. Start at [`Books`].
//!
//! On the way of a statement that passes it costs one relaxed load: a new book is noticed as a new policy is, by the generation that is
//! looked at anyway.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::clock;
use crate::judge::{Book, SessionClass};

/// Databases that are looked at. The functions of others are unknown for good.
const DATABASES: usize = 1_000;
/// A statement that would be held for what is not known waits so long for a look that may know.
const PATIENCE: Duration = Duration::from_secs(2);

const OUT_OF_DATE: &str = "what was known is out of date, or this session may have changed it";

/// The books of all databases. Shared by all sessions, and by whoever fills them in.
#[derive(Debug)]
pub struct Books {
    shelves: Mutex<HashMap<String, Arc<Shelf>>>,
    wanted: Notify,
    nobody_looked: Arc<Book>,
}

/// One database's book, and who wants it.
#[derive(Debug)]
pub struct Shelf {
    book: ArcSwap<Book>,
    /// A session that is logged in has sent something since the last look began, and what is known was not out of date then.
    used: AtomicBool,
    /// Until when what is known is not out of date, in milliseconds after `made`.
    fresh: AtomicU64,
    made: Instant,
    /// Why the last look failed, if it did.
    trouble: Mutex<Option<String>>,
    looked: Notify,
    /// Looks that were asked for at once.
    asked: AtomicU64,
    /// Of these, how many were answered by looks that began later.
    answered: AtomicU64,
    /// What sessions judge by that cannot trust it.
    doubtful: ArcSwap<Book>,
}

impl Default for Books {
    fn default() -> Self {
        Self { shelves: Mutex::default(), wanted: Notify::new(), nobody_looked: Book::unknown("nobody has looked yet") }
    }
}

impl Books {
    /// The shelf of a database.
    pub(super) fn shelf(&self, database: &str) -> Arc<Shelf> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shelves.get(database) {
            return Arc::clone(known);
        }
        let made = Arc::new(Shelf {
            book: ArcSwap::new(Arc::clone(&self.nobody_looked)),
            used: AtomicBool::new(false),
            fresh: AtomicU64::new(0),
            made: clock::now(),
            trouble: Mutex::default(),
            looked: Notify::new(),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            doubtful: ArcSwap::new(Arc::clone(&self.nobody_looked)),
        });
        if shelves.len() >= DATABASES {
            // A name that only a client has written, who never logged in, is forgotten.
            shelves.retain(|_, known| Arc::strong_count(known) > 1 || known.asked.load(Ordering::Relaxed) > 0);
        }
        // Fail closed: beyond that, nobody ever looks.
        if shelves.len() < DATABASES {
            shelves.insert(database.to_owned(), Arc::clone(&made));
        }
        made
    }

    /// The databases somebody has logged into, by name.
    pub fn shelves(&self) -> Vec<(String, Arc<Shelf>)> {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shelves.iter().filter(|(_, shelf)| shelf.asked.load(Ordering::Relaxed) > 0);
        known.map(|(database, shelf)| (database.clone(), Arc::clone(shelf))).collect()
    }

    /// Waits until a look is asked for that should begin at once.
    ///
    /// # Cancellation safety
    /// Nothing is lost; one task at a time may wait.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Databases of which nothing is known, and why.
    pub fn troubles(&self) -> Vec<(String, String)> {
        let mut troubles: Vec<_> =
            self.shelves().into_iter().filter_map(|(database, shelf)| Some((database, shelf.trouble()?))).collect();
        troubles.sort_unstable();
        troubles
    }
}

impl Shelf {
    /// What is known.
    pub fn book(&self) -> Arc<Book> {
        self.book.load_full()
    }

    /// A look begins: the looks asked for that it answers, should it succeed. `None`: nobody wants one.
    pub fn begin(&self) -> Option<u64> {
        let asked = self.asked.load(Ordering::SeqCst);
        let wanted = asked > self.answered.load(Ordering::SeqCst);
        (self.used.swap(false, Ordering::Relaxed) || wanted).then_some(asked)
    }

    /// A look was due that nobody wants: what is known is out of date for whoever comes next.
    pub fn rests(&self) {
        self.fresh.store(0, Ordering::SeqCst);
    }

    /// A look is asked for that has not been answered.
    pub fn is_wanted(&self) -> bool {
        self.asked.load(Ordering::SeqCst) > self.answered.load(Ordering::SeqCst)
    }

    /// Why the last look failed; or that there was none.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        trouble.or_else(|| self.book.load().trouble().map(str::to_owned))
    }

    /// A look failed: what is known gets out of date. Whether the one before had not.
    pub fn failed(&self, why: &str) -> bool {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.replace(why.to_owned()).is_none()
    }

    /// What a look found (`None`: what is known), which answers so many and is not out of date for so long. Whether that is something else
    /// than before.
    pub(super) fn put(&self, book: Option<Arc<Book>>, answers: u64, fresh: Duration) -> bool {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let changed = book.is_some_and(|book| {
            let other = !self.book.load().says_the_same(&book);
            if other {
                self.doubtful.store(book.in_doubt(OUT_OF_DATE));
                self.book.store(book);
            }
            other
        });
        self.fresh.store(self.age().saturating_add(millis(fresh)), Ordering::SeqCst);
        self.answered.fetch_max(answers, Ordering::SeqCst);
        self.looked.notify_waiters();
        changed
    }

    /// Since it was made, in milliseconds.
    fn age(&self) -> u64 {
        millis(clock::now().saturating_duration_since(self.made))
    }

    /// Waits for the answer to this look, but not for ever.
    async fn answer(self: Arc<Self>, number: u64) {
        let answered = async {
            loop {
                let mut looked = std::pin::pin!(self.looked.notified());
                looked.as_mut().enable();
                if self.answered.load(Ordering::SeqCst) >= number {
                    return;
                }
                looked.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, answered).await;
    }

    fn ask(&self, books: &Books) -> u64 {
        let number = self.asked.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        books.wanted.notify_one();
        number
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What one session makes of it.
#[derive(Debug)]
pub(super) struct Trust {
    books: Arc<Books>,
    shelf: Arc<Shelf>,
    doubt: Doubt,
    /// The latest look that was waited for.
    waited: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// The session is not logged in.
    New,
    None,
    /// Something ran, or may still, that may have redefined what is known; nobody else sees it before its transaction ends.
    Open,
    /// It is over, or what is known is out of date: a look that begins after that is awaited.
    Awaits(u64),
}

impl Trust {
    pub(super) fn new(books: &Arc<Books>, database: &str) -> Self {
        Self { books: Arc::clone(books), shelf: books.shelf(database), doubt: Doubt::New, waited: 0 }
    }

    /// The session is logged in: its database is worth a look.
    pub(super) fn logged_in(&mut self) {
        if self.doubt == Doubt::New {
            self.doubt = Doubt::None;
            if self.never_looked() {
                self.doubt = Doubt::Awaits(self.shelf.ask(&self.books));
            }
        }
    }

    /// Before what the client has sent is looked at. Whether the session's class is to be made anew.
    pub(super) fn turn(&mut self) -> bool {
        if !self.shelf.used.load(Ordering::Relaxed) {
            self.use_it();
        }
        match self.doubt {
            Doubt::Awaits(number) if self.shelf.answered.load(Ordering::SeqCst) >= number => {
                self.doubt = Doubt::None;
                true
            }
            Doubt::New | Doubt::None | Doubt::Open | Doubt::Awaits(_) => false,
        }
    }

    /// The first to use it since the last look began.
    fn use_it(&mut self) {
        if self.doubt == Doubt::New {
            return;
        }
        if self.shelf.age() < self.shelf.fresh.load(Ordering::SeqCst) {
            self.shelf.used.store(true, Ordering::Relaxed);
        } else if self.doubt == Doubt::None {
            // Fail closed: nobody has used it for a while, so nobody has looked; or looking fails.
            self.doubt = Doubt::Awaits(self.shelf.ask(&self.books));
        }
    }

    /// A look that may let pass what would be held for what its functions do: to be waited for, for a bounded time.
    pub(super) fn awaits(&mut self) -> Option<impl Future<Output = ()> + use<>> {
        let number = match self.doubt {
            // What its own transaction does no look can see.
            Doubt::New | Doubt::Open => return None,
            Doubt::Awaits(number) => number,
            Doubt::None => {
                let number = self.shelf.ask(&self.books);
                self.doubt = Doubt::Awaits(number);
                number
            }
        };
        self.waited = self.waited.max(number);
        Some(Arc::clone(&self.shelf).answer(number))
    }

    /// Nobody has looked yet, and nothing says that nobody can: nothing is known, not even of views.
    fn never_looked(&self) -> bool {
        let failed = || self.shelf.trouble.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.shelf.book.load().trouble().is_some() && !failed()
    }

    /// The first look is on its way, and better waited for.
    pub(super) fn waits_for_the_first(&self) -> bool {
        matches!(self.doubt, Doubt::Awaits(_)) && self.never_looked()
    }

    /// What is known may be out of date in any way, views and tables included: a look is on its way that has not been waited for.
    pub(super) fn waits_for_a_look(&self) -> bool {
        let fails = || self.shelf.trouble.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        matches!(self.doubt, Doubt::Awaits(number) if number > self.waited) && !fails()
    }

    /// Whether [`Self::awaits`] can help.
    pub(super) fn can_wait(&self) -> bool {
        matches!(self.doubt, Doubt::None | Doubt::Awaits(_))
    }

    /// Something runs that may redefine what is known.
    pub(super) fn doubt(&mut self) {
        self.doubt = Doubt::Open;
    }

    /// No transaction of the session's is open, and nothing of it runs.
    pub(super) fn idle(&mut self) {
        if self.doubt == Doubt::Open {
            self.doubt = Doubt::Awaits(self.shelf.ask(&self.books));
        }
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        matches!(self.doubt, Doubt::Open | Doubt::Awaits(_))
    }

    /// `class`, by what this session may believe.
    pub(super) fn bind(&self, class: &SessionClass) -> SessionClass {
        // Fail closed: what it has changed itself is not in the book.
        if self.is_in_doubt() { self.shelf.doubtful.load().bind(class) } else { self.shelf.book().bind(class) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{BookParts, Facts, Policy};

    const LONG: Duration = Duration::from_secs(3600);

    fn known() -> Arc<Book> {
        Book::known(BookParts::default())
    }

    #[test]
    fn a_session_that_redefined_something_trusts_only_a_look_that_began_after_its_transaction() {
        let books = Arc::new(Books::default());
        let class = Policy::shipped().class(&Facts::default());
        let mut trust = Trust::new(&books, "shop");
        trust.logged_in();
        let shelf = Arc::clone(&trust.shelf);
        let answers = shelf.begin().unwrap();
        assert!(trust.waits_for_the_first() && shelf.put(Some(known()), answers, LONG));
        assert!(trust.turn() && !trust.waits_for_the_first());
        let sure = trust.bind(&class);
        trust.doubt();
        assert!(!trust.bind(&class).is(&sure), "its own definitions are not in the book");
        assert!(!trust.turn() && !trust.can_wait());
        // A look that begins while the transaction is open does not see what it does.
        let early = shelf.begin().unwrap();
        trust.idle();
        shelf.put(None, early, LONG);
        assert!(!trust.turn() && trust.is_in_doubt());
        let late = shelf.begin().unwrap();
        shelf.put(None, late, LONG);
        assert!(trust.turn());
        assert!(trust.bind(&class).is(&sure));
    }

    #[test]
    fn nobody_looks_at_a_database_that_nobody_logged_into_or_uses() {
        let books = Arc::new(Books::default());
        let mut trust = Trust::new(&books, "shop");
        trust.turn();
        assert!(books.shelves().is_empty() && trust.shelf.begin().is_none());
        trust.logged_in();
        assert_eq!(books.troubles(), [("shop".to_owned(), "nobody has looked yet".to_owned())]);
        let answers = trust.shelf.begin().unwrap();
        assert!(trust.shelf.put(Some(known()), answers, LONG));
        assert!(!trust.shelf.put(Some(known()), answers, LONG), "the same again is nothing new");
        assert!(books.troubles().is_empty());
        assert_eq!(trust.shelf.begin(), None, "unused since");
        trust.turn();
        assert!(trust.shelf.begin().is_some());
        assert!(trust.shelf.failed("the server is gone") && !trust.shelf.failed("the server is gone"));
        assert_eq!(books.troubles(), [("shop".to_owned(), "the server is gone".to_owned())]);
    }

    #[test]
    fn what_is_out_of_date_is_not_trusted_before_somebody_has_looked_again() {
        let books = Arc::new(Books::default());
        let mut trust = Trust::new(&books, "shop");
        trust.logged_in();
        let shelf = Arc::clone(&trust.shelf);
        shelf.put(Some(known()), shelf.begin().unwrap(), Duration::ZERO);
        assert!(trust.turn() && !trust.is_in_doubt());
        trust.turn();
        assert!(trust.is_in_doubt() && trust.can_wait() && shelf.is_wanted());
        assert!(trust.waits_for_a_look());
        drop(trust.awaits());
        assert!(!trust.waits_for_a_look(), "once is enough");
        shelf.put(None, shelf.begin().unwrap(), LONG);
        assert!(trust.turn() && !trust.is_in_doubt());
    }

    #[test]
    fn whoever_comes_after_a_pause_waits_for_a_look() {
        let books = Arc::new(Books::default());
        let mut trust = Trust::new(&books, "shop");
        trust.logged_in();
        let shelf = Arc::clone(&trust.shelf);
        shelf.put(Some(known()), shelf.begin().unwrap(), LONG);
        assert!(trust.turn() && !trust.waits_for_a_look());
        shelf.put(None, shelf.begin().unwrap(), LONG);
        assert!(shelf.begin().is_none(), "nobody has used it since");
        shelf.rests();
        trust.turn();
        assert!(trust.waits_for_a_look() && trust.is_in_doubt());
        shelf.put(None, shelf.begin().unwrap(), LONG);
        assert!(trust.turn() && !trust.waits_for_a_look());
    }

    #[tokio::test]
    async fn a_look_is_waited_for_until_it_is_answered() {
        let books = Arc::new(Books::default());
        let mut trust = Trust::new(&books, "shop");
        trust.logged_in();
        let shelf = Arc::clone(&trust.shelf);
        let waiting = tokio::spawn(trust.awaits().unwrap());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        shelf.put(Some(known()), shelf.begin().unwrap(), LONG);
        waiting.await.unwrap();
        assert!(trust.turn());
    }

    #[test]
    fn more_databases_than_are_looked_at_stay_unknown() {
        let books = Arc::new(Books::default());
        let sessions: Vec<Trust> = (0..DATABASES).map(|number| Trust::new(&books, &number.to_string())).collect();
        let beyond = Trust::new(&books, "beyond");
        assert!(beyond.shelf.book().trouble().is_some());
        drop(sessions);
        let again = Trust::new(&books, "again");
        assert!(Arc::ptr_eq(&again.shelf, &books.shelf("again")), "names nobody logged in with were forgotten");
    }
}
