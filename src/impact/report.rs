//! What a probe found: plain data for rules, records and people. Every part that could not be had says why by itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something asked of the database: had, or not, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known<T> {
    /// This is it.
    Known(T),
    /// It could not be had; a clause for people. Rules take it as large.
    Unknown(String),
}

impl<T> Known<T> {
    /// What was had.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// Why it was not had.
    pub fn unknown(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Unknown(why) => Some(why),
        }
    }
}

impl<T> From<Result<T, String>> for Known<T> {
    fn from(result: Result<T, String>) -> Self {
        match result {
            Ok(value) => Self::Known(value),
            Err(why) => Self::Unknown(why),
        }
    }
}

/// What a held text would touch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Impact {
    /// Its statements in order; empty if `trouble` says that nothing could be asked.
    pub statements: Vec<StatementImpact>,
    /// Locks the session's transaction holds and who waits for them; `None` if the backend is not known.
    pub session: Option<Known<SessionLocks>>,
    /// Hash over the definitions of all objects touched. Equal: nothing was redefined, as far as the hash looks.
    pub fingerprint: Known<String>,
    /// Each of these definitions, by what it is of ("column public.orders.note"); not on record. Empty if the fingerprint is not known.
    #[serde(skip)]
    pub definitions: BTreeMap<String, Definition>,
    /// What of it is not among these, so that nobody would notice if it changed, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncompared: Vec<String>,
    /// Every object it names was found, and all of its definitions; not on record.
    #[serde(skip)]
    pub looked: bool,
    /// Partitions and children of the tables touched, and what these are partitions or children of; not on record. `None`: not known.
    #[serde(skip)]
    pub kin: Option<Vec<Kin>>,
    /// It undoes what another request did: what that would bring back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undoing>,
    /// The requester may read every row that was counted, so counts may be shown to them.
    pub requester_may_see: bool,
    /// What to keep in mind when reading the numbers.
    pub notes: Vec<String>,
    /// Nothing, or not everything, could be asked: why.
    pub trouble: Option<String>,
}

impl Impact {
    /// Nothing is known, and why.
    pub fn unknown(why: &str) -> Self {
        Self {
            statements: Vec::new(),
            session: None,
            fingerprint: Known::Unknown("nothing was looked up".to_owned()),
            definitions: BTreeMap::new(),
            uncompared: Vec::new(),
            looked: false,
            kin: None,
            undo: None,
            requester_may_see: false,
            notes: Vec::new(),
            trouble: Some(why.to_owned()),
        }
    }

    /// Takes out reasons, which may quote the statement or the database's own words; names and numbers stay.
    pub fn hush(&mut self) {
        let hush = |why: &mut String| HUSHED.clone_into(why);
        self.trouble.iter_mut().for_each(hush);
        self.fingerprint.hush();
        if !self.uncompared.is_empty() {
            self.uncompared = vec![HUSHED.to_owned()];
        }
        if let Some(session) = &mut self.session {
            session.hush();
        }
        if let Some(undo) = &mut self.undo {
            undo.rows.hush();
            if let Known::Known(tables) = &mut undo.rows {
                for table in tables {
                    table.conflicts.hush();
                }
            }
        }
        for statement in &mut self.statements {
            statement.notes.clear();
            if let Some(dependents) = &mut statement.dependents {
                dependents.hush();
            }
            for cascade in &mut statement.cascades {
                cascade.rows.hush();
            }
            for object in &mut statement.objects {
                object.resolved.hush();
                if let Some(rows) = &mut object.rows {
                    rows.hush();
                }
                if let Some(table) = &mut object.table {
                    table.hush();
                    if let Known::Known(facts) = table {
                        facts.bytes.hush();
                    }
                }
            }
        }
    }

    /// About how many bytes it has as JSON.
    pub fn weight(&self) -> usize {
        const EACH: usize = 512;
        let parts = |statement: &StatementImpact| {
            let dependents = statement.dependents.as_ref().and_then(Known::known).map_or(0, |all| all.listed.len());
            let triggers: usize = statement.objects.iter().map(|object| object.triggers.len()).sum();
            [statement.objects.len(), statement.cascades.len(), statement.alter.len(), dependents, triggers, 1]
                .into_iter()
                .fold(0, usize::saturating_add)
        };
        let undone = self.undo.as_ref().and_then(|undo| undo.rows.known()).map_or(0, Vec::len);
        self.statements.iter().map(parts).chain([undone]).fold(1, usize::saturating_add).saturating_mul(EACH)
    }
}

/// What undoing a request would bring back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undoing {
    /// The request.
    pub request: String,
    /// Its rows, by table and by what is done to them; empty: nothing is kept of it.
    pub rows: Known<Vec<UndoneRows>>,
}

/// Rows of one table that an undo writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoneRows {
    /// `schema.table`, as it was called when they were kept.
    pub table: String,
    /// What is done to them.
    pub action: UndoAction,
    /// How many.
    pub rows: u64,
    /// Those of them that conflict at present, by why.
    pub conflicts: Known<Vec<Conflicting>>,
}

/// What an undo does to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UndoAction {
    /// Inserts it again.
    BringBack,
    /// Gives it its old values.
    SetBack,
    /// Deletes it.
    Remove,
}

/// Rows that an undo would leave as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflicting {
    /// Why.
    pub why: String,
    /// How many.
    pub rows: u64,
}

/// One of the definitions a fingerprint covers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Definition {
    /// The relation, function, operator or type it belongs to, without schema.
    pub subject: String,
    /// SHA-256 of it, in hexadecimal digits.
    pub hash: String,
}

/// Stands where a reason was.
const HUSHED: &str = "(redacted)";

impl<T> Known<T> {
    fn hush(&mut self) {
        if let Self::Unknown(why) = self {
            HUSHED.clone_into(why);
        }
    }
}

impl Rows {
    fn hush(&mut self) {
        self.estimate.hush();
        self.exact.hush();
    }
}

/// A relative of a table: a partition or child, or what it is one of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kin {
    /// Oid of the table.
    pub of: u32,
    /// The relative's schema.
    pub schema: String,
    /// Its name.
    pub name: String,
}

/// What one statement would touch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatementImpact {
    /// What it does.
    pub action: Action,
    /// The lock it takes on its targets, as Postgres names it; `None`: none that matters, or not known.
    pub lock: Option<String>,
    /// What it does it to, in the order of the text.
    pub objects: Vec<ObjectImpact>,
    /// Tables whose rows go, change or forbid it through foreign keys.
    pub cascades: Vec<Cascade>,
    /// Sub-commands of ALTER TABLE.
    pub alter: Vec<AlterStep>,
    /// What depends on objects that are dropped.
    pub dependents: Option<Known<Dependents>>,
    /// Number of its statement in the text, from 0, where parts of statements are listed by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<usize>,
    /// It is not the statement itself: a query of its WITH, or what it prepares; not on record.
    #[serde(skip)]
    pub part: bool,
    /// Triggers and rewrite rules of what it names are known; not on record.
    #[serde(skip)]
    pub consequences: bool,
    /// It changes rows whose foreign keys are not followed (MERGE, ON CONFLICT DO UPDATE); not on record.
    #[serde(skip)]
    pub unfollowed: bool,
    /// What to keep in mind.
    pub notes: Vec<String>,
}

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// DELETE.
    Delete,
    /// UPDATE.
    Update,
    /// INSERT.
    Insert,
    /// MERGE.
    Merge,
    /// TRUNCATE.
    Truncate,
    /// DROP.
    Drop,
    /// ALTER TABLE (also of indexes, views, sequences).
    Alter,
    /// SELECT and the like.
    Read,
    /// Anything else: objects are looked up, rows are not counted.
    Other,
}

/// One object a statement names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObjectImpact {
    /// As the statement has it.
    pub written: String,
    /// What the session would find under that name.
    pub resolved: Known<Resolved>,
    /// Rows affected. `None` where rows are not what it is about.
    pub rows: Option<Rows>,
    /// Size and use of the table.
    pub table: Option<Known<TableFacts>>,
    /// Triggers that would fire.
    pub triggers: Vec<Trigger>,
    /// Rewrite rules that change what the statement does.
    pub rules: Vec<String>,
    /// For a view: the table its rows are changed in.
    pub through: Option<String>,
}

/// An object of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Its oid.
    pub oid: u32,
    /// Its schema; empty for what has none.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is: `table`, `partitioned table`, `view` …
    pub kind: String,
}

impl Resolved {
    /// It has rows of its own, or its partitions have.
    pub fn is_table(&self) -> bool {
        matches!(self.kind.as_str(), "table" | "partitioned table")
    }

    /// What is done to it is done to nothing else, but for partitions, children and foreign keys.
    pub fn is_itself(&self) -> bool {
        self.is_table() || matches!(self.kind.as_str(), "index" | "sequence" | "materialized view")
    }

    /// `schema.name`, for people.
    pub fn qualified(&self) -> String {
        if self.schema.is_empty() { self.name.clone() } else { format!("{}.{}", self.schema, self.name) }
    }
}

/// How many rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The planner's estimate.
    pub estimate: Known<u64>,
    /// Counted.
    pub exact: Known<u64>,
    /// How the numbers are to be read.
    pub bound: Bound,
}

/// How a number relates to what would happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// It is that number.
    Exact,
    /// Row security of the session, a trigger or a rule can make it fewer.
    AtMost,
    /// A cascade goes round in a circle: there can be more.
    AtLeast,
    /// What its conditions find depends on the clock, on the plan, or on settings of the session that nobody reports: the statement may
    /// meet others, fewer or more.
    AtPresent,
}

/// A table's size and use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableFacts {
    /// Bytes with indexes and TOAST, partitions and children included.
    pub bytes: Known<u64>,
    /// Rows by the last VACUUM or ANALYZE; `None` if there was none.
    pub reltuples: Option<f64>,
    /// Partitions or children included in these numbers.
    pub children: u64,
    /// Last VACUUM, by hand or automatic. RFC 3339, UTC.
    pub last_vacuum: Option<String>,
    /// Last ANALYZE, by hand or automatic.
    pub last_analyze: Option<String>,
    /// Last scan (from Postgres 16).
    pub last_use: Option<String>,
    /// Scans since statistics were reset.
    pub scans: Option<u64>,
    /// Row security is on.
    pub row_security: bool,
}

/// A trigger that would fire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// `BEFORE`, `AFTER`, `INSTEAD OF`, and `ROW` or `STATEMENT`.
    pub when: String,
    /// The function it calls.
    pub function: String,
}

/// One foreign key followed from a table whose rows go or change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cascade {
    /// The constraint.
    pub constraint: String,
    /// The table whose rows go or change.
    pub from: String,
    /// The table that refers to it.
    pub to: String,
    /// That table; not on record.
    #[serde(skip)]
    pub child: Option<Resolved>,
    /// Steps from the statement's own table; 1 for the first.
    pub depth: u32,
    /// What happens to the referring rows.
    pub action: CascadeAction,
    /// How many there are.
    pub rows: Rows,
    /// It leads back to a table that was met on the way here; it is not followed further.
    pub cycle: bool,
    /// The referring table, or a partition of it, has triggers; not on record. `None`: not known.
    #[serde(skip)]
    pub triggers: Option<bool>,
    /// It has rewrite rules; not on record. `None`: not known.
    #[serde(skip)]
    pub rules: Option<bool>,
}

/// What a foreign key does to referring rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CascadeAction {
    /// They are deleted.
    Delete,
    /// Their columns follow.
    Update,
    /// Their columns become null.
    SetNull,
    /// Their columns get their defaults.
    SetDefault,
    /// If there are any, the statement fails.
    Refuse,
    /// The whole table is emptied (TRUNCATE … CASCADE).
    Truncate,
}

/// One sub-command of ALTER TABLE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterStep {
    /// As in the manual: `ADD COLUMN`.
    pub command: String,
    /// The lock it takes.
    pub lock: String,
    /// What it does to the table's rows.
    pub work: AlterWork,
    /// Why, and on what that rests.
    pub why: String,
}

/// What a sub-command does to the table's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlterWork {
    /// Nothing.
    Catalogue,
    /// It reads them all under that lock.
    Scan,
    /// It writes them all anew under that lock.
    Rewrite,
    /// Not known: take it as a rewrite.
    Unknown,
}

/// What depends on what is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependents {
    /// Descriptions, as in the server's own messages.
    pub listed: Vec<String>,
    /// More than were listed.
    pub more: bool,
    /// CASCADE is written: they go as well. Otherwise their existence makes the statement fail.
    pub cascade: bool,
}

/// Locks of the session's transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLocks {
    /// `mode on schema.table`, the strongest ones first.
    pub held: Vec<String>,
    /// Sessions that wait for this one now.
    pub waiting: Vec<Waiting>,
}

/// A session that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its backend.
    pub pid: i32,
    /// Its user.
    pub user: Option<String>,
    /// Its application.
    pub application: Option<String>,
    /// For how long, in seconds.
    pub seconds: Option<u64>,
}
