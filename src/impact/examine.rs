//! One statement after another: its objects, their rows, and what hangs on them.

use std::collections::BTreeSet;

use super::alter::{self, Command, Dropped};
use super::cascade;
use super::catalogue::{self, Path, QUICK, Relation};
use super::count::{self, Counter};
use super::dependents;
use super::harmless::{Names, display};
use super::lookup::cell;
use super::prober::Ask;
use super::report::{
    Action, AlterWork, Bound, Cascade, Definition, Dependents, Known, ObjectImpact, Rows, StatementImpact,
};
use super::retype;
use super::statement::{self, Outline, Sort, Target};
use super::through::{self, Behind};

/// Looks into the statements of one text.
pub(super) struct Examiner<'a> {
    counter: Counter<'a>,
    pub(super) path: &'a Path,
    ask: &'a Ask,
    /// Everything named so far was found.
    pub(super) complete: bool,
    /// Not every name could be told apart: whatever the text may name counts.
    pub(super) by_words: bool,
    /// Operators named so far.
    pub(super) operators: BTreeSet<String>,
    /// Why not all of it was looked at.
    pub(super) cut: Option<String>,
    /// What goes along with what is dropped.
    pub(super) along: Vec<(String, Definition)>,
    /// What is not compared at release.
    pub(super) uncompared: Vec<String>,
}

impl<'a> Examiner<'a> {
    pub(super) fn new(counter: Counter<'a>, path: &'a Path, ask: &'a Ask) -> Self {
        Self {
            counter,
            path,
            ask,
            complete: true,
            by_words: false,
            operators: BTreeSet::new(),
            cut: None,
            along: Vec::new(),
            uncompared: Vec::new(),
        }
    }

    /// What one statement would touch; adds the tables it rests on to `seen`.
    pub(super) async fn statement(
        &mut self,
        index: usize,
        outline: &Outline,
        seen: &mut BTreeSet<u32>,
    ) -> StatementImpact {
        let mut impact = StatementImpact {
            action: outline.action,
            lock: outline.lock.map(str::to_owned),
            objects: Vec::new(),
            cascades: Vec::new(),
            alter: Vec::new(),
            dependents: None,
            place: Some(outline.place),
            part: outline.part,
            consequences: true,
            unfollowed: outline.updates || outline.action == Action::Merge,
            notes: outline.notes.iter().map(|note| (*note).to_owned()).collect(),
        };
        if outline.targets.len() > self.counter.settings.objects {
            impact.notes.push(format!("only the first {} objects were looked at", self.counter.settings.objects));
            self.complete = false;
            self.cut = Some("not every object was looked at".to_owned());
        }
        self.by_words |= match outline.action {
            Action::Delete | Action::Update | Action::Insert | Action::Truncate | Action::Read => false,
            // They name more than what they are aimed at.
            Action::Merge | Action::Drop | Action::Alter | Action::Other => true,
        };
        self.uncompared.extend(outline.uncompared.clone());
        if outline.action == Action::Other && outline.targets.is_empty() {
            self.complete = false;
        }
        let mut relations = Vec::new();
        for target in outline.targets.iter().take(self.counter.settings.objects) {
            let (object, relation) = self.object(index, outline, target, seen, &mut impact).await;
            impact.objects.push(object);
            relations.extend(relation.map(|relation| (relation, target.children)));
        }
        self.reads(outline, seen).await;
        impact.alter = self.alter(outline, relations.first()).await;
        if outline.action == Action::Alter {
            impact.lock = alter::strongest(&outline.alter).map(str::to_owned);
            impact.dependents = self.dropped(outline, relations.first(), &impact).await.map(Known::from);
        }
        if outline.action == Action::Truncate {
            let (cascades, missing) = cascade::truncate(&mut self.counter, &relations, outline.cascade, seen).await;
            self.cascades(cascades, missing, &mut impact);
        }
        if outline.action == Action::Drop {
            self.drops(outline, &mut impact).await;
        }
        impact
    }

    /// Says of a view that Postgres refuses to change it.
    async fn refused(&self, action: Action, view: &Relation, impact: &mut StatementImpact) {
        let event = match action {
            Action::Update => 1 << 2,
            Action::Insert => 1 << 3,
            Action::Delete => 1 << 4,
            Action::Merge | Action::Truncate | Action::Drop | Action::Alter | Action::Read | Action::Other => return,
        };
        if catalogue::is_fixed(self.counter.asking, view, event).await.unwrap_or_default() {
            let name = view.resolved().qualified();
            impact.notes.push(format!("it fails, because Postgres cannot change the view {name}"));
        }
    }

    /// What CASCADE takes along is part of what it rests on.
    async fn goes_along(&mut self, roots: &[dependents::Root], impact: &StatementImpact) {
        match dependents::along(self.counter.asking, roots).await {
            Ok(along) => self.along.extend(along),
            Err(why) => self.uncompared.push(format!("what CASCADE drops as well: {why}")),
        }
        let unknown = impact.objects.iter().filter(|object| object.resolved.known().is_none());
        self.uncompared.extend(unknown.map(|object| format!("what CASCADE drops along with {}", object.written)));
    }

    /// What goes with what is dropped, and what forbids it.
    async fn drops(&mut self, outline: &Outline, impact: &mut StatementImpact) {
        let (asking, limit) = (self.counter.asking, self.counter.settings.listed);
        let roots = dependents::roots(&impact.objects, outline);
        if outline.cascade {
            self.goes_along(&roots, impact).await;
        }
        impact.dependents = Some(dependents::of(asking, &roots, outline.cascade, limit).await.into());
        match dependents::required_by(asking, &roots).await {
            Ok(why) => impact.notes.extend(why),
            Err(why) => impact.notes.push(format!("whether anything forbids it is not known: {why}")),
        }
        let schemas = roots.iter().filter(|(catalogue, _, _)| *catalogue == "pg_namespace").map(|(_, oid, _)| *oid);
        for schema in schemas {
            impact.notes.push(match catalogue::schema_facts(asking, schema).await {
                Ok((tables, bytes, rows)) => {
                    let size = super::text::size(u64::try_from(bytes).unwrap_or_default());
                    format!("in the schema there are {tables} tables with {size}, about {rows:.0} rows")
                }
                Err(why) => format!("how large its tables are is not known: {why}"),
            });
        }
    }

    /// Names that are only read: found, so that they are part of what the statement rests on.
    async fn reads(&mut self, outline: &Outline, seen: &mut BTreeSet<u32>) {
        for names in [&outline.names, &outline.runs] {
            let Ok(names) = names else {
                (self.complete, self.by_words) = (false, true);
                continue;
            };
            self.operators.extend(names.operators.iter().cloned());
            for written in names.relations.iter().take(self.counter.settings.objects) {
                if let Ok(relation) = catalogue::relation(self.counter.asking, self.path, written).await {
                    seen.insert(relation.oid);
                } else {
                    (self.complete, self.by_words) = (false, true);
                }
            }
            let all = names.relations.len() <= self.counter.settings.objects;
            (self.complete, self.by_words) = (self.complete && all, self.by_words || !all);
        }
    }

    async fn object(
        &mut self,
        index: usize,
        outline: &Outline,
        target: &Target,
        seen: &mut BTreeSet<u32>,
        impact: &mut StatementImpact,
    ) -> (ObjectImpact, Option<Relation>) {
        let mut object = ObjectImpact {
            written: display(&target.written),
            resolved: Known::Unknown(String::new()),
            rows: None,
            table: None,
            triggers: Vec::new(),
            rules: Vec::new(),
            through: None,
        };
        if target.sort != Sort::Relation {
            object.resolved = dependents::find(self.counter.asking, self.path, target).await.into();
            (self.complete, self.by_words) = (false, true);
            return (object, None);
        }
        let relation = match catalogue::relation(self.counter.asking, self.path, &target.written).await {
            Ok(relation) => relation,
            Err(why) => {
                object.resolved = Known::Unknown(why.clone());
                object.rows = about_rows(outline.action).then(|| count::unknown(&why));
                (self.complete, self.by_words) = (false, true);
                return (object, None);
            }
        };
        seen.insert(relation.oid);
        object.resolved = Known::Known(relation.resolved());
        if relation.is_table() || relation.kind == 'm' {
            object.table = Some(catalogue::facts(self.counter.asking, &relation, target.children).await.into());
        }
        let behind = self.consequences(outline, &relation, &mut object, impact).await;
        if let Some(behind) = &behind {
            seen.extend(behind.views.iter().map(|view| view.oid));
            seen.insert(behind.table.oid);
            let facts = catalogue::facts(self.counter.asking, &behind.table, behind.children).await;
            object.table = Some(facts.into());
        }
        let of = (&relation, behind.as_ref());
        object.rows = self.rows(index, outline, target, of, &object, seen, impact).await;
        (object, Some(relation))
    }

    /// Triggers and rules, and what is behind a view, with its own.
    async fn consequences(
        &self,
        outline: &Outline,
        relation: &Relation,
        object: &mut ObjectImpact,
        impact: &mut StatementImpact,
    ) -> Option<Behind> {
        // Bits of `tgtype` and numbers of `ev_type` (pg_trigger.h, CmdType in nodes.h).
        let (events, rule) = match outline.action {
            Action::Insert if outline.updates => (4 | 16, "3"),
            Action::Insert => (4, "3"),
            // A row that moves to another partition is deleted there and inserted here (`ExecCrossPartitionUpdate`).
            Action::Update if relation.kind == 'p' => (4 | 8 | 16, "2"),
            Action::Delete => (8, "4"),
            Action::Update => (16, "2"),
            Action::Merge => (4 | 8 | 16, ""),
            Action::Truncate => (32, ""),
            Action::Drop | Action::Alter | Action::Read | Action::Other => return None,
        };
        let asking = self.counter.asking;
        let limit = i64::try_from(self.counter.settings.listed).unwrap_or(i64::MAX);
        match catalogue::triggers(asking, relation, events, limit).await {
            Ok(triggers) => object.triggers = triggers,
            Err(why) => {
                impact.consequences = false;
                impact.notes.push(format!("triggers are not known: {why}"));
            }
        }
        match catalogue::rules(asking, relation, rule).await {
            Ok(rules) => object.rules = rules,
            Err(why) => {
                impact.consequences = false;
                impact.notes.push(format!("rules are not known: {why}"));
            }
        }
        if relation.kind != 'v' {
            return None;
        }
        self.refused(outline.action, relation, impact).await;
        let found = match through::behind(asking, relation, outline.action, (events, rule)).await {
            Ok(found) => found,
            Err(why) => {
                // Fail closed: nobody knows what goes along, or fires.
                (impact.consequences, impact.unfollowed) = (false, true);
                impact
                    .notes
                    .push(format!("what is changed behind {} is not known: {why}", relation.resolved().qualified()));
                return None;
            }
        };
        object.through = Some(found.table.resolved().qualified());
        let moves = outline.action == Action::Update && found.table.kind == 'p';
        let events = if moves { 4 | 8 | 16 } else { events };
        let (triggers, rules) = (
            catalogue::triggers(asking, &found.table, events, limit).await,
            catalogue::rules(asking, &found.table, rule).await,
        );
        impact.consequences &= triggers.is_ok() && rules.is_ok();
        for why in [triggers.as_ref().err(), rules.as_ref().err()].into_iter().flatten() {
            impact.notes.push(format!("triggers and rules of {} are not known: {why}", found.table.name));
        }
        object.triggers.extend(triggers.unwrap_or_default());
        object.rules.extend(rules.unwrap_or_default());
        Some(found)
    }

    #[expect(clippy::too_many_arguments, reason = "they are what is known at this point, each of its own kind")]
    async fn rows(
        &mut self,
        index: usize,
        outline: &Outline,
        target: &Target,
        (relation, behind): (&Relation, Option<&Behind>),
        object: &ObjectImpact,
        seen: &mut BTreeSet<u32>,
        impact: &mut StatementImpact,
    ) -> Option<Rows> {
        let bound = self.bound(object, behind).await;
        match outline.action {
            Action::Truncate => return Some(self.whole(relation, target.children, seen).await),
            Action::Drop if relation.is_table() => return Some(self.whole(relation, true, seen).await),
            Action::Drop | Action::Alter | Action::Read | Action::Other => return None,
            Action::Merge => {
                let why = "rows of MERGE are not counted";
                for change in outline.changes.clone() {
                    let of = (relation, behind, target.children);
                    self.follow(of, change, (Err(why.to_owned()), Bound::AtMost), seen, impact).await;
                }
                return Some(count::unknown(why));
            }
            Action::Insert => {
                if let Some(rows) = outline.written_rows {
                    if rows == 1 && !self.returns_one(outline).await {
                        return Some(count::unknown("a function in its VALUES may return many rows"));
                    }
                    return Some(Rows { estimate: Known::Known(rows), exact: Known::Known(rows), bound });
                }
            }
            Action::Delete | Action::Update => (),
        }
        let mut query = self.query(index, outline, relation, seen).await;
        let start = match (behind, &query) {
            (Some(behind), Ok(query)) => match self.counter.ready(&behind.table, seen).await {
                Ok(()) => behind.rows(&self.counter, query).await,
                Err(why) => Err(why),
            },
            (_, query) => query.clone(),
        };
        if outline.joins && !relation.is_table() {
            query = Err("rows of a view that is joined are not counted".to_owned());
        }
        let rows = match &query {
            Ok(query) => self.counter.rows(query, outline.joins, bound).await,
            Err(why) => count::unknown(why),
        };
        let change = match outline.action {
            Action::Delete => Some(cascade::Change::Delete),
            Action::Update => Some(cascade::Change::Update(outline.columns.clone())),
            Action::Insert
            | Action::Merge
            | Action::Truncate
            | Action::Drop
            | Action::Alter
            | Action::Read
            | Action::Other => None,
        };
        if let Some(change) = change {
            self.follow((relation, behind, target.children), change, (start, bound), seen, impact).await;
        }
        Some(rows)
    }

    /// Foreign keys, from the table that is named or from the one behind the view.
    async fn follow(
        &mut self,
        (relation, behind, children): (&Relation, Option<&Behind>, bool),
        change: cascade::Change,
        rows: (Result<String, String>, Bound),
        seen: &mut BTreeSet<u32>,
        impact: &mut StatementImpact,
    ) {
        let (start, change) = match behind {
            None if relation.is_table() => ((relation, children), Ok(change)),
            None => return,
            Some(behind) => ((&behind.table, behind.children), behind.change(self.counter.asking, change).await),
        };
        let (cascades, missing) = match change {
            Ok(change) => cascade::follow(&mut self.counter, start, change, rows, seen).await,
            Err(why) => (Vec::new(), Some(why)),
        };
        self.cascades(cascades, missing, impact);
    }

    /// Whether a row that is written out is one row: in VALUES of one row a function may return many (`transformInsertStmt` in analyze.c).
    async fn returns_one(&self, outline: &Outline) -> bool {
        let Ok(names) = &outline.names else { return false };
        let functions: Vec<&String> = names.functions.union(&names.own_functions).collect();
        let sql = "SELECT NOT EXISTS (SELECT FROM pg_proc WHERE proname = ANY($1) AND proretset)";
        let answer = self.counter.asking.ask(QUICK, sql, &[&functions]).await;
        // Fail closed.
        functions.is_empty() || answer.is_ok_and(|rows| rows.first().is_some_and(|row| cell(row, 0).unwrap_or(false)))
    }

    fn cascades(&mut self, cascades: Vec<Cascade>, missing: Option<String>, impact: &mut StatementImpact) {
        impact.cascades.extend(cascades);
        if let Some(why) = missing {
            impact.notes.push(format!("not every foreign key could be followed: {why}"));
            self.complete = false;
            self.cut = Some("not every foreign key could be followed".to_owned());
        }
    }

    /// The query over the rows a statement touches, safe to run.
    async fn query(
        &mut self,
        index: usize,
        outline: &Outline,
        relation: &Relation,
        seen: &mut BTreeSet<u32>,
    ) -> Result<String, String> {
        let unknown = |why: String| format!("unknown: {why}");
        let names = outline.names.as_ref().map_err(|why| unknown(why.clone()))?;
        // An INSERT names its target nowhere in what it selects.
        let target = outline.targets.first().map(|target| &target.written).filter(|_| outline.action != Action::Insert);
        let found = self.counter.prepare(self.path, names, target, seen).await.map_err(unknown)?;
        let (text, values, physical) = (self.ask.text.clone(), self.ask.values.clone(), relation.is_table());
        let built = tokio::task::spawn_blocking(move || statement::rows_query(&text, index, &values, &found, physical));
        built.await.map_err(|_| unknown("it could not be written as a query".to_owned()))?.map_err(unknown)
    }

    async fn whole(&mut self, relation: &Relation, children: bool, seen: &mut BTreeSet<u32>) -> Rows {
        match self.counter.ready(relation, seen).await {
            Ok(()) => {
                let query = count::whole_table(relation, children);
                self.counter.rows(&query, false, Bound::Exact).await
            }
            Err(why) => count::unknown(&why),
        }
    }

    /// Row security that binds the session but not the prober, rows that triggers may drop, rules that replace the statement.
    async fn bound(&self, object: &ObjectImpact, behind: Option<&Behind>) -> Bound {
        let Some(resolved) = object.resolved.known() else { return Bound::AtMost };
        let before_row =
            object.triggers.iter().any(|trigger| trigger.when != "AFTER ROW" && trigger.when.ends_with("ROW"));
        if before_row || !object.rules.is_empty() {
            return Bound::AtMost;
        }
        // Fail closed.
        for oid in behind.map(|behind| behind.table.oid).into_iter().chain([resolved.oid]) {
            let hiding = catalogue::is_hiding(self.counter.asking, oid, self.path.role.as_deref()).await;
            if hiding.unwrap_or(true) {
                return Bound::AtMost;
            }
        }
        Bound::Exact
    }

    /// Sub-commands, with what the catalogue says of their columns.
    async fn alter(&self, outline: &Outline, relation: Option<&(Relation, bool)>) -> Vec<super::report::AlterStep> {
        let mut steps = Vec::new();
        for Command { step, retyped, computed, .. } in &outline.alter {
            let mut step = step.clone();
            if let (Some(retyped), Some((relation, _))) = (retyped, relation) {
                // Fail closed: what cannot be told rewrites.
                if let Ok(Some((work, why))) = retype::work(self.counter.asking, relation.oid, retyped).await {
                    step.work = work;
                    why.clone_into(&mut step.why);
                }
            }
            if let Some(names) = computed
                && let Err(why) = self.is_steady(names).await
            {
                step.work = AlterWork::Rewrite;
                step.why = format!("its default may be computed for every row (ATExecAddColumn): {why}");
            }
            steps.push(step);
        }
        steps
    }

    /// Whether a default is the same for every row: it calls only what is the server's own and not volatile.
    async fn is_steady(&self, names: &Result<Names, String>) -> Result<(), String> {
        let names = names.as_ref().map_err(Clone::clone)?;
        catalogue::harmless_names(self.counter.asking, self.path, names, &[]).await.map(|_| ())
    }

    /// What goes along with the columns and constraints that an ALTER drops, if it drops any.
    async fn dropped(
        &mut self,
        outline: &Outline,
        relation: Option<&(Relation, bool)>,
        impact: &StatementImpact,
    ) -> Option<Result<Dependents, String>> {
        let parts: Vec<&Dropped> = outline.alter.iter().filter_map(|command| command.dropped.as_ref()).collect();
        if parts.is_empty() {
            return None;
        }
        let Some((relation, children)) = relation else { return Some(Err("the table is not known".to_owned())) };
        let (asking, limit) = (self.counter.asking, self.counter.settings.listed);
        let cascade = parts.iter().any(|dropped| dropped.cascade);
        match dependents::parts(asking, relation.oid, *children, &parts).await {
            Ok(roots) if roots.is_empty() => Some(Ok(Dependents { listed: Vec::new(), more: false, cascade })),
            Ok(roots) => {
                if cascade {
                    self.goes_along(&roots, impact).await;
                }
                Some(dependents::of(asking, &roots, cascade, limit).await)
            }
            Err(why) => Some(Err(why)),
        }
    }
}

fn about_rows(action: Action) -> bool {
    match action {
        Action::Delete | Action::Update | Action::Insert | Action::Merge | Action::Truncate => true,
        Action::Drop | Action::Alter | Action::Read | Action::Other => false,
    }
}
