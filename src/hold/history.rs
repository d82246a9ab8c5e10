//! Ended requests, remembered within bounds. Knows only that they ended.

use std::collections::VecDeque;
use std::sync::Arc;

use super::cell::Ended;
use super::request::{HoldId, HoldRequest};

/// The last ended requests, oldest first.
pub(super) struct History {
    records: VecDeque<Record>,
    bytes: usize,
    most: usize,
    most_bytes: usize,
}

struct Record {
    request: Arc<HoldRequest>,
    ended: Ended,
    bytes: usize,
}

impl History {
    pub(super) fn new(most: usize, most_bytes: usize) -> Self {
        Self { records: VecDeque::new(), bytes: 0, most, most_bytes }
    }

    /// Remembers one more, forgetting the oldest as needed.
    pub(super) fn push(&mut self, request: Arc<HoldRequest>, ended: Ended) {
        let bytes = request.weight();
        self.bytes = self.bytes.saturating_add(bytes);
        self.records.push_back(Record { request, ended, bytes });
        while self.records.len() > self.most || self.bytes > self.most_bytes {
            let Some(oldest) = self.records.pop_front() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
        }
    }

    pub(super) fn find(&self, id: &HoldId) -> Option<(Arc<HoldRequest>, Ended)> {
        // Newest first: it is the recent ones people ask for.
        self.newest_first().find(|(request, _)| request.id == *id)
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = (Arc<HoldRequest>, Ended)> + '_ {
        self.records.iter().rev().map(|record| (Arc::clone(&record.request), record.ended.clone()))
    }
}
