//! A statement that is being looked into, as its session sees it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::oneshot;

use super::holding;
use super::machine::Draft;
use super::offload::Asking;
use super::shared::Shared;
use crate::hold::{HoldId, Origin};
use crate::judge::{Measure, SessionClass};
use crate::wire::reply::Report;

/// Waits for what a statement would touch.
pub(super) struct Measuring {
    found: Option<oneshot::Receiver<Measure>>,
    /// What the policy is then asked, if that takes its time.
    ask: Option<Asking>,
    asking: Option<oneshot::Receiver<Measure>>,
}

impl Measuring {
    /// Has it looked into. No request is opened by that: nobody is asked yet.
    pub(super) fn begin(shared: &Shared, origin: &Origin, class: &SessionClass, draft: Draft) -> Self {
        let opaque = draft.analysis.opaque;
        let ask = class.takes_time().then(|| Asking::new(class, &draft.analysis, draft.in_transaction));
        let request = holding::request(shared, HoldId("unasked".to_owned()), origin, draft, Duration::ZERO);
        Self { found: shared.measure(request, opaque), ask, asking: None }
    }

    /// Whoever looks bounds their own time, and so does the policy.
    pub(super) fn poll(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<Measure> {
        if self.asking.is_none() {
            let found = match &mut self.found {
                None => Measure::unknown("nothing is configured to look into it"),
                // Fail closed: whoever gave up has found nothing.
                Some(receiver) => {
                    ready!(Pin::new(receiver).poll(cx)).unwrap_or_else(|_| Measure::unknown("looking into it failed"))
                }
            };
            let Some(ask) = self.ask.take() else { return Poll::Ready(found) };
            self.asking = Some(shared.questions.ask_measured(ask, found));
        }
        let asked = match &mut self.asking {
            Some(receiver) => ready!(Pin::new(receiver).poll(cx)).ok(),
            None => None,
        };
        // Fail closed: as if nothing had been found.
        Poll::Ready(asked.unwrap_or_else(|| Measure::unknown("the policy could not be asked about it")))
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
