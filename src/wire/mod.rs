//! Bytes ⇄ frames, views of the messages that matter, and limits. Knows no sockets, no SQL and no policy.

pub mod reply;
