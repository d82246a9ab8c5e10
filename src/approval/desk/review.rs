//! After one person released a statement alone, another looks at it: who may, and that they did. Knows no channel.
//!
//! The same order as for answers: judged, put on record, then told.

use std::sync::Arc;

use jiff::Timestamp;

use super::{ApprovalDesk, Change, tidy_reason};
use crate::approval::case::Denied;
use crate::approval::channel::{Acknowledgement, Actor, RequestView};
use crate::approval::people::Person;
use crate::hold::{Hold, HoldId, Refused};
use crate::store::Event;

impl ApprovalDesk {
    /// A known person says through the API that they have looked at an emergency release.
    ///
    /// # Errors
    /// Why that does not count. It is on record too.
    pub async fn review(
        self: &Arc<Self>,
        person: &Person,
        id: &HoldId,
        comment: Option<String>,
        at: Timestamp,
    ) -> Result<(), Denied> {
        let acknowledgement =
            Acknowledgement { id: id.clone(), channel: "api".to_owned(), actor: Actor::person(person), comment, at };
        if self.find(person, id).is_none() {
            // Outsiders learn nothing, not even that it exists.
            return self.refuse_review(&acknowledgement, Refused::Unknown.into()).await;
        }
        self.acknowledge(acknowledgement).await
    }

    /// The same from any channel.
    ///
    /// # Errors
    /// Why it does not count. That is on record too.
    ///
    /// # Cancellation safety
    /// What was taken is carried out even if nobody waits for it.
    pub async fn acknowledge(self: &Arc<Self>, acknowledgement: Acknowledgement) -> Result<(), Denied> {
        let desk = Arc::clone(self);
        // A task of its own: what is on record must also be told, whoever hangs up meanwhile.
        let taken = tokio::spawn(async move { desk.acknowledge_here(acknowledgement).await }).await;
        taken.unwrap_or_else(|error| Err(Denied::NotRecorded(format!("the desk failed: {error}"))))
    }

    async fn acknowledge_here(&self, mut acknowledgement: Acknowledgement) -> Result<(), Denied> {
        match tidy_reason(acknowledgement.comment.take()) {
            Ok(comment) => acknowledgement.comment = comment,
            Err(denied) => return self.refuse_review(&acknowledgement, denied).await,
        }
        let Some(place) = self.place(&acknowledgement.id) else {
            return self.refuse_review(&acknowledgement, Refused::Unknown.into()).await;
        };
        let _turn = place.turn.lock().await;
        let may = place.case().may_review(&acknowledgement.actor, &self.settings.load().people);
        if let Err(denied) = may {
            return self.refuse_review(&acknowledgement, denied).await;
        }
        // Stored before it is told.
        self.record.record(vec![reviewed(&acknowledgement, None)]).await.map_err(Denied::NotRecorded)?;
        let view = {
            let mut case = place.case();
            case.reviewed(&acknowledgement);
            case.view.clone()
        };
        let is_over = view.ended.is_some();
        self.tell(Change::Changed(Box::new(view)));
        if is_over {
            // It was kept for the review alone.
            self.retire(&acknowledgement.id);
        }
        Ok(())
    }

    async fn refuse_review(&self, acknowledgement: &Acknowledgement, denied: Denied) -> Result<(), Denied> {
        let event = reviewed(acknowledgement, Some(denied.to_string()));
        if let Err(why) = self.record.record(vec![event]).await {
            let (id, by) = (&acknowledgement.id, &acknowledgement.actor.identity);
            tracing::error!(request = %id, %by, "cannot record a refused review: {why}");
        }
        Err(denied)
    }

    /// Emergency releases that nobody else has looked at, oldest first, as far as the person may see them.
    #[must_use]
    pub fn reviews(&self, person: &Person) -> Vec<Hold> {
        self.unreviewed_views().iter().filter_map(|view| self.find(person, &view.request.id)).collect()
    }

    /// Whether a person may review a request now.
    #[must_use]
    pub fn person_may_review(&self, person: &Person, id: &HoldId) -> bool {
        let people = &self.settings.load().people;
        self.place(id).is_some_and(|place| place.case().may_review(&Actor::person(person), people).is_ok())
    }

    pub(super) fn unreviewed_views(&self) -> Vec<RequestView> {
        let mut views: Vec<_> =
            self.places().iter().map(|place| place.case().view.clone()).filter(RequestView::is_unreviewed).collect();
        views.sort_by_key(|view| view.request.opened_at);
        views
    }
}

fn reviewed(acknowledgement: &Acknowledgement, refused: Option<String>) -> Event {
    let Acknowledgement { id, channel, actor, comment, .. } = acknowledgement;
    Event::Reviewed {
        id: id.clone(),
        channel: channel.clone(),
        by: actor.identity.clone(),
        note: comment.clone(),
        refused,
    }
}

#[cfg(test)]
mod tests;
