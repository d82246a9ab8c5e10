//! What an event changes in the tables. Knows neither files nor threads.
//!
//! The record never refuses a fact because it is odd: an answer to a request nobody knows, a second outcome. Such events go
//! on record and change nothing else; of two decisions or outcomes the first stands.

use rusqlite::{Connection, named_params, params};
use serde::Serialize;

use super::chain::Line;
use super::lines::RawLine;
use super::{Answered, Event, StoreError, StoredEvent};
use crate::hold::{HoldId, HoldRequest};

/// Why an event has no effect at all.
#[derive(Debug)]
pub(super) enum Refusal {
    /// This event cannot go on record, others can.
    Event(StoreError),
    /// Nothing can.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self::Event(StoreError::Unreadable(error.to_string()))
    }
}

/// Writes a line and what it adds up to.
pub(super) fn apply(connection: &Connection, line: &Line, event: &Event) -> Result<(), Refusal> {
    let seq = number(line.seq);
    let id = event.request_id().map(|id| id.0.as_str());
    connection
        .prepare_cached("INSERT INTO events (seq, at, kind, request, line, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![seq, line.at.as_microsecond(), event.kind(), id, line.text, line.hash])?;
    match event {
        // The policy's version is in every line; what was tried and reminded of is history only.
        Event::Started { .. }
        | Event::Stopped
        | Event::PolicyChanged { .. }
        | Event::Noticed { .. }
        | Event::WouldHaveHeld { .. }
        | Event::WouldHaveRejected { .. }
        | Event::Passed { .. }
        | Event::NotAnnounced { .. }
        | Event::Examined { .. }
        | Event::Reminded { .. }
        | Event::Undone { .. }
        | Event::Granted { .. }
        | Event::Revoked { .. }
        | Event::Used { .. }
        | Event::Lapsed { .. }
        // An attempt that did not count.
        | Event::Reviewed { refused: Some(_), .. } => Ok(()),
        Event::Held { request } => held(connection, seq, request),
        Event::Announced { id, channel, reference } => announced(connection, id, channel, reference),
        Event::Answered(answered) => answer(connection, seq, answered),
        Event::Decided { id, decision } => {
            let sql =
                "UPDATE requests SET decision = ?2, state = CASE state WHEN 'pending' THEN 'decided' ELSE state END
                       WHERE id = ?1 AND decision IS NULL";
            update(connection, sql, id, decision)
        }
        Event::Escalated { id, step, .. } => {
            let sql = "UPDATE requests SET escalated = max(escalated, ?2) WHERE id = ?1";
            connection.prepare_cached(sql)?.execute(params![id.0, i64::try_from(*step).unwrap_or(i64::MAX)])?;
            Ok(())
        }
        Event::Ended { id, outcome, at } => {
            let sql = "UPDATE requests SET state = 'ended', outcome = ?2, ended = ?3 WHERE id = ?1 AND outcome IS NULL";
            connection.prepare_cached(sql)?.execute(params![id.0, json(outcome)?, at.to_string()])?;
            Ok(())
        }
        Event::Executed { id, execution } => {
            update(connection, "UPDATE requests SET execution = ?2 WHERE id = ?1 AND execution IS NULL", id, execution)
        }
        Event::Reviewed { id, by, .. } => {
            let sql = "UPDATE requests SET reviewed_by = ?2 WHERE id = ?1 AND reviewed_by IS NULL";
            connection.prepare_cached(sql)?.execute(params![id.0, by])?;
            Ok(())
        }
    }
}

/// Writes a line that was written before into another database.
pub(super) fn replay(connection: &Connection, raw: &RawLine) -> Result<(), StoreError> {
    let unreadable = |why: String| StoreError::Unreadable(format!("event {}: {why}", raw.number));
    let text = String::from_utf8(raw.bytes.clone()).map_err(|error| unreadable(error.to_string()))?;
    let StoredEvent { seq, at, event, hash, policy_version: _ } =
        serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    apply(connection, &Line { seq, at, hash, text }, &event).map_err(|refusal| match refusal {
        Refusal::Event(error) => unreadable(error.to_string()),
        Refusal::Database(error) => unreadable(error.to_string()),
    })
}

/// The policy an event puts in force.
pub(super) fn policy_version(event: &Event) -> Option<&str> {
    match event {
        Event::Started { policy_version, .. } | Event::PolicyChanged { policy_version } => Some(policy_version),
        Event::Stopped
        | Event::Noticed { .. }
        | Event::WouldHaveHeld { .. }
        | Event::WouldHaveRejected { .. }
        | Event::Passed { .. }
        | Event::Held { .. }
        | Event::Announced { .. }
        | Event::NotAnnounced { .. }
        | Event::Answered(_)
        | Event::Decided { .. }
        | Event::Escalated { .. }
        | Event::Examined { .. }
        | Event::Reminded { .. }
        | Event::Ended { .. }
        | Event::Executed { .. }
        | Event::Undone { .. }
        | Event::Granted { .. }
        | Event::Revoked { .. }
        | Event::Used { .. }
        | Event::Lapsed { .. }
        | Event::Reviewed { .. } => None,
    }
}

/// A line's number, as SQLite has numbers.
pub(super) fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn held(connection: &Connection, seq: i64, request: &HoldRequest) -> Result<(), Refusal> {
    let known = connection.prepare_cached("SELECT 1 FROM requests WHERE id = ?1")?.exists([&request.id.0])?;
    if known {
        // Fail closed: people must never be asked under a name that already means something else.
        return Err(Refusal::Event(StoreError::Duplicate(request.id.clone())));
    }
    connection
        .prepare_cached(
            "INSERT INTO requests (id, held, opened, deadline, database_user, database, request, state)
             VALUES (:id, :held, :opened, :deadline, :user, :database, :request, 'pending')",
        )?
        .execute(named_params! {
            ":id": request.id.0,
            ":held": seq,
            ":opened": request.opened_at.as_microsecond(),
            ":deadline": request.deadline.as_microsecond(),
            ":user": request.origin.user,
            ":database": request.origin.database,
            ":request": json(request)?,
        })?;
    Ok(())
}

fn announced(connection: &Connection, id: &HoldId, channel: &str, reference: &str) -> Result<(), Refusal> {
    connection
        .prepare_cached(
            "INSERT INTO announcements (request, channel, reference)
             SELECT id, ?2, ?3 FROM requests WHERE id = ?1
             ON CONFLICT (request, channel) DO UPDATE SET reference = excluded.reference",
        )?
        .execute(params![id.0, channel, reference])?;
    Ok(())
}

fn answer(connection: &Connection, seq: i64, answered: &Answered) -> Result<(), Refusal> {
    let Answered { id, channel, by, approve, break_glass, reason, refused } = answered;
    connection
        .prepare_cached(
            "INSERT INTO answers (seq, request, channel, person, approve, break_glass, reason, refused)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![seq, id.0, channel, by, approve, break_glass, reason, refused])?;
    if *approve && *break_glass && refused.is_none() {
        connection.prepare_cached("UPDATE requests SET break_glass = 1 WHERE id = ?1")?.execute([&id.0])?;
    }
    Ok(())
}

fn update(connection: &Connection, sql: &str, id: &HoldId, value: &impl Serialize) -> Result<(), Refusal> {
    connection.prepare_cached(sql)?.execute(params![id.0, json(value)?])?;
    Ok(())
}

fn json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string(value)
}
