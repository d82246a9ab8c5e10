//! Bytes ⇄ frames, views of the messages that matter, and limits. Knows no sockets, no SQL and no policy.
//!
//! Start at [`frame`]: everything is cut by declared length first, and only then looked into.

pub mod backend;
pub mod frame;
pub mod frontend;
pub mod reply;
pub mod startup;
