//! Locks the session's transaction holds, and who waits for it.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use super::catalogue::{self, QUICK};
use super::connection::Asking;
use super::lookup::cell;
use super::report::{SessionLocks, Waiting};

/// What backend `pid` holds up. Catalogue tables are left out: everybody locks them, weakly and for a moment.
pub(super) async fn of(asking: &Asking, pid: i32, listed: usize) -> Result<SessionLocks, String> {
    let limit = i64::try_from(listed).unwrap_or(i64::MAX);
    let held = "SELECT l.mode || ' on ' || coalesce(n.nspname || '.' || c.relname, l.relation::text) FROM pg_locks l \
                LEFT JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_namespace n ON n.oid = c.relnamespace \
                WHERE l.pid = $1 AND l.granted AND l.locktype = 'relation' \
                AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                AND n.nspname IS DISTINCT FROM 'pg_catalog' AND c.relkind NOT IN ('i', 'I') \
                ORDER BY l.mode LIKE 'Access%Excl%' DESC, l.mode LIKE '%Exclusive%' DESC, 1 LIMIT $2";
    let held = catalogue::texts(asking, held, &[&pid, &limit]).await?;
    let sql = "SELECT pid, usename::text, application_name, \
                   extract(epoch FROM clock_timestamp() - coalesce(query_start, state_change))::int8 \
                   FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND $1 = ANY(pg_blocking_pids(pid)) \
                   ORDER BY query_start LIMIT $2";
    let rows = asking.ask(QUICK, sql, &[&pid, &limit]).await?;
    let waiting = rows.iter().map(|row| waiting(row, 0)).collect::<Result<_, String>>()?;
    Ok(SessionLocks { held, waiting })
}

/// Who waits now for locks that any of the backends `pids` holds.
pub(super) async fn blocked_by(asking: &Asking, pids: &[i32]) -> Result<BTreeMap<i32, Vec<Waiting>>, String> {
    let sql = "SELECT b.pid, a.pid, a.usename::text, a.application_name, \
               extract(epoch FROM clock_timestamp() - coalesce(a.query_start, a.state_change))::int8 \
               FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS b(pid) \
               WHERE a.wait_event_type = 'Lock' AND b.pid = ANY($1) ORDER BY a.query_start LIMIT $2";
    let mut blocked: BTreeMap<i32, Vec<Waiting>> = BTreeMap::new();
    for row in asking.ask(QUICK, sql, &[&pids, &BLOCKED]).await? {
        blocked.entry(cell(&row, 0)?).or_default().push(waiting(&row, 1)?);
    }
    Ok(blocked)
}

/// Waiting sessions of one look.
const BLOCKED: i64 = 1000;

/// A row's process id, user, application and seconds, from the column `first`.
fn waiting(row: &Row, first: usize) -> Result<Waiting, String> {
    let at = |offset: usize| first.saturating_add(offset);
    let seconds: Option<i64> = cell(row, at(3))?;
    Ok(Waiting {
        pid: cell(row, at(0))?,
        user: cell(row, at(1))?,
        application: cell(row, at(2))?,
        seconds: seconds.and_then(|seconds| u64::try_from(seconds).ok()),
    })
}
