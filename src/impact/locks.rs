//! Locks the session's transaction holds, and who waits for it.

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
    let waiting = "SELECT pid, usename::text, application_name, \
                   extract(epoch FROM clock_timestamp() - coalesce(query_start, state_change))::int8 \
                   FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND $1 = ANY(pg_blocking_pids(pid)) \
                   ORDER BY query_start LIMIT $2";
    let rows = asking.ask(QUICK, waiting, &[&pid, &limit]).await?;
    let waiting = rows
        .iter()
        .map(|row| {
            let seconds: Option<i64> = cell(row, 3)?;
            Ok(Waiting {
                pid: cell(row, 0)?,
                user: cell(row, 1)?,
                application: cell(row, 2)?,
                seconds: seconds.and_then(|seconds| u64::try_from(seconds).ok()),
            })
        })
        .collect::<Result<_, String>>()?;
    Ok(SessionLocks { held, waiting })
}
