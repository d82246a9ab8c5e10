//! What foreign keys do when rows go or change: a graph walked breadth first, each table on the way met once. Row queries grow
//! from the statement's own; names come from the catalogue alone.

use std::collections::{BTreeSet, VecDeque};

use super::catalogue::{QUICK, Relation, TREE, UNREADABLE};
use super::connection::{qualified, quoted};
use super::count::{self, Counter};
use super::harmless::Names;
use super::lookup::{self, cell};
use super::report::{Bound, Cascade, CascadeAction, Rows};

/// Why a walk ended early.
const TOO_MANY: &str = "there are more foreign keys than are followed";

/// What happens to the rows a walk starts from.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Delete,
    /// These columns are written.
    Update(Vec<String>),
}

/// A table on the way, and what happens to which of its rows.
struct Stop {
    relation: Relation,
    /// Rows of its partitions and children as well.
    children: bool,
    change: Change,
    /// The query over those rows, or why there is none.
    rows: Result<String, String>,
    /// Tables between here and the start, this one included.
    way: Vec<u32>,
    depth: u32,
    bound: Bound,
}

/// A foreign key that refers to the table at a stop.
struct Key {
    constraint: String,
    child: Relation,
    on_delete: String,
    on_update: String,
    child_columns: Vec<String>,
    columns: Vec<String>,
    parent: u32,
}

/// Follows every foreign key from the rows of `query`. The second part says what is missing.
pub(super) async fn follow(
    counter: &mut Counter<'_>,
    (start, children): (&Relation, bool),
    change: Change,
    (rows, bound): (Result<String, String>, Bound),
    seen: &mut BTreeSet<u32>,
) -> (Vec<Cascade>, Option<String>) {
    let mut found = Vec::new();
    let bound = match change {
        Change::Delete => bound,
        // A column that is written its old value over cascades nothing.
        Change::Update(_) => Bound::AtMost,
    };
    let first = Stop { relation: start.clone(), children, change, rows, way: vec![start.oid], depth: 1, bound };
    let mut stops = VecDeque::from([first]);
    while let Some(stop) = stops.pop_front() {
        let keys = match keys(counter, stop.relation.oid, stop.children).await {
            Ok(keys) => keys,
            Err(why) => return (found, Some(why)),
        };
        let change = match written(counter, &stop).await {
            Ok(change) => change,
            Err(why) => return (found, Some(why)),
        };
        let moved = match moved(counter, &stop, &change).await {
            Ok(moved) => moved,
            Err(why) => return (found, Some(why)),
        };
        for key in keys {
            let actions = actions(&key, &change, moved.counts(&key, &stop));
            if actions.is_empty() {
                continue;
            }
            if found.len() >= counter.settings.cascades {
                return (found, Some(TOO_MANY.to_owned()));
            }
            seen.insert(key.child.oid);
            let cycle = stop.way.contains(&key.child.oid);
            let query = child_query(counter, &stop, &key, seen).await;
            let bound = if cycle { Bound::AtLeast } else { stop.bound };
            let (triggers, rules) = fires(counter, &key.child).await;
            let rows = counted(counter, &query, bound).await;
            for (action, next) in actions {
                found.push(Cascade {
                    constraint: key.constraint.clone(),
                    from: stop.relation.resolved().qualified(),
                    to: key.child.resolved().qualified(),
                    child: Some(key.child.resolved()),
                    depth: stop.depth,
                    action,
                    rows: rows.clone(),
                    cycle,
                    triggers,
                    rules,
                });
                if let Some(change) = next.filter(|_| !cycle) {
                    let way = stop.way.iter().copied().chain([key.child.oid]).collect();
                    let depth = stop.depth.saturating_add(1);
                    let children = key.child.kind == 'p';
                    let (relation, rows) = (key.child.clone(), query.clone());
                    stops.push_back(Stop { relation, children, change, rows, way, depth, bound });
                }
            }
        }
    }
    (found, None)
}

/// Tables that TRUNCATE takes along, or that forbid it.
pub(super) async fn truncate(
    counter: &mut Counter<'_>,
    relations: &[(Relation, bool)],
    cascade: bool,
    seen: &mut BTreeSet<u32>,
) -> (Vec<Cascade>, Option<String>) {
    let mut found = Vec::new();
    let mut met: BTreeSet<u32> = relations.iter().map(|(relation, _)| relation.oid).collect();
    let mut stops: VecDeque<_> = relations.iter().map(|(relation, _)| (relation.clone(), 1_u32)).collect();
    while let Some((relation, depth)) = stops.pop_front() {
        let keys = match keys(counter, relation.oid, true).await {
            Ok(keys) => keys,
            Err(why) => return (found, Some(why)),
        };
        for key in keys {
            if !met.insert(key.child.oid) {
                continue;
            }
            if found.len() >= counter.settings.cascades {
                return (found, Some(TOO_MANY.to_owned()));
            }
            let query = match counter.ready(&key.child, seen).await {
                Ok(()) => Ok(count::whole_table(&key.child, true)),
                Err(why) => Err(why),
            };
            seen.insert(key.child.oid);
            let (triggers, rules) = fires(counter, &key.child).await;
            found.push(Cascade {
                constraint: key.constraint,
                from: relation.resolved().qualified(),
                to: key.child.resolved().qualified(),
                child: Some(key.child.resolved()),
                depth,
                action: if cascade { CascadeAction::Truncate } else { CascadeAction::Refuse },
                rows: counted(counter, &query, Bound::Exact).await,
                cycle: false,
                triggers,
                rules,
            });
            if cascade {
                stops.push_back((key.child, depth.saturating_add(1)));
            }
        }
    }
    (found, None)
}

async fn counted(counter: &mut Counter<'_>, query: &Result<String, String>, bound: Bound) -> Rows {
    match query {
        Ok(query) => counter.rows(query, false, bound).await,
        Err(why) => count::unknown(why),
    }
}

/// Foreign keys that refer to a table or its children. Of a partitioned key only the topmost that does.
async fn keys(counter: &Counter<'_>, table: u32, children: bool) -> Result<Vec<Key>, String> {
    let columns = |keys: &str, of: &str| {
        format!(
            "ARRAY(SELECT a.attname::text FROM unnest(c.{keys}) WITH ORDINALITY AS k(number, place) \
             JOIN pg_attribute a ON a.attrelid = c.{of} AND a.attnum = k.number ORDER BY k.place)"
        )
    };
    let sql = format!(
        "{TREE} SELECT c.conname::text, r.oid, n.nspname::text, r.relname::text, r.relkind::text, \
         c.confdeltype::text, c.confupdtype::text, {}, {}, c.confrelid \
         FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace \
         WHERE c.contype = 'f' AND c.confrelid IN (SELECT oid FROM tree) AND NOT EXISTS (SELECT FROM pg_constraint p \
           WHERE p.oid = c.conparentid AND p.confrelid IN (SELECT oid FROM tree)) ORDER BY 3, 4, 1 LIMIT $3",
        columns("conkey", "conrelid"),
        columns("confkey", "confrelid"),
    );
    let limit = i64::try_from(counter.settings.cascades).unwrap_or(i64::MAX).saturating_add(1);
    let rows = counter.asking.ask(QUICK, &sql, &[&table, &children, &limit]).await?;
    rows.iter()
        .map(|row| {
            let kind: String = cell(row, 4)?;
            let kind = kind.chars().next().unwrap_or(' ');
            Ok(Key {
                constraint: cell(row, 0)?,
                child: Relation { oid: cell(row, 1)?, schema: cell(row, 2)?, name: cell(row, 3)?, kind },
                on_delete: cell(row, 5)?,
                on_update: cell(row, 6)?,
                child_columns: cell(row, 7)?,
                columns: cell(row, 8)?,
                parent: cell(row, 9)?,
            })
        })
        .collect()
}

/// What happens to the rows of a stop in the end: generated columns follow the others, and a trigger BEFORE each row may write any.
async fn written(counter: &Counter<'_>, stop: &Stop) -> Result<Change, String> {
    let Change::Update(columns) = &stop.change else { return Ok(Change::Delete) };
    // Bits of `tgtype` (pg_trigger.h): for each row, before it, at UPDATE.
    let sql = format!(
        "{TREE} SELECT DISTINCT a.attname::text FROM tree JOIN pg_attribute a ON a.attrelid = tree.oid \
         WHERE a.attnum > 0 AND NOT a.attisdropped AND (a.attgenerated <> '' OR EXISTS (SELECT FROM tree AS all_of \
           JOIN pg_trigger t ON t.tgrelid = all_of.oid WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 19 = 19))"
    );
    let more = counter.asking.ask(QUICK, &sql, &[&stop.relation.oid, &stop.children]).await?;
    let more = more.iter().map(|row| cell(row, 0)).collect::<Result<Vec<String>, String>>()?;
    Ok(Change::Update(columns.iter().cloned().chain(more).collect()))
}

/// Whether triggers, and rewrite rules, may fire that somebody made on a table that a key leads to, its partitions included: those FOR EACH STATEMENT do
/// so though no row refers. `None`: not known.
async fn fires(counter: &Counter<'_>, child: &Relation) -> (Option<bool>, Option<bool>) {
    let sql = format!(
        "{TREE} SELECT EXISTS (SELECT FROM tree JOIN pg_trigger t ON t.tgrelid = tree.oid WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'), \
         EXISTS (SELECT FROM tree JOIN pg_rewrite w ON w.ev_class = tree.oid WHERE w.ev_enabled <> 'D')"
    );
    let Ok(rows) = counter.asking.ask(QUICK, &sql, &[&child.oid, &true]).await else { return (None, None) };
    rows.first().map_or((None, None), |row| (cell(row, 0).ok(), cell(row, 1).ok()))
}

/// Whether an UPDATE may move rows to other partitions, where they are inserted after they were deleted (`ExecCrossPartitionUpdate`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    No,
    /// A key that refers to the table itself takes that for an update; one to its partitions for a delete.
    Within,
    /// Before Postgres 15 every key takes it for a delete.
    Everywhere,
}

impl Moved {
    fn counts(self, key: &Key, stop: &Stop) -> bool {
        match self {
            Moved::No => false,
            Moved::Within => key.parent != stop.relation.oid,
            Moved::Everywhere => true,
        }
    }
}

async fn moved(counter: &Counter<'_>, stop: &Stop, change: &Change) -> Result<Moved, String> {
    let Change::Update(columns) = change else { return Ok(Moved::No) };
    // Fail closed: which columns an expression of a partition key reads is not looked up.
    let sql = format!(
        "{TREE} SELECT EXISTS (SELECT FROM tree JOIN pg_partitioned_table p ON p.partrelid = tree.oid \
         WHERE p.partexprs IS NOT NULL OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = p.partrelid \
           AND a.attnum = ANY(p.partattrs) AND a.attname = ANY($3::text[]))), \
         current_setting('server_version_num')::int >= 150000"
    );
    let rows = counter.asking.ask(QUICK, &sql, &[&stop.relation.oid, &stop.children, columns]).await?;
    let row = rows.first().ok_or(UNREADABLE)?;
    Ok(match (cell(row, 0)?, cell(row, 1)?) {
        (false, _) => Moved::No,
        (true, true) => Moved::Within,
        (true, false) => Moved::Everywhere,
    })
}

/// All that a key does to the referring rows, and how each goes on; `moved`: rows it refers to may be deleted by an UPDATE as well.
fn actions(key: &Key, change: &Change, moved: bool) -> Vec<(CascadeAction, Option<Change>)> {
    let updated = effect(key, change);
    let deleted = if moved { effect(key, &Change::Delete) } else { None };
    let deleted = deleted.filter(|(action, _)| updated.as_ref().is_none_or(|(other, _)| other != action));
    updated.into_iter().chain(deleted).collect()
}

/// What a key does to the referring rows, and how that goes on. `None`: nothing.
fn effect(key: &Key, change: &Change) -> Option<(CascadeAction, Option<Change>)> {
    let written = || Some(Change::Update(key.child_columns.clone()));
    let action = match change {
        Change::Delete => &key.on_delete,
        Change::Update(columns) if columns.iter().any(|column| key.columns.contains(column)) => &key.on_update,
        Change::Update(_) => return None,
    };
    // `FKCONSTR_ACTION_…` in parsenodes.h.
    Some(match (action.as_str(), change) {
        ("c", Change::Delete) => (CascadeAction::Delete, Some(Change::Delete)),
        ("c", Change::Update(_)) => (CascadeAction::Update, written()),
        ("n", _) => (CascadeAction::SetNull, written()),
        ("d", _) => (CascadeAction::SetDefault, written()),
        _ => (CascadeAction::Refuse, None),
    })
}

/// The query over the rows that refer to a stop's rows.
async fn child_query(
    counter: &mut Counter<'_>,
    stop: &Stop,
    key: &Key,
    seen: &mut BTreeSet<u32>,
) -> Result<String, String> {
    let parent = stop.rows.as_ref().map_err(Clone::clone)?;
    counter.ready(&key.child, seen).await?;
    // With our search_path `=` is the server's own, which is what the key compares with only for its own types.
    for (columns, table) in [(&key.child_columns, key.child.oid), (&key.columns, key.parent)] {
        let names = Names { columns: columns.iter().cloned().collect(), ..Names::default() };
        let foreign = lookup::column_types(counter.asking, &names, &[table]).await?;
        lookup::casts(counter.asking, &foreign, &[table]).await?;
    }
    // What a key does it does to that table ONLY, unless it is partitioned (`ri_triggers.c`).
    let only = if key.child.kind == 'p' { "" } else { "ONLY " };
    let list = |alias: &str, columns: &[String]| {
        let columns: Vec<String> = columns.iter().map(|column| format!("{alias}.{}", quoted(column))).collect();
        columns.join(", ")
    };
    Ok(format!(
        "SELECT qg_child.* FROM {only}{} AS qg_child WHERE ({}) IN (SELECT {} FROM ({parent}) AS qg_parent)",
        qualified(&key.child.schema, &key.child.name),
        list("qg_child", &key.child_columns),
        list("qg_parent", &key.columns),
    ))
}
