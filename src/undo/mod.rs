//! Undo: what a database is set up with so that rows a released statement changes can be kept, and the warrants by which the gate has
//! them kept. Pure: knows no sockets, no clock, no people. Start at [`UndoSettings`].
//!
//! # How
//!
//! *Triggers, not a second query.* A table whose rows can be kept has a row trigger behind its writes (`querygate undo cover`) that does
//! nothing until the gate has begun to keep a request's rows in that very transaction. So what is kept is what was written: no row
//! can slip in between, no condition is evaluated twice, values need no copying through another format, cascades, partitions
//! and row security take care of themselves, and a client needs no privilege it did not need before.
//!
//! *Warrants.* Anybody may call `querygate_undo.begin`, and it does nothing without a [`Warrant`]: a digest over the request, the server
//! process of the session, an expiry, the limits and a ticket, made with a key that only the gate and a table of the schema's owner have.
//! The ticket is drawn by the session right before, in the same transaction, and goes with it: a warrant is good for once, also where
//! that is rolled back.
//!
//! *In the statement's transaction.* The gate sends `begin` before a released statement and `finish` behind it, under guard's own
//! transaction where none is open. `finish` fails where something is missing, and that undoes the statement.
//!
//! The SQL is in `schema.sql`.

use std::fmt::{self, Write as _};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// The schema that everything is in.
pub const SCHEMA: &str = "querygate_undo";

const TABLES_AND_FUNCTIONS: &str = include_str!("schema.sql");

/// Functions that whoever may undo calls, by way of `restore`.
const FOR_UNDOERS: &str = "querygate_undo.restore(text, boolean, boolean), querygate_undo.read(text), \
     querygate_undo.settle(text, bigint[], bigint), querygate_undo.undo_one(querygate_undo.change, text), \
     querygate_undo.undo_all(text, boolean, boolean, text, querygate_undo.change[]), querygate_undo.moves(querygate_undo.change[]), \
     querygate_undo.differ(regclass, text, regclass, text), querygate_undo.held_by(oid, text), \
     querygate_undo.columns_of(oid), querygate_undo.each_column(oid, text, text, text[])";

/// How long a warrant may be on its way.
const WARRANT_LASTS: i64 = 60;

/// HMAC's block for SHA-256 (RFC 2104).
const BLOCK: usize = 64;

/// What the gate needs for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoSettings {
    /// Databases that are set up for it.
    pub databases: Vec<String>,
    /// Database role the gate logs in as to set up and to clear away; the schema is its own.
    pub user: String,
    /// Its password, if the server wants one.
    pub password: Option<Secret>,
    /// What warrants are made with.
    pub secret: Secret,
    /// How long rows are kept.
    pub retention: Duration,
    /// The rows of all requests together in one database, in bytes; beyond, no more are kept.
    pub max_total_bytes: u64,
    /// How often rows past `retention` are cleared away.
    pub clear_interval: Duration,
}

impl Default for UndoSettings {
    fn default() -> Self {
        Self {
            databases: Vec::new(),
            user: SCHEMA.to_owned(),
            password: None,
            secret: Secret::default(),
            retention: Duration::from_secs(7 * 24 * 3600),
            max_total_bytes: 1 << 30,
            clear_interval: Duration::from_secs(600),
        }
    }
}

/// Never shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For those who need it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How much of one request may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows, cascades and all.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// A statement whose rows cannot be kept is undone.
    pub strict: bool,
}

/// Has a session keep the rows of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warrant {
    key: Secret,
    /// What the digest is over, but for the ticket.
    said: String,
    /// Arguments of `begin`, but for the ticket and the digest.
    arguments: String,
    request: String,
    /// Known with the ticket.
    digest: String,
}

impl UndoSettings {
    /// For `request`, in the session that the server process `pid` serves, at `now` (seconds of the Unix epoch). `None`: that is no request's name.
    #[must_use]
    pub fn warrant(&self, request: &str, pid: i32, limits: Limits, now: i64) -> Option<Warrant> {
        // They are written into SQL.
        if !request.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return None;
        }
        let numbers = [limits.rows, limits.bytes, self.max_total_bytes, self.retention.as_secs()]
            .map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        let [rows, bytes, total, seconds] = numbers;
        let expires = now.saturating_add(WARRANT_LASTS);
        let strict = if limits.strict { "strict" } else { "lax" };
        let said = format!("querygate undo 2|{request}|{pid}|{expires}|{rows}|{bytes}|{total}|{seconds}|{strict}");
        let arguments = format!("'{request}', {expires}, {rows}, {bytes}, {total}, {seconds}, {}", limits.strict);
        Some(Warrant { key: self.secret.clone(), said, arguments, request: request.to_owned(), digest: String::new() })
    }

    /// SHA-256 of the inner key, in hex: tells whether a database was set up with this secret.
    #[must_use]
    pub fn key_digest(&self) -> String {
        hex::encode(Sha256::digest(self.pad(0x36)))
    }

    fn pad(&self, with: u8) -> [u8; BLOCK] {
        let key = Sha256::digest(self.secret.reveal());
        let mut block = [with; BLOCK];
        block.iter_mut().zip(key.iter()).for_each(|(byte, key)| *byte ^= key);
        block
    }

    /// SQL that sets a database up, for the role `user` to run. `undoers` are roles that may undo, `lookers` roles that may read what is
    /// kept, to tell people what an undo would do. It holds the key: whoever reads it can have rows kept in sessions of their own.
    #[must_use]
    pub fn install(&self, undoers: &[String], lookers: &[String]) -> String {
        let mut sql = format!("BEGIN;\n{TABLES_AND_FUNCTIONS}\n{}", self.keys());
        let _ = writeln!(sql, "COMMENT ON SCHEMA {SCHEMA} IS '{}';", edition());
        for role in lookers {
            let _ = writeln!(sql, "GRANT SELECT ON {SCHEMA}.request, {SCHEMA}.change TO {};", quoted(role));
        }
        for role in undoers {
            let _ = writeln!(sql, "GRANT EXECUTE ON FUNCTION {FOR_UNDOERS} TO {};", quoted(role));
        }
        sql.push_str("COMMIT;\n");
        sql
    }

    fn keys(&self) -> String {
        format!(
            "INSERT INTO {SCHEMA}.key (inner_key, outer_key) VALUES (decode('{}', 'hex'), decode('{}', 'hex'));\n",
            hex::encode(self.pad(0x36)),
            hex::encode(self.pad(0x5c))
        )
    }
}

impl Warrant {
    /// What the session is asked for first: its only column is the ticket.
    #[must_use]
    pub fn draw() -> String {
        format!("SELECT {SCHEMA}.draw()")
    }

    /// What comes before the statement, in a session that has drawn this ticket. `None`: that is no ticket.
    #[must_use]
    pub fn begin(&mut self, ticket: &str) -> Option<String> {
        // It is written into SQL.
        if ticket.is_empty() || !ticket.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return None;
        }
        // A key of any length is taken.
        let mut mac = Hmac::<Sha256>::new_from_slice(&Sha256::digest(self.key.reveal())).ok()?;
        mac.update(format!("{}|{ticket}", self.said).as_bytes());
        self.digest = hex::encode(mac.finalize().into_bytes());
        Some(format!("SELECT {SCHEMA}.begin({}, '{ticket}', '{}')", self.arguments, self.digest))
    }

    /// What comes behind it: `target` is the table it names, `verb` and `rows` its command tag. Its only column says what is kept.
    ///
    /// The table is looked up by the session itself, as the statement's was; its name goes in hexadecimal digits, which mean the same
    /// under every setting of `standard_conforming_strings`.
    #[must_use]
    pub fn finish(&self, target: &str, verb: &str, rows: Option<u64>) -> String {
        let Self { request, digest, .. } = self;
        let target = hex::encode(target);
        let verb: String = verb.chars().filter(char::is_ascii_uppercase).collect();
        let rows = rows.map_or_else(|| "NULL".to_owned(), |rows| rows.to_string());
        format!(
            "SELECT {SCHEMA}.finish('{request}', '{digest}', pg_catalog.to_regclass(pg_catalog.convert_from(\
             pg_catalog.decode('{target}', 'hex'), 'UTF8'))::pg_catalog.oid, '{verb}', {rows})"
        )
    }
}

/// Names what a database is set up with; another version of the gate may set it up otherwise.
#[must_use]
pub fn edition() -> String {
    let digest = hex::encode(Sha256::digest(TABLES_AND_FUNCTIONS));
    format!("querygate undo {}", digest.get(..16).unwrap_or_default())
}

/// SQL that puts the trigger on a table, for its owner to run.
#[must_use]
pub fn cover(schema: &str, table: &str) -> String {
    format!(
        "CREATE TRIGGER {SCHEMA} AFTER INSERT OR UPDATE OR DELETE ON {}.{} FOR EACH ROW\n    \
         WHEN (current_setting('{SCHEMA}.capture', true) <> '') EXECUTE FUNCTION {SCHEMA}.capture();\n",
        quoted(schema),
        quoted(table)
    )
}

/// The request that a statement undoes, if it is written as `querygate undo` writes it, or as people do who write the same by hand. Of any
/// other text nothing is told.
#[must_use]
pub fn undoes(text: &str) -> Option<&str> {
    let text = text.trim_ascii();
    let text = text.strip_suffix(';').unwrap_or(text).trim_ascii_end();
    let (request, rest) = text.strip_prefix("SELECT * FROM querygate_undo.restore('")?.split_once('\'')?;
    let arguments = rest.strip_suffix(')')?;
    let ends = arguments.split(',').skip(1).all(|word| matches!(word.trim_ascii(), "true" | "false"))
        && arguments.split(',').next().is_some_and(|first| first.trim_ascii().is_empty());
    (ends && !request.is_empty() && request.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
        .then_some(request)
}

/// An identifier as SQL text, whatever it holds.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> UndoSettings {
        UndoSettings { secret: Secret::new("s3cret-for-tests"), ..UndoSettings::default() }
    }

    #[test]
    fn a_warrant_is_for_one_request_one_session_one_time_and_its_limits() {
        let limits = Limits { rows: 5, bytes: 100, strict: true };
        let mut warrant = settings().warrant("qg-1", 7, limits, 1000).unwrap();
        let begin = warrant.begin("t-1").unwrap();
        assert!(begin.starts_with("SELECT querygate_undo.begin('qg-1', 1060, 5, 100, "), "{begin}");
        let others = [
            (settings().warrant("qg-2", 7, limits, 1000), "t-1"),
            (settings().warrant("qg-1", 8, limits, 1000), "t-1"),
            (settings().warrant("qg-1", 7, limits, 1001), "t-1"),
            (settings().warrant("qg-1", 7, Limits { rows: 6, ..limits }, 1000), "t-1"),
            (settings().warrant("qg-1", 7, Limits { strict: false, ..limits }, 1000), "t-1"),
            (settings().warrant("qg-1", 7, limits, 1000), "t-2"),
            (UndoSettings { secret: Secret::new("another"), ..settings() }.warrant("qg-1", 7, limits, 1000), "t-1"),
        ];
        for (other, ticket) in others {
            let mut other = other.unwrap();
            assert!(other.begin(ticket).is_some());
            assert_ne!(other.digest, warrant.digest);
        }
        assert_eq!(settings().warrant("qg-1'", 7, limits, 1000), None);
        for ticket in ["", "t'", "t|1"] {
            assert_eq!(warrant.begin(ticket), None, "{ticket}");
        }
    }

    #[test]
    fn nothing_is_told_of_a_text_that_may_mean_another_request() {
        for text in [
            "SELECT * FROM querygate_undo.restore('qg-1', false, true)",
            "SELECT * FROM querygate_undo.restore('qg-1');",
            " SELECT * FROM querygate_undo.restore('qg-1',true) ; ",
        ] {
            assert_eq!(undoes(text), Some("qg-1"), "{text}");
        }
        for text in [
            "SELECT * FROM querygate_undo.restore('qg-1', false, true), querygate_undo.restore('qg-2')",
            "SELECT * FROM querygate_undo.restore('qg-1'); SELECT * FROM querygate_undo.restore('qg-2')",
            "SELECT * FROM querygate_undo.restore('qg-1' || 'x', false, true)",
            "SELECT * FROM querygate_undo.restore('qg-1', false, true) WHERE false",
            "SELECT * FROM querygate_undo.restore('qg-1'::text)",
            "SELECT * FROM querygate_undo.restore('qg\\1', false, true)",
            "SELECT * FROM querygate_undo.restore('')",
            "/* */ SELECT * FROM querygate_undo.restore('qg-1', false, true)",
        ] {
            assert_eq!(undoes(text), None, "{text}");
        }
    }

    #[test]
    fn names_of_tables_cannot_leave_their_quotes() {
        let warrant = settings().warrant("qg-1", 7, Limits { rows: 5, bytes: 100, strict: true }, 0).unwrap();
        let finish = warrant.finish("\"a'); DROP TABLE t; --\"", "DELETE'", None);
        assert!(!finish.contains("DROP"), "{finish}");
        assert!(finish.ends_with("'DELETE', NULL)"), "{finish}");
        assert!(cover("a\"b", "t").contains("ON \"a\"\"b\".\"t\" "));
    }

    #[test]
    fn the_secret_is_in_no_debug_output_and_not_as_such_in_the_sql() {
        let settings = settings();
        assert!(!format!("{settings:?}").contains("s3cret"));
        assert!(!settings.install(&[], &[]).contains("s3cret"));
    }
}
