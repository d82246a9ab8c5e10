//! Claims about the Slack channel.

#![allow(clippy::arithmetic_side_effects, clippy::string_slice, clippy::unnecessary_wraps, reason = "tests")]

mod limits;
mod rendering;
