//! "This statement again, in this session, for a while": a standing approval that somebody gave with their answer, its uses and its
//! end. Whether a statement is the same again only its session can tell ([`crate::hold::Standing`]).
//!
//! A use is a request of its own, decided at once: on record before the session wakes, like every decision. A standing approval is
//! part of the request it was given for and is never taken over by another process, whose sessions are others.

use std::sync::Arc;

use jiff::Timestamp;

use super::beforehand::may_pass;
use super::{ApprovalDesk, Change, Place};
use crate::approval::case::Denied;
use crate::approval::channel::{Actor, RequestView, Revocation};
use crate::approval::people::Person;
use crate::hold::{Decision, Hold, HoldId, HoldRequest, Refused, SessionId};
use crate::store::Event;

/// A session and the digest of a statement in it.
pub(super) type Key = (SessionId, [u8; 32]);

fn key(request: &HoldRequest) -> Option<Key> {
    Some((request.origin.session, request.standing.same?.statement))
}

impl ApprovalDesk {
    /// The request has been released: a standing approval given with it holds from now on.
    pub(in crate::approval) fn begin_again(&self, view: &RequestView) {
        if view.is_standing()
            && let Some(key) = key(&view.request)
        {
            self.standing.insert(key, view.request.id.clone());
        }
    }

    /// The request whose standing approval may be for this one.
    pub(in crate::approval) fn standing_for(&self, request: &HoldRequest) -> Option<Arc<Place>> {
        let id = self.standing.get(&key(request)?).map(|id| id.value().clone())?;
        self.place(&id)
    }

    /// The decision for a request by the standing approval of `place`, whose turn the caller has. `None`: it is not for it, and
    /// people are asked.
    pub(in crate::approval) fn decide_again(
        &self,
        place: &Place,
        request: &HoldRequest,
        now: Timestamp,
    ) -> Option<Decision> {
        // Fail closed: what the configuration no longer permits is not done because it once did.
        let permitted = !self.settings.load().profile_of(request).again.is_zero();
        place.case().again_for(request, now).filter(|_| permitted)
    }

    /// A known person ends a standing approval through the API.
    ///
    /// # Errors
    /// Why not.
    pub async fn revoke(self: &Arc<Self>, person: &Person, id: &HoldId, at: Timestamp) -> Result<(), Denied> {
        if self.find(person, id).is_none() {
            return Err(Refused::Unknown.into());
        }
        let channel = "api".to_owned();
        self.end_standing(Revocation { id: id.clone(), channel, actor: Actor::person(person), at }).await
    }

    /// Somebody ends a standing approval through any channel.
    ///
    /// # Errors
    /// Why not.
    pub async fn end_standing(self: &Arc<Self>, revocation: Revocation) -> Result<(), Denied> {
        let desk = Arc::clone(self);
        // A task of its own: what is on record must also be carried out, whoever hangs up meanwhile.
        let taken = tokio::spawn(async move { desk.revoke_here(revocation).await }).await;
        taken.unwrap_or_else(|error| Err(Denied::NotRecorded(format!("the desk failed: {error}"))))
    }

    async fn revoke_here(&self, revocation: Revocation) -> Result<(), Denied> {
        let Revocation { id, channel, actor, at } = revocation;
        let place = self.place(&id).ok_or(Refused::Unknown)?;
        place.case().may_revoke(&actor, &self.settings.load().people)?;
        if place.case().view.request.beforehand.is_some() {
            self.begun(&id).await;
            let by = actor.identity;
            let event = Event::Revoked { id: id.clone(), channel, by: by.clone() };
            return self.close_beforehand(&id, event, &format!("revoked by {by}"), at).await;
        }
        // No use is under way meanwhile.
        let _turn = place.turn.lock().await;
        if !place.case().view.is_standing() {
            return Err(Denied::NothingToRevoke);
        }
        let by = actor.identity.clone();
        // Whatever the record says: from now on it holds no more.
        self.end_again(&place, &format!("revoked by {by}"), at);
        let event = Event::Revoked { id, channel, by };
        self.record.record(vec![event]).await.map_err(Denied::NotRecorded)
    }

    /// It holds no more.
    pub(in crate::approval) fn end_again(&self, place: &Place, why: &str, at: Timestamp) {
        let view = {
            let mut case = place.case();
            case.end_again(why, at);
            case.view.clone()
        };
        if let Some(key) = key(&view.request) {
            self.standing.remove_if(&key, |_, id| *id == view.request.id);
        }
        let over = view.ended.is_some().then(|| view.request.id.clone());
        self.tell(Change::Changed(Box::new(view)));
        if let Some(id) = over {
            self.retire(&id);
        }
    }

    /// Requests whose standing approval holds, and those approved beforehand that may still pass, oldest first, as far as the person may see them.
    #[must_use]
    pub fn grants(&self, person: &Person) -> Vec<Hold> {
        let mut views: Vec<_> = self
            .places()
            .iter()
            .map(|place| place.case().view.clone())
            .filter(|view| {
                let over = view.window.as_ref().is_some_and(|window| window.over.is_some());
                view.is_standing() || may_pass(view) && !over
            })
            .collect();
        views.sort_by_key(|view| view.request.opened_at);
        views.iter().filter_map(|view| self.find(person, &view.request.id)).collect()
    }
}

#[cfg(test)]
mod tests;
