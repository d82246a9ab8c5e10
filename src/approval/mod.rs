//! Asks people and takes their answers. Knows nothing of sockets of sessions; meets them at [`crate::hold`].
//!
//! Start at [`ApprovalDesk`]: every channel ([`channel::Channel`]) asks it. [`People`] says who is who, [`ApprovalSettings`] who may decide.

mod people;
mod settings;
mod stranger;
mod case;
pub mod clerk;
mod desk;
pub mod examiner;
mod profile;
pub mod audience;
pub mod recovery;
pub mod reach;
pub mod publisher;
pub mod integration;
mod record;
pub mod journal;
pub mod http;
pub mod channel;
pub mod slack;
mod visible;
pub mod webhook;
#[cfg(test)]
pub(crate) mod testing;

pub use case::{Denied, Ineligible};
pub use desk::beforehand::Wish;
pub use desk::{Answer, ApprovalDesk, MAX_REASON_CHARS};
pub use integration::Integration;
pub use people::{MAX_TOKEN_CHARS, MIN_TOKEN_CHARS, People, PeopleError, Person, TokenDigest, TokenError};
pub use profile::{Approvers, Escalation, MAX_CONVERSATIONS, Profile, UnknownRequester, Unreachable};
pub use record::{Forgetful, Record, Recording};
pub use settings::{AdminSettings, ApprovalSettings};
pub use visible::{is_deceptive, one_line, spell_out, statement_line};
