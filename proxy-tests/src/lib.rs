//! Fixtures for end-to-end tests and benchmarks: a real Postgres, the real `querygate` binary, a raw protocol client.
//!
//! Start from [`postgres::shared`] (a fresh database on a cluster that all test processes share) or
//! [`postgres::Cluster::builder`] (a cluster of one's own, with its own settings), put a [`gate::Gate`] before it, and
//! talk to both with [`raw::Raw`], [`psql::Psql`] or any client. [`transcript::same`] runs one script against both and
//! compares what came back. [`slack::Workspace`] stands in for Slack.
//!
//! Nothing here sleeps: everything waits for an event, with a deadline ([`DEADLINE`]). A fixture that cannot do its work
//! panics, which fails the test that asked for it; it must not know anything of the gate's inside.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "fixtures fail a test by panicking; their input is what the test made"
)]

use std::time::Duration;

pub mod api;
pub mod gate;
pub mod message;
pub mod postgres;
pub mod process;
pub mod psql;
pub mod raw;
pub mod slack;
pub mod tls;
pub mod transcript;
pub mod undo;

/// How long a fixture waits for anything before it fails the test. Long, because a loaded machine is not a fault.
pub const DEADLINE: Duration = Duration::from_secs(30);
