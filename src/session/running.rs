//! A released statement, until the database has answered it. Whatever happens to the session, exactly one result is told.

use std::sync::Arc;
use std::time::Instant;

use super::machine::Seen;
use crate::clock;
use crate::hold::{Board, Execution, HoldRequest};

/// Its drop tells that the result is not known.
pub(super) struct Running {
    board: Board,
    /// `None` once the result is told.
    request: Option<Arc<HoldRequest>>,
    since: Instant,
}

impl Running {
    /// From now on.
    pub(super) fn new(board: Board, request: Arc<HoldRequest>) -> Self {
        Self { board, request: Some(request), since: clock::now() }
    }

    /// The database has answered.
    pub(super) fn finish(mut self, seen: Seen) {
        let duration = clock::now().saturating_duration_since(self.since).as_millis();
        let duration_ms = u64::try_from(duration).unwrap_or(u64::MAX);
        self.tell(match seen {
            Seen { unfinished: true, .. } => Execution::Unknown,
            Seen { error: Some((sqlstate, message)), .. } => Execution::Failed { sqlstate, message, duration_ms },
            Seen { tags, committed, kept, .. } => {
                Execution::Completed { rows: rows(&tags), tag: tags.join("; "), duration_ms, committed, kept }
            }
        });
    }

    fn tell(&mut self, execution: Execution) {
        if let Some(request) = self.request.take() {
            self.board.executed(request, execution);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tell(Execution::Unknown);
    }
}

/// Rows counted by command tags ("DELETE 3", "INSERT 0 5"): their last word, where it is a number.
fn rows(tags: &[String]) -> Option<u64> {
    tags.iter().filter_map(|tag| tag.rsplit(' ').next()?.parse().ok()).reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_last_number_of_each_tag() {
        let rows = |tags: &[&str]| rows(&tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>());
        assert_eq!(rows(&["DELETE 3", "INSERT 0 5", "DROP TABLE"]), Some(8));
        assert_eq!(rows(&["TRUNCATE TABLE"]), None);
        assert_eq!(rows(&[""]), None);
    }
}
