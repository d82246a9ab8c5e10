//! How lines of the record hang together. Knows bytes and digests, no files and no database. Start at [`Head`].
//!
//! # A line, exactly
//!
//! A line is one JSON object without spaces between its parts, in UTF-8, ended by a line feed, its keys in this order:
//!
//! ```json
//! {"seq":2,"at":"2025-11-21T08:30:00.123456Z","policy_version":"…","prev":"…","event":{…},"hash":"…"}
//! ```
//!
//! `seq` counts from 1 without gaps. `at` is when the line was written, `policy_version` the policy then in force (empty
//! before the first one). `prev` is the `hash` of the line before; of the first line, 64 zeros. **`hash` is the SHA-256, in
//! 64 lower-case hexadecimal digits, of the line's bytes up to and not including `,"hash":"…"}`**, that is, of the line
//! without its last 75 bytes and its line feed. As `prev` is among those bytes, a hash stands for its line and all before it.
//! With ordinary tools:
//!
//! ```sh
//! sed -n 2p audit.jsonl | sed 's/,"hash":"[0-9a-f]*"}$//' | tr -d '\n' | sha256sum
//! ```

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Event;

/// What stands where the first line names the one before.
pub const NOTHING_BEFORE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

const HASH_KEY: &str = ",\"hash\":\"";
const HASH_DIGITS: usize = 64;
const END: &str = "\"}";
/// Bytes of a line that its hash does not cover.
const TAIL: usize = HASH_KEY.len() + HASH_DIGITS + END.len();

/// The last line of a record: its number and its hash, which stands for everything up to there. Written `SEQ:HASH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Number of lines.
    pub seq: u64,
    /// The last line's hash.
    pub hash: String,
}

impl Default for Head {
    /// Of an empty record.
    fn default() -> Self {
        Self { seq: 0, hash: NOTHING_BEFORE.to_owned() }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected SEQ:HASH, a line's number and its hash of 64 hexadecimal digits";
        let (seq, hash) = text.trim().split_once(':').ok_or(EXPECTED)?;
        let seq = seq.parse().map_err(|_| EXPECTED)?;
        let hash = hash.to_ascii_lowercase();
        is_hash(&hash).then_some(Self { seq, hash }).ok_or(EXPECTED)
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A line to be written: what it says beside its event, and its bytes without the line feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    pub(super) hash: String,
    pub(super) text: String,
}

impl Line {
    /// The line that follows `before`.
    pub(super) fn after(
        before: &Head,
        at: Timestamp,
        policy_version: &str,
        event: &Event,
    ) -> Result<Self, serde_json::Error> {
        #[derive(Serialize)]
        struct Covered<'a> {
            seq: u64,
            at: Timestamp,
            policy_version: &'a str,
            prev: &'a str,
            event: &'a Event,
        }
        let seq = before.seq.saturating_add(1);
        let mut text = serde_json::to_string(&Covered { seq, at, policy_version, prev: &before.hash, event })?;
        // The object's end; it comes back behind the hash.
        text.pop();
        let hash = digest(text.as_bytes());
        text.reserve_exact(TAIL);
        for part in [HASH_KEY, &hash, END] {
            text.push_str(part);
        }
        Ok(Self { seq, at, hash, text })
    }

    pub(super) fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash.clone() }
    }
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Why bytes are no line of a record, whatever stands around them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotALine {
    #[error("it is not a line of a record: {0}")]
    Unreadable(String),
    #[error("it was edited: its hash says {}, its content gives {given}", .links.hash)]
    Changed { links: Links, given: String },
}

/// What a line says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Links {
    pub(super) seq: u64,
    pub(super) prev: String,
    pub(super) policy_version: String,
    pub(super) hash: String,
}

impl Links {
    /// Reads a line's bytes, without its line feed.
    pub(super) fn read(line: &[u8]) -> Result<Self, NotALine> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            seq: u64,
            #[serde(rename = "at")]
            _at: Timestamp,
            policy_version: String,
            prev: String,
            #[serde(rename = "event")]
            _event: IgnoredAny,
            hash: String,
        }
        let unreadable = |why: &str| NotALine::Unreadable(why.to_owned());
        let whole: Whole = serde_json::from_slice(line).map_err(|error| NotALine::Unreadable(error.to_string()))?;
        let covered = line.len().checked_sub(TAIL).and_then(|end| line.split_at_checked(end));
        let (covered, tail) = covered.ok_or_else(|| unreadable("it is too short"))?;
        if tail != format!("{HASH_KEY}{}{END}", whole.hash).as_bytes() {
            return Err(unreadable("it does not end with its hash"));
        }
        let links = Self { seq: whole.seq, prev: whole.prev, policy_version: whole.policy_version, hash: whole.hash };
        let given = digest(covered);
        if given == links.hash { Ok(links) } else { Err(NotALine::Changed { links, given }) }
    }

    pub(super) fn head(self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }
}
