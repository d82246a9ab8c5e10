//! Between the record and the people: the database is asked what a held statement would touch, and only then people are, so that
//! they see it from the start. Knows no SQL and no channel.

use std::sync::Arc;
use std::time::Duration;

use super::second::Second;
use super::{ApprovalDesk, Change, Place};
use crate::approval::case::Denied;
use crate::clock;
use crate::hold::{Cause, HoldId, HoldRequest, Phase};
use crate::impact::{Impact, digest};
use crate::store::Event;

/// The examiner bounds its own time; this is for one that does not.
const PATIENCE: Duration = Duration::from_secs(60);

impl ApprovalDesk {
    /// Whether anybody can say what statements would touch.
    pub(in crate::approval) fn examines(&self) -> bool {
        self.examiner.is_some()
    }

    /// Has it examined, puts that on record, and lets people be asked, unless it was approved earlier. The request is on the desk already.
    pub(in crate::approval) async fn examine(self: Arc<Self>, request: Arc<HoldRequest>) {
        let Some(place) = self.place(&request.id) else { return };
        let (seen, changed) = match self.look_again(&place, &request).await {
            Second::Settled => return place.ready(),
            Second::Ask { seen, changed } => (seen, changed),
        };
        let impact = match seen {
            Some(seen) => *seen,
            None => self.impact_of(&request).await,
        };
        let _turn = place.turn().await;
        if place.case().view.ended.is_none() {
            self.examined(&place, &request, impact, changed).await;
        }
        place.ready();
    }

    /// `changed`: how it differs from what people were shown who approved it earlier.
    async fn examined(&self, place: &Place, request: &HoldRequest, impact: Impact, changed: Vec<String>) {
        let event =
            Event::Examined { id: request.id.clone(), impact: Box::new(impact.clone()), changed: changed.clone() };
        if let Err(why) = self.record.record(vec![event]).await {
            // Fail closed: what is not on record is not asked.
            tracing::error!(request = %request.id, "cannot record what a held statement would touch, so it is refused: {why}");
            let _ = self.board.fail(&request.id, Cause::NotRecorded, clock::wall());
            return;
        }
        let said = digest(&impact);
        let why =
            if changed.is_empty() { "" } else { "What was approved earlier has changed since, so people are asked. " };
        {
            let mut case = place.case();
            case.examined(impact, clock::wall());
            case.view.changed = changed;
        }
        let said = if said.is_empty() { said } else { format!("Impact: {said}.") };
        self.board.ask(&request.id, format!("{why}{said}").trim_end().to_owned());
        let view = place.case().view.clone();
        self.tell(Change::Changed(Box::new(view)));
    }

    /// Before an approved statement is released: whether it would still do what people were shown. If not, the answers so far count no more,
    /// and everybody is asked anew. The caller has the place's turn.
    pub(super) async fn changed(&self, place: &Place, id: &HoldId) -> Option<Denied> {
        let shown = place.case().shown.clone()?;
        let examiner = self.examiner.clone()?;
        let request = self.board.find(id)?.request;
        let mut now = tokio::select! {
            impact = self.impact_of(&request) => impact,
            // Whoever takes the answer finds that out.
            () = self.ends(id) => return None,
        };
        if !request.redact.is_none() {
            // What is told of the difference must not quote what is kept back.
            now.hush();
        }
        let changed = examiner.changes(&shown, &now);
        if changed.is_empty() {
            return None;
        }
        let event = Event::Examined { id: id.clone(), impact: Box::new(now.clone()), changed: changed.clone() };
        if let Err(why) = self.record.record(vec![event]).await {
            return Some(Denied::NotRecorded(why));
        }
        let said = match digest(&now) {
            said if said.is_empty() => String::new(),
            said => format!(" Impact: {said}."),
        };
        place.case().changed(now, changed.clone(), clock::wall());
        self.board.ask(id, format!("What it would touch has changed, so people are asked anew.{said}"));
        let view = place.case().view.clone();
        self.tell(Change::Changed(Box::new(view)));
        // Who has answered already looks elsewhere by now.
        self.tell(Change::Remind(id.clone()));
        Some(Denied::Changed(changed))
    }

    /// Until the hold is over, or the board forgets it.
    async fn ends(&self, id: &HoldId) {
        let mut events = self.board.subscribe();
        while self.board.find(id).is_some_and(|hold| !matches!(hold.phase, Phase::Ended(_))) {
            if events.next().await.is_none() {
                return;
            }
        }
    }

    /// What it would touch; unknown if nobody can say.
    pub(super) async fn impact_of(&self, request: &Arc<HoldRequest>) -> Impact {
        let Some(examiner) = self.examiner.clone() else {
            return Impact::unknown("nothing is configured to look into it");
        };
        let asked = Arc::clone(request);
        // A task of its own: whatever goes wrong in it, people are still asked.
        let asking = tokio::spawn(async move { tokio::time::timeout(PATIENCE, examiner.examine(&asked)).await });
        let mut impact = match asking.await {
            Ok(Ok(impact)) => impact,
            Ok(Err(_)) => Impact::unknown("looking took too long"),
            Err(error) => {
                tracing::error!(request = %request.id, "looking into a held statement ended badly: {error}");
                Impact::unknown("looking into it failed")
            }
        };
        // Whoever asks beforehand says themselves for which database user: that must not show them what that one may read.
        impact.requester_may_see &= request.beforehand.is_none();
        impact
    }
}

#[cfg(test)]
mod tests;
