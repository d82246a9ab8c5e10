//! What the record is asked: requests as they stand, their answers and where they were announced. Reads only.

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::lines::RawLine;
use super::project::number;
use super::{Answered, Event, Redact, StoreError};
use crate::hold::{Ended, Execution, HoldId, HoldRequest};

/// A request as the record has it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRequest {
    /// What was asked. Redacted as the settings said then; `time_to_live` is not on record.
    pub request: HoldRequest,
    /// What was decided, if it was.
    pub decision: Option<crate::hold::Decision>,
    /// One person alone approved it, in an emergency.
    pub break_glass: bool,
    /// Who has looked at that since.
    pub reviewed_by: Option<String>,
    /// The last escalation step taken, from 1; 0 for none.
    pub escalated: usize,
    /// How it ended, if it did.
    pub ended: Option<Ended>,
    /// What the database said, if it did.
    pub execution: Option<Execution>,
    /// Everybody's answers, counted or not, oldest first.
    pub answers: Vec<Answered>,
    /// Where it was announced: channel and reference.
    pub announcements: Vec<(String, String)>,
}

/// An event as the record has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Its number, from 1.
    pub seq: u64,
    /// When it went on record.
    pub at: Timestamp,
    /// The policy in force then.
    pub policy_version: String,
    /// What happened.
    pub event: Event,
    /// Its line's hash.
    pub hash: String,
}

type Read<T> = Result<T, StoreError>;

const REQUEST: &str =
    "SELECT id, request, decision, break_glass, reviewed_by, escalated, outcome, ended, execution FROM requests";

/// Requests without an outcome, oldest first.
pub(super) fn open_requests(connection: &Connection) -> Read<Vec<StoredRequest>> {
    requests(connection, "WHERE state <> 'ended' ORDER BY held", [])
}

/// Requests that one person alone approved and nobody has looked at since, oldest first.
pub(super) fn unreviewed(connection: &Connection) -> Read<Vec<StoredRequest>> {
    requests(connection, "WHERE break_glass AND reviewed_by IS NULL AND decision IS NOT NULL ORDER BY held", [])
}

/// The latest requests, newest first.
pub(super) fn recent(connection: &Connection, limit: usize) -> Read<Vec<StoredRequest>> {
    requests(connection, "ORDER BY held DESC LIMIT ?1", params![i64::try_from(limit).unwrap_or(i64::MAX)])
}

/// What was approved beforehand and may still pass, oldest first.
pub(super) fn beforehand(connection: &Connection, now: Timestamp) -> Read<Vec<StoredRequest>> {
    let which = "WHERE state = 'ended' AND deadline > ?1 AND json_extract(outcome, '$.outcome') = 'released'
                 AND json_extract(request, '$.beforehand') IS NOT NULL ORDER BY held";
    requests(connection, which, params![now.as_microsecond()])
}

/// Requests whose standing approval nothing on record has ended, oldest first, and how often each was used.
pub(super) fn standing(connection: &Connection) -> Read<Vec<(StoredRequest, u64)>> {
    let which = "WHERE id IN (SELECT request FROM events WHERE kind = 'granted')
                 AND NOT EXISTS (SELECT 1 FROM events WHERE request = id AND kind IN ('revoked', 'lapsed')) ORDER BY held";
    let sql = "SELECT count(*) FROM requests WHERE json_extract(decision, '$.under') = ?1";
    let mut standing = Vec::new();
    for stored in requests(connection, which, [])? {
        let uses: Vec<i64> = collect(connection, sql, [&stored.request.id.0], |row| row.get(0))?;
        standing.push((stored, uses.first().and_then(|uses| u64::try_from(*uses).ok()).unwrap_or_default()));
    }
    Ok(standing)
}

/// One request.
pub(super) fn find(connection: &Connection, id: &HoldId) -> Read<Option<StoredRequest>> {
    Ok(requests(connection, "WHERE id = ?1", [&id.0])?.pop())
}

/// Where a request was announced.
pub(super) fn announcements(connection: &Connection, id: &HoldId) -> Read<Vec<(String, String)>> {
    let sql = "SELECT channel, reference FROM announcements WHERE request = ?1 ORDER BY channel";
    collect(connection, sql, [&id.0], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Everything about one request, oldest first.
pub(super) fn history(connection: &Connection, id: &HoldId) -> Read<Vec<StoredEvent>> {
    let sql = "SELECT line FROM events WHERE request = ?1 ORDER BY seq";
    collect(connection, sql, [&id.0], text)?.iter().map(|line| parse(line)).collect()
}

/// What is redacted of a request; nothing of one that is not on record.
pub(super) fn redacted(connection: &Connection, id: &HoldId) -> Redact {
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        redact: Redact,
    }
    let found = collect(connection, "SELECT request FROM requests WHERE id = ?1", [&id.0], text);
    let found = found.and_then(|rows| rows.first().map(|row| parse::<Part>(row)).transpose());
    // Fail closed: what cannot be read may have asked for all of it.
    found.map_or(Redact::All, |part| part.map_or(Redact::None, |part| part.redact))
}

/// Events behind `seq`, oldest first.
pub(super) fn events_after(connection: &Connection, seq: u64, limit: usize) -> Read<Vec<StoredEvent>> {
    let sql = "SELECT line FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    collect(connection, sql, params![number(seq), limit], text)?.iter().map(|line| parse(line)).collect()
}

/// An event's hash; `None` if there is no such event.
pub(super) fn hash(connection: &Connection, seq: u64) -> Read<Option<String>> {
    let sql = "SELECT hash FROM events WHERE seq = ?1";
    Ok(collect(connection, sql, [number(seq)], text)?.pop())
}

/// Lines behind `seq`, as they stand.
pub(super) fn lines(connection: &Connection, seq: u64, limit: u64) -> Read<Vec<RawLine>> {
    let sql = "SELECT seq, line FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    collect(connection, sql, [number(seq), number(limit)], |row| {
        let (seq, line): (i64, String) = (row.get(0)?, row.get(1)?);
        Ok(RawLine { number: seq.unsigned_abs(), bytes: line.into_bytes(), complete: true })
    })
}

/// How far a consumer has come.
pub(super) fn cursor(connection: &Connection, name: &str) -> Read<u64> {
    let rows = collect(connection, "SELECT seq FROM cursors WHERE name = ?1", [name], |row| row.get::<_, i64>(0))?;
    Ok(rows.first().map_or(0, |seq| seq.unsigned_abs()))
}

fn requests(connection: &Connection, which: &str, parameters: impl rusqlite::Params) -> Read<Vec<StoredRequest>> {
    let rows = collect(connection, &format!("{REQUEST} {which}"), parameters, |row| Ok(Columns::of(row)))?;
    rows.into_iter().map(|columns| columns.map_err(unreadable)?.complete(connection)).collect()
}

/// A row of `requests`.
struct Columns {
    id: HoldId,
    request: String,
    decision: Option<String>,
    break_glass: bool,
    reviewed_by: Option<String>,
    escalated: i64,
    outcome: Option<String>,
    ended: Option<String>,
    execution: Option<String>,
}

impl Columns {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: HoldId(row.get("id")?),
            request: row.get("request")?,
            decision: row.get("decision")?,
            break_glass: row.get("break_glass")?,
            reviewed_by: row.get("reviewed_by")?,
            escalated: row.get("escalated")?,
            outcome: row.get("outcome")?,
            ended: row.get("ended")?,
            execution: row.get("execution")?,
        })
    }

    fn complete(self, connection: &Connection) -> Read<StoredRequest> {
        let decision: Option<crate::hold::Decision> = optional(self.decision.as_deref())?;
        let ended = match (&self.outcome, &self.ended) {
            (Some(outcome), Some(at)) => {
                let at = at.parse().map_err(|error: jiff::Error| StoreError::Unreadable(error.to_string()))?;
                Some(Ended { outcome: parse(outcome)?, decision: decision.clone(), at })
            }
            _ => None,
        };
        Ok(StoredRequest {
            request: parse(&self.request)?,
            decision,
            break_glass: self.break_glass,
            reviewed_by: self.reviewed_by,
            escalated: usize::try_from(self.escalated).unwrap_or(0),
            ended,
            execution: optional(self.execution.as_deref())?,
            answers: answers(connection, &self.id)?,
            announcements: announcements(connection, &self.id)?,
        })
    }
}

fn answers(connection: &Connection, id: &HoldId) -> Read<Vec<Answered>> {
    let sql =
        "SELECT channel, person, approve, break_glass, reason, refused FROM answers WHERE request = ?1 ORDER BY seq";
    collect(connection, sql, [&id.0], |row| {
        Ok(Answered {
            id: id.clone(),
            channel: row.get(0)?,
            by: row.get(1)?,
            approve: row.get(2)?,
            break_glass: row.get(3)?,
            reason: row.get(4)?,
            refused: row.get(5)?,
        })
    })
}

fn collect<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    convert: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Read<Vec<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(unreadable)?;
    let rows = statement.query_map(parameters, convert).map_err(unreadable)?;
    rows.collect::<Result<_, _>>().map_err(unreadable)
}

fn text(row: &Row<'_>) -> rusqlite::Result<String> {
    row.get(0)
}

fn optional<T: for<'de> Deserialize<'de>>(text: Option<&str>) -> Read<Option<T>> {
    text.map(parse).transpose()
}

fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Read<T> {
    serde_json::from_str(text).map_err(|error| StoreError::Unreadable(error.to_string()))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: rusqlite::Error) -> StoreError {
    StoreError::Unreadable(error.to_string())
}
