//! Rows, estimated by the planner and counted where that is affordable. Everything that reaches the server here was made by
//! [`super::statement::rows_query`] or from catalogue names alone, over tables that are locked against redefinition.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::catalogue::{self, Path, QUICK, Relation};
use super::connection::{Asking, Text, qualified};
use super::harmless::{Names, Written};
use super::lookup;
use super::report::{Bound, Known, Rows};
use super::settings::ImpactSettings;
use super::statement::{self, ROW, TABLE};
use crate::clock;

/// Views within views that are looked into.
const VIEW_DEPTH: usize = 4;

/// Counts for one probe, with the time they may take together.
pub(super) struct Counter<'a> {
    pub(super) asking: &'a Asking,
    pub(super) settings: &'a ImpactSettings,
    /// Time for counting that is left.
    left: Duration,
    /// Tables locked and looked at already, and what was found.
    ready: BTreeMap<u32, Result<(), String>>,
    /// What was looked at so far depends on more than rows ([`Names::shifting`]).
    shifting: bool,
}

impl<'a> Counter<'a> {
    pub(super) fn new(asking: &'a Asking, settings: &'a ImpactSettings) -> Self {
        Self { asking, settings, left: settings.count_budget, ready: BTreeMap::new(), shifting: false }
    }

    /// Makes sure that every table the names read can be counted: found, allowed, locked, and free of anybody's code.
    /// Yields what to write for each name, and adds what was found to `read`. `target` is what is changed, if it is among the names.
    pub(super) async fn prepare(
        &mut self,
        path: &Path,
        names: &Names,
        target: Option<&Written>,
        read: &mut BTreeSet<u32>,
    ) -> Result<HashMap<Written, (String, String)>, String> {
        if names.relations.len() > self.settings.objects {
            return Err(format!("it reads more than {} tables", self.settings.objects));
        }
        let mut found = HashMap::new();
        let mut tables = Vec::new();
        for written in &names.relations {
            let relation = catalogue::relation(self.asking, path, written).await?;
            read.insert(relation.oid);
            self.ready(&relation, read).await?;
            if target != Some(written) || names.again.contains(written) {
                self.sees_all(&relation, path.role.as_deref()).await?;
            }
            tables.push(relation.oid);
            found.insert(written.clone(), (relation.schema, relation.name));
        }
        self.shifting |= catalogue::harmless_names(self.asking, path, names, &tables).await?;
        Ok(found)
    }

    /// Makes one relation ready, views with what they read.
    pub(super) async fn ready(&mut self, relation: &Relation, read: &mut BTreeSet<u32>) -> Result<(), String> {
        let mut queue = vec![(relation.clone(), 0_usize)];
        while let Some((relation, depth)) = queue.pop() {
            if read.len() > self.settings.objects || depth > VIEW_DEPTH {
                return Err("it reads too many tables, or views of views".to_owned());
            }
            let outcome = match self.ready.get(&relation.oid) {
                Some(outcome) => outcome.clone(),
                None => self.make_ready(&relation).await,
            };
            self.ready.insert(relation.oid, outcome.clone());
            outcome?;
            read.insert(relation.oid);
            if relation.kind == 'v' {
                let below = self.view(&relation).await.map_err(|why| format!("view {}: {why}", relation.name))?;
                queue.extend(below.into_iter().map(|relation| (relation, depth.saturating_add(1))));
            }
        }
        Ok(())
    }

    async fn make_ready(&self, relation: &Relation) -> Result<(), String> {
        let name = relation.resolved().qualified();
        let all = format!("{}.*", relation.schema);
        if self.settings.exclude.iter().any(|excluded| *excluded == name || *excluded == all) {
            return Err(format!("{name} is excluded by the configuration"));
        }
        if !matches!(relation.kind, 'r' | 'p' | 'v' | 'm') {
            return Err(format!("{name} is a {}", relation.resolved().kind));
        }
        // What a catalogue table or a statistics view answers is the prober's own affair.
        if matches!(relation.schema.as_str(), "pg_catalog" | "information_schema") {
            return Err(format!("it reads {name}"));
        }
        let sql = "SELECT has_table_privilege($1::oid, 'SELECT'), has_schema_privilege(relnamespace, 'USAGE') \
                   FROM pg_class WHERE oid = $1";
        let rows = self.asking.ask(QUICK, sql, &[&relation.oid]).await?;
        let row = rows.first().ok_or("it is gone")?;
        let user = &self.settings.user;
        if !lookup::cell::<bool>(row, 1)? {
            return Err(format!("no USAGE on schema {} for role {user}", relation.schema));
        }
        if !lookup::cell::<bool>(row, 0)? {
            return Err(format!("no SELECT on {name} for role {user}"));
        }
        self.lock(relation).await.map_err(|why| format!("{name}: {why}"))?;
        lookup::table_is_quiet(self.asking, relation.oid, true).await.map_err(|why| format!("{name}: {why}"))
    }

    /// Of a table that is only read, row security may hide rows: whether a condition (`NOT IN`) then finds fewer or more is not known.
    /// Of the target it can only make them fewer.
    async fn sees_all(&self, relation: &Relation, role: Option<&str>) -> Result<(), String> {
        if !catalogue::is_hiding(self.asking, relation.oid, role).await? {
            return Ok(());
        }
        Err(format!("row security of {} decides what the session sees of it", relation.resolved().qualified()))
    }

    /// From here on it is this table, with this definition: changing one takes a lock that waits for ours.
    async fn lock(&self, relation: &Relation) -> Result<(), String> {
        // Postgres locks no materialized view by LOCK; what it is made of does not matter.
        if relation.kind == 'm' {
            return Ok(());
        }
        let target = qualified(&relation.schema, &relation.name);
        self.asking.tell(QUICK, &format!("LOCK TABLE {target} IN ACCESS SHARE MODE")).await?;
        let sql = "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE c.oid = $1 AND n.nspname = $2 AND c.relname = $3";
        let rows = self.asking.ask(QUICK, sql, &[&relation.oid, &relation.schema, &relation.name]).await?;
        if rows.is_empty() { Err("it was replaced meanwhile".to_owned()) } else { Ok(()) }
    }

    /// What a view reads, if its definition calls nothing but the server's own.
    async fn view(&mut self, relation: &Relation) -> Result<Vec<Relation>, String> {
        let rows = self.asking.ask(QUICK, "SELECT pg_get_viewdef($1::oid)", &[&relation.oid]).await?;
        let definition: String = rows.first().map_or(Err("it is gone".to_owned()), |row| lookup::cell(row, 0))?;
        catalogue::names_are_certain(self.asking, &definition).await?;
        let names = statement::view_names(&definition)?;
        // Printed with our search_path, so what has no schema is the server's own.
        let path = Path { schemas: vec!["pg_catalog".to_owned()], ..Path::default() };
        let mut below = Vec::new();
        for written in &names.relations {
            let relation = catalogue::relation(self.asking, &path, written).await?;
            // As whom the view reads it depends on the view.
            self.sees_all(&relation, None).await?;
            below.push(relation);
        }
        let tables: Vec<u32> = below.iter().map(|relation| relation.oid).collect();
        self.shifting |= catalogue::harmless_names(self.asking, &path, &names, &tables).await?;
        Ok(below)
    }

    /// Estimates and counts the rows of a query that yields each row once, or says which row it is when `joins`.
    pub(super) async fn rows(&mut self, query: &str, joins: bool, bound: Bound) -> Rows {
        let plan = self.plan(query).await;
        let cost = plan.as_ref().map(|(_, cost)| *cost).map_err(Clone::clone);
        let estimate = plan.map(|(rows, _)| rows).into();
        let exact = match cost {
            Err(why) => Err(why),
            Ok(cost) if cost > self.settings.count_cost => {
                Err(format!("not counted: too costly (the plan's cost is {cost:.0})"))
            }
            Ok(_) => self.count(query, joins).await,
        };
        let bound = if self.shifting { Bound::AtPresent } else { bound };
        Rows { estimate, exact: exact.into(), bound }
    }

    async fn plan(&self, query: &str) -> Result<(u64, f64), String> {
        let rows = self.asking.ask_of_rows(QUICK, &format!("EXPLAIN (FORMAT JSON) {query}")).await?;
        let Text(text) = rows.first().map_or(Err("there is no plan".to_owned()), |row| lookup::cell(row, 0))?;
        let plan: serde_json::Value = serde_json::from_str(&text).map_err(|_| "its plan could not be read")?;
        let number = |key: &str| plan.pointer(&format!("/0/Plan/{key}")).and_then(serde_json::Value::as_f64);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float to integer cast saturates"
        )]
        let whole = |rows: f64| rows.round() as u64;
        match (number("Plan Rows"), number("Total Cost")) {
            (Some(rows), Some(cost)) => Ok((whole(rows), cost)),
            _ => Err("its plan could not be read".to_owned()),
        }
    }

    async fn count(&mut self, query: &str, joins: bool) -> Result<u64, String> {
        let sql = if joins {
            format!("SELECT count(*) FROM (SELECT DISTINCT {TABLE}, {ROW} FROM ({query}) AS q) AS d")
        } else {
            format!("SELECT count(*) FROM ({query}) AS q")
        };
        if self.left.is_zero() {
            return Err("not counted: the time for counting was used up".to_owned());
        }
        let begun = clock::now();
        let counted = self.asking.ask_of_rows(self.left, &sql).await;
        self.left = self.left.saturating_sub(clock::now().saturating_duration_since(begun));
        let rows = counted.map_err(|why| format!("not counted: {why}"))?;
        let counted: i64 = rows.first().map_or(Err("no answer".to_owned()), |row| lookup::cell(row, 0))?;
        u64::try_from(counted).map_err(|_| "no answer".to_owned())
    }
}

/// Rows that are not known, for one reason.
pub(super) fn unknown(why: &str) -> Rows {
    Rows { estimate: Known::Unknown(why.to_owned()), exact: Known::Unknown(why.to_owned()), bound: Bound::Exact }
}

/// All rows of a table.
pub(super) fn whole_table(relation: &Relation, children: bool) -> String {
    let only = if children { "" } else { "ONLY " };
    format!("SELECT * FROM {only}{}", qualified(&relation.schema, &relation.name))
}
