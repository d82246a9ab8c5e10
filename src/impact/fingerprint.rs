//! A hash over the definitions a statement rests on: equal as long as nothing was redefined. Rows, statistics, privileges and
//! plain indexes are no part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::catalogue::Path;
use super::connection::Asking;
use super::harmless::Names;
use super::lookup::cell;
use super::report::Definition;

/// Definitions take longer to print than names to find.
const LIMIT: Duration = Duration::from_secs(1);
/// Relations one fingerprint covers, partitions and tables behind views included.
const RELATIONS: i64 = 512;

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
      UNION ALL SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k WHERE k.contypid IN \
        (SELECT a.atttypid FROM reach JOIN pg_attribute a ON a.attrelid = reach.oid) \
      UNION ALL SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t JOIN reach ON t.tgrelid = reach.oid \
      UNION ALL SELECT 'pg_rewrite'::regclass, w.oid FROM pg_rewrite w JOIN reach ON w.ev_class = reach.oid \
      UNION ALL SELECT 'pg_policy'::regclass, y.oid FROM pg_policy y JOIN reach ON y.polrelid = reach.oid \
      UNION ALL SELECT 'pg_cast'::regclass, k.oid FROM pg_cast k WHERE k.oid >= 16384 \
      UNION ALL SELECT 'pg_proc'::regclass, p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
        WHERE p.oid >= 16384 AND n.nspname = ANY($2) AND p.proname = ANY($3) \
      UNION ALL SELECT 'pg_operator'::regclass, o.oid FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace \
        WHERE o.oid >= 16384 AND n.nspname = ANY($2) AND o.oprname = ANY($4)) AS s(classid, objid) \
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
    WHERE k.contypid IN (SELECT a.atttypid FROM reach JOIN pg_attribute a ON a.attrelid = reach.oid) \
    UNION ALL SELECT 'cast from ' || k.castsource::regtype || ' to ' || k.casttarget::regtype, y.typname, \
        row(k.castsource, k.casttarget, k.castfunc, k.castcontext)::text FROM pg_cast k \
    JOIN pg_type y ON y.oid = k.castsource WHERE k.oid >= 16384 \
    UNION ALL SELECT 'parent ' || i.inhparent::regclass || ' of ' || i.inhrelid::regclass, r.relname, row(i.inhrelid, i.inhparent, i.inhseqno)::text \
    FROM pg_inherits i JOIN reach ON i.inhrelid = reach.oid JOIN pg_class r ON r.oid = i.inhrelid";

/// What `relations` rest on, and whatever of anybody's own the functions and operators of `names` can mean: a hash of each definition, by
/// what it is of.
pub(super) async fn of(
    asking: &Asking,
    path: &Path,
    relations: &BTreeSet<u32>,
    names: &Names,
) -> Result<BTreeMap<String, Definition>, String> {
    let relations: Vec<u32> = relations.iter().copied().collect();
    if relations.is_empty() {
        return Err("it names no table".to_owned());
    }
    let counted = asking.ask(LIMIT, &format!("{REACH} SELECT count(*) FROM reach"), &[&relations]).await?;
    let count: i64 = counted.first().map_or(Err("no answer".to_owned()), |row| cell(row, 0))?;
    if count > RELATIONS {
        return Err(format!("it rests on more than {RELATIONS} tables"));
    }
    let functions: Vec<&String> = names.functions.iter().collect();
    let operators: Vec<&String> = names.operators.iter().collect();
    let sql = format!("SELECT * FROM ({REACH}{CODE}{PARTS}) AS parts(of, subject, definition) ORDER BY 1, 3");
    let rows = asking.ask(LIMIT, &sql, &[&relations, &path.schemas, &functions, &operators]).await?;
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
    Ok(definitions.into_iter().map(done).collect())
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
