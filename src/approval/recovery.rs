//! What a crash left half told: requests that had ended, whose messages may not say so yet, and released statements whose
//! result nobody heard. Requests that were still open are [`super::clerk::recover`]'s.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::case::Case;
use super::channel::{Again, Milestone};
use super::desk::ApprovalDesk;
use crate::hold::{Execution, HoldId, Outcome, Undone};
use crate::store::{Event, Store, StoreError, StoredEvent, StoredRequest};

/// The latest requests are looked at, no more.
const LATEST: usize = 200;
/// What ended so long before the last end on record may not have been told when the process ended.
const UNTOLD: SignedDuration = SignedDuration::from_mins(2);
/// Messages written again at most; each is a call that new requests wait for.
const MAX_RETOLD: usize = 20;

/// Puts on the desk what channels may still have to be told of, after [`super::clerk::recover`] did so with what was open.
///
/// # Errors
/// The record cannot be read or written.
pub async fn retell(desk: &ApprovalDesk, store: &Store, now: Timestamp) -> Result<(), String> {
    end_standing(desk, store, now).await?;
    let said = |error: StoreError| error.to_string();
    let mut latest = store.recent(LATEST).await.map_err(said)?;
    latest.retain(|stored| stored.ended.is_some());
    let newest = latest.iter().filter_map(|stored| stored.ended.as_ref().map(|ended| ended.at)).max();
    let mut retold = 0_usize;
    for stored in latest {
        // What was asked for beforehand runs as other requests.
        let runs = stored.request.beforehand.is_none();
        let result_is_missing = runs && is_released(&stored) && stored.execution.is_none();
        if result_is_missing {
            let event = Event::Executed { id: stored.request.id.clone(), execution: Execution::Unknown };
            desk.record.record(vec![event]).await?;
        }
        if let Some(place) = desk.place(&stored.request.id) {
            // It is told already, for another reason.
            if result_is_missing {
                place.case().executed(&Execution::Unknown, now);
            }
            continue;
        }
        if stored.announcements.is_empty() || retold >= MAX_RETOLD {
            continue;
        }
        let history = store.history(&stored.request.id).await.map_err(said)?;
        let late = stored.ended.as_ref().zip(newest).is_some_and(|(ended, newest)| {
            newest.duration_since(ended.at) <= UNTOLD || history.iter().any(|event| could_not_be_told(&event.event))
        });
        if result_is_missing || late {
            put(desk, stored, &history, now);
            retold = retold.saturating_add(1);
        }
    }
    Ok(())
}

/// Asks again what was asked beforehand in an earlier process: nothing about it depends on a client's connection. `false`: it is not such
/// a request, or cannot be asked again.
///
/// # Errors
/// The record cannot be read.
pub async fn ask_again(
    desk: &Arc<ApprovalDesk>,
    store: &Store,
    stored: &StoredRequest,
    now: Timestamp,
) -> Result<bool, String> {
    if stored.request.beforehand.is_none() {
        return Ok(false);
    }
    let history = store.history(&stored.request.id).await.map_err(|error| error.to_string())?;
    if !is_on_record(stored, &history) {
        tracing::error!(request = %stored.request.id, "what was asked beforehand is in the store, but not so on record: it is not asked again");
        return Ok(false);
    }
    let settings = desk.settings();
    Ok(desk.ask_again(&stored.request, stored.decision.as_ref(), now, |request| {
        let profile = settings.profile_of(request);
        let mut case = Case::new(request, profile, &settings.people);
        case.restore_examination(&history);
        for event in &history {
            if let Event::Escalated { step, .. } = &event.event {
                case.escalate(*step, event.at);
            } else if let Some(what) = milestone(&event.event) {
                case.view.timeline.push(Milestone { at: event.at, what });
            }
        }
        match &stored.decision {
            Some(alone) if stored.break_glass && stored.reviewed_by.is_none() => case.was_broken(alone, now),
            Some(decision) => case.was_decided(decision),
            None => case.asked_again(now),
        }
        (case, stored.announcements.iter().cloned().collect())
    }))
}

/// Whether the chained record says that this was asked, and decided so. Fail closed: the table of requests beside it is there for reading,
/// and no chain tells whether it was changed.
fn is_on_record(stored: &StoredRequest, history: &[StoredEvent]) -> bool {
    let asked = history
        .iter()
        .find_map(|event| if let Event::Held { request } = &event.event { Some(&**request) } else { None });
    let decided = history
        .iter()
        .find_map(|event| if let Event::Decided { decision, .. } = &event.event { Some(decision) } else { None });
    asked == Some(&stored.request) && decided == stored.decision.as_ref()
}

/// Standing approvals of an earlier process hold no more: their sessions ended with it. Their messages must not offer to revoke them.
async fn end_standing(desk: &ApprovalDesk, store: &Store, now: Timestamp) -> Result<(), String> {
    let said = |error: StoreError| error.to_string();
    for (stored, uses) in store.standing().await.map_err(said)? {
        let id = stored.request.id.clone();
        desk.record.record(vec![Event::Lapsed { id: id.clone(), why: None }]).await?;
        if stored.announcements.is_empty() || desk.place(&id).is_some() {
            continue;
        }
        let history = store.history(&id).await.map_err(said)?;
        let until = history
            .iter()
            .find_map(|event| if let Event::Granted { until, .. } = &event.event { Some(*until) } else { None });
        put(desk, stored, &history, now);
        if let (Some(place), Some(until)) = (desk.place(&id), until) {
            place.case().view.again = Some(Again { until, uses, ended: None });
            desk.end_again(&place, "the gate was started again", now);
        }
    }
    Ok(())
}

/// Whether a channel failed at some change of the request. That it succeeded later is not on record; telling it again is harmless.
fn could_not_be_told(event: &Event) -> bool {
    event.kind() == "not-announced"
}

fn is_released(stored: &StoredRequest) -> bool {
    stored.ended.as_ref().is_some_and(|ended| match ended.outcome {
        Outcome::Released => true,
        Outcome::Rejected | Outcome::Expired | Outcome::Withdrawn { .. } => false,
    })
}

/// As the process that ended would have shown it.
fn put(desk: &ApprovalDesk, stored: StoredRequest, history: &[StoredEvent], now: Timestamp) {
    let Some(ended) = stored.ended.clone() else { return };
    let released = is_released(&stored);
    let settings = desk.settings();
    let id = stored.request.id.clone();
    let profile = settings.profile_of(&stored.request);
    let mut case = Case::new(&Arc::new(stored.request), profile, &settings.people);
    for event in history {
        if let Some(what) = milestone(&event.event) {
            case.view.timeline.push(Milestone { at: event.at, what });
        }
    }
    case.view.break_glass = stored.break_glass;
    case.end(&ended, super::clerk::outcome_in_words(&ended));
    case.restore_window(history);
    case.view.undone.extend(undone(history).cloned());
    let ran = released && case.view.window.is_none();
    if let Some(execution) = stored.execution.or(ran.then_some(Execution::Unknown)) {
        // When the database said it is not on record beside it; the line in the thread keeps the order.
        let at = history.last().map_or(now, |event| event.at);
        case.executed(&execution, at);
    }
    desk.put(case, stored.announcements.into_iter().collect());
    desk.retire(&id);
}

/// A request that has ended comes back on the desk, so that people who were told of it can be told more. `false`: it is not on record, or has
/// not ended.
///
/// # Errors
/// The record cannot be read.
pub async fn take_up(desk: &ApprovalDesk, store: &Store, id: &HoldId, now: Timestamp) -> Result<bool, String> {
    let said = |error: StoreError| error.to_string();
    let Some(stored) = store.find(id).await.map_err(said)?.filter(|stored| stored.ended.is_some()) else {
        return Ok(false);
    };
    let history = store.history(id).await.map_err(said)?;
    if desk.place(id).is_none() {
        put(desk, stored, &history, now);
    }
    Ok(true)
}

/// How often what it did was undone, by what is on record.
pub fn undone(history: &[StoredEvent]) -> impl Iterator<Item = &Undone> {
    history.iter().filter_map(|event| if let Event::Undone { undone, .. } = &event.event { Some(undone) } else { None })
}

/// What happened between a request's beginning and its end, in the words of the timeline.
fn milestone(event: &Event) -> Option<String> {
    match event {
        Event::Answered(answered) if answered.refused.is_none() => {
            let verb = if answered.approve { "approved" } else { "rejected" };
            let reason = answered.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            Some(format!("{verb} by {}{reason}", answered.by))
        }
        Event::Escalated { asked, .. } => Some(format!("nobody has decided; asked besides: {asked}")),
        Event::Granted { until, .. } => {
            Some(format!("the same statement may run again in its session until {until:.0}"))
        }
        Event::Revoked { by, .. } => Some(format!("its approval stands no more: revoked by {by}")),
        Event::Undone { undone, .. } => Some(undone.to_string()),
        Event::Used { request, .. } => Some(format!("passed as request {request}")),
        Event::Answered(_)
        | Event::Lapsed { .. }
        | Event::Started { .. }
        | Event::Stopped
        | Event::PolicyChanged { .. }
        | Event::Noticed { .. }
        | Event::WouldHaveHeld { .. }
        | Event::WouldHaveRejected { .. }
        | Event::Passed { .. }
        | Event::Held { .. }
        | Event::Announced { .. }
        | Event::NotAnnounced { .. }
        | Event::Decided { .. }
        | Event::Examined { .. }
        | Event::Reminded { .. }
        | Event::Ended { .. }
        | Event::Executed { .. }
        | Event::Reviewed { .. } => None,
    }
}

#[cfg(test)]
mod tests;
