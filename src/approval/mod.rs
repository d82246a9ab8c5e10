//! Asks people and takes their answers. Knows nothing of sockets of sessions; meets them at [`crate::hold`].
//!
//! Start at [`ApprovalDesk`]: every channel ([`channel::Channel`]) asks it. [`People`] says who is who, [`ApprovalSettings`] who may decide.

mod people;
mod settings;
mod desk;
pub mod journal;
pub mod http;
pub mod channel;
mod visible;
#[cfg(test)]
pub(crate) mod testing;

pub use desk::{Answer, ApprovalDesk, Denied, Ineligible, MAX_REASON_CHARS};
pub use people::{MAX_TOKEN_CHARS, MIN_TOKEN_CHARS, People, PeopleError, Person, TokenDigest, TokenError};
pub use settings::{AdminSettings, ApprovalSettings};
pub use visible::{is_deceptive, one_line, spell_out};
