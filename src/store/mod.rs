//! The record: what was asked, who answered, what became of it. Knows no chat, no HTTP and no people's rights; who may do
//! what is decided before anything is recorded here.
//!
//! Start at [`Event`].

mod event;

pub use event::{Answered, Event};
