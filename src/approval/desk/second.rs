//! What was approved earlier (again in its session, or beforehand) is about to be used for a held statement: whether it would still
//! do what its approvers were shown. If not, people are asked, and are told what differs. Knows no SQL and no channel.
//!
//! A standing approval is compared by a look at the statement itself, and ends with the first difference. A pre-approval is compared by
//! a look at its whole text, less what its own statements have done by now ([`Own`]); a difference ends nothing, because the others
//! of its statements may still be as they were shown, but each of them is compared when it comes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{ApprovalDesk, Change, Place};
use crate::approval::case::Case;
use crate::clock;
use crate::hold::{Cause, Decision, HoldId, HoldRequest};
use crate::impact::{Impact, Own};
use crate::store::Event;

/// A record that takes longer is taken for failed: a client waits for it.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of a second look.
pub(super) enum Second {
    /// The request is decided, or over.
    Settled,
    /// People are asked.
    Ask {
        /// What the request would touch, if that was looked into already.
        seen: Option<Box<Impact>>,
        /// How that differs from what those who approved earlier were shown; empty if nobody did.
        changed: Vec<String>,
    },
}

impl Second {
    const NOTHING: Self = Self::Ask { seen: None, changed: Vec::new() };
}

impl ApprovalDesk {
    /// Decides a held request by what was approved earlier, where nobody looks into statements. `false`: people are asked.
    pub(in crate::approval) async fn use_earlier(&self, request: &Arc<HoldRequest>) -> bool {
        if let Some(granting) = self.standing_for(request) {
            // Neither revoked nor used by another meanwhile.
            let _turn = granting.turn().await;
            let now = clock::wall();
            if let Some(decision) = self.decide_again(&granting, request, now) {
                self.use_again(&granting, request, decision, now).await;
                return true;
            }
        }
        let now = clock::wall();
        let Some(id) = self.fits_beforehand(request, now).await else { return false };
        self.pass_beforehand(&id, request, now).await
    }

    /// The same, after a look; `place` is the request's own, and on record.
    pub(super) async fn look_again(&self, place: &Place, request: &Arc<HoldRequest>) -> Second {
        if let Some(granting) = self.standing_for(request)
            && self.decide_again(&granting, request, clock::wall()).is_some()
        {
            let seen = self.impact_of(request).await;
            return self.second_look(&granting, place, request, seen).await;
        }
        let Some(id) = self.fits_beforehand(request, clock::wall()).await else { return Second::NOTHING };
        let mut changed = self.changed_beforehand(&id, request).await;
        if changed.is_empty() {
            let _turn = place.turn().await;
            if place.case().view.ended.is_some() || self.pass_beforehand(&id, request, clock::wall()).await {
                return Second::Settled;
            }
            return Second::NOTHING;
        }
        changed.insert(0, format!("it was approved beforehand as request {id}; since then:"));
        Second::Ask { seen: None, changed }
    }

    async fn second_look(&self, granting: &Place, place: &Place, request: &Arc<HoldRequest>, seen: Impact) -> Second {
        // Neither revoked nor used by another meanwhile. Always taken before the turn of a request that uses it.
        let _turn = granting.turn().await;
        let _own = place.turn().await;
        if place.case().view.ended.is_some() {
            return Second::Settled;
        }
        let now = clock::wall();
        let Some(decision) = self.decide_again(granting, request, now) else {
            return Second::Ask { seen: Some(Box::new(seen)), changed: Vec::new() };
        };
        let shown = granting.case().shown.clone();
        let mut changed = self.differences(request, shown.as_deref(), &seen, &Own::default());
        if changed.is_empty() {
            self.use_again(granting, request, decision, now).await;
            return Second::Settled;
        }
        let id = granting.case().view.request.id.clone();
        let why = "what it would touch has changed".to_owned();
        self.end_again(granting, &why, now);
        if let Err(error) = self.put_on_record(vec![Event::Lapsed { id: id.clone(), why: Some(why) }]).await {
            tracing::error!(request = %id, "cannot record the end of a standing approval: {error}");
        }
        changed.insert(0, format!("it was approved again and again as request {id}, which holds no more; since then:"));
        Second::Ask { seen: Some(Box::new(seen)), changed }
    }

    /// How what a pre-approval would touch differs from what its approvers were shown.
    async fn changed_beforehand(&self, id: &HoldId, request: &HoldRequest) -> Vec<String> {
        let Some(shown) = self.place(id).and_then(|place| place.case().shown.clone()) else { return Vec::new() };
        // If it is over, nothing passes by it.
        let whole = self.beforehand.lock().await.get(id).map(|approved| Arc::clone(&approved.request));
        let Some(whole) = whole else { return Vec::new() };
        let seen = self.impact_of(&whole).await;
        let Some(own) = self.beforehand.lock().await.get(id).map(|approved| approved.own(request)) else {
            return Vec::new();
        };
        self.differences(&whole, Some(&shown), &seen, &own)
    }

    /// How it differs, in words that may be shown.
    fn differences(&self, request: &HoldRequest, shown: Option<&Impact>, seen: &Impact, own: &Own) -> Vec<String> {
        let (Some(shown), Some(examiner)) = (shown, &self.examiner) else { return Vec::new() };
        if request.redact.is_none() {
            return examiner.changes_beside(shown, seen, own);
        }
        // What is told of the difference must not quote what is kept back.
        let mut hushed = seen.clone();
        hushed.hush();
        examiner.changes_beside(shown, &hushed, own)
    }

    /// A use of a standing approval: on record, then the desk knows both requests' new state, and then the session wakes. The caller has
    /// the turn of `granting`.
    async fn use_again(&self, granting: &Place, request: &Arc<HoldRequest>, decision: Decision, now: Timestamp) {
        let Some(under) = decision.under().cloned() else { return };
        if !self.release_under(request, &decision, &under, Vec::new()).await {
            return;
        }
        let view = {
            let mut granting = granting.case();
            granting.used_again(now);
            granting.view.clone()
        };
        self.tell(Change::Changed(Box::new(view)));
        // If its session has ended meanwhile, that is what counts; the record has both.
        let _ = self.board.decide(&request.id, decision);
    }

    /// Puts on record, and then on the desk, that a request is decided by what was approved earlier, with `events` of that. `false`: it
    /// could not be, and the request is refused.
    pub(super) async fn release_under(
        &self,
        request: &Arc<HoldRequest>,
        decision: &Decision,
        under: &HoldId,
        events: Vec<Event>,
    ) -> bool {
        let place = self.place(&request.id);
        let held = place.is_none().then(|| Event::Held { request: Box::new((**request).clone()) });
        let decided = Event::Decided { id: request.id.clone(), decision: decision.clone() };
        let events = held.into_iter().chain(events).chain([decided]).collect();
        if let Err(why) = self.put_on_record(events).await {
            // Fail closed: what is not on record is not released.
            tracing::error!(request = %request.id, under = %under, "cannot record the use of an earlier approval, so it is refused: {why}");
            let _ = self.board.fail(&request.id, Cause::NotRecorded, clock::wall());
            return false;
        }
        let Some(place) = place else {
            let settings = self.settings();
            let mut case = Case::new(request, settings.profile_of(request), &settings.people);
            case.decide_under(decision, under);
            self.put(case, std::collections::HashMap::new());
            return true;
        };
        let view = {
            let mut case = place.case();
            case.decide_under(decision, under);
            case.view.examining = false;
            case.view.clone()
        };
        self.tell(Change::Changed(Box::new(view)));
        true
    }

    /// Within bounded time.
    pub(in crate::approval) async fn put_on_record(&self, events: Vec<Event>) -> Result<(), String> {
        tokio::time::timeout(RECORD_TIMEOUT, self.record.record(events))
            .await
            .unwrap_or_else(|_| Err(format!("the store did not answer within {} s", RECORD_TIMEOUT.as_secs())))
    }
}
