//! What the catalogue says of a table that rows are kept of: columns, keys, foreign keys. Reads the catalogue only.

use tokio_postgres::Row;

use super::super::catalogue::QUICK;
use super::super::connection::Asking;
use super::super::lookup::cell;

/// A table.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// What it is a partition of, at the top, or itself: rows are read and written there.
    pub(super) root: u32,
    pub(super) root_schema: String,
    pub(super) root_name: String,
    /// That has partitions.
    pub(super) partitioned: bool,
    /// Columns in order.
    pub(super) columns: Vec<String>,
    /// The same with their types, as it is kept with each row (`columns_of` in schema.sql).
    pub(super) described: String,
    /// Columns of the primary key; empty: there is none.
    pub(super) primary: Vec<String>,
    /// Columns of unique indexes, the primary key's too.
    pub(super) unique: Vec<Vec<String>>,
    /// There are unique indexes besides that no list of columns tells, or exclusion constraints.
    pub(super) odd_keys: bool,
    /// Foreign keys of its own.
    pub(super) refers: Vec<ForeignKey>,
    /// Foreign keys that refer to it.
    pub(super) referred: Vec<ForeignKey>,
}

/// A foreign key, seen from one of its tables.
#[derive(Debug, Clone)]
pub(super) struct ForeignKey {
    /// The table at the other end.
    pub(super) table: u32,
    /// Columns that refer.
    pub(super) from: Vec<String>,
    /// Columns they refer to.
    pub(super) to: Vec<String>,
    /// A change of the key is carried over to the rows that refer.
    pub(super) follows: bool,
}

/// The server's own objects have smaller oids (`FirstNormalObjectId` in transam.h).
const OWN: &str = "16384";

/// Whether the table still is what it was called.
pub(super) async fn is_there(asking: &Asking, oid: u32, schema: &str, name: &str) -> Result<bool, String> {
    let sql = "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.oid = $1 AND n.nspname = $2 AND c.relname = $3";
    Ok(!asking.ask(QUICK, sql, &[&oid, &schema, &name]).await?.is_empty())
}

/// Looks a table up.
pub(super) async fn of(asking: &Asking, oid: u32) -> Result<Shape, String> {
    let sql = "SELECT n.nspname::text, c.relname::text, r.oid, m.nspname::text, r.relname::text, \
                 ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum), \
                 coalesce((SELECT string_agg(format('%I %s%s', attname, format_type(atttypid, atttypmod), attgenerated), ', ' ORDER BY attnum) \
                  FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped), ''), r.relkind = 'p' \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid)::oid, c.oid) JOIN pg_namespace m ON m.oid = r.relnamespace \
               WHERE c.oid = $1";
    let rows = asking.ask(QUICK, sql, &[&oid]).await?;
    let row = rows.first().ok_or("its table is gone")?;
    if has_casts(asking, oid).await? {
        return Err("there are casts of its row type, which may be anybody's code".to_owned());
    }
    if let Some(column) = foreign_column(asking, oid).await? {
        return Err(format!("reading a value of column {column} may run anybody's code"));
    }
    let mut shape = Shape {
        oid,
        schema: cell(row, 0)?,
        name: cell(row, 1)?,
        root: cell(row, 2)?,
        root_schema: cell(row, 3)?,
        root_name: cell(row, 4)?,
        columns: cell(row, 5)?,
        described: cell(row, 6)?,
        partitioned: cell(row, 7)?,
        primary: Vec::new(),
        unique: Vec::new(),
        odd_keys: false,
        refers: foreign_keys(asking, oid, true).await?,
        referred: foreign_keys(asking, oid, false).await?,
    };
    keys(asking, &mut shape).await?;
    Ok(shape)
}

/// A column whose values cannot be read from text by the server's own code alone.
async fn foreign_column(asking: &Asking, oid: u32) -> Result<Option<String>, String> {
    let sql = format!(
        "SELECT a.attname::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
         LEFT JOIN pg_type d ON d.oid = t.typbasetype AND t.typtype = 'd' \
         CROSS JOIN LATERAL (SELECT coalesce(d.oid, t.oid) AS oid, coalesce(d.typelem, t.typelem) AS element) b \
         JOIN pg_type e ON e.oid = CASE WHEN EXISTS (SELECT FROM pg_type y WHERE y.oid = b.oid AND y.typcategory = 'A' AND y.typelem <> 0) \
                                        THEN b.element ELSE b.oid END \
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND NOT ( \
           (e.typtype = 'e' OR e.typnamespace = 'pg_catalog'::regnamespace AND e.typtype IN ('b', 'r', 'm')) \
           AND NOT EXISTS (SELECT FROM pg_constraint k JOIN pg_depend p ON p.classid = 'pg_constraint'::regclass AND p.objid = k.oid \
                           WHERE k.contypid = t.oid AND p.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND p.refobjid >= {OWN})) \
         ORDER BY a.attnum LIMIT 1"
    );
    let rows = asking.ask(QUICK, &sql, &[&oid]).await?;
    rows.first().map(|row| cell(row, 0)).transpose()
}

/// Kept rows are text, and become rows by a cast. (One that is created at this very moment goes unseen, as a function would.)
async fn has_casts(asking: &Asking, oid: u32) -> Result<bool, String> {
    let sql = "SELECT FROM pg_cast k JOIN pg_class c ON c.reltype IN (k.castsource, k.casttarget) WHERE c.oid = $1";
    Ok(!asking.ask(QUICK, sql, &[&oid]).await?.is_empty())
}

async fn keys(asking: &Asking, shape: &mut Shape) -> Result<(), String> {
    let sql = "SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k (number, place) \
                      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number WHERE k.place <= i.indnkeyatts ORDER BY k.place), \
                 i.indisprimary, i.indpred IS NULL AND i.indexprs IS NULL AND NOT i.indisexclusion AND NOT EXISTS ( \
                   SELECT FROM unnest(i.indclass) c (oid) JOIN pg_opclass o ON o.oid = c.oid WHERE NOT o.opcdefault) \
               FROM pg_index i WHERE i.indrelid = $1 AND (i.indisunique OR i.indisexclusion) AND i.indislive";
    for row in &asking.ask(QUICK, sql, &[&shape.oid]).await? {
        let (columns, primary, plain): (Vec<String>, bool, bool) = (cell(row, 0)?, cell(row, 1)?, cell(row, 2)?);
        if !plain {
            shape.odd_keys = true;
            continue;
        }
        if primary {
            shape.primary.clone_from(&columns);
        }
        shape.unique.push(columns);
    }
    Ok(())
}

/// Foreign keys of a table (`own`) or that refer to it or to what it is a partition of. Where the other end is partitioned, once.
async fn foreign_keys(asking: &Asking, oid: u32, own: bool) -> Result<Vec<ForeignKey>, String> {
    let sql = if own {
        "SELECT f.confrelid, f.conrelid, f.confrelid, f.conkey, f.confkey, false FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid = $1 \
         AND NOT EXISTS (SELECT FROM pg_constraint p WHERE p.oid = f.conparentid AND p.conrelid = f.conrelid)"
    } else {
        "SELECT f.conrelid, f.conrelid, f.confrelid, f.conkey, f.confkey, f.confupdtype IN ('c', 'n', 'd') \
         FROM pg_constraint f WHERE f.contype = 'f' AND f.conparentid = 0 \
         AND (f.confrelid = $1 OR f.confrelid IN (SELECT relid::oid FROM pg_partition_ancestors($1::oid::regclass)))"
    };
    let names = "ARRAY(SELECT a.attname::text FROM unnest({}) WITH ORDINALITY k (number, place) JOIN pg_attribute a \
                 ON a.attrelid = {} AND a.attnum = k.number ORDER BY k.place)";
    let (from, to) = (
        names.replacen("{}", "q.conkey", 1).replacen("{}", "q.referring", 1),
        names.replacen("{}", "q.confkey", 1).replacen("{}", "q.referred", 1),
    );
    let sql = format!(
        "SELECT q.other, {from}, {to}, q.follows FROM ({sql}) q (other, referring, referred, conkey, confkey, follows)"
    );
    let read = |row: &Row| {
        Ok(ForeignKey { table: cell(row, 0)?, from: cell(row, 1)?, to: cell(row, 2)?, follows: cell(row, 3)? })
    };
    asking.ask(QUICK, &sql, &[&oid]).await?.iter().map(read).collect()
}
