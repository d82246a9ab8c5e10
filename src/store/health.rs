//! Whether the record can be written, readable without asking the thread that writes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::clock;

/// Whether the record can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It can, as far as known.
    Good,
    /// It cannot: nothing new can be held.
    Failing {
        /// Since when.
        since: Timestamp,
        /// Why, in a clause.
        why: String,
    },
}

/// Shared by the writing thread and everybody who asks.
#[derive(Debug)]
pub(super) struct Pulse {
    state: ArcSwap<Health>,
    /// Milliseconds from `epoch` to the beginning of what the thread does now, plus one; 0 when it waits for work.
    busy: AtomicU64,
    epoch: Instant,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { state: ArcSwap::from_pointee(Health::Good), busy: AtomicU64::new(0), epoch: clock::now() }
    }

    /// A disk that hangs is told by how long it takes.
    pub(super) fn health(&self, patience: Duration) -> Health {
        let health = Health::clone(&self.state.load());
        let busy = self.busy.load(Ordering::Relaxed);
        let lasted = Duration::from_millis(self.now().saturating_sub(busy));
        if health == Health::Good && busy > 0 && lasted > patience {
            let since = clock::wall();
            let since = since.checked_sub(jiff::SignedDuration::try_from(lasted).unwrap_or_default()).unwrap_or(since);
            return Health::Failing { since, why: "the disk does not answer".to_owned() };
        }
        health
    }

    pub(super) fn is_failing(&self) -> bool {
        **self.state.load() != Health::Good
    }

    pub(super) fn begin(&self) {
        self.busy.store(self.now(), Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.busy.store(0, Ordering::Relaxed);
    }

    /// Never 0.
    fn now(&self) -> u64 {
        let passed = clock::now().saturating_duration_since(self.epoch);
        u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    pub(super) fn works(&self) {
        if self.is_failing() {
            tracing::info!("the store can be written again");
            self.state.store(Arc::new(Health::Good));
        }
    }

    pub(super) fn fails(&self, why: &str) {
        let since = match &**self.state.load() {
            Health::Good => {
                tracing::error!(why, "the store cannot be written: nothing new can be held");
                clock::wall()
            }
            Health::Failing { since, .. } => *since,
        };
        self.state.store(Arc::new(Health::Failing { since, why: why.to_owned() }));
    }

    /// Nothing will be written any more.
    pub(super) fn closed(&self) {
        let health = Health::Failing { since: clock::wall(), why: "the store is closed".to_owned() };
        self.state.store(Arc::new(health));
    }
}
