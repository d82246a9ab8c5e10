//! What depends on objects that are dropped, by `pg_depend`, and how objects that are no relations are found.

use tokio_postgres::Row;

use super::alter::{Dropped, Part};
use super::catalogue::{self, Path, QUICK, TREE};
use super::connection::{Asking, quoted};
use super::harmless::display;
use super::lookup::cell;
use super::report::{Definition, Dependents, ObjectImpact, Resolved};
use super::statement::{Outline, Sort, Target};

/// What is dropped: catalogue, oid, and number of the column, or 0.
pub(super) type Root = (&'static str, u32, i32);

/// The objects of a DROP that were found.
pub(super) fn roots(objects: &[ObjectImpact], outline: &Outline) -> Vec<Root> {
    let catalogue = |sort: &Sort| match sort {
        Sort::Relation => Some("pg_class"),
        Sort::Function(_) => Some("pg_proc"),
        Sort::Type => Some("pg_type"),
        Sort::Schema => Some("pg_namespace"),
        Sort::Other => None,
    };
    let found = objects.iter().zip(&outline.targets);
    found.filter_map(|(object, target)| Some((catalogue(&target.sort)?, object.resolved.known()?.oid, 0))).collect()
}

/// Columns and constraints of a table that an ALTER drops, and its children's of that name.
pub(super) async fn parts(
    asking: &Asking,
    table: u32,
    children: bool,
    parts: &[&Dropped],
) -> Result<Vec<Root>, String> {
    let mut roots: Vec<Root> = Vec::new();
    for dropped in parts {
        let (catalogue, sql) = match dropped.part {
            Part::Column => (
                "pg_class",
                "SELECT a.attrelid, a.attnum::int4 FROM tree JOIN pg_attribute a ON a.attrelid = tree.oid \
                 WHERE a.attname = $3 AND NOT a.attisdropped",
            ),
            Part::Constraint => (
                "pg_constraint",
                "SELECT c.oid, 0 FROM tree JOIN pg_constraint c ON c.conrelid = tree.oid WHERE c.conname = $3",
            ),
            Part::Attribute => return Err("tables of that type change along".to_owned()),
        };
        let rows = asking.ask(QUICK, &format!("{TREE} {sql}"), &[&table, &children, &dropped.name]).await?;
        if rows.is_empty() && !dropped.missing_ok {
            return Err(format!("there is no {}", dropped.name));
        }
        for row in &rows {
            roots.push((catalogue, cell(row, 0)?, cell(row, 1)?));
        }
    }
    Ok(roots)
}

fn separate(roots: &[Root]) -> (Vec<&'static str>, Vec<u32>, Vec<i32>) {
    let catalogues = roots.iter().map(|(catalogue, _, _)| *catalogue).collect();
    (catalogues, roots.iter().map(|(_, oid, _)| *oid).collect(), roots.iter().map(|(_, _, column)| *column).collect())
}

/// Everything that goes with the roots only if CASCADE is written. What goes silently (indexes, own constraints, row types) is not
/// listed; a view stands for its rule.
pub(super) async fn of(asking: &Asking, roots: &[Root], cascade: bool, listed: usize) -> Result<Dependents, String> {
    if roots.is_empty() {
        return Err("nothing of what is dropped was found".to_owned());
    }
    let (catalogues, oids, columns) = separate(roots);
    let sql = format!(
        "{GONE} SELECT DISTINCT pg_describe_object(g.classid, g.objid, g.objsubid) FROM gone g WHERE {ASKED} ORDER BY 1 LIMIT $3"
    );
    let limit = i64::try_from(listed).unwrap_or(i64::MAX).saturating_add(1);
    let mut found = catalogue::texts(asking, &sql, &[&catalogues, &oids, &limit, &columns]).await?;
    let more = found.len() > listed;
    found.truncate(listed);
    Ok(Dependents { listed: found, more, cascade })
}

/// What goes along with the roots by CASCADE, as parts of what the statement rests on: another one is a difference.
pub(super) async fn along(asking: &Asking, roots: &[Root]) -> Result<Vec<(String, Definition)>, String> {
    let (catalogues, oids, columns) = separate(roots);
    let sql = format!(
        "{GONE} SELECT DISTINCT pg_describe_object(g.classid, g.objid, g.objsubid), coalesce(c.relname::text, i.name, ''), \
         concat_ws(' ', g.classid, g.objid, g.objsubid) FROM gone g \
         CROSS JOIN LATERAL pg_identify_object(g.classid, g.objid, g.objsubid) AS i \
         LEFT JOIN pg_class c ON g.classid = 'pg_class'::regclass AND c.oid = g.objid WHERE {ASKED} LIMIT $3"
    );
    let limit = i64::try_from(ALONG).unwrap_or(i64::MAX).saturating_add(1);
    let rows = asking.ask(QUICK, &sql, &[&catalogues, &oids, &limit, &columns]).await?;
    if rows.len() > ALONG {
        return Err(format!("there are more than {ALONG}"));
    }
    let one = |row: &Row| {
        let (of, subject, hash): (String, String, String) = (cell(row, 0)?, cell(row, 1)?, cell(row, 2)?);
        Ok((format!("dependent {of}"), Definition { subject, hash }))
    };
    rows.iter().map(one).collect()
}

/// Dependents that are compared at release.
const ALONG: usize = 1000;

/// `gone(…)`: all that goes with the roots; `asked`: only if CASCADE is written.
const GONE: &str = "WITH RECURSIVE gone(classid, objid, objsubid, asked) AS ( \
        SELECT r.class::regclass::oid, r.objid, r.part, false FROM unnest($1::text[], $2::oid[], $4::int4[]) AS r(class, objid, part) \
        UNION SELECT x.classid, x.objid, x.objsubid, g.asked OR d.deptype = 'n' FROM gone g \
        JOIN pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid AND (g.objsubid = 0 OR d.refobjsubid = g.objsubid) \
        LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid AND w.rulename = '_RETURN' \
        CROSS JOIN LATERAL (SELECT CASE WHEN w.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass::oid END, \
          coalesce(w.ev_class, d.objid), CASE WHEN w.oid IS NULL THEN d.objsubid ELSE 0 END) AS x(classid, objid, objsubid) \
        WHERE d.deptype IN ('n', 'a', 'i', 'P', 'S'))";

/// Of these what goes by CASCADE alone, and not silently with something else.
const ASKED: &str = "g.classid <> 'pg_rewrite'::regclass \
        AND NOT EXISTS (SELECT FROM gone o WHERE NOT o.asked AND (o.classid, o.objid) = (g.classid, g.objid) \
          AND o.objsubid IN (0, g.objsubid)) \
        AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = g.classid AND i.objid = g.objid AND i.deptype IN ('i', 'a') \
          AND (i.refclassid, i.refobjid) IN (SELECT classid, objid FROM gone WHERE asked))";

/// What forbids to drop the roots by themselves, with or without CASCADE: the column of an identity sequence, the constraint of an index
/// (`findDependentObjects` in dependency.c).
pub(super) async fn required_by(asking: &Asking, roots: &[Root]) -> Result<Vec<String>, String> {
    let (catalogues, oids, _) = separate(roots);
    let sql = "WITH root(classid, objid) AS (SELECT r.class::regclass::oid, r.objid FROM unnest($1::text[], $2::oid[]) AS r(class, objid)) \
        SELECT DISTINCT 'it fails, because ' || pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) || ' requires ' || \
          pg_describe_object(d.classid, d.objid, 0) FROM root r JOIN pg_depend d ON d.classid = r.classid AND d.objid = r.objid \
        WHERE d.deptype IN ('i', 'P', 'S', 'e') AND (d.refclassid, d.refobjid) NOT IN (SELECT classid, objid FROM root) ORDER BY 1 LIMIT 4";
    catalogue::texts(asking, sql, &[&catalogues, &oids]).await
}

/// A function, type or schema as the session finds it.
pub(super) async fn find(asking: &Asking, path: &Path, target: &Target) -> Result<Resolved, String> {
    let (schema, name) = &target.written;
    let schemas = schema.as_ref().map_or_else(|| path.schemas.clone(), |schema| vec![schema.clone()]);
    let (sql, kind) = match &target.sort {
        Sort::Schema => {
            ("SELECT oid, '' FROM pg_namespace WHERE nspname = $1 AND $2::text[] IS NOT NULL LIMIT 2", "schema")
        }
        Sort::Type => (
            "SELECT t.oid, n.nspname::text FROM unnest($2::text[]) WITH ORDINALITY AS p(schema, place) \
             JOIN pg_namespace n ON n.nspname = p.schema JOIN pg_type t ON t.typnamespace = n.oid AND t.typname = $1 \
             ORDER BY p.place LIMIT 1",
            "type",
        ),
        Sort::Function(None) => (
            "SELECT f.oid, n.nspname::text FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace \
             WHERE f.proname = $1 AND n.nspname = ANY($2::text[]) LIMIT 2",
            "function",
        ),
        Sort::Function(Some(arguments)) => return by_arguments(asking, &schemas, name, arguments).await,
        Sort::Relation | Sort::Other => return Err("it is not looked up".to_owned()),
    };
    let rows = asking.ask(QUICK, sql, &[name, &schemas]).await?;
    match rows.as_slice() {
        [row] => Ok(Resolved { oid: cell(row, 0)?, schema: cell(row, 1)?, name: name.clone(), kind: kind.to_owned() }),
        [] => Err(format!("the session finds no {}", display(&target.written))),
        _ => Err(format!("there are several functions {}", display(&target.written))),
    }
}

async fn by_arguments(asking: &Asking, schemas: &[String], name: &str, arguments: &str) -> Result<Resolved, String> {
    for schema in schemas {
        let signature = format!("{}.{}({arguments})", quoted(schema), quoted(name));
        let sql = "SELECT to_regprocedure($1)::oid";
        let rows = asking.ask(QUICK, sql, &[&signature]).await?;
        if let Some(oid) = rows.first().map_or(Ok(None), |row| cell::<Option<u32>>(row, 0))? {
            return Ok(Resolved { oid, schema: schema.clone(), name: name.to_owned(), kind: "function".to_owned() });
        }
    }
    Err(format!("the session finds no {name}({arguments})"))
}
