//! The board under test: plain claims, every interleaving of small races, and any order of steps against a model.

#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod claims;
mod model;
mod races;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Decision, HoldId, HoldRequest, Origin, SessionId, StatementText};

/// A moment, in seconds after an arbitrary start.
pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

/// A request of a session, open at second 0, due at second 100.
pub(super) fn request(id: &str, session: u64, user: &str) -> HoldRequest {
    HoldRequest {
        id: HoldId(id.to_owned()),
        origin: Origin {
            session: SessionId(session),
            user: user.to_owned(),
            database: "shop".to_owned(),
            application_name: "psql".to_owned(),
            certificate_name: None,
            client: "127.0.0.1:5000".to_owned(),
            backend_pid: Some(42),
        },
        statement: StatementText { text: Arc::from("DELETE FROM customers"), lossy: false, sha256: "00".repeat(32) },
        parameters: Vec::new(),
        effects: Vec::new(),
        risks: Vec::new(),
        rule: Arc::from("deletes"),
        why: "deletes every row of customers".to_owned(),
        also: Vec::new(),
        owners: Vec::new(),
        policy_version: Arc::from("v1"),
        in_transaction: false,
        redact: crate::judge::Redact::None,
        reason: None,
        opened_at: at(0),
        deadline: at(100),
        time_to_live: Duration::from_secs(100),
        standing: crate::hold::Standing::default(),
        guard: None,
        beforehand: None,
        undoes: None,
        message: None,
        advice: None,
        setting: None,
    }
}

pub(super) fn approve(by: &str, second: i64) -> Decision {
    Decision::Approve { by: by.to_owned(), reason: None, at: at(second), under: None }
}

pub(super) fn reject(by: &str, second: i64) -> Decision {
    Decision::Reject { by: by.to_owned(), reason: Some("no".to_owned()), at: at(second) }
}
