//! The record: what was asked, who answered, what became of it. Knows no chat, no HTTP and no people's rights; who may do
//! what is decided before anything is recorded here.
//!
//! Start at [`Store`]: [`Store::open`] once, before anything is served, and [`Store::record`] an [`Event`] for everything
//! that happens, **before anybody is told of it**.
//!
//! # How to use it
//!
//! ```no_run
//! # use querygate::store::{Event, Store, StoreError, StoreSettings};
//! # async fn example(settings: StoreSettings) -> Result<(), StoreError> {
//! let (store, recovered) = Store::open(&settings)?; // blocks: reads the whole record
//! store.record(Event::Started { version: "0.1.0".into(), policy_version: "5f…".into() }).await?;
//! // No connection outlives the gate, so whatever was open is withdrawn, and its announcements are brought up to date.
//! for request in recovered.open {
//!     let (id, at) = (request.request.id.clone(), querygate::clock::wall());
//!     let cause = querygate::hold::Cause::Restart;
//!     store.record(Event::Ended { id, outcome: querygate::hold::Outcome::Withdrawn { cause }, at }).await?;
//! }
//! // … Held, Announced, Answered, Decided, Ended, Executed as they happen …
//! store.record(Event::Stopped).await?;
//! store.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! * `Ok` of [`Store::record`] means *on the disk*, in the store and in the audit file. Anything else means: act as if it
//!   had not happened (refuse the hold, let the decision not count), and never tell anybody that it did.
//! * [`Store::health`] is for the health endpoint: it never waits.
//! * The room works on a thread of its own; its methods want a tokio runtime with time.
//! * Deliverers of events (outgoing webhooks) keep a [`Store::cursor`], read [`Store::events_after`] it, deliver,
//!   [`Store::advance`], and wait for [`Store::heads`] to change: an outbox that survives crashes.
//!
//! # What is kept where
//!
//! The SQLite file holds every event and the tables they add up to; the audit file holds the events' lines again, for tools
//! that read lines, and is brought up to the store when they differ by a crash. See [`chain`] for what a line is,
//! [`checkpoint`] for what makes cutting the record short visible, and [`redact`] for what is kept off it.

pub mod chain;
pub mod checkpoint;
mod database;
mod error;
mod event;
mod file;
mod handle;
mod health;
mod inbox;
pub mod lines;
mod project;
mod read;
pub mod redact;
mod settings;
pub mod verify;
mod worker;

#[cfg(test)]
mod tests;

pub use chain::Head;
pub use error::StoreError;
pub use event::{Answered, Event};
pub use handle::{Recovered, Store};
pub use health::Health;
pub use read::{StoredEvent, StoredRequest};
pub use settings::StoreSettings;
pub use worker::Recorded;

pub use crate::judge::Redact;
