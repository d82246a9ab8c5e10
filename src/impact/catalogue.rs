//! What names mean to the session, and what the catalogue says about the tables they name. Reads the catalogue only; the
//! tables' rows are not its business.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::connection::Asking;
use super::harmless::{Names, Written, display};
use super::report::{Kin, Known, Resolved, TableFacts, Trigger};
use crate::judge::{has_doubtful_names, reads_names_alike};

/// A question about the catalogue is quick, or something is wrong.
pub(super) const QUICK: Duration = Duration::from_millis(500);

/// How the session finds names.
#[derive(Debug, Clone, Default)]
pub(super) struct Path {
    /// Schemas in order, `pg_catalog` where it is searched.
    pub(super) schemas: Vec<String>,
    /// The session's role, if it exists.
    pub(super) role: Option<String>,
    /// Number of the session's temporary schema (`pg_temp_3`), if it can be told.
    pub(super) temporary: Option<String>,
    /// The path was not reported but assumed.
    pub(super) assumed: bool,
}

/// A relation as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// `pg_class.relkind`.
    pub(super) kind: char,
}

impl Relation {
    pub(super) fn resolved(&self) -> Resolved {
        let kind = match self.kind {
            'r' => "table",
            'p' => "partitioned table",
            'v' => "view",
            'm' => "materialized view",
            'f' => "foreign table",
            'i' | 'I' => "index",
            'S' => "sequence",
            'c' => "composite type",
            't' => "TOAST table",
            _ => "relation",
        };
        Resolved { oid: self.oid, schema: self.schema.clone(), name: self.name.clone(), kind: kind.to_owned() }
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.kind, 'r' | 'p')
    }
}

/// Finds out how the session finds names.
pub(super) async fn path(
    asking: &Asking,
    reported: Option<&str>,
    role: Option<&str>,
    pid: Option<i32>,
) -> Result<Path, String> {
    let mut path = Path::default();
    if let Some(role) = role {
        let rows = asking.ask(QUICK, "SELECT FROM pg_roles WHERE rolname = $1", &[&role]).await?;
        path.role = rows.first().map(|_| role.to_owned());
    }
    let text = if let Some(reported) = reported {
        reported.to_owned()
    } else {
        path.assumed = true;
        configured(asking, role).await?
    };
    // It is no statement, but its names are cut and folded in the same way.
    names_are_certain(asking, &text).await?;
    path.schemas = search_path(&text, role).ok_or("the session's search_path cannot be read")?;
    if !path.schemas.iter().any(|schema| schema == "pg_catalog") {
        path.schemas.insert(0, "pg_catalog".to_owned());
    } else if path.schemas.first().is_none_or(|first| first != "pg_catalog") {
        return Err("the session's search_path puts other schemas before pg_catalog".to_owned());
    }
    if let Some(pid) = pid {
        // While it is in a transaction, the number of its backend shows in its virtual transaction id (lmgr/README), and its
        // temporary schema has that number (namespace.c).
        let sql = "SELECT split_part(virtualtransaction, '/', 1) FROM pg_locks \
                   WHERE pid = $1 AND locktype = 'virtualxid' AND granted LIMIT 1";
        let rows = asking.ask(QUICK, sql, &[&pid]).await?;
        path.temporary = rows.first().and_then(|row| row.try_get::<_, String>(0).ok()).map(|n| format!("pg_temp_{n}"));
    }
    Ok(path)
}

/// The `search_path` a session of this role begins with (`process_settings` in postinit.c: role in database, role, database).
async fn configured(asking: &Asking, role: Option<&str>) -> Result<String, String> {
    let sql = "SELECT substr(setting, 13) FROM pg_db_role_setting s, unnest(s.setconfig) AS setting \
               WHERE setting LIKE 'search\\_path=%' \
               AND s.setrole IN (0, coalesce((SELECT oid FROM pg_roles WHERE rolname = $1), 0)) \
               AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
               ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1";
    let rows = asking.ask(QUICK, sql, &[&role]).await?;
    let found = rows.first().and_then(|row| row.try_get::<_, String>(0).ok());
    Ok(found.unwrap_or_else(|| "\"$user\", public".to_owned()))
}

/// The schemas of a `search_path` as SHOW prints it (`SplitIdentifierString` in varlena.c). `None`: it cannot be read.
fn search_path(text: &str, role: Option<&str>) -> Option<Vec<String>> {
    let mut schemas = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = identifier(rest)?;
        match (name.as_str(), role) {
            ("$user", Some(role)) => schemas.push(role.to_owned()),
            // Not known whose: there may be no such schema, or one that changes everything.
            ("$user", None) => return None,
            // Searched first unless written; what is in it is looked at separately.
            ("pg_temp" | "", _) => (),
            _ => schemas.push(name),
        }
        rest = match after.trim_start().strip_prefix(',') {
            Some(rest) if !rest.trim().is_empty() => rest.trim_start(),
            None if after.trim().is_empty() => "",
            _ => return None,
        };
    }
    Some(schemas)
}

fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(inside) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(end)?;
        return Some((name.to_ascii_lowercase(), rest));
    };
    let mut name = String::new();
    let mut characters = inside.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        match (c, characters.peek()) {
            ('"', Some((_, '"'))) => {
                name.push('"');
                characters.next();
            }
            ('"', _) => return Some((name, inside.get(at.checked_add(1)?..)?)),
            (c, _) => name.push(c),
        }
    }
    None
}

/// Makes sure that the names in `text` are to the server what they are here.
pub(super) async fn names_are_certain(asking: &Asking, text: &str) -> Result<(), String> {
    if !has_doubtful_names(text) {
        return Ok(());
    }
    let rows = asking.ask(QUICK, "SELECT current_setting('server_encoding')", &[]).await?;
    let encoding: Option<String> = rows.first().and_then(|row| row.try_get(0).ok());
    if reads_names_alike(encoding.as_deref(), text) {
        return Ok(());
    }
    let encoding = encoding.unwrap_or_default();
    Err(format!("names in it may be others to a database in {encoding}"))
}

/// What a relation's name means to the session.
pub(super) async fn relation(asking: &Asking, path: &Path, written: &Written) -> Result<Relation, String> {
    let (schema, name) = written;
    let temporary = schema.as_ref().is_none_or(|schema| schema == "pg_temp");
    if temporary {
        let sql = "SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE c.relname = $1 AND n.nspname ~ '^pg_temp_[0-9]+$' AND ($2::text IS NULL OR n.nspname = $2) LIMIT 1";
        let rows = asking.ask(QUICK, sql, &[name, &path.temporary]).await?;
        if !rows.is_empty() {
            return Err(if path.temporary.is_some() {
                format!("{name} is a temporary table of the session, whose rows nobody else sees")
            } else {
                format!("there is a temporary table {name}, which may be the session's")
            });
        }
    }
    let schemas = schema.as_ref().map_or_else(|| path.schemas.clone(), |schema| vec![schema.clone()]);
    let sql = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text \
               FROM unnest($1::text[]) WITH ORDINALITY AS p(schema, place) \
               JOIN pg_namespace n ON n.nspname = p.schema JOIN pg_class c ON c.relnamespace = n.oid \
               WHERE c.relname = $2 AND ($3::text IS NULL OR has_schema_privilege($3::name, n.oid, 'USAGE')) \
               ORDER BY p.place LIMIT 1";
    let rows = asking.ask(QUICK, sql, &[&schemas, name, &path.role]).await?;
    let row = rows.first().ok_or_else(|| format!("the session finds no {}", display(written)))?;
    let read = || -> Result<Relation, tokio_postgres::Error> {
        let kind: String = row.try_get(3)?;
        Ok(Relation {
            oid: row.try_get(0)?,
            schema: row.try_get(1)?,
            name: row.try_get(2)?,
            kind: kind.chars().next().unwrap_or(' '),
        })
    };
    read().map_err(|_| UNREADABLE.to_owned())
}

/// An answer that is not of the shape that was asked for.
pub(super) const UNREADABLE: &str = "the catalogue's answer could not be read";

/// `tree(oid)`: a table and, where `$2`, everything that inherits from it.
pub(super) const TREE: &str = "WITH RECURSIVE tree(oid) AS (SELECT $1::oid UNION \
     SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON t.oid = i.inhparent WHERE $2::bool) ";

/// Size and use of a table with its children.
pub(super) async fn facts(asking: &Asking, relation: &Relation, children: bool) -> Result<TableFacts, String> {
    let stamp = |column: &str| format!("to_char(max({column}) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')");
    let sql = format!(
        "{TREE} SELECT sum(c.reltuples) FILTER (WHERE c.relkind <> 'p' AND (c.reltuples > 0 OR c.relpages > 0))::float8, count(*) - 1, \
         {}, {}, {}, sum(coalesce(s.seq_scan, 0) + coalesce(s.idx_scan, 0))::int8, bool_or(c.relrowsecurity) \
         FROM tree JOIN pg_class c USING (oid) LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid",
        stamp("greatest(s.last_vacuum, s.last_autovacuum)"),
        stamp("greatest(s.last_analyze, s.last_autoanalyze)"),
        // Columns of Postgres 16.
        stamp(
            "greatest((to_jsonb(s) ->> 'last_seq_scan')::timestamptz, (to_jsonb(s) ->> 'last_idx_scan')::timestamptz)"
        ),
    );
    let rows = asking.ask(QUICK, &sql, &[&relation.oid, &children]).await?;
    let row = rows.first().ok_or(UNREADABLE)?;
    let read = || -> Result<TableFacts, tokio_postgres::Error> {
        let (children, scans): (i64, Option<i64>) = (row.try_get(1)?, row.try_get(5)?);
        Ok(TableFacts {
            bytes: Known::Unknown(String::new()),
            reltuples: row.try_get(0)?,
            children: u64::try_from(children).unwrap_or_default(),
            last_vacuum: row.try_get(2)?,
            last_analyze: row.try_get(3)?,
            last_use: row.try_get(4)?,
            scans: scans.and_then(|scans| u64::try_from(scans).ok()),
            row_security: row.try_get::<_, Option<bool>>(6)?.unwrap_or_default(),
        })
    };
    let mut facts = read().map_err(|_| UNREADABLE.to_owned())?;
    facts.bytes = bytes(asking, relation, children).await.into();
    Ok(facts)
}

/// Whether Postgres refuses to change a view by an event (`1 << CmdType`): it is not simple, and has no trigger or rule instead.
pub(super) async fn is_fixed(asking: &Asking, view: &Relation, event: i32) -> Result<bool, String> {
    let sql = "SELECT pg_relation_is_updatable($1::oid::regclass, true) & $2 = 0";
    let rows = asking.ask(QUICK, sql, &[&view.oid, &event]).await?;
    rows.first().and_then(|row| row.try_get(0).ok()).ok_or_else(|| UNREADABLE.to_owned())
}

/// What the tables of a schema are: how many, bytes, rows by the last ANALYZE.
pub(super) async fn schema_facts(asking: &Asking, schema: u32) -> Result<(i64, i64, f64), String> {
    let sql = "SELECT count(*), coalesce(sum(pg_total_relation_size(oid)), 0)::int8, coalesce(sum(greatest(reltuples, 0)), 0)::float8 \
               FROM pg_class WHERE relnamespace = $1 AND relkind IN ('r', 'm')";
    let rows = asking.ask(QUICK, sql, &[&schema]).await?;
    let row = rows.first().ok_or(UNREADABLE)?;
    let read = || -> Result<_, tokio_postgres::Error> { Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)) };
    read().map_err(|_| UNREADABLE.to_owned())
}

/// Partitions and children of these tables, and what they are partitions or children of.
pub(super) async fn kin(asking: &Asking, tables: &BTreeSet<u32>) -> Result<Vec<Kin>, String> {
    const MOST: i64 = 10_000;
    let sql = "WITH RECURSIVE up(of, oid) AS (SELECT o, o FROM unnest($1::oid[]) o UNION \
               SELECT up.of, i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.oid), \
               down(of, oid) AS (SELECT o, o FROM unnest($1::oid[]) o UNION \
               SELECT down.of, i.inhrelid FROM down JOIN pg_inherits i ON i.inhparent = down.oid) \
               SELECT k.of, n.nspname::text, c.relname::text FROM (SELECT * FROM up UNION SELECT * FROM down) k \
               JOIN pg_class c ON c.oid = k.oid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE k.of <> k.oid LIMIT $2";
    let tables: Vec<u32> = tables.iter().copied().collect();
    let rows = asking.ask(QUICK, sql, &[&tables, &MOST]).await?;
    if i64::try_from(rows.len()).is_ok_and(|rows| rows >= MOST) {
        return Err("there are too many".to_owned());
    }
    let read = |row: &tokio_postgres::Row| -> Result<Kin, tokio_postgres::Error> {
        Ok(Kin { of: row.try_get(0)?, schema: row.try_get(1)?, name: row.try_get(2)? })
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|_| UNREADABLE.to_owned())
}

async fn bytes(asking: &Asking, relation: &Relation, children: bool) -> Result<u64, String> {
    let sql = format!("{TREE} SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::int8 FROM tree");
    let rows = asking.ask(QUICK, &sql, &[&relation.oid, &children]).await?;
    let bytes: i64 = rows.first().and_then(|row| row.try_get(0).ok()).ok_or(UNREADABLE)?;
    Ok(u64::try_from(bytes).unwrap_or_default())
}

/// Triggers an action would fire; `events` are bits of `tgtype` (`pg_trigger.h`).
pub(super) async fn triggers(
    asking: &Asking,
    relation: &Relation,
    events: i16,
    limit: i64,
) -> Result<Vec<Trigger>, String> {
    let sql = format!(
        "{TREE} SELECT DISTINCT t.tgname::text, CASE WHEN t.tgtype & 64 <> 0 THEN 'INSTEAD OF' WHEN t.tgtype & 2 <> 0 THEN 'BEFORE' \
         ELSE 'AFTER' END || CASE WHEN t.tgtype & 1 <> 0 THEN ' ROW' ELSE ' STATEMENT' END, \
         n.nspname || '.' || p.proname FROM tree JOIN pg_trigger t ON t.tgrelid = tree.oid \
         JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace \
         WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & $3::int2 <> 0 \
         AND (tree.oid = $1 OR t.tgtype & 1 <> 0) ORDER BY 1 LIMIT $4"
    );
    let rows = asking.ask(QUICK, &sql, &[&relation.oid, &true, &events, &limit]).await?;
    let read = |row: &tokio_postgres::Row| -> Result<Trigger, tokio_postgres::Error> {
        Ok(Trigger { name: row.try_get(0)?, when: row.try_get(1)?, function: row.try_get(2)? })
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|_| UNREADABLE.to_owned())
}

/// Rewrite rules an action would meet; `event` is `pg_rewrite.ev_type`.
pub(super) async fn rules(asking: &Asking, relation: &Relation, event: &str) -> Result<Vec<String>, String> {
    let sql = "SELECT rulename || CASE WHEN is_instead THEN ' (INSTEAD: it replaces the statement)' ELSE ' (also)' END \
               FROM pg_rewrite WHERE ev_class = $1 AND ev_type::text = $2 AND ev_enabled <> 'D' ORDER BY 1 LIMIT 16";
    texts(asking, sql, &[&relation.oid, &event]).await
}

/// A list of texts.
pub(super) async fn texts(asking: &Asking, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<String>, String> {
    let rows = asking.ask(QUICK, sql, values).await?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(|_| UNREADABLE.to_owned())
}

/// Whether `role` may read every one of these tables with nothing hidden from it. An unknown role may not.
pub(super) async fn may_read(asking: &Asking, role: Option<&str>, tables: &BTreeSet<u32>) -> Result<bool, String> {
    let Some(role) = role else { return Ok(false) };
    let tables: Vec<u32> = tables.iter().copied().collect();
    let sql = "SELECT coalesce(bool_and(has_table_privilege($1::name, c.oid, 'SELECT') \
               AND has_schema_privilege($1::name, c.relnamespace, 'USAGE') \
               AND (NOT c.relrowsecurity OR r.rolbypassrls OR r.rolsuper)), false) \
               FROM pg_class c, pg_roles r WHERE c.oid = ANY($2) AND r.rolname = $1";
    let rows = asking.ask(QUICK, sql, &[&role, &tables]).await?;
    rows.first().and_then(|row| row.try_get(0).ok()).ok_or_else(|| UNREADABLE.to_owned())
}

/// Every function, operator and type the names can mean to the session is the server's own and does nothing but compute. Yields whether
/// what they compute depends on more than the rows ([`Names::shifting`]).
pub(super) async fn harmless_names(
    asking: &Asking,
    path: &Path,
    names: &Names,
    tables: &[u32],
) -> Result<bool, String> {
    let shifting = super::lookup::functions(asking, path, names).await?;
    super::lookup::types(asking, path, names).await?;
    let foreign = super::lookup::column_types(asking, names, tables).await?;
    super::lookup::casts(asking, &foreign, tables).await?;
    super::lookup::operators(asking, path, names, &foreign).await?;
    Ok(shifting || names.shifting || super::steady::shifts(asking, names, tables).await?)
}

/// Whether row security of a table may hide rows from `role`, which the prober sees (`check_enable_rls` in rls.c). An unknown role is
/// bound by it.
pub(super) async fn is_hiding(asking: &Asking, table: u32, role: Option<&str>) -> Result<bool, String> {
    let sql = "SELECT c.relrowsecurity AND NOT coalesce((SELECT r.rolbypassrls OR r.rolsuper \
               OR (pg_has_role(r.oid, c.relowner, 'USAGE') AND NOT c.relforcerowsecurity) FROM pg_roles r WHERE r.rolname = $2), false) \
               FROM pg_class c WHERE c.oid = $1";
    let rows = asking.ask(QUICK, sql, &[&table, &role]).await?;
    rows.first().and_then(|row| row.try_get(0).ok()).ok_or_else(|| UNREADABLE.to_owned())
}
