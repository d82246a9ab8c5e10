//! Asks people and takes their answers. Knows nothing of sockets of sessions; meets them at [`crate::hold`].
//!
//! [`People`] says who is who and [`ApprovalSettings`] who may decide.

mod people;
mod settings;

pub use people::{
    MAX_TOKEN_CHARS, MIN_TOKEN_CHARS, People, PeopleError, Person, TokenDigest, TokenError,
};
pub use settings::{AdminSettings, ApprovalSettings};
