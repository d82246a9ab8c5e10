//! What an undo would bring back, and which of its rows conflict at present: rows changed since, keys that are taken, parents that are
//! missing. Nothing is tried: a few queries over what is kept and over the tables, in the prober's own read-only transaction. What it
//! cannot know is what triggers will do, and what happens until then.
//!
//! Start at [`Prober::foresee`]; [`query`] writes the SQL. Knows where rows are kept; knows no warrants.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{self, Path, QUICK};
use super::connection::Asking;
use super::count::Counter;
use super::lookup::cell;
use super::prober::Prober;
use super::report::{Conflicting, Known, UndoAction, UndoneRows};
use super::settings::ImpactSettings;
use crate::clock;

mod query;
mod shape;

use shape::Shape;

/// Rows that one statement wrote to one table in one way.
struct Group {
    relation: u32,
    schema: String,
    name: String,
    action: UndoAction,
    rows: u64,
}

impl Prober {
    /// What undoing `request` would bring back in `database`, table by table, with the rows that conflict at present. Takes no longer than
    /// the budget.
    ///
    /// # Errors
    /// What is kept cannot be read, and why.
    ///
    /// # Cancellation safety
    /// As for [`Self::probe`].
    pub async fn foresee(&self, database: &str, request: &str) -> Result<Vec<UndoneRows>, String> {
        let _seat = self.seat().await?;
        let asking = self.open(database).await?;
        let seen = of(&asking, self.settings(), request).await;
        asking.close().await;
        seen
    }
}

async fn of(asking: &Asking, settings: &ImpactSettings, request: &str) -> Result<Vec<UndoneRows>, String> {
    // It is written into SQL.
    if !request.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err("that is no request".to_owned());
    }
    let mut foreseer = Foreseer {
        counter: Counter::new(asking, settings),
        request,
        shapes: BTreeMap::new(),
        kept: Vec::new(),
        seen: BTreeSet::new(),
    };
    let groups = foreseer.groups().await?;
    // Texts are compared with those that were kept.
    asking
        .tell(
            QUICK,
            "SELECT set_config(n, v, true) FROM (VALUES ('DateStyle', 'ISO, YMD'), ('IntervalStyle', 'postgres'), ('TimeZone', 'UTC'), \
             ('extra_float_digits', '1'), ('bytea_output', 'hex'), ('lc_monetary', 'C'), ('xmloption', 'content')) s (n, v)",
        )
        .await?;
    let mut time = settings.count_budget;
    let mut undone = Vec::new();
    for group in groups.iter().take(settings.objects) {
        let begun = clock::now();
        let conflicts = foreseer.conflicts(group, time).await;
        time = time.saturating_sub(clock::now().saturating_duration_since(begun));
        undone.push(UndoneRows {
            table: format!("{}.{}", group.schema, group.name),
            action: group.action,
            rows: group.rows,
            conflicts: conflicts.into(),
        });
    }
    for group in groups.iter().skip(settings.objects) {
        undone.push(UndoneRows {
            table: format!("{}.{}", group.schema, group.name),
            action: group.action,
            rows: group.rows,
            conflicts: Known::Unknown(format!("only {} tables are looked at", settings.objects)),
        });
    }
    Ok(undone)
}

struct Foreseer<'a> {
    counter: Counter<'a>,
    request: &'a str,
    /// Tables, as far as they were looked up.
    shapes: BTreeMap<u32, Result<Shape, String>>,
    /// Tables that rows are kept of, in order.
    kept: Vec<u32>,
    /// Tables that were made ready.
    seen: BTreeSet<u32>,
}

impl Foreseer<'_> {
    async fn groups(&mut self) -> Result<Vec<Group>, String> {
        for table in ["request", "change"] {
            // It might be anybody's view.
            self.ready("querygate_undo", table).await?;
        }
        let sql = "SELECT c.relation, min(c.schema_name), min(c.table_name), c.op::text, count(*) \
                   FROM querygate_undo.change c JOIN querygate_undo.request r USING (request) \
                   WHERE c.request = $1 AND NOT c.undone AND r.state = 'kept' AND r.kept_until > clock_timestamp() \
                   GROUP BY c.relation, c.op ORDER BY 2, 3, 4";
        let rows = self.counter.asking.ask(QUICK, sql, &[&self.request]).await?;
        let mut groups = Vec::new();
        for row in &rows {
            let (op, rows): (String, i64) = (cell(row, 3)?, cell(row, 4)?);
            let action = match op.as_str() {
                "D" => UndoAction::BringBack,
                "U" => UndoAction::SetBack,
                "I" => UndoAction::Remove,
                _ => return Err("what is kept cannot be read".to_owned()),
            };
            let (relation, schema, name) = (cell(row, 0)?, cell(row, 1)?, cell(row, 2)?);
            self.kept.push(relation);
            groups.push(Group { relation, schema, name, action, rows: u64::try_from(rows).unwrap_or_default() });
        }
        self.kept.dedup();
        Ok(groups)
    }

    async fn ready(&mut self, schema: &str, name: &str) -> Result<(), String> {
        let written = (Some(schema.to_owned()), name.to_owned());
        let relation = catalogue::relation(self.counter.asking, &Path::default(), &written).await?;
        if !relation.is_table() {
            return Err(format!("{schema}.{name} is no table"));
        }
        self.counter.ready(&relation, &mut self.seen).await
    }

    /// How many rows of a group conflict, by why.
    async fn conflicts(&mut self, group: &Group, time: std::time::Duration) -> Result<Vec<Conflicting>, String> {
        let asking = self.counter.asking;
        if !shape::is_there(asking, group.relation, &group.schema, &group.name).await? {
            let why = "its table is gone, or has another name".to_owned();
            return Ok(vec![Conflicting { why, rows: group.rows }]);
        }
        let shape = self.shape(group.relation).await?;
        self.ready(&shape.root_schema, &shape.root_name).await?;
        let mut around = query::Around::default();
        for key in &shape.refers {
            let parent = self.shape_of_table(key.table).await?;
            // What comes back with it may be what it refers to.
            let mut sources = Vec::new();
            for kept in self.kept.clone() {
                // A table that is gone brings nothing back, and neither does one that cannot be read.
                if let Ok(kept) = self.shape(kept).await
                    && kept.root == parent.root
                {
                    sources.push(kept);
                }
            }
            around.parents.push((key.clone(), parent, sources));
        }
        for key in &shape.referred {
            let child = self.shape_of_table(key.table).await?;
            around.children.push((key.clone(), child));
        }
        if shape.odd_keys {
            return Err("it has unique indexes over expressions or parts of it, or exclusion constraints".to_owned());
        }
        let sql = query::conflicts(self.request, group.action, &shape, &around);
        let rows = asking.ask_of_rows(time, &sql).await?;
        let mut conflicts = Vec::new();
        for row in &rows {
            let rows: i64 = cell(row, 1)?;
            conflicts.push(Conflicting { why: cell(row, 0)?, rows: u64::try_from(rows).unwrap_or_default() });
        }
        Ok(conflicts)
    }

    /// A table beside, readable.
    async fn shape_of_table(&mut self, oid: u32) -> Result<Shape, String> {
        let shape = self.shape(oid).await?;
        self.ready(&shape.root_schema, &shape.root_name).await?;
        Ok(shape)
    }

    async fn shape(&mut self, oid: u32) -> Result<Shape, String> {
        if let Some(known) = self.shapes.get(&oid) {
            return known.clone();
        }
        let found = shape::of(self.counter.asking, oid).await;
        self.shapes.insert(oid, found.clone());
        found
    }
}
