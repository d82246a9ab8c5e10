//! Counts statements that pass, per thread and without a lock, and hands the counts on every few seconds. Off unless the configuration
//! wants a record of what passes. Knows no record.
//!
//! A statement costs one look-up in a map: what is counted are analyses, which the verdict cache shares between texts of one shape. The
//! text is copied once per count and span, whoever takes the counts strips it of its literals. Everything is bounded; what there is no
//! room for is counted as dropped. Start at [`Tally`].

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::shared::Worker;
use crate::hold::{Origin, PassedOrigin};
use crate::judge::{Analysis, SessionClass};

/// Between two hand-overs.
const EVERY: Duration = Duration::from_secs(2);
/// Counts kept until then, per thread.
const MAX_SAMPLES: usize = 4_096;
/// Bytes of text kept until then, per thread.
const MAX_BYTES: usize = 4 << 20;
/// Longer texts are counted without their text.
const MAX_TEXT: usize = 8 << 10;
/// Hand-overs that wait to be taken.
pub const ROOM: usize = 64;

/// Where counts are handed to.
pub type Passing = mpsc::Sender<Samples>;

/// Counts of one thread.
#[derive(Debug, Default)]
pub struct Samples {
    /// What was counted.
    pub samples: Vec<Sample>,
    /// Statements that were not.
    pub dropped: u64,
}

/// Statements with one analysis, of one kind of session.
#[derive(Debug)]
pub struct Sample {
    /// The sessions.
    pub passer: Arc<Passer>,
    /// What they do.
    pub analysis: Arc<Analysis>,
    /// A transaction was open.
    pub in_transaction: bool,
    /// The text of one of them; `None`: too long.
    pub text: Option<Box<[u8]>>,
    /// How many.
    pub count: u64,
}

/// A kind of session, by its origin and the rules that concern it.
#[derive(Debug)]
pub struct Passer {
    /// Two with the same are the same.
    key: u64,
    /// Who and where from.
    pub origin: PassedOrigin,
    /// The rules.
    pub class: SessionClass,
}

impl Passer {
    /// Sessions of this origin, which these rules concern.
    #[must_use]
    pub fn new(origin: &Origin, address: Option<std::net::IpAddr>, class: &SessionClass) -> Arc<Self> {
        let origin = PassedOrigin {
            user: origin.user.clone(),
            database: origin.database.clone(),
            application_name: origin.application_name.clone(),
            certificate_name: origin.certificate_name.clone(),
            client: address.map_or_else(|| "unix".to_owned(), |address| address.to_string()),
        };
        let mut hasher = DefaultHasher::new();
        (&origin, class.identity()).hash(&mut hasher);
        Arc::new(Self { key: hasher.finish(), origin, class: class.clone() })
    }
}

/// Sessions, analysis by its address (which stays its own for as long as it is kept here), in a transaction.
type Key = (u64, usize, bool);

/// What passed on this thread since the last hand-over.
#[derive(Debug, Default)]
pub(super) struct Tally {
    samples: HashMap<Key, Sample>,
    bytes: usize,
    dropped: u64,
}

impl Tally {
    pub(super) fn count(&mut self, passer: &Arc<Passer>, text: &[u8], analysis: &Arc<Analysis>, in_transaction: bool) {
        let key = (passer.key, Arc::as_ptr(analysis).addr(), in_transaction);
        if let Some(sample) = self.samples.get_mut(&key) {
            sample.count = sample.count.saturating_add(1);
            return;
        }
        if self.samples.len() >= MAX_SAMPLES || self.bytes >= MAX_BYTES {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        let text = Some(text).filter(|text| text.len() <= MAX_TEXT);
        self.bytes = self.bytes.saturating_add(text.map_or(0, <[u8]>::len));
        let text = text.map(Box::from);
        let (passer, analysis) = (Arc::clone(passer), Arc::clone(analysis));
        self.samples.insert(key, Sample { passer, analysis, in_transaction, text, count: 1 });
    }

    /// Hands over, without waiting.
    pub(super) fn hand_over(&mut self, to: &Passing) {
        if self.samples.is_empty() && self.dropped == 0 {
            return;
        }
        let samples: Vec<Sample> = self.samples.drain().map(|(_, sample)| sample).collect();
        self.bytes = 0;
        if let Err(lost) = to.try_send(Samples { samples, dropped: std::mem::take(&mut self.dropped) }) {
            let lost = lost.into_inner();
            let counts = lost.samples.iter().map(|sample| sample.count).fold(lost.dropped, u64::saturating_add);
            self.dropped = counts;
        }
    }
}

/// Hands over what a thread counted, from time to time.
///
/// # Cancellation safety
/// May be dropped; what was not handed over stays with the thread.
pub async fn hand_over(worker: Rc<Worker>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        worker.hand_over_passed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Facts, Limits, Policy, analyse};

    fn passer(user: &str) -> Arc<Passer> {
        let origin = Origin {
            session: crate::hold::SessionId(1),
            user: user.to_owned(),
            database: "shop".to_owned(),
            application_name: String::new(),
            certificate_name: None,
            client: "10.0.0.1:5000".to_owned(),
            backend_pid: None,
        };
        let class = Policy::allow_all().class(&Facts::default());
        Passer::new(&origin, "10.0.0.1".parse().ok(), &class)
    }

    fn analysis(sql: &str) -> Arc<Analysis> {
        Arc::new(analyse(sql.as_bytes(), &Limits::default()))
    }

    #[test]
    fn what_is_alike_is_one_count_and_handing_over_begins_anew() {
        let (to, mut from) = mpsc::channel(ROOM);
        let (ann, bob, reads) = (passer("ann"), passer("bob"), analysis("SELECT 1"));
        let mut tally = Tally::default();
        for _ in 0..1_000 {
            tally.count(&ann, b"SELECT 1", &reads, false);
        }
        tally.count(&ann, b"SELECT 1", &reads, true);
        tally.count(&bob, b"SELECT 1", &reads, false);
        tally.hand_over(&to);
        tally.hand_over(&to);
        let mut counts: Vec<_> = from.try_recv().unwrap().samples.iter().map(|sample| sample.count).collect();
        counts.sort_unstable();
        assert_eq!(counts, [1, 1, 1_000]);
        assert!(from.try_recv().is_err(), "nothing passed since");
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_here_and_where_nobody_takes_it() {
        let (to, mut from) = mpsc::channel(1);
        let ann = passer("ann");
        let mut tally = Tally::default();
        for _ in 0..MAX_SAMPLES + 5 {
            tally.count(&ann, b"SELECT 1", &analysis("SELECT 1"), false);
        }
        tally.count(&ann, &vec![b' '; MAX_TEXT + 1], &analysis("SELECT 1"), false);
        tally.hand_over(&to);
        tally.count(&ann, &vec![b' '; MAX_TEXT + 1], &analysis("SELECT 1"), false);
        tally.hand_over(&to);
        let first = from.try_recv().unwrap();
        assert_eq!((first.samples.len(), first.dropped), (MAX_SAMPLES, 6));
        // The second found no room: it is told with the next.
        tally.hand_over(&to);
        let second = from.try_recv().unwrap();
        assert_eq!((second.samples.len(), second.dropped), (0, 1));
    }
}
