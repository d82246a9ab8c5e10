//! Puts on record what sessions tell of statements that pass, and hands on what Slack is told of. Knows no sessions: it takes what they left.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::hold::{Dropped, Notice, Notices};
use crate::judge::{Redact, RemarkKind};
use crate::session::Told;
use crate::store::redact::hide_notice;
use crate::store::{Event, Store};

/// Notices that wait to be put on record.
pub(super) const ROOM: usize = 1024;
/// Put on record at once.
const BATCH: usize = 64;
/// Between two lines in the log about what was dropped.
const COMPLAIN: Duration = Duration::from_secs(10);

/// Works until `stop` says true; what was told by then is still put on record.
pub(super) async fn keep(
    store: Store,
    mut told: mpsc::Receiver<Told>,
    passed: Option<Notices<Box<Notice>>>,
    dropped: Dropped,
    mut stop: watch::Receiver<bool>,
) {
    let (mut batch, mut known) = (Vec::with_capacity(BATCH), 0);
    let mut complain = interval(COMPLAIN);
    complain.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let taken = tokio::select! {
            taken = told.recv_many(&mut batch, BATCH) => Some(taken),
            _ = complain.tick() => None,
            // An error means that the sender is gone, which is a stop too.
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match taken {
            Some(0) => break,
            Some(_) => record(&store, &mut batch, passed.as_ref(), &dropped).await,
            None => known = say(known, &dropped),
        }
    }
    told.close();
    while told.recv_many(&mut batch, BATCH).await > 0 {
        record(&store, &mut batch, passed.as_ref(), &dropped).await;
    }
    say(known, &dropped);
}

async fn record(store: &Store, batch: &mut Vec<Told>, passed: Option<&Notices<Box<Notice>>>, dropped: &Dropped) {
    let wanted = |(kind, _): &&Told| passed.is_some() && *kind == RemarkKind::Noticed;
    let to_tell: Vec<Box<Notice>> = batch.iter().filter(wanted).map(|(_, notice)| notice.clone()).collect();
    let events: Vec<Event> = batch.drain(..).map(|(kind, notice)| Event::noticed(kind, notice)).collect();
    let count = events.len();
    if let Err(error) = store.record_all(events).await {
        dropped.add(count);
        tracing::error!("{count} notices of statements that passed could not be put on record: {error}");
        return;
    }
    for mut notice in to_tell {
        // What its rule wants hidden is hidden from channels as well.
        hide_notice(Redact::None, &mut notice);
        if let Some(passed) = passed {
            passed.tell(notice);
        }
    }
}

/// Says what was dropped since the last time, and returns how many there are now.
fn say(known: u64, dropped: &Dropped) -> u64 {
    let now = dropped.count();
    if now > known {
        let more = now.saturating_sub(known);
        tracing::warn!(dropped = now, "{more} notices of statements that passed were dropped: the record is behind");
    }
    now
}
