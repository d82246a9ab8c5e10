//! A statement that is being looked into, as its session sees it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use super::holding;
use super::machine::Draft;
use super::shared::Shared;
use crate::hold::{HoldId, Origin};
use crate::judge::Measure;
use crate::wire::reply::Report;

/// Waits for what a statement would touch.
pub(super) struct Measuring(Option<oneshot::Receiver<Measure>>);

impl Measuring {
    /// Has it looked into. No request is opened by that: nobody is asked yet.
    pub(super) fn begin(shared: &Shared, origin: &Origin, draft: Draft) -> Self {
        let opaque = draft.analysis.opaque;
        let request = holding::request(shared, HoldId("unasked".to_owned()), origin, draft, Duration::ZERO);
        Self(shared.measure(request, opaque))
    }

    /// Whoever looks bounds their own time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Measure> {
        let Some(receiver) = &mut self.0 else {
            return Poll::Ready(Measure::unknown("nothing is configured to look into it"));
        };
        // Fail closed: whoever gave up has found nothing.
        Pin::new(receiver).poll(cx).map(|found| found.unwrap_or_else(|_| Measure::unknown("looking into it failed")))
    }
}

/// The client does not want it any more.
pub(super) fn cancelled() -> Report {
    Report::error("57014", "querygate: canceling statement due to user request")
        .with_detail("It was being looked into; nobody was asked.")
        .with_hint("Nothing was run.")
}

/// The gate ends.
pub(super) fn shutting_down() -> Report {
    Report::error("57014", "querygate: the gate is shutting down")
        .with_detail("The statement was being looked into; nobody was asked.")
        .with_hint("Nothing was run.")
}
