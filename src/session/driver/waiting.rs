//! What a session waits for besides bytes: an analysis, a look at what a statement would touch, the answer of people.

use std::rc::Rc;
use std::task::{Context, Poll};

use super::Session;
use crate::clock;
use crate::hold::Cause;
use crate::session::holding::{Holding, Turn};
use crate::session::machine::{Draft, Ending, Outbox};
use crate::session::measuring::{self, Measuring};
use crate::session::shared::Scratch;
use crate::wire::reply::Report;

impl Session<'_> {
    pub(super) fn poll_analysis(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(answer) = &mut self.analysis else {
            return false;
        };
        let Poll::Ready(analysis) = answer.poll(cx) else {
            return false;
        };
        self.analysis = None;
        self.machine.handle_analysis(analysis);
        self.resume_now(cx);
        self.act(cx);
        true
    }

    pub(super) fn poll_measuring(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(measuring) = &mut self.measuring else {
            return false;
        };
        let Poll::Ready(measure) = measuring.poll(&self.worker.shared, cx) else {
            return false;
        };
        if self.stop_measuring() {
            self.finish_machine(cx, Ending::Refuse(measuring::cancelled()));
        } else {
            self.machine.handle_measured(measure);
            self.resume_now(cx);
        }
        self.act(cx);
        true
    }

    /// Returns whether a CancelRequest was accepted meanwhile.
    pub(super) fn stop_measuring(&mut self) -> bool {
        self.measuring = None;
        self.signal.signal().end_hold()
    }

    pub(super) fn poll_holding(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(holding) = &mut self.holding else {
            return false;
        };
        match holding.poll(cx) {
            Poll::Pending => false,
            Poll::Ready(Turn::Asked) => {
                let notice = holding.take_notice();
                self.tell_asked(notice);
                true
            }
            Poll::Ready(Turn::Remind) => {
                if self.machine.at_backend_frame() && self.outbox_partial.is_empty() {
                    holding.reminder().encode(&mut self.to_client.bytes);
                }
                true
            }
            Poll::Ready(turn) => {
                self.end_hold(cx, turn);
                true
            }
        }
    }

    /// Carries out the end of a hold: release, or an error raised by the backend.
    pub(super) fn end_hold(&mut self, cx: &mut Context<'_>, turn: Turn) {
        let Some(mut holding) = self.holding.take() else {
            return;
        };
        let cancelled = self.signal.signal().end_hold();
        // A CancelRequest that was accepted for the hold is kept: it wins over an approval carried out just now.
        let turn = if cancelled { Turn::Withdraw(Cause::CancelRequest) } else { turn };
        let under = holding.under(&turn);
        if under.is_none() {
            // People were asked, and have answered before the client could hear of it.
            self.tell_asked(holding.take_notice());
        }
        let ending = holding.conclude(turn, clock::wall());
        if matches!(ending, Ending::Release) {
            if let Some(notice) = under.filter(|_| self.machine.at_backend_frame() && self.outbox_partial.is_empty()) {
                notice.encode(&mut self.to_client.bytes);
            }
            let warrant = self.machine.wants_kept().and_then(|(limits, pid)| {
                let undo = self.worker.shared.settings.undo.as_ref()?;
                let is_set_up = undo.databases.contains(&self.origin.database);
                undo.warrant(&holding.id().0, pid?, limits, clock::wall().as_second()).filter(|_| is_set_up)
            });
            if let Some(warrant) = warrant {
                self.machine.may_keep(warrant);
            }
            self.running = holding.running(&self.worker.shared.board);
            // Whatever people let through may have redefined a function.
            if let Some(trust) = &mut self.trust {
                trust.doubt();
            }
        }
        self.finish_machine(cx, ending);
        // The bytes are on their way, or the client is told: now the record may say so.
        holding.finish(clock::wall());
        self.act(cx);
    }

    pub(super) fn finish_machine(&mut self, cx: &mut Context<'_>, ending: Ending) {
        let worker = Rc::clone(self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let Scratch { outbox, memory, .. } = &mut *scratch;
        outbox.clear();
        self.machine.end_hold(ending, outbox);
        for cleared in outbox.to_backend(&[]) {
            let _ = self.to_backend.write(&mut self.backend, cx, cleared.bytes());
        }
        self.resume(cx, outbox, memory);
    }

    /// Ends a hold without anything being sent: one side is gone.
    pub(super) fn withdraw(&mut self, cause: Cause) {
        if self.measuring.is_some() {
            let _ = self.stop_measuring();
        }
        if let Some(holding) = self.holding.take() {
            let _ = self.signal.signal().end_hold();
            holding.abandon(cause, clock::wall());
        }
    }

    pub(super) fn measure(&mut self, draft: Draft) {
        if self.client_ended {
            // As for a hold: it is dropped with what came behind it.
            self.inbox = Vec::new();
            return;
        }
        self.signal.signal().begin_hold();
        self.measuring = Some(Measuring::begin(&self.worker.shared, &self.origin, &self.class.class, draft));
    }

    pub(super) fn open_hold(&mut self, cx: &mut Context<'_>, draft: Draft) {
        if self.client_ended {
            // Nobody is there to see the outcome: the statement is dropped with what came behind it.
            self.inbox = Vec::new();
            return;
        }
        match Holding::open(&self.worker.shared, &self.origin, draft) {
            Ok(holding) => {
                self.signal.signal().begin_hold();
                self.machine.handle_opened(holding.id());
                self.holding = Some(Box::new(holding));
            }
            Err(report) => self.finish_machine(cx, Ending::Refuse(report)),
        }
    }

    /// The client hears that its statement waits.
    pub(super) fn tell_asked(&mut self, notice: Option<Report>) {
        let Some(notice) = notice else { return };
        let mut outbox = Outbox::default();
        self.machine.handle_asked(&notice, &mut outbox);
        for bytes in outbox.to_client(&[]) {
            self.to_client.bytes.extend_from_slice(bytes);
        }
    }
}
