//! What a request did was undone in its database: put on record, and told to whoever was told of the request. Knows no database.

use jiff::Timestamp;

use super::{ApprovalDesk, Change};
use crate::hold::{HoldId, Undone};
use crate::store::Event;

impl ApprovalDesk {
    /// Notes it. A request that is not on the desk any more has it on record all the same.
    ///
    /// # Errors
    /// It could not be put on record; nobody is told.
    pub async fn undone(&self, id: &HoldId, undone: Undone, at: Timestamp) -> Result<(), String> {
        self.record.record(vec![Event::Undone { id: id.clone(), undone: undone.clone() }]).await?;
        if let Some(place) = self.place(id) {
            place.case().undone(undone, at);
            let view = place.case().view.clone();
            self.tell(Change::Changed(Box::new(view)));
        }
        Ok(())
    }
}
