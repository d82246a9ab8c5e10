//! What the catalogue says about functions a statement calls: how they are declared, and whether their bodies can write.

use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

use super::body;
use super::catalogue::{self, QUICK};
use super::connection::Asking;
use super::lookup::cell;
use super::report::Known;
use crate::judge::{ObjectName, function_danger};

/// Names of one question.
const NAMES: usize = 64;
/// Overloads of one name.
const OVERLOADS: i64 = 64;

/// A function the session may mean. A name has several where it is overloaded: which one is called depends on types, so the
/// worst counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionFacts {
    /// Its oid.
    pub oid: u32,
    /// Changes whenever it is redefined (the `xmin` of its row in `pg_proc`).
    pub version: String,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its arguments' types.
    pub arguments: String,
    /// `immutable`, `stable` or `volatile`, as declared.
    pub volatility: String,
    /// Its language.
    pub language: String,
    /// It runs with its owner's privileges.
    pub security_definer: bool,
    /// The extension it came with.
    pub extension: Option<String>,
    /// It is one of the server's own.
    pub own: bool,
    /// Why it can write; known and `None`: it cannot, as far as its text shows. What it calls by operators, casts, views and triggers is not
    /// looked at.
    pub writes: Known<Option<String>>,
}

/// A name, and what it can mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionLookup {
    /// As written.
    pub name: ObjectName,
    /// What the session may mean by it; empty: nothing that can be seen.
    pub found: Vec<FunctionFacts>,
}

impl FunctionLookup {
    /// It was found, and no function of the name can write.
    pub fn only_reads(&self) -> bool {
        !self.found.is_empty() && self.found.iter().all(|facts| facts.writes == Known::Known(None))
    }
}

/// Answers about bodies, by database, oid and version.
pub(super) type Bodies = Cache<(String, u32, String), Known<Option<String>>>;

/// Looks names up in the session's path.
pub(super) async fn of(
    asking: &Asking,
    database: &str,
    path: &catalogue::Path,
    names: &[ObjectName],
    bodies: &Bodies,
) -> Result<Vec<FunctionLookup>, String> {
    if names.len() > NAMES {
        return Err(format!("it calls more than {NAMES} functions"));
    }
    let sql = format!(
        "SELECT p.oid, p.xmin::text, n.nspname::text, p.proname::text, pg_get_function_identity_arguments(p.oid), \
         CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END, l.lanname::text, p.prosecdef, \
         e.extname::text, p.oid < 16384 AND n.nspname = 'pg_catalog', left(p.prosrc, {limit}), \
         CASE WHEN p.prosrc = '' AND l.lanname = 'sql' THEN left(pg_get_function_sqlbody(p.oid), {limit}) END \
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang \
         LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' \
         LEFT JOIN pg_extension e ON e.oid = d.refobjid \
         WHERE p.proname = $1 AND n.nspname = ANY($2) ORDER BY array_position($2, n.nspname::text), p.oid LIMIT {OVERLOADS} + 1",
        limit = body::BODY + 1,
    );
    // Before Postgres 14 there are no such bodies.
    let version = asking.ask(QUICK, "SELECT current_setting('server_version_num')::int4", &[]).await?;
    let version: i32 = version.first().map_or(Ok(0), |row| cell(row, 0))?;
    let sql = if version < 140_000 { sql.replace("pg_get_function_sqlbody(p.oid)", "''") } else { sql };
    let mut lookups = Vec::new();
    for name in names {
        let schemas = name.schema.as_ref().map_or_else(|| path.schemas.clone(), |schema| vec![schema.clone()]);
        let rows = asking.ask(QUICK, &sql, &[&name.name, &schemas]).await?;
        if i64::try_from(rows.len()).unwrap_or(i64::MAX) > OVERLOADS {
            return Err(format!("there are more than {OVERLOADS} functions {name}"));
        }
        let found = rows.iter().map(|row| facts(row, database, bodies)).collect::<Result<_, _>>()?;
        lookups.push(FunctionLookup { name: name.clone(), found });
    }
    Ok(lookups)
}

fn facts(row: &tokio_postgres::Row, database: &str, bodies: &Bodies) -> Result<FunctionFacts, String> {
    let (source, standard): (String, Option<String>) = (cell(row, 10)?, cell(row, 11)?);
    let mut facts = FunctionFacts {
        oid: cell(row, 0)?,
        version: cell(row, 1)?,
        schema: cell(row, 2)?,
        name: cell(row, 3)?,
        arguments: cell(row, 4)?,
        volatility: cell(row, 5)?,
        language: cell(row, 6)?,
        security_definer: cell(row, 7)?,
        extension: cell(row, 8)?,
        own: cell(row, 9)?,
        writes: Known::Unknown(String::new()),
    };
    let key = (database.to_owned(), facts.oid, facts.version.clone());
    facts.writes = bodies.get(&key).unwrap_or_else(|| {
        let writes = judge(&facts, &source, standard.as_deref());
        bodies.insert(key, writes.clone());
        writes
    });
    Ok(facts)
}

fn judge(facts: &FunctionFacts, source: &str, standard: Option<&str>) -> Known<Option<String>> {
    if let Some(kind) = function_danger(Some(&facts.schema), &facts.name) {
        return Known::Known(Some(format!("{} is known to do more than read ({kind})", facts.name)));
    }
    if facts.own {
        return Known::Known(None);
    }
    if source.len().max(standard.map_or(0, str::len)) > body::BODY {
        return Known::Unknown("its body is too long".to_owned());
    }
    match (facts.language.as_str(), standard) {
        ("sql", Some(standard)) => body::standard_sql(standard),
        ("sql", None) => body::sql(source),
        ("plpgsql", _) => body::plpgsql(source),
        (language, _) => Known::Unknown(format!("it is written in {language}")),
    }
}
