//! Everybody's functions of one database, and what calls functions unseen: views, rules, policies, defaults, checks, indexes, operators,
//! casts. Reads the catalogue's rows alone, so that no lock of anybody's is in its way. What it finds is weighed in `weigh`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio_postgres::Row;

use super::body::BODY;
use super::connection::Asking;
use super::lookup::cell;
use super::uses::Uses;
use crate::judge::{VALUE_MAKERS, function_danger};

/// One question.
const LIMIT: Duration = Duration::from_secs(5);
/// Functions of one database; where there are more, none is known.
const FUNCTIONS: usize = 20_000;
/// Of everything else, likewise.
const OTHERS: usize = 100_000;
/// `pg_proc` has bodies as trees from this version on.
const TREES: i32 = 140_000;

/// What a database's definitions were at one look. Another mark: something may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

/// What bodies do, by database, oid and version.
pub(super) type Bodies = Cache<(String, u32, String), std::sync::Arc<Uses>>;

/// A function, as the catalogue has it.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns of the catalogue")]
pub(super) struct Function {
    pub(super) oid: u32,
    /// Changes whenever it is redefined.
    pub(super) version: String,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) language: String,
    pub(super) security_definer: bool,
    pub(super) extension: Option<String>,
    pub(super) source: String,
    /// Nobody can call it by name: a trigger's.
    pub(super) uncallable: bool,
    /// It is an aggregate.
    pub(super) aggregate: bool,
    /// It can be called with one argument.
    pub(super) single: bool,
    /// The planner calls it already where its arguments are constants.
    pub(super) immutable: bool,
    /// It may make a value of a type that it is not declared with: an argument is of any type.
    pub(super) polymorphic: bool,
    /// It came with the server.
    pub(super) own: bool,
    /// Its body is a tree, not a text; `Some(true)`: one that does not only select.
    pub(super) tree_writes: Option<bool>,
}

/// Something that calls a function or operator, or reads a relation, without its name in a statement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unseen {
    /// `view`, `rule`, `policy`, `default`, `check`, `domain`, `range`, `index`, `table`, `statistics`, `body`.
    pub(super) kind: String,
    /// Of which relation, type or function.
    pub(super) of: u32,
    /// What is called, read or made: `function`, `operator`, `relation`, `type`.
    pub(super) what: String,
    pub(super) called: u32,
    /// The arguments may be constants: its first is not plainly a column.
    pub(super) folds: bool,
}

/// A cast: the name and oid of the type it is to, its function, and whether it is ever made without being written.
#[derive(Debug, Clone)]
pub(super) struct Cast {
    pub(super) target: String,
    pub(super) oid: u32,
    pub(super) function: u32,
    pub(super) silent: bool,
}

/// A type with values that may call something.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    pub(super) name: String,
    /// What it is a domain over.
    pub(super) base: Option<u32>,
    /// It is a row's.
    pub(super) row: bool,
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) functions: Vec<Function>,
    /// The database is in another encoding than UTF-8.
    pub(super) recodes: bool,
    /// The server's own functions: names, and the names in C of those in its own language.
    pub(super) own: HashMap<u32, (String, String)>,
    /// What aggregates are made of.
    pub(super) aggregates: HashMap<u32, Vec<u32>>,
    /// Oid, name, and each function it may call.
    pub(super) operators: Vec<(u32, String, u32)>,
    pub(super) casts: Vec<Cast>,
    /// Types that a cast which has to be written is to, by oid, and the name of each that is made of one: a cast to that makes it as well.
    pub(super) cast_to: Vec<(u32, String)>,
    /// The server's own functions that may make a value of a type they are not declared with: one argument takes another's.
    pub(super) own_polymorphic: Vec<String>,
    /// Functions that compare and hash values of somebody's types.
    pub(super) support: Vec<u32>,
    pub(super) unseen: Vec<Unseen>,
    /// Schema and name, by oid.
    pub(super) relations: HashMap<u32, (String, String)>,
    /// Partitions and children: child, parent.
    pub(super) inherits: Vec<(u32, u32)>,
    /// Rules that do more than select: of which relation, and their names.
    pub(super) writing_rules: Vec<(u32, String)>,
    /// Foreign keys that change what refers: table referred to, table that refers.
    pub(super) references: Vec<(u32, u32)>,
    /// All foreign keys, likewise: writing to one table asks the other.
    pub(super) foreign: Vec<(u32, u32)>,
    /// Name, by oid; arrays and rows left out.
    pub(super) types: HashMap<u32, String>,
    /// All oids of everybody's types.
    pub(super) type_oids: HashSet<u32>,
    /// Types whose values may call something, by oid.
    pub(super) shapes: HashMap<u32, Shape>,
    /// What these are made of: domains of what they are over, arrays of elements, rows of columns, ranges of bounds.
    pub(super) made_of: Vec<(u32, u32)>,
    /// Their columns: relation, type.
    pub(super) columns: Vec<(u32, u32)>,
}

/// Everything a definition that matters stands in (columns only where somebody has domains, ranges or casts: there are many), by what changes with it. An `UPDATE` of a catalogue by hand is seen as well.
const MARK: &str = "SELECT md5(string_agg(part, ' ')) FROM (\
    SELECT 'p' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || xmin, 0)), 0) FROM pg_proc \
    UNION ALL SELECT 'r' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || xmin, 0)), 0) FROM pg_rewrite \
    UNION ALL SELECT 'y' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || xmin, 0)), 0) FROM pg_policy \
    UNION ALL SELECT 'd' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || xmin, 0)), 0) FROM pg_attrdef \
    UNION ALL SELECT 'k' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || xmin, 0)), 0) FROM pg_constraint WHERE contype IN ('c', 'f', 'x') \
    UNION ALL SELECT 'c' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || xmin, 0)), 0) FROM pg_cast \
    UNION ALL SELECT 'o' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || xmin, 0)), 0) FROM pg_operator \
    UNION ALL SELECT 'm' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || xmin, 0)), 0) FROM pg_amproc \
    UNION ALL SELECT 'w' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || xmin, 0)), 0) FROM pg_amop \
    UNION ALL SELECT 'e' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || xmin, 0)), 0) FROM pg_extension \
    UNION ALL SELECT 'n' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || xmin, 0)), 0) FROM pg_namespace \
    UNION ALL SELECT 'l' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || xmin, 0)), 0) FROM pg_language \
    UNION ALL SELECT 't' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || xmin, 0)), 0) FROM pg_type WHERE oid >= 16384 AND typtype <> 'c' AND typcategory <> 'A' \
    UNION ALL SELECT 'a' || count(*) || '.' || coalesce(sum(hashtextextended(aggfnoid::oid || '.' || xmin, 0)), 0) FROM pg_aggregate \
    UNION ALL SELECT 'i' || count(*) || '.' || coalesce(sum(hashtextextended(indexrelid || '.' || xmin, 0)), 0) FROM pg_index \
        WHERE indexprs IS NOT NULL OR indpred IS NOT NULL \
    UNION ALL SELECT 'z' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || xmin, 0)), 0) FROM pg_statistic_ext \
    UNION ALL SELECT 'b' || count(*) || '.' || coalesce(sum(hashtextextended(attrelid || '.' || attnum || '.' || atttypid, 0)), 0) \
        FROM pg_attribute WHERE atttypid >= 16384 AND EXISTS (SELECT FROM pg_type WHERE oid >= 16384 AND typtype IN ('d', 'r')) \
    UNION ALL SELECT 'x' || count(*) || '.' || coalesce(sum(hashtextextended(attrelid || '.' || attnum || '.' || atttypid, 0)), 0) \
        FROM pg_attribute WHERE attnum > 0 AND attrelid >= 16384 AND EXISTS (SELECT FROM pg_cast k JOIN pg_proc p ON p.oid = k.castfunc \
            WHERE k.oid >= 16384 AND k.castcontext = 'e' AND NOT EXISTS (SELECT FROM pg_depend d WHERE p.prolang = 13 \
                AND d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')) \
    UNION ALL SELECT 'h' || count(*) || '.' || coalesce(sum(hashtextextended(inhrelid || '.' || inhparent, 0)), 0) FROM pg_inherits \
    UNION ALL SELECT 's' || count(*) || '.' || coalesce(sum(hashtextextended(oid || '.' || relnamespace || '.' || relname, 0)), 0) FROM pg_class \
        WHERE oid >= 16384 AND relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND relpersistence <> 't') AS parts(part)";

/// What is there; `None`: as at the look that `known` is the mark of.
pub(super) async fn of(asking: &Asking, known: Option<&Mark>) -> Result<Option<(Mark, Found)>, String> {
    let rows = asking.ask(LIMIT, MARK, &[]).await?;
    let mark = Mark(rows.first().map_or(Err("no answer".to_owned()), |row| cell(row, 0))?);
    if known == Some(&mark) {
        return Ok(None);
    }
    let mut found = Found { functions: functions(asking).await?, own: own(asking).await?, ..Found::default() };
    for row in all(asking, RECODES).await? {
        found.recodes = cell(&row, 0)?;
    }
    for row in all(asking, AGGREGATES).await? {
        found.aggregates.insert(cell(&row, 0)?, cell(&row, 1)?);
    }
    for row in all(asking, OPERATORS).await? {
        found.operators.push((cell(&row, 0)?, cell(&row, 1)?, cell(&row, 2)?));
    }
    for row in all(asking, CASTS).await? {
        let (target, oid) = (cell(&row, 0)?, cell(&row, 3)?);
        found.casts.push(Cast { target, oid, function: cell(&row, 1)?, silent: cell(&row, 2)? });
    }
    cast_to(asking, &mut found).await?;
    for row in all(asking, OWN_POLYMORPHIC).await? {
        found.own_polymorphic.push(cell(&row, 0)?);
    }
    for row in all(asking, SUPPORT).await? {
        found.support.push(cell(&row, 0)?);
    }
    found.unseen = unseen(asking, &found.own).await?;
    types(asking, &mut found).await?;
    found.unseen.sort_unstable();
    for row in all(asking, RULES).await? {
        found.writing_rules.push((cell(&row, 0)?, cell(&row, 1)?));
    }
    relations(asking, &mut found).await?;
    Ok(Some((mark, found)))
}

/// What is made of the types that casts which have to be written are to. Those that an extension wrote in C are harmless.
async fn cast_to(asking: &Asking, found: &mut Found) -> Result<(), String> {
    let in_c = |function: &&Function| function.language == "c" && function.extension.is_some();
    let in_c: HashSet<u32> = found.functions.iter().filter(in_c).map(|function| function.oid).collect();
    let written = found.casts.iter().filter(|cast| !cast.silent && !in_c.contains(&cast.function));
    let targets: Vec<u32> = written.map(|cast| cast.oid).collect();
    if targets.is_empty() {
        return Ok(());
    }
    for row in within(asking.ask(LIMIT, &format!("{CAST_TO} LIMIT {OTHERS} + 1"), &[&targets]).await?)? {
        found.cast_to.push((cell(&row, 0)?, cell(&row, 1)?));
    }
    found.cast_to.sort_unstable();
    Ok(())
}

/// Types that may call something, as far as anybody's constraint, default or range does, and what makes values of them unseen.
async fn types(asking: &Asking, found: &mut Found) -> Result<(), String> {
    for row in all(asking, TYPES).await? {
        found.types.insert(cell(&row, 0)?, cell(&row, 1)?);
    }
    for row in all(asking, "SELECT oid FROM pg_type WHERE oid >= 16384").await? {
        found.type_oids.insert(cell(&row, 0)?);
    }
    let calls = found.unseen.iter().filter(|unseen| matches!(unseen.kind.as_str(), "domain" | "range"));
    let calls: Vec<u32> = calls.map(|unseen| unseen.of).collect();
    if calls.is_empty() {
        return Ok(());
    }
    for row in within(asking.ask(LIMIT, &format!("{MADE_OF} LIMIT {OTHERS} + 1"), &[&calls]).await?)? {
        found.made_of.push((cell(&row, 0)?, cell(&row, 1)?));
    }
    found.made_of.sort_unstable();
    let made = found.made_of.iter().map(|(of, _)| *of);
    let oids: Vec<u32> = calls.iter().copied().chain(made).collect();
    let sql = "SELECT oid, typname::text, nullif(typbasetype, 0::oid), typtype = 'c' FROM pg_type WHERE oid = ANY($1)";
    for row in asking.ask(LIMIT, sql, &[&oids]).await? {
        found.shapes.insert(cell(&row, 0)?, Shape { name: cell(&row, 1)?, base: cell(&row, 2)?, row: cell(&row, 3)? });
    }
    for row in within(asking.ask(LIMIT, &format!("{COLUMNS} LIMIT {OTHERS} + 1"), &[&oids]).await?)? {
        found.columns.push((cell(&row, 0)?, cell(&row, 1)?));
    }
    found.columns.sort_unstable();
    let sites = sites(asking).await?;
    let sql = format!(
        "WITH site(kind, \"of\", class, object, tree) AS ({sites}) SELECT DISTINCT s.kind, s.of, 'type', d.refobjid, true \
         FROM site s JOIN pg_depend d ON d.classid = s.class AND d.objid = s.object \
         WHERE d.refclassid = 'pg_type'::regclass AND d.refobjid = ANY($1) AND d.deptype IN ('n', 'a') \
         AND s.kind NOT IN ('domain', 'range') \
         UNION SELECT 'body', a.aggfnoid::oid, 'type', t.oid, true FROM pg_aggregate a JOIN pg_type t ON t.oid IN (a.aggtranstype, a.aggmtranstype) \
         WHERE t.oid = ANY($1) LIMIT {OTHERS} + 1"
    );
    for row in within(asking.ask(LIMIT, &sql, &[&oids]).await?)? {
        found.unseen.push(found_unseen(&row)?);
    }
    Ok(())
}

/// How the relations that call something hang together, and their names.
async fn relations(asking: &Asking, found: &mut Found) -> Result<(), String> {
    let unseen = found.unseen.iter().flat_map(|unseen| [unseen.of, unseen.called]);
    let mut wanted: Vec<u32> = unseen.chain(found.columns.iter().map(|(relation, _)| *relation)).collect();
    wanted.extend(found.writing_rules.iter().map(|(relation, _)| *relation));
    if wanted.is_empty() {
        return Ok(());
    }
    found.inherits = pairs(asking, INHERITS).await?;
    found.references = pairs(asking, REFERENCES).await?;
    found.foreign = pairs(asking, FOREIGN).await?;
    for list in [&mut found.inherits, &mut found.references, &mut found.foreign] {
        list.sort_unstable();
    }
    let others = found.inherits.iter().chain(&found.foreign);
    wanted.extend(others.flat_map(|(one, other)| [*one, *other]));
    let sql = "SELECT c.oid, n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.oid = ANY($1)";
    for row in asking.ask(LIMIT, sql, &[&wanted]).await? {
        found.relations.insert(cell(&row, 0)?, (cell(&row, 1)?, cell(&row, 2)?));
    }
    Ok(())
}

/// `SQL_ASCII` converts nothing.
const RECODES: &str = "SELECT pg_encoding_to_char(encoding) NOT IN ('UTF8', 'SQL_ASCII') FROM pg_database WHERE datname = current_database()";
const AGGREGATES: &str = "SELECT aggfnoid::oid, ARRAY[aggtransfn, aggfinalfn, aggcombinefn, aggserialfn, aggdeserialfn, aggmtransfn, \
    aggminvtransfn, aggmfinalfn]::oid[] FROM pg_aggregate WHERE aggfnoid::oid >= 16384";
/// Each with its own function, and those of its negator and commutators, which the planner may call instead (`negate_clause`, `CommuteOpExpr`).
const OPERATORS: &str = "SELECT DISTINCT o.oid, o.oprname::text, f.function FROM pg_operator o \
    LEFT JOIN pg_operator n ON n.oid = o.oprnegate LEFT JOIN pg_operator c ON c.oid = o.oprcom LEFT JOIN pg_operator x ON x.oid = n.oprcom \
    CROSS JOIN LATERAL (VALUES (o.oprcode::oid), (n.oprcode::oid), (c.oprcode::oid), (x.oprcode::oid)) f(function) \
    WHERE f.function <> 0 AND (o.oid >= 16384 OR o.oprnegate >= 16384 OR o.oprcom >= 16384)";
/// What compares and hashes values of somebody's types: sorting, grouping, indexes and ANALYZE call it by no name.
const SUPPORT: &str = "SELECT amproc::oid FROM pg_amproc WHERE oid >= 16384 \
    UNION SELECT o.oprcode::oid FROM pg_amop m JOIN pg_operator o ON o.oid = m.amopopr WHERE m.oid >= 16384";
/// `to_json` and its like make the cast to json (114) without its being written, if there is one (`json_categorize_type`).
const CASTS: &str = "SELECT t.typname::text, k.castfunc, k.castcontext <> 'e' OR k.casttarget IN (114, 3802), k.casttarget \
    FROM pg_cast k JOIN pg_type t ON t.oid = k.casttarget WHERE k.oid >= 16384 AND k.castfunc <> 0";
/// A cast to a domain, array or row makes those to what it is over or made of.
const CAST_TO: &str = "WITH RECURSIVE edge(\"of\", part) AS (\
    SELECT oid, typbasetype FROM pg_type WHERE typbasetype <> 0 \
    UNION ALL SELECT oid, typelem FROM pg_type WHERE typelem <> 0 AND typcategory = 'A' \
    UNION ALL SELECT c.reltype, a.atttypid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE a.attnum > 0 AND c.reltype <> 0), \
    made(\"of\", target) AS (SELECT unnest($1::oid[]), unnest($1::oid[]) UNION SELECT e.of, m.target FROM edge e JOIN made m ON e.part = m.of) \
    SELECT DISTINCT m.target, t.typname::text FROM made m JOIN pg_type t ON t.oid = m.of WHERE m.of <> m.target";
/// `anyelement` and `anynonarray` by their oids: what is written without a type becomes a value of the other argument's.
const OWN_POLYMORPHIC: &str = "SELECT DISTINCT proname::text FROM pg_proc WHERE oid < 16384 \
    AND (SELECT count(*) FROM unnest(proargtypes) a WHERE a IN (2283, 2776)) > 1";
/// A command other than SELECT (`CMD_SELECT` in nodes.h) at any depth.
const RULES: &str = "SELECT ev_class, rulename::text FROM pg_rewrite WHERE ev_type <> '1' AND oid >= 16384 \
    AND ev_action::text ~ ':commandType ([^1 ]|1[0-9])' ORDER BY 1, 2";
const REFERENCES: &str = "SELECT DISTINCT confrelid, conrelid FROM pg_constraint WHERE contype = 'f' \
    AND (confupdtype IN ('c', 'n', 'd') OR confdeltype IN ('c', 'n', 'd'))";
const FOREIGN: &str = "SELECT DISTINCT confrelid, conrelid FROM pg_constraint WHERE contype = 'f'";
const INHERITS: &str = "SELECT inhrelid, inhparent FROM pg_inherits";
const TYPES: &str =
    "SELECT oid, typname::text FROM pg_type WHERE oid >= 16384 AND typtype <> 'c' AND typcategory <> 'A'";
/// Every type with values that contain, or are made by way of, values of the given ones: with what it is made of.
const MADE_OF: &str = "WITH RECURSIVE edge(\"of\", part) AS (\
    SELECT objid, refobjid FROM pg_depend WHERE classid = 'pg_type'::regclass AND refclassid = 'pg_type'::regclass \
    UNION ALL SELECT oid, typbasetype FROM pg_type WHERE typbasetype >= 16384 \
    UNION ALL SELECT oid, typelem FROM pg_type WHERE typelem >= 16384 \
    UNION ALL SELECT rngtypid, rngsubtype FROM pg_range WHERE rngsubtype >= 16384 \
    UNION ALL SELECT k.contypid, d.refobjid FROM pg_constraint k JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass \
        AND d.objid = k.oid AND d.refclassid = 'pg_type'::regclass AND d.refobjid <> k.contypid WHERE k.contypid <> 0 \
    UNION ALL SELECT c.reltype, a.atttypid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
        WHERE a.atttypid >= 16384 AND a.attnum > 0 AND c.reltype <> 0), \
    risky(\"of\", part) AS (SELECT unnest($1::oid[]), 0::oid UNION SELECT e.of, e.part FROM edge e JOIN risky r ON e.part = r.of) \
    SELECT r.of, r.part FROM risky r WHERE r.part <> 0";
const COLUMNS: &str = "SELECT DISTINCT a.attrelid, a.atttypid FROM pg_attribute a \
    JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'f', 'v', 'm') WHERE a.atttypid = ANY($1) AND a.attnum > 0";

async fn all(asking: &Asking, sql: &str) -> Result<Vec<Row>, String> {
    within(asking.ask(LIMIT, &format!("{sql} LIMIT {OTHERS} + 1"), &[]).await?)
}

/// Fail closed: what is cut off would be taken for harmless.
fn within(rows: Vec<Row>) -> Result<Vec<Row>, String> {
    if rows.len() > OTHERS {
        return Err(format!("there are more than {OTHERS} definitions of one kind"));
    }
    Ok(rows)
}

async fn pairs(asking: &Asking, sql: &str) -> Result<Vec<(u32, u32)>, String> {
    all(asking, sql).await?.iter().map(|row| Ok((cell(row, 0)?, cell(row, 1)?))).collect()
}

async fn has_trees(asking: &Asking) -> Result<bool, String> {
    let rows = asking.ask(LIMIT, "SELECT current_setting('server_version_num')::int4", &[]).await?;
    let version: i32 = rows.first().map_or(Err("no answer".to_owned()), |row| cell(row, 0))?;
    Ok(version >= TREES)
}

/// `anyelement`, `anyarray`, `anyrange`, `anycompatible` … and `record`, by their oids.
const ANY: &str = "2249, 2277, 2283, 2776, 3500, 3831, 4537, 4538, 5077, 5078, 5079, 5080";

async fn functions(asking: &Asking) -> Result<Vec<Function>, String> {
    // A command other than SELECT (`CMD_SELECT` in nodes.h) at any depth of the tree.
    let tree = if has_trees(asking).await? {
        "CASE WHEN p.prosqlbody IS NOT NULL THEN p.prosqlbody::text ~ ':commandType ([^1 ]|1[0-9])' END"
    } else {
        "NULL::bool"
    };
    let sql = format!(
        "SELECT p.oid, p.xmin::text, n.nspname::text, p.proname::text, l.lanname::text, p.prosecdef, e.extname::text, \
         left(p.prosrc, {BODY} + 1), p.prorettype IN (2279, 3838), p.prokind = 'a', \
         p.pronargs >= 1 AND p.pronargs - p.pronargdefaults <= 1, p.oid < 16384, {tree}, p.provolatile = 'i', p.proargtypes::oid[] && ARRAY[{ANY}]::oid[] \
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang \
         LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' \
         LEFT JOIN pg_extension e ON e.oid = d.refobjid \
         WHERE p.oid >= 16384 OR n.nspname <> 'pg_catalog' LIMIT {FUNCTIONS} + 1"
    );
    let rows = asking.ask(LIMIT, &sql, &[]).await?;
    if rows.len() > FUNCTIONS {
        return Err(format!("there are more than {FUNCTIONS} functions"));
    }
    rows.iter().map(function).collect()
}

fn function(row: &Row) -> Result<Function, String> {
    Ok(Function {
        oid: cell(row, 0)?,
        version: cell(row, 1)?,
        schema: cell(row, 2)?,
        name: cell(row, 3)?,
        language: cell(row, 4)?,
        security_definer: cell(row, 5)?,
        extension: cell(row, 6)?,
        source: cell(row, 7)?,
        uncallable: cell(row, 8)?,
        aggregate: cell(row, 9)?,
        single: cell(row, 10)?,
        own: cell(row, 11)?,
        tree_writes: cell(row, 12)?,
        immutable: cell(row, 13)?,
        polymorphic: cell(row, 14)?,
    })
}

/// The server's own, in `pg_catalog`.
async fn own(asking: &Asking) -> Result<HashMap<u32, (String, String)>, String> {
    let sql = "SELECT p.oid, p.proname::text, CASE WHEN l.lanname = 'internal' THEN p.prosrc ELSE '' END FROM pg_proc p \
        JOIN pg_language l ON l.oid = p.prolang JOIN pg_namespace n ON n.oid = p.pronamespace \
        WHERE p.oid < 16384 AND n.nspname = 'pg_catalog'";
    all(asking, sql).await?.iter().map(|row| Ok((cell(row, 0)?, (cell(row, 1)?, cell(row, 2)?)))).collect()
}

/// Everybody's definitions that call something: by what the catalogue says they depend on; and the server's own functions, on which nothing
/// is said to depend, by the trees themselves.
async fn unseen(asking: &Asking, own: &HashMap<u32, (String, String)>) -> Result<Vec<Unseen>, String> {
    let oids = |wanted: &dyn Fn(&str) -> bool| {
        let oids = own.iter().filter(|(_, (name, _))| wanted(name)).map(|(oid, _)| oid.to_string());
        format!(":(?:funcid|opfuncid|aggfnoid|winfnoid) ({}) ", oids.collect::<Vec<_>>().join("|"))
    };
    let dangerous = oids(&|name| function_danger(None, name).is_some());
    let makers = oids(&|name| VALUE_MAKERS.contains(&name));
    let sites = sites(asking).await?;
    let sql = format!(
        "WITH site(kind, \"of\", class, object, tree) AS ({sites}) \
         SELECT s.kind, s.of, CASE d.refclassid WHEN 'pg_proc'::regclass THEN 'function' \
         WHEN 'pg_operator'::regclass THEN 'operator' ELSE 'relation' END, d.refobjid, \
         s.kind IN ('index', 'statistics', 'table', 'check') AND s.tree ~ (':(funcid|opno) ' || d.refobjid || ' (?![^{{}}]*:args \\(\\{{VAR )') \
         FROM site s JOIN pg_depend d ON d.classid = s.class AND d.objid = s.object \
         WHERE d.refobjid >= 16384 AND d.deptype IN ('n', 'a') AND (d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) \
         OR d.refclassid = 'pg_class'::regclass AND s.kind IN ('view', 'rule', 'policy', 'body') AND d.refobjid <> s.of) \
         UNION SELECT s.kind, s.of, 'function', substring(s.tree from p.pattern)::oid, false \
         FROM site s, (VALUES ($1), ($2)) p(pattern) WHERE s.object >= 16384 AND s.tree ~ p.pattern LIMIT {OTHERS} + 1"
    );
    within(asking.ask(LIMIT, &sql, &[&dangerous, &makers]).await?)?.iter().map(found_unseen).collect()
}

fn found_unseen(row: &Row) -> Result<Unseen, String> {
    Ok(Unseen {
        kind: cell(row, 0)?,
        of: cell(row, 1)?,
        what: cell(row, 2)?,
        called: cell(row, 3)?,
        folds: cell(row, 4)?,
    })
}

/// [`SITES`] of a server of this version.
async fn sites(asking: &Asking) -> Result<String, String> {
    let (statistics, body) = if has_trees(asking).await? {
        ("coalesce(x.stxexprs::text, '')", "coalesce(p.prosqlbody::text, '')")
    } else {
        ("''", "''")
    };
    Ok(format!(
        "{SITES} UNION ALL SELECT 'statistics', x.stxrelid, 'pg_statistic_ext'::regclass, x.oid, {statistics} FROM pg_statistic_ext x \
         UNION ALL SELECT 'body', p.oid, 'pg_proc'::regclass, p.oid, coalesce(p.proargdefaults::text, '') || {body} FROM pg_proc p \
         WHERE p.oid >= 16384"
    ))
}

/// Where something may be called unseen: kind, of what, the object that depends, and its tree. A materialized view runs only when it is
/// refreshed. (Functions depend on what their arguments' defaults call, and on the types of their arguments and results.)
const SITES: &str = "SELECT CASE WHEN w.ev_type = '1' THEN 'view' ELSE 'rule' END, w.ev_class, 'pg_rewrite'::regclass::oid, w.oid, \
        w.ev_action::text || w.ev_qual::text FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class AND c.relkind <> 'm' \
    UNION ALL SELECT 'policy', y.polrelid, 'pg_policy'::regclass, y.oid, coalesce(y.polqual::text, '') || coalesce(y.polwithcheck::text, '') \
        FROM pg_policy y \
    UNION ALL SELECT 'default', a.adrelid, 'pg_attrdef'::regclass, a.oid, a.adbin::text FROM pg_attrdef a \
    UNION ALL SELECT CASE WHEN k.contypid <> 0 THEN 'domain' ELSE 'check' END, CASE WHEN k.contypid <> 0 THEN k.contypid ELSE k.conrelid END, \
        'pg_constraint'::regclass, k.oid, k.conbin::text FROM pg_constraint k WHERE k.contype IN ('c', 'x') \
    UNION ALL SELECT 'index', i.indrelid, 'pg_class'::regclass, i.indexrelid, coalesce(i.indexprs::text, '') || coalesce(i.indpred::text, '') \
        FROM pg_index i WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL \
    UNION ALL SELECT 'table', p.partrelid, 'pg_class'::regclass, p.partrelid, p.partexprs::text FROM pg_partitioned_table p \
        WHERE p.partexprs IS NOT NULL \
    UNION ALL SELECT CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'range' END, t.oid, 'pg_type'::regclass, t.oid, coalesce(t.typdefaultbin::text, '') \
        FROM pg_type t WHERE t.oid >= 16384 AND t.typtype IN ('d', 'r')";
