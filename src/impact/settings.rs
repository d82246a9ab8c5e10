//! What the prober may be told by configuration. Knows no file and no environment: whoever reads the configuration does.

use std::fmt;
use std::time::Duration;

/// How the prober connects, and how much it may ask.
#[derive(Debug, Clone)]
pub struct ImpactSettings {
    /// Database user of the prober: a role of its own, see `proxy-tests/docs/impact.md`.
    pub user: String,
    /// Its password, if the server wants one.
    pub password: Option<Password>,
    /// From dialling to the end of authentication. Counts towards `budget`.
    pub connect_timeout: Duration,
    /// Everything about one held statement has to be had within this.
    pub budget: Duration,
    /// All exact counts of one probe together. Counts towards `budget`.
    pub count_budget: Duration,
    /// A count whose plan costs more (in the planner's units) is not begun.
    pub count_cost: f64,
    /// How long the prober waits for a lock that another session holds.
    pub lock_timeout: Duration,
    /// Probes at the same time, and so connections of the prober.
    pub connections: usize,
    /// Texts longer than this are not looked into.
    pub statement_bytes: usize,
    /// Statements of one text that are looked into.
    pub statements: usize,
    /// Objects of one statement that are looked up.
    pub objects: usize,
    /// Tables in one statement's graph of cascades.
    pub cascades: usize,
    /// Dependents, triggers, locks, waiting sessions: how many of each are listed.
    pub listed: usize,
    /// Rows may grow by this share between what people were shown and the release.
    pub tolerance: f64,
    /// A statement held inside of a transaction is withdrawn once other sessions have waited for the transaction's locks for so long; zero: never.
    pub blocking: Duration,
    /// Tables whose rows are never counted or estimated: `schema.table`, or `schema.*`.
    pub exclude: Vec<String>,
    /// What functions do is looked up for every database, and statements that call one that can write are judged by that.
    pub functions: bool,
    /// Extensions whose functions in C are taken to be harmless, besides those that are known to be.
    pub harmless_extensions: Vec<String>,
}

impl Default for ImpactSettings {
    fn default() -> Self {
        Self {
            user: "querygate_impact".to_owned(),
            password: None,
            connect_timeout: Duration::from_secs(1),
            budget: Duration::from_secs(2),
            count_budget: Duration::from_secs(1),
            count_cost: 500_000.0,
            lock_timeout: Duration::from_millis(200),
            connections: 4,
            statement_bytes: 64 << 10,
            statements: 8,
            objects: 32,
            cascades: 64,
            listed: 32,
            tolerance: 0.1,
            blocking: Duration::from_secs(60),
            exclude: Vec::new(),
            functions: true,
            harmless_extensions: Vec::new(),
        }
    }
}

/// A password; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Wraps it.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
