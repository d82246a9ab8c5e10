//! What approvers are asked, and how it can end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::judge::{Effect, Ownership, Redact, Risk};

/// Names a hold: short enough to read aloud, unguessable enough not to collide (`qg-` and 10 characters of Crockford base 32).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HoldId(pub String);

impl HoldId {
    /// A new name from the system's random numbers.
    ///
    /// # Errors
    ///
    /// The system has no random numbers to give; nothing is held under a guessable name.
    pub fn generate() -> Result<Self, getrandom::Error> {
        // Crockford's base 32: no I, L, O or U, so it survives being read aloud.
        const ALPHABET: [char; 32] = [
            '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'j', 'k', 'm',
            'n', 'p', 'q', 'r', 's', 't', 'v', 'w', 'x', 'y', 'z',
        ];
        let mut random = [0; 10];
        getrandom::fill(&mut random)?;
        // 256 is a multiple of 32, so every character is as likely as another.
        let name = random.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32)).copied());
        Ok(Self("qg-".chars().chain(name).collect()))
    }

    /// What a person typed: any case, with or without `qg-`, and the letters Crockford reads as digits.
    #[must_use]
    pub fn parse(typed: &str) -> Self {
        let lower = typed.trim().to_ascii_lowercase();
        let name = lower.strip_prefix("qg-").unwrap_or(&lower);
        let name = name.chars().map(|c| match c {
            'o' => '0',
            'i' | 'l' => '1',
            other => other,
        });
        Self("qg-".chars().chain(name).collect())
    }
}

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a session within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a session comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The session.
    pub session: SessionId,
    /// Database user.
    pub user: String,
    /// Database.
    pub database: String,
    /// `application_name`, possibly empty.
    pub application_name: String,
    /// Common name of the certificate by which the client proved itself to the gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_name: Option<String>,
    /// Address and port, or `unix` for a local socket.
    pub client: String,
    /// Process id of the backend, as it told the client.
    pub backend_pid: Option<i32>,
}

impl HoldRequest {
    /// Bytes it keeps in memory that its sender chose the number of.
    pub(crate) fn weight(&self) -> usize {
        self.parameters
            .iter()
            .filter_map(|parameter| parameter.value.as_ref())
            .map(String::len)
            .chain([self.statement.text.len(), self.why.len()])
            .chain([&self.reason, &self.message, &self.advice].into_iter().flatten().map(String::len))
            .fold(0, usize::saturating_add)
    }
}

/// The statement as it will run, and its name in logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementText {
    /// The whole text; UTF-8, or with U+FFFD where it was not (`lossy` says so).
    #[serde(serialize_with = "as_str", deserialize_with = "from_str")]
    pub text: Arc<str>,
    /// The bytes were not UTF-8, or the server takes them for another encoding: `text` is not exactly what would run.
    pub lossy: bool,
    /// SHA-256 of the exact bytes, lower-case hex.
    pub sha256: String,
}

/// A bound parameter, as shown to approvers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Position, from 1.
    pub position: usize,
    /// Type name as Postgres spells it, when known.
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    /// The value as text; `None` for NULL.
    pub value: Option<String>,
    /// The value could not be decoded: `value` is its bytes in hex.
    pub raw: bool,
}

/// One approval request: everything an approver is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldRequest {
    /// Its name.
    pub id: HoldId,
    /// Who and where from.
    pub origin: Origin,
    /// What would run.
    pub statement: StatementText,
    /// Bound values, in the extended protocol.
    pub parameters: Vec<Parameter>,
    /// What it can do.
    pub effects: Vec<Effect>,
    /// What of its text nobody should overlook.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risks: Vec<Risk>,
    /// The rule that held it.
    #[serde(serialize_with = "as_str", deserialize_with = "from_str")]
    pub rule: Arc<str>,
    /// Other rules that hold some of it: whoever they ask has to agree as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Who owns what it touches, as the policy that held it says: each of them has to agree as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Ownership>,
    /// Why, in a sentence.
    pub why: String,
    /// What the rules that hold it say to the requester; a line for each rule that says something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What they advise the requester to do instead, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Version (hash) of the policy that held it.
    #[serde(serialize_with = "as_str", deserialize_with = "from_str")]
    pub policy_version: Arc<str>,
    /// The session is inside a transaction block (or an implicit one of a pipeline), so its locks stay while it waits.
    pub in_transaction: bool,
    /// What of it is kept off the record and out of channels. Where something was taken out already, this says how much.
    #[serde(default, skip_serializing_if = "Redact::is_none")]
    pub redact: Redact,
    /// The requester's own words.
    pub reason: Option<String>,
    /// When it was held.
    pub opened_at: Timestamp,
    /// When it expires if nobody decides.
    pub deadline: Timestamp,
    /// The same as a length, for the session's own monotonic clock.
    #[serde(skip)]
    pub time_to_live: Duration,
    /// What a standing approval is compared with. Means nothing in another process.
    #[serde(skip)]
    pub standing: Standing,
    /// What its session said of itself; `None`: it could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<Setting>,
    /// What it runs under once it is released, in a sentence; `None`: nothing but what its session has set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<String>,
    /// It was asked for before it runs; `None` for a held statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beforehand: Option<Beforehand>,
    /// The request that it undoes, if its text says so plainly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<HoldId>,
}

/// What tells, besides the text, what a statement means: asked of the session itself at the moment it was held. Nothing else runs in
/// the session until the statement is decided.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Setting {
    /// `search_path`, as SHOW spells it; `None`: unknown, or more than a kilobyte.
    pub search_path: Option<String>,
    /// The role it acts as: of SET ROLE, else the one it was authorised as; `None`: unknown.
    pub role: Option<String>,
    /// [`READING`](crate::judge::READING): names and values, as far as they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reading: Vec<(String, String)>,
}

/// Statements that are asked for before they run; each may then run once, until the request's deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beforehand {
    /// Who asks: a person of the configuration.
    pub by: String,
    /// SHA-256 of each statement in order, transaction control left out, lower-case hex.
    pub statements: Vec<String>,
}

/// What tells whether a standing approval is for a held statement. The session vouches for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Names the statement and the moment of its session; `None`: it is never the same again.
    pub same: Option<Same>,
    /// SHA-256 of each of its statements, transaction control left out. `None`: the session's role or settings may not be those
    /// it began with, or its beginning was not plain, or the statements cannot be told apart.
    pub pieces: Option<Vec<[u8; 32]>>,
    /// SHA-256 of each statement that has run in its session, transaction control left out. `None` as for `pieces`.
    pub ran: Option<Vec<[u8; 32]>>,
    /// Those of them that have surely taken effect, in their session's transaction at least, in order.
    pub done: Vec<Done>,
}

/// A statement that has taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// SHA-256 of it.
    pub statement: [u8; 32],
    /// When it was sent ([`super::era`]).
    pub era: u64,
}

/// Two requests of one session with the same of these are for the same statement with the same values, and nothing has happened
/// between that might change what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Same {
    /// Digest of everything the client sent of it.
    pub statement: [u8; 32],
    /// Counts what has happened in the session.
    pub moment: u64,
}

/// A person's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "lowercase")]
pub enum Decision {
    /// Run it.
    Approve {
        /// The person.
        by: String,
        /// Their words, if any.
        reason: Option<String>,
        /// When.
        at: Timestamp,
        /// The request whose standing approval this is a use of; `None`: it was decided for itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        under: Option<HoldId>,
    },
    /// Refuse it.
    Reject {
        /// The person.
        by: String,
        /// Their words, if any.
        reason: Option<String>,
        /// When.
        at: Timestamp,
    },
}

impl Decision {
    /// Who decided.
    #[must_use]
    pub fn by(&self) -> &str {
        match self {
            Self::Approve { by, .. } | Self::Reject { by, .. } => by,
        }
    }

    /// Their words, if any.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Approve { reason, .. } | Self::Reject { reason, .. } => reason.as_deref(),
        }
    }

    /// The request whose standing approval this is a use of, if it is one.
    #[must_use]
    pub fn under(&self) -> Option<&HoldId> {
        match self {
            Self::Approve { under, .. } => under.as_ref(),
            Self::Reject { .. } => None,
        }
    }

    /// When they decided.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Approve { at, .. } | Self::Reject { at, .. } => *at,
        }
    }
}

/// What became of a hold. Exactly one per hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// Approved, and the bytes were handed to the backend.
    Released,
    /// A person refused it.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// It ended without a decision being carried out.
    Withdrawn {
        /// Why.
        cause: Cause,
    },
}

/// Why a hold was withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The client sent a CancelRequest (Ctrl-C in psql).
    CancelRequest,
    /// The client went away.
    ClientGone,
    /// The backend went away.
    BackendGone,
    /// The client sent more behind the held statement than the read-ahead allows.
    ReadAheadFull,
    /// The gate is shutting down.
    Shutdown,
    /// The request could not be put on record, so nobody was asked.
    NotRecorded,
    /// No channel could be reached, so nobody was asked.
    Unreachable,
    /// Other sessions waited too long for locks of its transaction.
    BlocksOthers,
    /// The gate met trouble of its own.
    Internal,
    /// The gate ended while the statement was held, and its client's connection with it.
    Restart,
}

/// What the database said to a released statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub enum Execution {
    /// It ran.
    Completed {
        /// The command tags ("DELETE 42"), one per statement, separated by "; ".
        tag: String,
        /// Rows the tags count, together; `None` where none of them counts.
        rows: Option<u64>,
        /// From release to the database's word, in milliseconds.
        duration_ms: u64,
        /// No transaction was open behind it and nothing else had been sent meanwhile, so what it did stays (unless its own
        /// text says otherwise).
        #[serde(default)]
        committed: bool,
        /// What became of its rows, where a rule has them kept for an undo.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<String>,
    },
    /// It failed.
    Failed {
        /// The error's SQLSTATE.
        sqlstate: String,
        /// The error's message.
        message: String,
        /// From release to the error, in milliseconds.
        duration_ms: u64,
    },
    /// The connection ended before the database answered: it may have run or not.
    Unknown,
}

/// What a request's statement did was undone, all of it or some: the database's word on that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// Names the undo in its database.
    pub number: i64,
    /// The request that did it; `None`: not known, or it went past the gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<HoldId>,
    /// The database role that did it.
    pub role: String,
    /// When, by the database's clock.
    pub at: Timestamp,
    /// Rows that were restored.
    pub restored: u64,
    /// Rows that conflicted and were left alone.
    pub conflicts: u64,
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by, role, restored, conflicts, .. } = self;
        f.write_str("undone by ")?;
        if let Some(by) = by {
            write!(f, "{by}, ")?;
        }
        let plural = |count: u64| if count == 1 { "row" } else { "rows" };
        write!(f, "role {role}: {restored} {} restored", plural(*restored))?;
        if *conflicts > 0 {
            write!(f, ", {conflicts} {} in conflict left alone", plural(*conflicts))?;
        }
        Ok(())
    }
}

/// serde's own support for `Arc` would also deserialize shared text into separate copies, so it is not switched on.
fn as_str<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

fn from_str<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    Ok(String::deserialize(deserializer)?.into())
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CancelRequest => "cancelled by the client",
            Self::ClientGone => "the client went away",
            Self::BackendGone => "the database connection was lost",
            Self::ReadAheadFull => "the client sent too much behind the held statement",
            Self::Shutdown => "the gate is shutting down",
            Self::NotRecorded => "it could not be put on record",
            Self::Unreachable => "no channel could be reached",
            Self::BlocksOthers => "its transaction kept other sessions waiting for too long",
            Self::Internal => "trouble inside the gate",
            Self::Restart => "the gate ended",
        })
    }
}
