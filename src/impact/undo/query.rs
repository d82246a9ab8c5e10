//! The SQL that counts conflicting rows. Pure; the same questions as `undo_one` in schema.sql, asked of all rows at once.

use std::fmt::Write as _;

use super::super::connection::{qualified, quoted};
use super::super::report::UndoAction;
use super::shape::{ForeignKey, Shape};

/// Tables beside.
#[derive(Default)]
pub(super) struct Around {
    /// What the rows refer to: the key, its table, and tables kept rows of which may be that.
    pub(super) parents: Vec<(ForeignKey, Shape, Vec<Shape>)>,
    /// What refers to the rows.
    pub(super) children: Vec<(ForeignKey, Shape)>,
}

/// Counts rows by why they conflict: `text, bigint`.
pub(super) fn conflicts(request: &str, action: UndoAction, shape: &Shape, around: &Around) -> String {
    let op = match action {
        UndoAction::BringBack => 'D',
        UndoAction::SetBack => 'U',
        UndoAction::Remove => 'I',
    };
    let (kept, kind, columns) =
        (kept(request, shape), qualified(&shape.schema, &shape.name), literal(&shape.described));
    let mut tables = format!(
        "WITH c AS MATERIALIZED (SELECT k.seq, k.direct, k.changed, k.before::{kind} AS b, k.after::{kind} AS a, k.before AS was, k.after AS became \
         FROM ({kept}) k WHERE k.op = '{op}' AND k.columns = {columns})"
    );
    let mut cases = String::new();
    match action {
        UndoAction::BringBack => {}
        UndoAction::SetBack | UndoAction::Remove => cases.push_str(&as_it_was_left(action, shape, &kept)),
    }
    if action != UndoAction::Remove {
        for key in &shape.unique {
            let _ = write!(cases, " WHEN {} THEN 'a row with its key exists'", taken(action, shape, key, &kept));
        }
        for (at, (key, parent, sources)) in around.parents.iter().enumerate() {
            let mut pending = String::from("SELECT");
            let none: Vec<&str> = key.from.iter().map(|_| "NULL").collect();
            let _ = write!(pending, " {} WHERE false", none.join(", "));
            for source in sources {
                let kind = qualified(&source.schema, &source.name);
                let _ = write!(
                    pending,
                    " UNION ALL SELECT {} FROM (SELECT k.before::{kind} AS b FROM ({}) k WHERE k.op IN ('D', 'U') AND k.columns = {}) s",
                    key.to
                        .iter()
                        .map(|column| format!("format('%L', (s.b).{})", quoted(column)))
                        .collect::<Vec<_>>()
                        .join(", "),
                    self::kept(request, source),
                    literal(&source.described)
                );
            }
            let _ = write!(tables, ", p{at} AS MATERIALIZED ({pending})");
            let _ = write!(cases, " WHEN {} THEN 'a row it refers to is missing'", orphaned(action, key, parent, at));
        }
    }
    if action != UndoAction::BringBack {
        for (key, child) in &around.children {
            if let Some(referred) = referred(request, action, key, child) {
                let referred = if action == UndoAction::Remove {
                    format!("NOT {} AND {referred}", moved(request, shape))
                } else {
                    referred
                };
                let _ = write!(cases, " WHEN {referred} THEN 'other rows refer to it'");
            }
        }
    }
    let why = if cases.is_empty() { "NULL::text".to_owned() } else { format!("CASE{cases} END") };
    format!(
        "{tables} SELECT s.why, count(*) FROM (SELECT {why} AS why FROM c UNION ALL SELECT 'the columns of its table have changed since' \
         FROM ({kept}) k WHERE k.op = '{op}' AND k.columns <> {columns}) s WHERE s.why IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
    )
}

/// Rows of a table that are kept and not undone.
fn kept(request: &str, shape: &Shape) -> String {
    format!(
        "SELECT * FROM querygate_undo.change WHERE request = {} AND relation = {} AND NOT undone",
        literal(request),
        shape.oid
    )
}

/// It is not as the statement left it: what a later change of the same statement left is undone first, and a row that is back is no conflict.
fn as_it_was_left(action: UndoAction, shape: &Shape, kept: &str) -> String {
    let root = rows_of(shape);
    let text = row_text(shape, "x");
    let later = format!("c.became IN (SELECT k.before FROM ({kept}) k WHERE k.before IS NOT NULL)");
    if shape.primary.is_empty() {
        return format!(
            " WHEN c.became NOT IN (SELECT {text} FROM {root} x) AND NOT {later} THEN 'there is no row as it was left'"
        );
    }
    let found = format!("SELECT FROM {root} x WHERE {}", equal("x", &shape.primary, "c.a", &shape.primary));
    let back = if action == UndoAction::SetBack {
        format!("{text} IN (c.became, c.was)")
    } else {
        format!("{text} = c.became")
    };
    format!(
        " WHEN NOT EXISTS ({found} AND {back}) AND NOT {later} THEN CASE WHEN EXISTS ({found}) THEN 'the row was changed since' \
         ELSE 'the row is gone' END"
    )
}

/// Another row has the key, and is not one that is undone as well.
fn taken(action: UndoAction, shape: &Shape, key: &[String], kept: &str) -> String {
    let root = rows_of(shape);
    let text = row_text(shape, "x");
    let changed =
        if action == UndoAction::SetBack { format!("c.changed && {} AND ", names(key)) } else { String::new() };
    format!(
        "{changed}EXISTS (SELECT FROM {root} x WHERE {} AND {text} NOT IN (SELECT k.after FROM ({kept}) k WHERE k.after IS NOT NULL))",
        equal("x", key, "c.b", key)
    )
}

/// What it refers to is neither there nor comes back. (Compared without casts, which may be anybody's.)
fn orphaned(action: UndoAction, key: &ForeignKey, parent: &Shape, at: usize) -> String {
    let root = rows_of(parent);
    let set =
        key.from.iter().map(|column| format!("(c.b).{} IS NOT NULL", quoted(column))).collect::<Vec<_>>().join(" AND ");
    let values =
        key.from.iter().map(|column| format!("format('%L', (c.b).{})", quoted(column))).collect::<Vec<_>>().join(", ");
    let changed =
        if action == UndoAction::SetBack { format!("c.changed && {} AND ", names(&key.from)) } else { String::new() };
    format!(
        "{changed}{set} AND NOT EXISTS (SELECT FROM {root} x WHERE {}) AND ({values}) NOT IN (SELECT * FROM p{at} p WHERE p IS NOT NULL)",
        equal("x", &key.to, "c.b", &key.from)
    )
}

/// Rows refer to it that are not undone as well. `None`: that forbids nothing.
fn referred(request: &str, action: UndoAction, key: &ForeignKey, child: &Shape) -> Option<String> {
    let changed = match action {
        // They follow.
        UndoAction::SetBack if key.follows => return None,
        UndoAction::SetBack => format!("c.changed && {} AND ", names(&key.to)),
        UndoAction::Remove | UndoAction::BringBack => String::new(),
    };
    let root = rows_of(child);
    Some(format!(
        "{changed}EXISTS (SELECT FROM {root} x WHERE {} AND {} NOT IN (SELECT k.after FROM ({}) k WHERE k.after IS NOT NULL))",
        equal("x", &key.from, "c.a", &key.to),
        row_text(child, "x"),
        kept(request, child)
    ))
}

/// It came from another partition, and goes back there (`moves` in schema.sql).
fn moved(request: &str, shape: &Shape) -> String {
    format!(
        "coalesce((SELECT c.direct AND d.direct AND d.op = 'D' AND d.relation <> {} AND pg_partition_root(d.relation::regclass) = {}::regclass \
         FROM querygate_undo.change d WHERE d.request = {} AND NOT d.undone AND d.seq < c.seq ORDER BY d.seq DESC LIMIT 1), false)",
        shape.oid,
        shape.root,
        literal(request)
    )
}

/// Where its rows are; those of tables that inherit from it are others.
fn rows_of(shape: &Shape) -> String {
    let only = if shape.partitioned { "" } else { "ONLY " };
    format!("{only}{}", qualified(&shape.root_schema, &shape.root_name))
}

/// A row as it is kept.
fn row_text(shape: &Shape, alias: &str) -> String {
    let columns: Vec<String> = shape.columns.iter().map(|column| format!("{alias}.{}", quoted(column))).collect();
    format!("ROW({})::text", columns.join(", "))
}

fn equal(alias: &str, columns: &[String], row: &str, of_row: &[String]) -> String {
    let each = columns
        .iter()
        .zip(of_row)
        .map(|(column, other)| format!("{alias}.{} = ({row}).{}", quoted(column), quoted(other)));
    each.collect::<Vec<_>>().join(" AND ")
}

fn names(columns: &[String]) -> String {
    let names: Vec<String> = columns.iter().map(|column| literal(column)).collect();
    format!("ARRAY[{}]::text[]", names.join(", "))
}

/// A string, whatever it holds; `standard_conforming_strings` is on.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(super::literal("a'b"), "'a''b'");
        assert_eq!(super::names(&["x', 'y".to_owned()]), "ARRAY['x'', ''y']::text[]");
        assert_eq!(super::equal("x", &["a\"b".to_owned()], "c.a", &["k".to_owned()]), "x.\"a\"\"b\" = (c.a).\"k\"");
    }
}
