//! The walk over one statement: every node in order, each looked at once.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::super::tree::At;
use super::super::{Analysis, Piece, functions, settings};
use super::called::Called;
use super::names::{self, is_catalog, relation};
use super::{Effect, EffectKind, ObjectName, Opinion, SessionAct, data, definitions, nodes, session};

/// Collects what a statement does.
pub(super) struct Reader<'t> {
    root: At<'t>,
    piece: Range<usize>,
    pub(super) opinion: Opinion,
    /// Relations a statement writes or defines; the others are read.
    claimed: HashSet<usize>,
    /// Behind the end of an EXPLAIN that runs nothing: up to here nothing is run.
    quiet_until: usize,
    /// The arguments of an EXECUTE: they are run even under such an EXPLAIN.
    loud: Range<usize>,
    ctes: HashMap<&'t str, Vec<Cte>>,
    reads: Vec<ObjectName>,
    seen: HashSet<ObjectName>,
    reads_something: bool,
    /// Behind the end of a literal: its words excuse nothing.
    literal_until: usize,
    calls: Called,
}

/// Where the name of a `WITH` query hides a table's name.
struct Cte {
    scope: Range<usize>,
    /// Its own and earlier queries of a WITH that is not RECURSIVE do not see it.
    blind: Range<usize>,
}

/// Effects listed per statement.
const MAX_EFFECTS: usize = 500;
/// Objects named per statement, over all its effects. `pg_dump` locks some thousands of tables in one.
const MAX_OBJECTS: usize = 10_000;

fn unknown(why: &str) -> Effect {
    effect(EffectKind::Unknown, Vec::new(), why)
}

/// An effect without details.
pub(super) fn effect(kind: EffectKind, objects: Vec<ObjectName>, why: impl Into<String>) -> Effect {
    Effect { kind, objects, has_where: None, columns: Vec::new(), why: why.into() }
}

impl<'t> Reader<'t> {
    pub(super) fn new(root: At<'t>, piece: Range<usize>) -> Self {
        Self {
            root,
            piece,
            opinion: Opinion { literal_independent: literal_independent(root), ..Opinion::default() },
            claimed: HashSet::new(),
            quiet_until: 0,
            loud: 0..0,
            ctes: ctes(root),
            reads: Vec::new(),
            seen: HashSet::new(),
            reads_something: false,
            literal_until: 0,
            calls: Called::default(),
        }
    }

    /// Walks and concludes.
    pub(super) fn finish(mut self) -> Opinion {
        for at in self.root.descendants() {
            self.node(at);
        }
        if self.reads_something || !self.reads.is_empty() || self.opinion.effects.is_empty() {
            let objects = std::mem::take(&mut self.reads);
            self.opinion.effects.push(effect(EffectKind::Read, objects, "it reads"));
        }
        self.catalog_writes();
        self.bound_objects();
        self.opinion.calls = self.calls.take(&self.opinion.effects);
        self.opinion.acts.extend(self.prepare_act());
        self.opinion
    }

    /// Keeps what rules are asked about, and people shown, within bounds.
    fn bound_objects(&mut self) {
        let mut left = MAX_OBJECTS;
        for effect in &mut self.opinion.effects {
            effect.objects.truncate(left);
            left = left.saturating_sub(effect.objects.len());
        }
        if left == 0 {
            // Fail closed: nobody could read them all.
            self.opinion.effects.push(unknown(&format!("it names {MAX_OBJECTS} objects or more")));
        }
    }

    fn node(&mut self, at: At<'t>) {
        let kind = at.kind();
        match kind {
            // Lists and values; names are collected for the tripwire.
            "" => self.excuse(at),
            "AConst" => self.literal_until = at.end(),
            "RangeVar" => self.range_var(at),
            "FuncCall" => self.call(at),
            "AExpr" => self.calls.operator(at, "name"),
            "SubLink" => self.calls.operator(at, "oper_name"),
            "SortBy" => self.calls.operator(at, "use_op"),
            "TypeName" => self.calls.type_name(at),
            "ColumnRef" => {
                if let [_, .., name] = at.names("fields").as_slice() {
                    self.attribute(name);
                }
            }
            "AIndirection" => {
                for name in at.names("indirection") {
                    self.attribute(name);
                }
            }
            "RangeTableSample" => {
                let method = at.names("method");
                if !matches!(method.last(), Some(&("bernoulli" | "system"))) {
                    self.opinion.opaque = true;
                }
                self.calls.function(&names::qualified(&method));
            }
            _ if nodes::is_part(kind) => {}
            _ if data::statement(self, at) || session::statement(self, at) || definitions::statement(self, at) => {
                self.calls.statement(at);
            }
            // Fail closed: a node nobody wrote a rule for.
            _ => self.push(effect(EffectKind::Unknown, Vec::new(), format!("`{kind}` is not known to the judge"))),
        }
    }

    /// The statement itself.
    pub(super) fn root(&self) -> At<'t> {
        self.root
    }

    /// Whether nodes here are only planned, never run.
    pub(super) fn is_quiet(&self, at: At<'t>) -> bool {
        at.index() < self.quiet_until && !self.loud.contains(&at.index())
    }

    /// What is below `at` runs, although what is around it does not.
    pub(super) fn loud(&mut self, at: At<'t>) {
        self.loud = at.index()..at.end();
        self.opinion.quiet = false;
    }

    /// Nothing below `at` runs.
    pub(super) fn quiet(&mut self, at: At<'t>) {
        self.quiet_until = self.quiet_until.max(at.end());
        self.opinion.quiet |= at.index() == self.root.index();
        self.reads_something = true;
    }

    /// It reads, even if it names no relation.
    pub(super) fn reads(&mut self) {
        self.reads_something = true;
    }

    /// Adds an effect.
    pub(super) fn push(&mut self, effect: Effect) {
        if self.opinion.effects.len() > MAX_EFFECTS || self.opinion.effects.contains(&effect) {
            return;
        }
        match self.opinion.effects.len() {
            ..MAX_EFFECTS => self.opinion.effects.push(effect),
            // Fail closed: nobody could read them all.
            MAX_EFFECTS => self.opinion.effects.push(unknown("it has too many effects to list")),
            _ => {}
        }
    }

    /// Adds an effect on these objects.
    pub(super) fn add(&mut self, kind: EffectKind, objects: Vec<ObjectName>, why: impl Into<String>) {
        self.push(effect(kind, objects, why));
    }

    /// The relation in this field as an object that is written or defined, not read.
    pub(super) fn claim(&mut self, at: At<'t>, field: &str) -> Vec<ObjectName> {
        at.get(field).into_iter().filter(|at| at.kind() == "RangeVar").map(|at| self.take(at)).collect()
    }

    /// The relations listed in this field, likewise.
    pub(super) fn claim_all(&mut self, at: At<'t>, field: &str) -> Vec<ObjectName> {
        at.items(field).filter(|at| at.kind() == "RangeVar").map(|at| self.take(at)).collect()
    }

    /// All relations below, likewise.
    pub(super) fn claim_below(&mut self, at: At<'t>) -> Vec<ObjectName> {
        at.descendants().filter(|at| at.kind() == "RangeVar").map(|at| self.take(at)).collect()
    }

    fn take(&mut self, at: At<'t>) -> ObjectName {
        self.claimed.insert(at.index());
        relation(at)
    }

    fn range_var(&mut self, at: At<'t>) {
        if self.claimed.contains(&at.index()) {
            return;
        }
        let name = relation(at);
        let hidden = name.schema.is_none()
            && self.ctes.get(name.name.as_str()).is_some_and(|ctes| {
                ctes.iter().any(|cte| cte.scope.contains(&at.index()) && !cte.blind.contains(&at.index()))
            });
        if !hidden && self.seen.insert(name.clone()) {
            self.reads.push(name);
        }
    }

    fn call(&mut self, at: At<'t>) {
        let parts = at.names("funcname");
        let name = names::qualified(&parts);
        self.calls.function(&name);
        let schema = name.schema.as_deref();
        if name.name == "set_config" {
            session::set_config(self, at);
        } else if let Some(kind) = functions::call_danger(schema, &name.name, at.items("args").count()) {
            self.function_effect(at, kind, &name);
        } else if !functions::is_builtin(schema, &name.name) {
            self.opinion.opaque = true;
        }
    }

    fn function_effect(&mut self, at: At<'t>, kind: EffectKind, name: &ObjectName) {
        self.opinion.opaque = true;
        if !self.is_quiet(at) || functions::runs_when_planned(name.schema.as_deref(), &name.name) {
            self.add(kind, vec![name.clone()], format!("it calls {name}()"));
        }
    }

    /// `x.name` calls the function `name` when `x` has no such column (`ParseFuncOrColumn` in `parse_func.c`).
    fn attribute(&mut self, name: &str) {
        self.calls.attribute(name);
        if let Some(kind) = functions::attribute_danger(name) {
            self.opinion.opaque = true;
            self.add(kind, vec![names::plain(name)], format!("`.{name}` can call {name}()"));
        }
    }

    /// Remembers names that are spelled like dangerous words, so that the tripwire lets them be.
    fn excuse(&mut self, at: At<'t>) {
        if at.index() < self.literal_until {
            return;
        }
        let Some(text) = at.as_text() else { return };
        // What is named here is a relation, not a function: `job_run (id)` has columns, no arguments.
        let named =
            matches!(at.field(), "relname" | "ctename" | "aliasname") && functions::danger(None, text).is_some();
        if named || super::super::tripwire::is_danger_word(text) {
            self.opinion.excused.push(text.to_owned());
        }
    }

    /// Writing the system catalogues is administration, whatever statement does it.
    fn catalog_writes(&mut self) {
        let objects: Vec<_> = self
            .opinion
            .effects
            .iter()
            .filter(|effect| writes_rows_or_makes(effect.kind))
            .flat_map(|effect| effect.objects.iter().filter(|name| is_catalog(name)).cloned())
            .collect();
        if !objects.is_empty() {
            self.add(EffectKind::Admin, objects, "it writes system catalogues");
        }
        let acting: Vec<_> = self
            .opinion
            .effects
            .iter()
            .filter(|effect| writes_rows_or_makes(effect.kind))
            .flat_map(|effect| &effect.objects)
            .filter_map(|name| Some((names::schema(name).and_then(functions::schema_danger)?, name.clone())))
            .collect();
        for (kind, name) in acting {
            self.add(kind, vec![name], "it writes tables of an extension that acts on them");
        }
    }

    /// `PREPARE name AS body`: running it does what the body does.
    fn prepare_act(&self) -> Option<SessionAct> {
        let name = (self.root.kind() == "PrepareStmt").then(|| self.root.text("name").to_owned())?;
        let body = Analysis {
            pieces: vec![Piece {
                range: self.piece.clone(),
                effects: self.opinion.effects.clone(),
                acts: Vec::new(),
                risks: Vec::new(),
                calls: self.opinion.calls.clone(),
            }],
            literal_independent: false,
            opaque: self.opinion.opaque,
            reason: None,
            tags: crate::judge::Tags::default(),
            // Filled in when the whole text has been looked at.
            risks: None,
        };
        Some(SessionAct::Prepare { name, body: Arc::new(body) })
    }

    /// Judges a change of a setting.
    pub(super) fn setting(&mut self, at: At<'t>, name: &str, change: settings::Change<'_>) {
        if self.is_quiet(at) {
            return;
        }
        let kind = settings::judge(name, change);
        let verb = match change {
            settings::Change::To(_) => "sets",
            settings::Change::Reset => "resets",
            settings::Change::Current => "keeps",
        };
        #[expect(clippy::wildcard_enum_match_arm, reason = "`settings` gives no other kinds than these and `Session`")]
        let why = match kind {
            EffectKind::ReadingSetting => format!("it {verb} {name}, which changes how later text is read"),
            EffectKind::SensitiveSetting => format!("it {verb} {name}, which is not on the harmless list"),
            EffectKind::Privilege => format!("it {verb} {name}, which changes whose rights apply"),
            _ => format!("it {verb} {name}"),
        };
        self.add(kind, vec![names::plain(&name.to_ascii_lowercase())], why);
    }
}

fn writes_rows_or_makes(kind: EffectKind) -> bool {
    matches!(
        kind,
        EffectKind::Insert
            | EffectKind::Update
            | EffectKind::Delete
            | EffectKind::Merge
            | EffectKind::Truncate
            | EffectKind::Create
    )
}

/// Statements whose effects follow from names and structure alone. A SET, an option list or a COPY's file name is a literal
/// that decides; what is not listed is not worth the thought.
fn literal_independent(root: At<'_>) -> bool {
    let plain = match root.kind() {
        "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt" | "SelectStmt" | "VariableShowStmt" | "FetchStmt"
        | "ClosePortalStmt" => true,
        "TransactionStmt" => root.text("gid").is_empty(),
        _ => false,
    };
    // Whether `LIKE '%'` limits the rows that are written is in its literal (`rows::limits`).
    let (mut pattern, mut writes) = (false, false);
    plain
        && root.descendants().all(|at| {
            let kind = at.kind();
            writes |= matches!(kind, "UpdateStmt" | "DeleteStmt" | "MergeStmt" | "InsertStmt");
            pattern |= kind == "AExpr" && super::rows::has_pattern(at);
            !(pattern && writes) && (kind != "FuncCall" || !at.names("funcname").contains(&"set_config"))
        })
}

fn ctes(root: At<'_>) -> HashMap<&str, Vec<Cte>> {
    let mut found: HashMap<&str, Vec<Cte>> = HashMap::new();
    for statement in root.descendants().filter(|at| at.kind().ends_with("Stmt")) {
        let Some(with) = statement.get("with_clause") else { continue };
        let Some(list) = with.get("ctes") else { continue };
        for cte in list.children() {
            found.entry(cte.text("ctename")).or_default().push(Cte {
                scope: statement.index()..statement.end(),
                blind: if with.flag("recursive") { 0..0 } else { list.index()..cte.end() },
            });
        }
    }
    found
}
