//! Whether names can only mean what the server itself brings, and whether it only computes. Reads the catalogue only.
//! Everything here fails closed: what is not surely harmless is refused, with a clause that says what it was.

use tokio_postgres::Row;

use super::catalogue::{Path, QUICK, TREE, UNREADABLE};
use super::connection::Asking;
use super::harmless::Names;
use crate::judge::function_danger;

/// The server's own objects have smaller oids (`FirstNormalObjectId` in transam.h).
const OWN: &str = "16384";

/// Answers depend on who asks, or on which session: the prober would answer for itself.
const SESSION_DEPENDENT: &[&str] = &[
    "current_setting",
    "current_schema",
    "current_schemas",
    "current_user",
    "session_user",
    "current_query",
    "row_security_active",
    "inet_client_addr",
    "inet_client_port",
    "inet_server_addr",
    "inet_server_port",
    "txid_current",
    "txid_current_if_assigned",
    "getdatabaseencoding",
];

/// Families of the server's functions that run text, look names up by the prober's `search_path`, or look at the server.
const REFUSED_PREFIXES: &[&str] = &["pg_", "has_", "to_reg", "lo_", "binary_upgrade_", "regclass"];
const REFUSED_PARTS: &[&str] = &["_to_xml", "ts_rewrite", "ts_stat", "dblink"];

fn is_refused(name: &str) -> bool {
    SESSION_DEPENDENT.contains(&name)
        || REFUSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || REFUSED_PARTS.iter().any(|part| name.contains(part))
        || function_danger(None, name).is_some()
}

/// Functions. Yields whether any of them depends on more than its arguments: on the clock, or on settings.
pub(super) async fn functions(asking: &Asking, path: &Path, names: &Names) -> Result<bool, String> {
    for name in names.functions.union(&names.own_functions) {
        if is_refused(name) {
            return Err(format!("it calls {name}()"));
        }
    }
    let (all, unqualified): (Vec<&str>, Vec<&str>) = (
        names.functions.union(&names.own_functions).map(String::as_str).collect(),
        names.functions.iter().map(String::as_str).collect(),
    );
    if all.is_empty() {
        return Ok(false);
    }
    let sql = format!(
        "SELECT asked.name, count(p.oid) FILTER (WHERE p.own), bool_or(p.own AND p.provolatile = 'v'), \
         min(p.nspname || '.' || p.proname) FILTER (WHERE NOT p.own AND asked.name = ANY($2)), \
         bool_or(p.own AND p.provolatile <> 'i') \
         FROM unnest($1::text[]) AS asked(name) LEFT JOIN (SELECT p.oid, p.proname, p.provolatile, n.nspname, \
           n.nspname = 'pg_catalog' AND p.oid < {OWN} AND l.lanname IN ('internal', 'c', 'sql') AS own \
           FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang \
           WHERE n.nspname = ANY($3)) AS p ON p.proname = asked.name GROUP BY asked.name"
    );
    let rows = asking.ask(QUICK, &sql, &[&all, &unqualified, &path.schemas]).await?;
    if rows.len() != all.len() {
        return Err(UNREADABLE.to_owned());
    }
    let mut shifting = false;
    for row in &rows {
        let name: String = cell(row, 0)?;
        let (own, volatile, other): (i64, Option<bool>, Option<String>) = (cell(row, 1)?, cell(row, 2)?, cell(row, 3)?);
        match (other, own, volatile.unwrap_or_default()) {
            (Some(other), _, _) => return Err(format!("it calls {name}(), which may be {other}()")),
            (None, 0, _) => return Err(format!("it calls {name}(), which is not one of the server's own functions")),
            (None, _, true) => return Err(format!("it calls {name}(), which is volatile")),
            (None, _, false) => shifting |= cell::<Option<bool>>(row, 4)?.unwrap_or_default(),
        }
    }
    Ok(shifting)
}

/// Types of casts.
pub(super) async fn types(asking: &Asking, path: &Path, names: &Names) -> Result<(), String> {
    let all: Vec<&str> = names.types.union(&names.own_types).map(String::as_str).collect();
    let unqualified: Vec<&str> = names.types.iter().map(String::as_str).collect();
    if all.is_empty() {
        return Ok(());
    }
    // `pg_catalog` is searched first, so a type of the server's own is what the session means; but for types of somebody's temporary schema,
    // which is searched before that (`TypenameGetTypidExtended`). Whose does not matter: it is nobody's usual name.
    let sql = format!(
        "SELECT asked.name FROM unnest($1::text[]) AS asked(name) WHERE asked.name LIKE 'reg%' OR NOT EXISTS (SELECT FROM pg_type t \
         WHERE t.typname = asked.name AND t.typnamespace = 'pg_catalog'::regnamespace AND t.oid < {OWN} AND t.typtype IN ('b', 'r', 'm')) \
         OR (asked.name = ANY($2) AND EXISTS (SELECT FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace \
           WHERE t.typname = asked.name AND n.nspname LIKE 'pg\\_temp\\_%'))"
    );
    debug_assert!(path.schemas.first().is_some_and(|first| first == "pg_catalog"), "checked when the path was read");
    let rows = asking.ask(QUICK, &sql, &[&all, &unqualified]).await?;
    match rows.first() {
        None => Ok(()),
        Some(row) => {
            Err(format!("it casts to {}, which is not one of the server's own types", cell::<String>(row, 0)?))
        }
    }
}

/// Columns `a` of a table `c` that names may refer to: those of a name in `$2`, all if `$3` or if whole rows may be meant. `m.to_jsonb`
/// (`$4`) is a call with the whole row of `m`, unless that has such a column.
pub(super) const NAMED: &str = "(a.attname = ANY($2) OR $3 OR c.relname = ANY($2) \
     OR EXISTS (SELECT FROM pg_proc p WHERE p.proname = ANY($4) AND p.pronamespace = 'pg_catalog'::regnamespace))";

/// Types, not the server's own, of columns the names may refer to. Enums and domains over the server's own types are compared by
/// the server's own operators; others are refused, and so are domains whose constraints rest on anything of anybody's own: whatever
/// makes a value of the domain (`jsonb_populate_record`) checks them.
pub(super) async fn column_types(asking: &Asking, names: &Names, tables: &[u32]) -> Result<Vec<u32>, String> {
    let (columns, all, dotted) = names.columns_meant();
    let sql = format!(
        "SELECT DISTINCT a.attname::text, t.oid, format_type(t.oid, NULL), \
         t.typtype = 'e' OR (t.typtype = 'd' AND t.typbasetype < {OWN}), \
         EXISTS (SELECT FROM pg_constraint k JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid \
           WHERE k.contypid = t.oid AND d.refobjid >= {OWN} AND (d.refclassid, d.refobjid) <> ('pg_type'::regclass, t.oid)) \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_class c ON c.oid = a.attrelid \
         WHERE a.attrelid = ANY($1) AND NOT a.attisdropped AND t.oid >= {OWN} AND {NAMED}"
    );
    let rows = asking.ask(QUICK, &sql, &[&tables, &columns, &all, &dotted]).await?;
    let mut types = Vec::new();
    for row in &rows {
        if !cell::<bool>(row, 3)? {
            let (column, of): (String, String) = (cell(row, 0)?, cell(row, 2)?);
            return Err(format!("column {column} is of type {of}, which is not one of the server's own"));
        }
        if cell::<bool>(row, 4)? {
            let (column, of): (String, String) = (cell(row, 0)?, cell(row, 2)?);
            return Err(format!(
                "column {column} is of the domain {of}, whose constraints are not the server's own alone"
            ));
        }
        types.push(cell(row, 1)?);
    }
    Ok(types)
}

/// Casts. Those in the catalogue have no schema, and implicit ones are not written: none of anybody's own may lead between the
/// types that are in play, the rows of the tables included.
pub(super) async fn casts(asking: &Asking, foreign: &[u32], tables: &[u32]) -> Result<(), String> {
    let sql = format!(
        "WITH playing(oid) AS (SELECT unnest($1::oid[]) UNION SELECT reltype FROM pg_class WHERE pg_class.oid = ANY($2)) \
         SELECT format_type(k.castsource, NULL), format_type(k.casttarget, NULL), p.proname::text \
         FROM pg_cast k JOIN pg_proc p ON p.oid = k.castfunc JOIN pg_language l ON l.oid = p.prolang \
         WHERE p.oid >= {OWN} AND l.lanname NOT IN ('internal', 'c') \
         AND (k.castsource < {OWN} OR k.castsource IN (SELECT oid FROM playing)) \
         AND (k.casttarget < {OWN} OR k.casttarget IN (SELECT oid FROM playing)) LIMIT 1"
    );
    let rows = asking.ask(QUICK, &sql, &[&foreign, &tables]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (from, to, function): (String, String, String) = (cell(row, 0)?, cell(row, 1)?, cell(row, 2)?);
    Err(format!("a cast from {from} to {to} calls {function}()"))
}

/// Operators. One of somebody's own counts if it could be meant: not if it needs an operand of a type that nothing here has
/// and that no cast of the server's types leads to.
pub(super) async fn operators(asking: &Asking, path: &Path, names: &Names, foreign: &[u32]) -> Result<(), String> {
    let operators: Vec<&str> = names.operators.iter().map(String::as_str).collect();
    if operators.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SELECT o.oprname::text, n.nspname::text FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace \
         WHERE o.oprname = ANY($1) AND n.nspname = ANY($2) AND o.oid >= {OWN} AND NOT EXISTS ( \
           SELECT FROM unnest(ARRAY[o.oprleft, o.oprright]) AS operand(oid) \
           WHERE operand.oid >= {OWN} AND operand.oid <> ALL($3) AND NOT EXISTS (SELECT FROM pg_cast k \
             WHERE k.casttarget = operand.oid AND k.castcontext = 'i' AND k.castsource < {OWN})) LIMIT 1"
    );
    let rows = asking.ask(QUICK, &sql, &[&operators, &path.schemas, &foreign]).await?;
    match rows.first() {
        None => Ok(()),
        Some(row) => {
            let (name, schema): (String, String) = (cell(row, 0)?, cell(row, 1)?);
            Err(format!("it uses the operator {name}, which schema {schema} defines as well"))
        }
    }
}

/// Planning a query over a table evaluates what is constant in its index expressions, constraints and statistics
/// (`get_relation_info` in plancat.c), so those may hold nobody's code either.
pub(super) async fn table_is_quiet(asking: &Asking, oid: u32, children: bool) -> Result<(), String> {
    let sql = format!(
        "{TREE}, owned(classid, objid) AS (SELECT 'pg_class'::regclass::oid, oid FROM tree \
         UNION ALL SELECT 'pg_class'::regclass, indexrelid FROM pg_index JOIN tree ON indrelid = tree.oid \
         UNION ALL SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c JOIN tree ON c.conrelid = tree.oid \
         UNION ALL SELECT 'pg_attrdef'::regclass, d.oid FROM pg_attrdef d JOIN tree ON d.adrelid = tree.oid \
           JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum AND a.attgenerated <> '' \
         UNION ALL SELECT 'pg_rewrite'::regclass, w.oid FROM pg_rewrite w JOIN tree ON w.ev_class = tree.oid WHERE w.ev_type = '1' \
         UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid FROM pg_statistic_ext s JOIN tree ON s.stxrelid = tree.oid), \
         code(classid, objid, proc) AS (SELECT 'pg_proc'::regclass::oid, oid, oid FROM pg_proc \
           UNION ALL SELECT 'pg_operator'::regclass, oid, oprcode FROM pg_operator WHERE oid >= {OWN}) \
         SELECT pg_describe_object(o.classid, o.objid, 0) || ' calls ' || p.proname || '()' FROM owned o \
         JOIN pg_depend d ON d.classid = o.classid AND d.objid = o.objid \
         JOIN code ON code.classid = d.refclassid AND code.objid = d.refobjid \
         JOIN pg_proc p ON p.oid = code.proc JOIN pg_language l ON l.oid = p.prolang \
         WHERE p.oid >= {OWN} AND l.lanname NOT IN ('internal', 'c') \
         UNION ALL SELECT 'a part of it is a foreign table' FROM tree JOIN pg_class c USING (oid) WHERE c.relkind NOT IN ('r', 'p', 'm', 'v') \
         LIMIT 1"
    );
    let rows = asking.ask(QUICK, &sql, &[&oid, &children]).await?;
    match rows.first() {
        None => Ok(()),
        Some(row) => Err(cell(row, 0)?),
    }
}

/// One column of a row.
pub(super) fn cell<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, String> {
    row.try_get(at).map_err(|_| UNREADABLE.to_owned())
}
