//! A hash over the definitions a statement rests on: equal as long as nothing was redefined. Rows, statistics, privileges and
//! plain indexes are no part of it.
//!
//! Tables are those that were found as the session finds them, where the statement could be walked; otherwise, and for functions always,
//! every name that stands in the text counts, in whatever schema the session may mean. The same goes for the bodies of functions that are
//! a text, and of those that these call: Postgres does not say what a body names, so its words are taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::catalogue::Path;
use super::connection::Asking;
use super::lookup::cell;
use super::report::Definition;
use super::words;

/// Definitions take longer to print than names to find.
const LIMIT: Duration = Duration::from_secs(1);
/// Relations one fingerprint covers, partitions and tables behind views included.
const RELATIONS: i64 = 512;
/// Functions whose bodies are read for one fingerprint.
const BODIES: usize = 256;
/// Bytes of them.
const BODY_BYTES: usize = 1 << 20;
/// Functions that call functions, so often.
const ROUNDS: usize = 8;
/// Languages whose bodies hold the names of what they call, if they do not make them up.
const READ: [&str; 2] = ["sql", "plpgsql"];

/// What a fingerprint is taken of.
pub(super) struct Rests<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    /// What was found that it touches or reads.
    pub(super) relations: &'a BTreeSet<u32>,
    /// Its operators, if all of the statement could be walked: then its relations are all found. `None`: by the words of the text.
    pub(super) operators: Option<&'a BTreeSet<String>>,
}

/// `reach(oid)`: the relations, what inherits from them, and what views among them read.
const REACH: &str = "WITH RECURSIVE reach(oid) AS (SELECT unnest($1::oid[]) UNION SELECT x.oid FROM reach r CROSS JOIN LATERAL ( \
    SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = r.oid \
    UNION ALL SELECT d.refobjid FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid \
    WHERE w.ev_class = r.oid AND d.refclassid = 'pg_class'::regclass) AS x(oid)) ";

/// `code(classid, objid)`: functions and operators of anybody's own that any of it calls, and what these call as far as the server
/// knows: a body that is a text is not looked into.
const CODE: &str = ", code(classid, objid) AS (SELECT s.classid, s.objid FROM ( \
      SELECT 'pg_class'::regclass::oid, oid FROM reach \
      UNION ALL SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i JOIN reach ON i.indrelid = reach.oid \
      UNION ALL SELECT 'pg_attrdef'::regclass, d.oid FROM pg_attrdef d JOIN reach ON d.adrelid = reach.oid \
      UNION ALL SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k JOIN reach ON k.conrelid = reach.oid \
      UNION ALL SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k WHERE k.contypid = ANY($5::oid[]) OR k.contypid IN \
        (SELECT a.atttypid FROM reach JOIN pg_attribute a ON a.attrelid = reach.oid) \
      UNION ALL SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t JOIN reach ON t.tgrelid = reach.oid \
      UNION ALL SELECT 'pg_rewrite'::regclass, w.oid FROM pg_rewrite w JOIN reach ON w.ev_class = reach.oid \
      UNION ALL SELECT 'pg_policy'::regclass, y.oid FROM pg_policy y JOIN reach ON y.polrelid = reach.oid \
      UNION ALL SELECT 'pg_cast'::regclass, k.oid FROM pg_cast k WHERE k.oid >= 16384 \
      UNION ALL SELECT 'pg_proc'::regclass, unnest($3::oid[]) \
      UNION ALL SELECT 'pg_operator'::regclass, o.oid FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace \
        WHERE o.oid >= 16384 AND n.nspname = ANY($2::text[]) AND o.oprname = ANY($4::text[])) AS s(classid, objid) \
    UNION SELECT d.refclassid, d.refobjid FROM code JOIN pg_depend d ON d.classid = code.classid AND d.objid = code.objid \
      WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.refobjid >= 16384) ";

/// Each part of a definition: what it is of, the object it belongs to, and a text of its own; their order does not matter.
const PARTS: &str = "SELECT 'relation ' || c.oid::regclass, c.relname::text, row(c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relowner, \
        c.relrowsecurity, c.relforcerowsecurity, c.reloptions, c.relispartition, c.reloftype, pg_get_expr(c.relpartbound, c.oid))::text \
    FROM reach JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace \
    UNION ALL SELECT 'column ' || a.attrelid::regclass || '.' || quote_ident(a.attname), t.relname, row(a.attrelid, a.attnum, a.attname, \
        format_type(a.atttypid, a.atttypmod), a.atttypid, a.attnotnull, \
        a.attidentity, a.attgenerated, a.attcollation, pg_get_expr(d.adbin, d.adrelid))::text \
    FROM reach JOIN pg_attribute a ON a.attrelid = oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_class t ON t.oid = a.attrelid \
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
    UNION ALL SELECT 'constraint ' || quote_ident(k.conname) || ' of ' || k.conrelid::regclass, t.relname, \
        row(k.oid, k.conname, k.convalidated, pg_get_constraintdef(k.oid))::text \
    FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid \
    WHERE k.conrelid IN (SELECT oid FROM reach) OR k.confrelid IN (SELECT oid FROM reach) \
    UNION ALL SELECT 'trigger ' || quote_ident(t.tgname) || ' of ' || t.tgrelid::regclass, r.relname, \
        row(t.tgrelid, t.tgenabled, pg_get_triggerdef(t.oid), t.tgfoid)::text \
    FROM reach JOIN pg_trigger t ON t.tgrelid = reach.oid JOIN pg_class r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal \
    UNION ALL SELECT 'rule ' || quote_ident(w.rulename) || ' of ' || w.ev_class::regclass, r.relname, \
        row(w.ev_class, w.ev_enabled, md5(pg_get_ruledef(w.oid)))::text FROM reach JOIN pg_rewrite w ON w.ev_class = reach.oid \
    JOIN pg_class r ON r.oid = w.ev_class \
    UNION ALL SELECT 'policy ' || quote_ident(y.polname) || ' of ' || y.polrelid::regclass, r.relname, row(y.polrelid, y.polname, y.polcmd, \
        y.polpermissive, y.polroles, pg_get_expr(y.polqual, y.polrelid), pg_get_expr(y.polwithcheck, y.polrelid))::text \
    FROM reach JOIN pg_policy y ON y.polrelid = reach.oid JOIN pg_class r ON r.oid = y.polrelid \
    UNION ALL SELECT 'unique index ' || i.indexrelid::regclass, r.relname, pg_get_indexdef(i.indexrelid) \
    FROM reach JOIN pg_index i ON i.indrelid = reach.oid JOIN pg_class r ON r.oid = i.indrelid WHERE i.indisunique \
    UNION ALL SELECT 'function ' || p.oid::regprocedure, p.proname, md5((to_jsonb(p) - 'proacl')::text) \
    FROM code JOIN pg_proc p ON p.oid = code.objid WHERE code.classid = 'pg_proc'::regclass \
    UNION ALL SELECT 'operator ' || o.oid::regoperator, o.oprname, row(o.oid, o.oprname, o.oprcode)::text FROM code \
    JOIN pg_operator o ON o.oid = code.objid WHERE code.classid = 'pg_operator'::regclass \
    UNION ALL SELECT 'constraint ' || quote_ident(k.conname) || ' of domain ' || k.contypid::regtype, y.typname, \
        row(k.oid, k.convalidated, pg_get_constraintdef(k.oid))::text FROM pg_constraint k JOIN pg_type y ON y.oid = k.contypid \
    WHERE k.contypid = ANY($5::oid[]) OR k.contypid IN (SELECT a.atttypid FROM reach JOIN pg_attribute a ON a.attrelid = reach.oid) \
    UNION ALL SELECT 'type ' || y.oid::regtype, y.typname, row(y.oid, y.typname, y.typowner, y.typbasetype, y.typtypmod, y.typnotnull, y.typdefault, \
        ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = y.oid ORDER BY e.enumsortorder))::text FROM pg_type y WHERE y.oid = ANY($5::oid[]) \
    UNION ALL SELECT 'cast from ' || k.castsource::regtype || ' to ' || k.casttarget::regtype, y.typname, \
        row(k.castsource, k.casttarget, k.castfunc, k.castcontext)::text FROM pg_cast k \
    JOIN pg_type y ON y.oid = k.castsource WHERE k.oid >= 16384 \
    UNION ALL SELECT 'parent ' || i.inhparent::regclass || ' of ' || i.inhrelid::regclass, r.relname, row(i.inhrelid, i.inhparent, i.inhseqno)::text \
    FROM pg_inherits i JOIN reach ON i.inhrelid = reach.oid JOIN pg_class r ON r.oid = i.inhrelid";

/// What somebody's own was found by its name, or is called by what was.
#[derive(Default)]
struct Found {
    relations: BTreeSet<u32>,
    functions: BTreeSet<u32>,
    types: BTreeSet<u32>,
}

/// A function whose body is a text.
struct Body {
    oid: u32,
    schema: String,
    name: String,
    language: String,
    /// With its settings, which may name schemas.
    text: String,
}

/// Everything it rests on, a hash of each definition, by what it is of. The second part: what of it is not compared, and why.
pub(super) async fn of(
    asking: &Asking,
    rests: &Rests<'_>,
) -> Result<(BTreeMap<String, Definition>, Vec<String>), String> {
    let operators: Vec<String> = match rests.operators {
        Some(operators) => operators.iter().cloned().collect(),
        None => words::operators(rests.text)?.into_iter().collect(),
    };
    let mut found = Found { relations: rests.relations.clone(), ..Found::default() };
    let by_words = rests.operators.is_none();
    named(asking, rests.path, &mut found, &words::names(rests.text)?, by_words).await?;
    let uncompared = bodies(asking, rests, &operators, &mut found).await?;
    let sql = format!("SELECT * FROM ({REACH}{CODE}{PARTS}) AS parts(of, subject, definition) ORDER BY 1, 3");
    let (relations, functions, types) = found.lists();
    let rows = asking.ask(LIMIT, &sql, &[&relations, &rests.path.schemas, &functions, &operators, &types]).await?;
    let mut definitions: BTreeMap<String, (String, Sha256)> = BTreeMap::new();
    for row in &rows {
        // A part that is null could not be printed: an object went meanwhile.
        let (of, subject, definition): (String, String, String) = (cell(row, 0)?, cell(row, 1)?, cell(row, 2)?);
        // Two of one name go into one hash, in order.
        let (_, hash) = definitions.entry(of).or_insert_with(|| (subject, Sha256::default()));
        hash.update(u64::try_from(definition.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(definition);
    }
    let done = |(of, (subject, hash)): (String, (String, Sha256))| {
        (of, Definition { subject, hash: hex::encode(hash.finalize()) })
    };
    Ok((definitions.into_iter().map(done).collect(), uncompared))
}

impl Found {
    fn lists(&self) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
        let list = |oids: &BTreeSet<u32>| oids.iter().copied().collect();
        (list(&self.relations), list(&self.functions), list(&self.types))
    }
}

/// Adds everything of somebody's own that is called by one of `names`, in the session's schemas and in those that are among the names.
async fn named(
    asking: &Asking,
    path: &Path,
    found: &mut Found,
    names: &BTreeSet<String>,
    relations: bool,
) -> Result<(), String> {
    let schemas: Vec<&String> = path.schemas.iter().chain(names).collect();
    let names: Vec<&String> = names.iter().collect();
    let sql = "WITH n AS (SELECT oid FROM pg_namespace WHERE nspname = ANY($2::text[]) OR nspname LIKE 'pg\\_temp\\_%') \
        SELECT 'f', p.oid FROM pg_proc p WHERE p.oid >= 16384 AND p.proname = ANY($1::text[]) AND p.pronamespace IN (SELECT oid FROM n) \
        UNION ALL SELECT 'r', c.oid FROM pg_class c WHERE c.oid >= 16384 AND c.relname = ANY($1::text[]) AND c.relkind <> 't' \
          AND c.relkind <> 'c' AND c.relnamespace IN (SELECT oid FROM n) AND $3::bool \
        UNION ALL SELECT 't', t.oid FROM pg_type t WHERE t.oid >= 16384 AND t.typname = ANY($1::text[]) AND t.typtype IN ('d', 'e') \
          AND t.typnamespace IN (SELECT oid FROM n)";
    for row in asking.ask(LIMIT, sql, &[&names, &schemas, &relations]).await? {
        let (kind, oid): (String, u32) = (cell(&row, 0)?, cell(&row, 1)?);
        match kind.as_str() {
            "f" => found.functions.insert(oid),
            "t" => found.types.insert(oid),
            _ => found.relations.insert(oid),
        };
    }
    Ok(())
}

/// Adds what the bodies of functions name, theirs in turn included. Yields what they may call besides.
async fn bodies(
    asking: &Asking,
    rests: &Rests<'_>,
    operators: &[String],
    found: &mut Found,
) -> Result<Vec<String>, String> {
    let mut read = BTreeSet::new();
    let mut uncompared = Vec::new();
    let mut left = BODY_BYTES;
    for _ in 0..ROUNDS {
        let mut fresh = code(asking, rests, operators, found).await?;
        fresh.retain(|body| read.insert(body.oid));
        if fresh.is_empty() {
            return Ok(uncompared);
        }
        let mut names = BTreeSet::new();
        for body in &fresh {
            left = left.saturating_sub(body.text.len());
            let Body { schema, name, language, text, .. } = body;
            if !READ.contains(&language.as_str()) {
                uncompared.push(format!("what {schema}.{name}() calls, which is written in {language}"));
                continue;
            }
            let words = words::names(text).map_err(|why| format!("{schema}.{name}(): {why}"))?;
            if language == "plpgsql" && words.contains("execute") {
                uncompared.push(format!("what {schema}.{name}() runs with EXECUTE"));
            }
            names.extend(words);
            names.insert(schema.clone());
        }
        if read.len() > BODIES || left == 0 {
            break;
        }
        named(asking, rests.path, found, &names, true).await?;
    }
    uncompared.push("what its functions call in turn: there is too much of it".to_owned());
    Ok(uncompared)
}

/// The functions that have a text for a body, of all that was found or is called by it.
async fn code(asking: &Asking, rests: &Rests<'_>, operators: &[String], found: &Found) -> Result<Vec<Body>, String> {
    let sql = format!(
        "{REACH}{CODE} SELECT (SELECT count(*) FROM reach), b.* FROM (SELECT 1) AS one LEFT JOIN ( \
         SELECT p.oid, n.nspname::text, p.proname::text, l.lanname::text, \
           p.prosrc || ' ' || coalesce(array_to_string(p.proconfig, ' '), '') AS body FROM code \
         JOIN pg_proc p ON code.classid = 'pg_proc'::regclass AND p.oid = code.objid JOIN pg_namespace n ON n.oid = p.pronamespace \
         JOIN pg_language l ON l.oid = p.prolang WHERE l.lanname NOT IN ('c', 'internal') ORDER BY 1) AS b ON true"
    );
    let (relations, functions, types) = found.lists();
    let rows = asking.ask(LIMIT, &sql, &[&relations, &rests.path.schemas, &functions, &operators, &types]).await?;
    let count: i64 = rows.first().map_or(Err("no answer".to_owned()), |row| cell(row, 0))?;
    if count > RELATIONS {
        return Err(format!("it rests on more than {RELATIONS} tables"));
    }
    let some = rows.iter().filter(|row| cell::<Option<u32>>(row, 1).ok().flatten().is_some());
    let body = |row| {
        Ok(Body {
            oid: cell(row, 1)?,
            schema: cell(row, 2)?,
            name: cell(row, 3)?,
            language: cell(row, 4)?,
            text: cell(row, 5)?,
        })
    };
    some.map(body).collect()
}

/// One hash over all of them, in hexadecimal digits.
pub(super) fn hash(definitions: &BTreeMap<String, Definition>) -> String {
    let mut hash = Sha256::new();
    for (of, definition) in definitions {
        for part in [of, &definition.hash] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
    }
    hex::encode(hash.finalize())
}
