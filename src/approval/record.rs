//! Where the desk puts things on record before it tells anybody. A trait, so that the desk's tests can let it fail.

use std::future::Future;
use std::pin::Pin;

use crate::store::{Event, Store};

/// What [`Record::record`] returns: done, or why not, in a sentence.
pub type Recording<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// The record.
pub trait Record: Send + Sync + 'static {
    /// Puts all of this on record, in order, or nothing of it. When it returns it survives a crash.
    ///
    /// # Cancellation safety
    /// The events may be on record or not.
    fn record(&self, events: Vec<Event>) -> Recording<'_>;
}

impl Record for Store {
    fn record(&self, events: Vec<Event>) -> Recording<'_> {
        Box::pin(async move {
            self.record_all(events).await.map_err(|error| error.to_string())?;
            Ok(())
        })
    }
}

/// Remembers nothing: for tests of what comes before and after.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forgetful;

impl Record for Forgetful {
    fn record(&self, _events: Vec<Event>) -> Recording<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
}
