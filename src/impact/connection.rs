//! The prober's own connection: one read-only transaction, every question in it bounded and on its own, so that one that
//! fails or takes too long does not lose the others. Knows nothing of what is asked.

use std::error::Error;
use std::fmt::Write;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Config, NoTls, Row};

use super::pool::{Link, Pool};
use super::settings::ImpactSettings;
use crate::clock;

/// A connection to Postgres at the point where the startup packet may be written; TLS, if any, is already done.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What dialling yields.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Opens connections to the server that the gate stands before.
pub type Dial = Arc<dyn Fn() -> Dialling + Send + Sync>;

/// What the server is given beyond our own limit before we stop listening.
const GRACE: Duration = Duration::from_millis(100);
/// Longest message of the server that is repeated, in characters.
const MESSAGE: usize = 200;

/// An open transaction; dropped, the connection closes and the server rolls back.
pub(super) struct Asking {
    link: Link,
    /// Where the connection goes when it is done.
    pool: Arc<Pool>,
    database: String,
    deadline: Instant,
    /// A question was left unanswered: no other can be asked here.
    broken: AtomicBool,
}

impl Asking {
    /// Connects, or takes a connection that is there, and opens the transaction.
    ///
    /// # Cancellation safety
    /// A dropped future closes what it had opened.
    pub(super) async fn open(
        settings: &ImpactSettings,
        dial: &Dial,
        pool: &Arc<Pool>,
        database: &str,
        deadline: Instant,
    ) -> Result<Self, String> {
        let with = |link| Self {
            link,
            pool: Arc::clone(pool),
            database: database.to_owned(),
            deadline,
            broken: AtomicBool::new(false),
        };
        if let Some(link) = pool.take(database) {
            let asking = with(link);
            if asking.begin(settings).await.is_ok() {
                return Ok(asking);
            }
            // The server may have ended it meanwhile; a new one says what is wrong.
        }
        let asking = with(Self::connect(settings, dial, database, deadline).await?);
        asking.begin(settings).await?;
        Ok(asking)
    }

    async fn connect(
        settings: &ImpactSettings,
        dial: &Dial,
        database: &str,
        deadline: Instant,
    ) -> Result<Link, String> {
        let mut config = Config::new();
        config.user(&settings.user).dbname(database).application_name("querygate impact").ssl_mode(SslMode::Disable);
        if let Some(password) = &settings.password {
            config.password(password.reveal());
        }
        let connecting = async {
            let stream = dial().await.map_err(|error| format!("the database cannot be reached: {error}"))?;
            config
                .connect_raw(stream, NoTls)
                .await
                .map_err(|error| format!("no connection of its own: {}", said(&error)))
        };
        let limit = settings.connect_timeout.min(left(deadline));
        let connected = tokio::time::timeout(limit, connecting).await;
        let (client, connection) = connected.map_err(|_| "connecting took too long".to_owned())??;
        let task = tokio::spawn(async move {
            // Its end is seen by whoever asks.
            let _ = connection.await;
        });
        Ok(Link::new(client, task))
    }

    async fn begin(&self, settings: &ImpactSettings) -> Result<(), String> {
        let lock = settings.lock_timeout.as_millis().max(1);
        let idle = settings.budget.as_millis().saturating_mul(2).max(1000);
        // `row_security = off`: what row security would hide is an error, not a number that is too small.
        let begin = format!(
            "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;\n\
             SET LOCAL search_path = pg_catalog, pg_temp;\n\
             SET LOCAL lock_timeout = {lock}; SET LOCAL idle_in_transaction_session_timeout = {idle};\n\
             SET LOCAL row_security = off; SET LOCAL standard_conforming_strings = on; SET LOCAL backslash_quote = off;\n\
             SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off; SET LOCAL client_min_messages = warning"
        );
        self.bounded(GRACE.saturating_add(left(self.deadline)), self.link.client.batch_execute(&begin), said).await
    }

    /// Time that is left.
    pub(super) fn left(&self) -> Duration {
        left(self.deadline)
    }

    /// One question, answered within `limit` or not at all; a failure undoes itself.
    ///
    /// # Errors
    /// Why there is no answer, as a clause for people.
    pub(super) async fn ask(
        &self,
        limit: Duration,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, String> {
        self.asked(limit, sql, values, said).await
    }

    /// As [`Self::ask`], for a query over people's rows that somebody else chose.
    ///
    /// # Errors
    /// Why there is no answer, without what the rows hold: the server's message of a failing conversion quotes the value.
    pub(super) async fn ask_of_rows(&self, limit: Duration, sql: &str) -> Result<Vec<Row>, String> {
        self.asked(limit, sql, &[], said_of_rows).await
    }

    async fn asked(
        &self,
        limit: Duration,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
        said: fn(&tokio_postgres::Error) -> String,
    ) -> Result<Vec<Row>, String> {
        let limit = limit.min(self.left());
        if limit < Duration::from_millis(2) || self.broken.load(Ordering::Relaxed) {
            return Err("the time for looking was used up".to_owned());
        }
        let before = format!("SAVEPOINT question; SET LOCAL statement_timeout = {}", limit.as_millis().max(1));
        let wait = limit.saturating_add(GRACE);
        self.bounded(wait, self.link.client.batch_execute(&before), said).await?;
        // The extended protocol: the server itself takes no second statement.
        let answer = self.bounded(wait, self.link.client.query(sql, values), said).await;
        if !self.broken.load(Ordering::Relaxed) {
            let after = if answer.is_ok() {
                "RELEASE SAVEPOINT question"
            } else {
                "ROLLBACK TO SAVEPOINT question; RELEASE SAVEPOINT question"
            };
            self.bounded(wait, self.link.client.batch_execute(after), said).await?;
        }
        answer
    }

    /// As [`Self::ask`], for statements that answer nothing. The lock of a LOCK lasts.
    pub(super) async fn tell(&self, limit: Duration, sql: &str) -> Result<(), String> {
        self.ask(limit, sql, &[]).await.map(|_| ())
    }

    /// Ends the transaction, so that its locks go at once and the server has nothing to complain of, and leaves the connection to
    /// whoever asks next. One on which anything went wrong is closed.
    pub(super) async fn close(self) {
        if self.broken.load(Ordering::Relaxed) {
            return;
        }
        let ended = self.bounded(GRACE, self.link.client.batch_execute("ROLLBACK"), said).await;
        if ended.is_ok() && !self.broken.load(Ordering::Relaxed) {
            let Self { link, pool, database, .. } = self;
            pool.keep(&database, link);
        }
    }

    async fn bounded<T>(
        &self,
        limit: Duration,
        asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
        said: fn(&tokio_postgres::Error) -> String,
    ) -> Result<T, String> {
        let limit = limit.min(self.left().saturating_add(GRACE));
        if let Ok(answer) = tokio::time::timeout(limit, asked).await {
            return answer.map_err(|error| said(&error));
        }
        self.broken.store(true, Ordering::Relaxed);
        Err("the database did not answer in time".to_owned())
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(clock::now())
}

/// What went wrong, for people.
fn said(error: &tokio_postgres::Error) -> String {
    let Some(server) = error.as_db_error() else { return "the connection failed".to_owned() };
    match *server.code() {
        SqlState::QUERY_CANCELED => "it takes too long".to_owned(),
        SqlState::LOCK_NOT_AVAILABLE => "another session has it locked".to_owned(),
        _ => server.message().chars().take(MESSAGE).collect(),
    }
}

/// The same where the message may hold what is in a row.
fn said_of_rows(error: &tokio_postgres::Error) -> String {
    // Names of the text itself: syntax errors and access rule violations.
    const NAMES_ONLY: &str = "42";
    match error.code() {
        Some(code) if *code != SqlState::QUERY_CANCELED && !code.code().starts_with(NAMES_ONLY) => {
            if *code == SqlState::LOCK_NOT_AVAILABLE {
                said(error)
            } else {
                format!("it fails with SQLSTATE {}", code.code())
            }
        }
        Some(_) | None => said(error),
    }
}

/// An identifier as SQL text, whatever it holds.
pub(super) fn quoted(name: &str) -> String {
    let mut text = String::from("\"");
    for c in name.chars() {
        if c == '"' {
            text.push('"');
        }
        text.push(c);
    }
    text.push('"');
    text
}

/// `"schema"."name"`.
pub(super) fn qualified(schema: &str, name: &str) -> String {
    let mut text = quoted(schema);
    let _ = write!(text, ".{}", quoted(name));
    text
}

/// The bytes of a value of any type, for types that are their own text (`json`, `name`, `"char"` cast to text).
pub(super) struct Text(pub(super) String);

impl<'a> FromSql<'a> for Text {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
