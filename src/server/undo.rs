//! The gate's own connection to what is kept for undos: sets a database up, says what is missing, clears away what is past its time.
//! Never reads a kept row, but counts them. Start at [`Keeper`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};

use super::settings::Settings;
use crate::approval::examiner::{Examiner, Examining, Looking};
use crate::hold::HoldRequest;
use crate::impact::{Dial, Impact, Known, Own, Prober, UndoAction, Undoing, UndoneRows};
use crate::undo::{SCHEMA, UndoSettings, edition, undoes};

/// From dialling to the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// For telling what an undo would bring back.
const FORETELLING: Duration = Duration::from_secs(2);
/// Requests cleared away in one transaction.
const AT_ONCE: usize = 100;

/// Logs in as the role in `[undo]`.
pub struct Keeper {
    settings: UndoSettings,
    dial: Dial,
}

impl Keeper {
    /// One that dials this way.
    #[must_use]
    pub fn new(settings: UndoSettings, dial: Dial) -> Self {
        Self { settings, dial }
    }

    /// Runs SQL.
    ///
    /// # Errors
    /// Why it could not be run, for people; the database's own words.
    pub async fn run(&self, database: &str, sql: &str) -> Result<(), String> {
        self.with(database, async |client| client.batch_execute(sql).await).await
    }

    /// What is missing in a database; empty if nothing is.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub async fn missing(&self, database: &str) -> Result<Vec<String>, String> {
        let digest = self.settings.key_digest();
        self.with(database, async |client| {
            let there = "SELECT to_regclass('querygate_undo.key') IS NOT NULL AND \
                         has_schema_privilege('querygate_undo', 'USAGE') AND has_table_privilege(to_regclass('querygate_undo.key'), 'SELECT')";
            if !client.query_one(there, &[]).await?.try_get::<_, Option<bool>>(0)?.unwrap_or(false) {
                return Ok(vec![format!(
                    "there is no schema {SCHEMA} of role {}: run what `querygate undo install` prints",
                    self.settings.user
                )]);
            }
            let mut missing = Vec::new();
            let key = "SELECT encode(sha256(inner_key), 'hex') = $1 FROM querygate_undo.key";
            if !client.query_opt(key, &[&digest]).await?.is_some_and(|row| row.get(0)) {
                missing.push("its key is not made of the `secret` in [undo]".to_owned());
            }
            let same = "SELECT obj_description(oid, 'pg_namespace') = $1 FROM pg_namespace WHERE nspname = 'querygate_undo'";
            if client.query_one(same, &[&edition()]).await?.get::<_, Option<bool>>(0) != Some(true) {
                missing.push(format!(
                    "its schema was set up by another version of the gate: once nothing kept is wanted any more, drop schema {SCHEMA}, install it and cover the tables anew"
                ));
            }
            let covered = "SELECT count(*) FROM pg_trigger WHERE tgfoid = 'querygate_undo.capture()'::regprocedure AND tgenabled IN ('O', 'A')";
            if client.query_one(covered, &[]).await?.get::<_, i64>(0) == 0 {
                missing.push("no table is covered: run what `querygate undo cover` prints".to_owned());
            }
            let reached = "SELECT DISTINCT format('%s is not covered, and foreign keys reach it from %s', f.conrelid::regclass, f.confrelid::regclass) \
                FROM pg_constraint f WHERE f.contype = 'f' AND f.conparentid = 0 \
                AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd')) \
                AND EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = f.confrelid AND t.tgfoid = 'querygate_undo.capture()'::regprocedure) \
                AND NOT querygate_undo.covers(f.conrelid) ORDER BY 1";
            missing.extend(client.query(reached, &[]).await?.iter().map(|row| row.get::<_, String>(0)));
            Ok(missing)
        })
        .await
    }

    /// What is kept, a line each, the latest first.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub async fn list(&self, database: &str) -> Result<Vec<String>, String> {
        let sql = "SELECT format('%s  %s  %s', r.request, to_char(r.kept_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"'), \
                CASE WHEN r.state <> 'kept' THEN 'cannot be undone: ' || coalesce(r.why, 'its statement did not end well') \
                     WHEN r.undone_at IS NOT NULL THEN format('undone by %s', r.undone_by) \
                     ELSE format('%s rows of %s, until %s', r.rows, (SELECT string_agg(DISTINCT format('%I.%I', schema_name, table_name), ', ') \
                        FROM querygate_undo.change c WHERE c.request = r.request), to_char(r.kept_until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"')) END) \
            FROM querygate_undo.request r ORDER BY r.kept_at DESC LIMIT 1000";
        self.with(database, async |client| Ok(client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect()))
            .await
    }

    /// Clears away what is past its time, and says how many requests that was.
    ///
    /// # Errors
    /// Why it could not be done.
    pub async fn clear(&self, database: &str) -> Result<u64, String> {
        let sql = format!(
            "DELETE FROM querygate_undo.request WHERE request IN (SELECT request FROM querygate_undo.request \
             WHERE kept_until <= now() ORDER BY kept_until LIMIT {AT_ONCE} FOR UPDATE SKIP LOCKED)"
        );
        self.with(database, async |client| {
            let mut cleared = 0_u64;
            loop {
                let now = client.execute(&sql, &[]).await?;
                cleared = cleared.saturating_add(now);
                if now == 0 {
                    return Ok(cleared);
                }
            }
        })
        .await
    }

    /// What undoing a request would bring back. Conflicts are the prober's to find: this role may not read the tables.
    async fn foretell(&self, database: &str, request: &str) -> Result<Vec<UndoneRows>, String> {
        let sql = "SELECT format('%s.%s', c.schema_name, c.table_name), c.op::text, count(*) \
            FROM querygate_undo.change c JOIN querygate_undo.request r USING (request) \
            WHERE c.request = $1 AND NOT c.undone AND r.state = 'kept' AND r.kept_until > now() GROUP BY 1, 2 ORDER BY 1, 2";
        let read = |row: &tokio_postgres::Row| UndoneRows {
            table: row.get(0),
            action: match row.get(1) {
                "D" => UndoAction::BringBack,
                "U" => UndoAction::SetBack,
                _ => UndoAction::Remove,
            },
            rows: u64::try_from(row.get::<_, i64>(2)).unwrap_or_default(),
            conflicts: Known::Unknown(String::new()),
        };
        self.with(database, async |client| Ok(client.query(sql, &[&request]).await?.iter().map(read).collect())).await
    }

    /// Undos that were committed and are not on record yet, oldest first.
    pub(super) async fn told(&self, database: &str) -> Result<Vec<Told>, String> {
        let sql = "SELECT number, request, (extract(epoch FROM at) * 1000000)::bigint, role, pid, restored, conflicts \
                   FROM querygate_undo.undoing ORDER BY number LIMIT 1000";
        let read = |row: &tokio_postgres::Row| Told {
            number: row.get(0),
            request: row.get(1),
            at: row.get(2),
            role: row.get(3),
            pid: row.get(4),
            restored: row.get(5),
            conflicts: row.get(6),
        };
        self.with(database, async |client| Ok(client.query(sql, &[]).await?.iter().map(read).collect())).await
    }

    /// One of them is on record.
    pub(super) async fn heard(&self, database: &str, number: i64) -> Result<(), String> {
        let sql = "DELETE FROM querygate_undo.undoing WHERE number = $1";
        self.with(database, async |client| client.execute(sql, &[&number]).await.map(|_| ())).await
    }

    async fn with<T>(
        &self,
        database: &str,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, String> {
        let mut config = Config::new();
        config.user(&self.settings.user).dbname(database).application_name("querygate undo").ssl_mode(SslMode::Disable);
        config.options("-c search_path=pg_catalog,pg_temp");
        if let Some(password) = &self.settings.password {
            config.password(password.reveal());
        }
        let asked = async {
            let stream = (self.dial)().await.map_err(|error| format!("the database cannot be reached: {error}"))?;
            let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| said(&error))?;
            let task = tokio::spawn(async move {
                // Its end is seen by whoever asks.
                let _ = connection.await;
            });
            let answer = work(&client).await.map_err(|error| said(&error));
            task.abort();
            answer
        };
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| "the database did not answer in time".to_owned())?
    }
}

/// An undo, as its database tells of it.
pub(super) struct Told {
    /// Names it there.
    pub(super) number: i64,
    /// The request that was undone.
    pub(super) request: String,
    /// Microseconds of the Unix epoch.
    pub(super) at: i64,
    /// Who did it.
    pub(super) role: String,
    /// In which session.
    pub(super) pid: i32,
    /// Rows restored.
    pub(super) restored: i64,
    /// Rows left alone.
    pub(super) conflicts: i64,
}

/// Tells people what a statement that undoes would bring back, besides what the prober finds out.
pub(super) struct Foretelling {
    prober: Arc<Prober>,
    keeper: Keeper,
}

impl Foretelling {
    /// The prober, with that if rows are kept.
    pub(super) fn over(prober: Arc<Prober>, undo: Option<&UndoSettings>, dial: Dial) -> Arc<dyn Examiner> {
        match undo {
            Some(undo) => Arc::new(Self { prober, keeper: Keeper::new(undo.clone(), dial) }),
            None => prober,
        }
    }
}

impl Foretelling {
    /// What would come back, with conflicts as far as the prober may look.
    async fn foresee(&self, database: &str, request: &str) -> Result<Vec<UndoneRows>, String> {
        let foretold = tokio::time::timeout(FORETELLING, self.keeper.foretell(database, request));
        match tokio::join!(self.prober.foresee(database, request), foretold) {
            (Ok(foreseen), _) => Ok(foreseen),
            (Err(why), Ok(Ok(mut rows))) => {
                for rows in &mut rows {
                    rows.conflicts = Known::Unknown(why.clone());
                }
                Ok(rows)
            }
            (Err(_), Ok(Err(why))) => Err(why),
            (Err(_), Err(_)) => Err("the database did not answer in time".to_owned()),
        }
    }
}

impl Examiner for Foretelling {
    fn examine<'a>(&'a self, request: &'a HoldRequest) -> Examining<'a> {
        Box::pin(async move {
            let Some(undone) = undoes(&request.statement.text) else { return self.prober.examine(request).await };
            let database = &request.origin.database;
            let (mut impact, rows) = tokio::join!(self.prober.examine(request), self.foresee(database, undone));
            impact.undo = Some(Undoing { request: undone.to_owned(), rows: rows.into() });
            impact
        })
    }

    fn blocked<'a>(&'a self, database: &'a str, pids: &'a [i32]) -> Looking<'a> {
        self.prober.blocked(database, pids)
    }

    fn patience(&self) -> Option<Duration> {
        self.prober.patience()
    }

    fn changes_beside(&self, shown: &Impact, now: &Impact, own: &Own) -> Vec<String> {
        self.prober.changes_beside(shown, now, own)
    }
}

fn said(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |said| said.message().trim_start_matches("querygate: ").to_owned())
}

/// Clears away while the gate runs, if rows are kept.
pub(super) fn start(settings: &Settings, dial: Dial, stop: &watch::Receiver<bool>) {
    if let Some(undo) = &settings.session.undo {
        tokio::spawn(keep_clear(Keeper::new(undo.clone(), dial), stop.clone()));
    }
}

async fn keep_clear(keeper: Keeper, mut stop: watch::Receiver<bool>) {
    let mut rounds = tokio::time::interval(keeper.settings.clear_interval);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = rounds.tick() => {}
        }
        for database in &keeper.settings.databases {
            match keeper.clear(database).await {
                Ok(0) => {}
                Ok(cleared) => {
                    tracing::info!(%database, cleared, "rows kept for undos were cleared away: their time was up");
                }
                Err(why) => tracing::warn!(%database, "rows kept for undos cannot be cleared away: {why}"),
            }
        }
    }
}
