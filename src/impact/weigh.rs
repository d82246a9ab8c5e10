//! From what a survey found to what the judge is told: which functions can write, and what calls them unseen. Pure. Start at [`weigh`].
//!
//! A function can write if its body does, if its body cannot be told, or if it calls, in any way, one that can. That is followed until
//! nothing new is found, so the order does not matter, and functions that call each other are no more than what they do together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::body::BODY;
use super::survey::{Bodies, Found, Function, Unseen};
use super::uses::Uses;
use crate::judge::{
    BookParts, Callable, EffectKind, Hazard, ObjectName, RelationHazard, Touch, TypeHazard, VALUE_MAKERS,
    function_danger, function_is_builtin, recoded_name,
};

/// Extensions whose functions in C only compute or read. (Those in SQL and PL/pgSQL are read like anybody's, and names that are known to do
/// more are held wherever they come from.)
const HARMLESS: &[&str] = &[
    "address_standardizer",
    "amcheck",
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dict_int",
    "dict_xsyn",
    "earthdistance",
    "fuzzystrmatch",
    "h3",
    "hll",
    "hstore",
    "intagg",
    "intarray",
    "ip4r",
    "isn",
    "ltree",
    "pageinspect",
    "pg_bigm",
    "pg_buffercache",
    "pg_freespacemap",
    "pg_stat_statements",
    "pg_trgm",
    "pg_uuidv7",
    "pg_visibility",
    "pg_walinspect",
    "pgcrypto",
    "pgrowlocks",
    "pgstattuple",
    "plpgsql",
    "postgis",
    "postgis_raster",
    "postgis_sfcgal",
    "rum",
    "seg",
    "semver",
    "sslinfo",
    "tdigest",
    "tsm_system_rows",
    "tsm_system_time",
    "unaccent",
    "uuid-ossp",
    "vector",
];
/// Extensions whose operators and casts are not taken for harmless because an extension brought them.
const NEVER: &[&str] = &["adminpack", "dblink", "file_fdw", "lo", "postgres_fdw", "tablefunc", "xml2"];
/// Domains over domains that are followed.
const MAX_DOMAINS: usize = 64;
/// Longest clause about one function, in characters: of a long chain of calls the beginning is told.
const CLAUSE: usize = 300;

/// What the judge is told.
pub(super) fn weigh(database: &str, found: &Found, harmless: &[String], bodies: &Bodies) -> BookParts {
    let uses: Vec<Arc<Uses>> =
        found.functions.iter().map(|function| uses_of(database, function, found, harmless, bodies)).collect();
    let mut weighing = Weighing {
        found,
        functions: found.functions.iter().map(|function| (function.oid, function)).collect(),
        hazards: HashMap::new(),
        types: BTreeMap::new(),
        relations: BTreeMap::new(),
        keys: BTreeMap::new(),
        ranges: BTreeSet::new(),
        converting: HashSet::new(),
        operators: HashMap::new(),
        parts: BookParts::default(),
    };
    for (oid, _, function) in &found.operators {
        weighing.operators.entry(*oid).or_default().push(*function);
    }
    weighing.begin(&uses);
    while weighing.step(&uses) {}
    weighing.finish()
}

/// What a function's body does, remembered by its version.
fn uses_of(database: &str, function: &Function, found: &Found, harmless: &[String], bodies: &Bodies) -> Arc<Uses> {
    let read = matches!(function.language.as_str(), "sql" | "plpgsql");
    if !read || function.own || function.uncallable || function.aggregate || function.tree_writes.is_some() {
        return Arc::new(unread(function, found, harmless));
    }
    let key = (database.to_owned(), function.oid, function.version.clone());
    bodies.get(&key).unwrap_or_else(|| {
        let uses = Arc::new(match function.language.as_str() {
            _ if function.source.len() > BODY => Uses::doubtful("is too long to be read"),
            "sql" => Uses::sql(&function.source),
            _ => Uses::plpgsql(&function.source),
        });
        bodies.insert(key, Arc::clone(&uses));
        uses
    })
}

/// What can be said of a function without reading a text.
fn unread(function: &Function, found: &Found, harmless: &[String]) -> Uses {
    if function.own || function.uncallable || function.aggregate {
        // Aggregates are as what they are made of.
        return Uses::default();
    }
    if let Some(kind) = by_name(function) {
        return Uses { writes: Some(format!("has the effect {kind}")), ..Uses::default() };
    }
    let listed = |extension: &String| HARMLESS.contains(&extension.as_str()) || harmless.contains(extension);
    match (function.language.as_str(), function.tree_writes) {
        ("sql", Some(true)) => Uses { writes: Some("does more than select".to_owned()), ..Uses::default() },
        ("sql", Some(false)) => Uses::default(),
        ("c", _) if function.extension.as_ref().is_some_and(listed) => Uses::default(),
        ("internal", _) => {
            let mut same = found.own.values().filter(|(_, source)| *source == function.source).peekable();
            let harmless = same.peek().is_some() && same.all(|(name, _)| function_danger(None, name).is_none());
            if harmless { Uses::default() } else { Uses::doubtful("is the server's own code under another name") }
        }
        ("c", _) => match &function.extension {
            Some(extension) => Uses::doubtful(format!("is written in C, by the extension {extension}")),
            None => Uses::doubtful("is written in C"),
        },
        (language, _) => Uses::doubtful(format!("is written in {language}, which is not read")),
    }
}

/// What a function does that is known by its name alone, and that the judge knows where the name is written.
fn by_name(function: &Function) -> Option<EffectKind> {
    let read = matches!(function.language.as_str(), "sql" | "plpgsql");
    let told = read || function.own || function.uncallable || function.aggregate;
    if told { None } else { function_danger(Some(&function.schema), &function.name) }
}

struct Weighing<'f> {
    found: &'f Found,
    functions: HashMap<u32, &'f Function>,
    /// What each operator may call.
    operators: HashMap<u32, Vec<u32>>,
    /// By oid.
    hazards: HashMap<u32, Hazard>,
    /// Types with values that call something when they are made.
    types: BTreeMap<u32, Hazard>,
    /// Relations that call something, by oid and what makes them: how, and what.
    relations: BTreeMap<(u32, Touch), (String, Hazard)>,
    /// Partitioned tables, and their partitions, with a key that does, likewise.
    keys: BTreeMap<u32, (String, Hazard)>,
    /// Ranges that do, and what is made of them: gathering statistics of them calls something as well.
    ranges: BTreeSet<u32>,
    /// Where a function is called that may make values of the types of columns: kind, of what.
    converting: HashSet<(&'f str, u32)>,
    parts: BookParts,
}

impl<'f> Weighing<'f> {
    /// What bodies say by themselves.
    fn begin(&mut self, uses: &[Arc<Uses>]) {
        let own =
            |name: &&(String, String)| !function_is_builtin(None, &name.0) && function_danger(None, &name.0).is_none();
        self.parts.own = self.found.own.values().filter(own).map(|(name, _)| name.clone()).collect();
        self.parts.recodes = self.found.recodes;
        self.parts.types = self.found.types.values().map(|name| self.key(name)).collect();
        self.parts.type_oids.clone_from(&self.found.type_oids);
        self.polymorphic();
        for (relation, rule) in &self.found.writing_rules {
            self.writing_rule(*relation, rule);
        }
        for (function, uses) in self.found.functions.iter().zip(uses) {
            if let Some(what) = uses.writes.as_ref().or(uses.doubt.as_ref()) {
                let mut hazard = hazard(function, what);
                if uses.doubt.is_none() {
                    let by = format!("by {}(): ", hazard.function);
                    hazard.effects.clone_from(&uses.effects);
                    for effect in &mut hazard.effects {
                        effect.why.insert_str(0, &by);
                    }
                }
                self.hazards.insert(function.oid, hazard);
            }
        }
    }

    /// A name as it is compared.
    fn key(&self, name: &str) -> String {
        if self.found.recodes { recoded_name(name).into_owned() } else { name.to_owned() }
    }

    /// What may make a value of a type that one of its arguments has, and where it is called.
    fn polymorphic(&mut self) {
        let found: &'f Found = self.found;
        let is = |oid: &u32| self.functions.get(oid).is_some_and(|function| function.polymorphic);
        let functions = found.functions.iter().filter(|function| function.polymorphic && !function.uncallable);
        let operators = found.operators.iter().filter(|(_, _, function)| is(function));
        let names = functions.map(|function| &function.name).chain(operators.map(|(_, name, _)| name));
        let names: HashSet<String> = names.chain(&found.own_polymorphic).map(|name| self.key(name)).collect();
        let calls = |unseen: &&Unseen| match unseen.what.as_str() {
            "function" => is(&unseen.called),
            "operator" => self.operators.get(&unseen.called).into_iter().flatten().any(is),
            _ => false,
        };
        let converting = found.unseen.iter().filter(calls).map(|unseen| (unseen.kind.as_str(), unseen.of)).collect();
        (self.parts.polymorphic, self.converting) = (names, converting);
    }

    /// Follows calls one step; whether anything was found.
    fn step(&mut self, uses: &[Arc<Uses>]) -> bool {
        let size = |weighing: &Self| {
            let types = (weighing.types.len(), weighing.ranges.len());
            (weighing.hazards.len(), types, weighing.relations.len(), weighing.keys.len())
        };
        let before = size(self);
        self.unseen();
        self.types();
        self.spread();
        self.tables();
        for (function, uses) in self.found.functions.iter().zip(uses) {
            if !self.hazards.contains_key(&function.oid)
                && let Some(what) = self.calls(function, uses)
            {
                self.hazards.insert(function.oid, hazard(function, &what));
            }
        }
        size(self) != before
    }

    /// What a function without a body that writes calls.
    fn calls(&self, function: &Function, uses: &Uses) -> Option<String> {
        let mut made_of = self.found.aggregates.get(&function.oid).into_iter().flatten();
        if let Some(hazard) = made_of.find_map(|oid| self.hazard(*oid)) {
            return Some(format!("is made of {}", hazard.why));
        }
        let raised = uses.pieces.iter().flat_map(|piece| self.parts.raises(piece));
        if let Some(effect) = raised.into_iter().find(|effect| effect.kind == EffectKind::Code) {
            return Some(format!("does this: {}", effect.why));
        }
        let mut ambiguous = uses.ambiguous.iter().filter_map(|name| self.parts.functions.get(name)).flatten();
        ambiguous.find_map(|callable| callable.hazard.as_ref()).map(|hazard| format!("calls {}", hazard.why))
    }

    /// What a function of this oid is: somebody's, or one of the server's own that is known by its name.
    fn hazard(&self, oid: u32) -> Option<Hazard> {
        self.hazards.get(&oid).cloned().or_else(|| {
            let (name, _) = self.found.own.get(&oid)?;
            if VALUE_MAKERS.contains(&name.as_str()) {
                // It may make a value of any type.
                return self.types.values().next().cloned();
            }
            let kind = function_danger(None, name)?;
            let function = ObjectName { schema: Some("pg_catalog".to_owned()), name: name.clone() };
            Some(Hazard { why: format!("{function}(), which has the effect {kind}"), function, effects: Vec::new() })
        })
    }

    /// Whatever relations, types and functions with trees call.
    fn unseen(&mut self) {
        let found: &'f Found = self.found;
        for unseen in &found.unseen {
            let called = match unseen.what.as_str() {
                "operator" => {
                    let functions = self.operators.get(&unseen.called).into_iter().flatten();
                    functions.copied().find_map(|function| self.hazard(function))
                }
                "relation" => self.touched(unseen.called, &[Touch::Read, Touch::Plan]),
                "type" => self.types.get(&unseen.called).cloned(),
                _ if unseen.kind == "range" => self.unnamed(unseen.called),
                _ => self.hazard(unseen.called),
            };
            if let Some(called) = called.or_else(|| self.converted(unseen)) {
                self.calls_unseen(unseen, called);
            }
            if unseen.kind == "view" && unseen.what == "relation" {
                // What is written through a view is written to its table.
                for touch in [Touch::Write, Touch::Change] {
                    self.pass(unseen.called, unseen.of, touch, touch);
                }
            }
        }
    }

    fn touched(&self, relation: u32, touches: &[Touch]) -> Option<Hazard> {
        let found = touches.iter().find_map(|touch| self.relations.get(&(relation, *touch)));
        found.map(|(_, hazard)| hazard.clone())
    }

    /// What a polymorphic function calls by making values of the types of columns, where one is called.
    fn converted(&self, unseen: &Unseen) -> Option<Hazard> {
        let kind = unseen.kind.as_str();
        if !self.converting.contains(&(kind, unseen.of)) {
            return None;
        }
        match (unseen.what.as_str(), kind) {
            ("relation", _) => self.touched(unseen.called, &[Touch::Convert]),
            (_, "view" | "body" | "domain" | "range") => None,
            _ => self.touched(unseen.of, &[Touch::Convert]),
        }
    }

    /// Whether the planner may make the call, before anything is read or written.
    fn is_planned(&self, unseen: &Unseen) -> bool {
        let folds = |oid: &u32| {
            let function = self.functions.get(oid);
            // What the body of one in SQL calls with constants is called where it is put in.
            function.is_some_and(|function| function.language == "sql" || function.immutable && unseen.folds)
        };
        match unseen.what.as_str() {
            "function" => folds(&unseen.called),
            "operator" => self.operators.get(&unseen.called).into_iter().flatten().any(folds),
            _ => true,
        }
    }

    fn calls_unseen(&mut self, unseen: &Unseen, called: Hazard) {
        match unseen.kind.as_str() {
            kind @ ("domain" | "range") => {
                if kind == "range" {
                    self.ranges.insert(unseen.of);
                }
                self.types.entry(unseen.of).or_insert(called);
            }
            "body" => {
                let function = self.functions.get(&unseen.of);
                if let Some(function) = function.filter(|function| !self.hazards.contains_key(&function.oid)) {
                    self.hazards.insert(function.oid, hazard(function, &format!("calls {}", called.why)));
                }
            }
            kind => {
                let (what, touches): (_, &[Touch]) = match kind {
                    "view" => ("the view", &[Touch::Read]),
                    "policy" => ("a row security policy of", &[Touch::Read]),
                    "rule" => ("a rule of", &[Touch::Write]),
                    "default" => ("a default of", &[Touch::Write]),
                    "check" => ("a check of", &[Touch::Write]),
                    "index" => ("an index of", &[Touch::Write, Touch::Analyze]),
                    "statistics" => ("the statistics of", &[Touch::Analyze]),
                    _ => ("the partitioning of", &[Touch::Write]),
                };
                let Some(name) = self.relation(unseen.of) else { return };
                let how = format!("{what} {name} calls {}", called.why);
                if kind == "table" {
                    self.keys.entry(unseen.of).or_insert((how.clone(), called.clone()));
                }
                let planned = matches!(kind, "check" | "index" | "statistics" | "table") && self.is_planned(unseen);
                let planned: &[Touch] = if planned { &[Touch::Plan] } else { &[] };
                for touch in touches.iter().chain(planned) {
                    self.relations.entry((unseen.of, *touch)).or_insert((how.clone(), called.clone()));
                }
            }
        }
    }

    fn relation(&self, oid: u32) -> Option<ObjectName> {
        let (schema, name) = self.found.relations.get(&oid)?;
        Some(ObjectName { schema: Some(schema.clone()), name: name.clone() })
    }

    /// A rule that writes by itself: whoever writes the relation does what nobody reads in the statement.
    fn writing_rule(&mut self, relation: u32, rule: &str) {
        let Some(function) = self.relation(relation) else { return };
        let why = format!("the rule {rule} of {function}, which does more than select");
        let found = (why.clone(), Hazard { function, why, effects: Vec::new() });
        self.relations.entry((relation, Touch::Write)).or_insert(found);
    }

    /// Types made of those that call something, and columns of them.
    fn types(&mut self) {
        let found: &'f Found = self.found;
        for (of, part) in &found.made_of {
            if let Some(hazard) = self.types.get(part).cloned() {
                self.types.entry(*of).or_insert(hazard);
            }
            if self.ranges.contains(part) {
                self.ranges.insert(*of);
            }
        }
        for (relation, of) in &found.columns {
            let Some(hazard) = self.types.get(of) else { continue };
            let name = found.shapes.get(of).map_or("", |shape| &shape.name);
            let how = format!("a column of the type {name} calls {}", hazard.why);
            // A text that is compared with a column is made a value of its type, but for domains: of what they are over.
            let plain: &[Touch] = if self.is_plain(*of) { &[Touch::Write, Touch::Convert] } else { &[Touch::Parse] };
            // `compute_range_stats`.
            let range: &[Touch] = if self.ranges.contains(of) { &[Touch::Analyze] } else { &[] };
            let hazard = hazard.clone();
            for touch in plain.iter().chain(range) {
                self.relations.entry((*relation, *touch)).or_insert((how.clone(), hazard.clone()));
            }
        }
    }

    /// A domain, at the end over a type whose values call nothing.
    fn is_plain(&self, mut of: u32) -> bool {
        for _ in 0..MAX_DOMAINS {
            match self.found.shapes.get(&of).and_then(|shape| shape.base) {
                Some(base) if self.types.contains_key(&base) => of = base,
                base => return base.is_some(),
            }
        }
        false
    }

    /// From partitions and children to their parents, from partitioned tables to what their rows go to, and from what refers to a table to it.
    fn spread(&mut self) {
        let found: &'f Found = self.found;
        for (child, parent) in &found.inherits {
            for touch in [Touch::Write, Touch::Change, Touch::Analyze, Touch::Plan] {
                self.pass(*child, *parent, touch, touch);
            }
            if let Some(key) = self.keys.get(parent).cloned() {
                self.relations.entry((*child, Touch::Write)).or_insert(key.clone());
                self.keys.entry(*child).or_insert(key);
                self.pass(*parent, *child, Touch::Plan, Touch::Plan);
            }
        }
        // What enforces a foreign key reads the other table.
        for (parent, child) in &found.foreign {
            self.pass(*child, *parent, Touch::Plan, Touch::Change);
            self.pass(*parent, *child, Touch::Plan, Touch::Write);
        }
        for (parent, child) in &found.references {
            for touch in [Touch::Write, Touch::Change] {
                self.pass(*child, *parent, touch, Touch::Change);
            }
        }
    }

    fn pass(&mut self, from: u32, to: u32, touch: Touch, becomes: Touch) {
        if let Some(found) = self.relations.get(&(from, touch)).cloned() {
            self.relations.entry((to, becomes)).or_insert(found);
        }
    }

    /// The tables by name, as far as is known by now.
    fn tables(&mut self) {
        let mut functions: HashMap<String, Vec<Callable>> = HashMap::new();
        for function in self.found.functions.iter().filter(|function| !function.uncallable) {
            let (hazard, by_name) = (self.hazards.get(&function.oid).cloned(), by_name(function).is_some());
            functions.entry(self.key(&function.name)).or_default().push(Callable {
                schema: self.key(&function.schema),
                single: function.single,
                hazard,
                by_name,
            });
        }
        for callables in functions.values_mut() {
            callables.sort_by(|one, two| (&one.schema, why(one)).cmp(&(&two.schema, why(two))));
        }
        let mut operators: HashMap<String, Vec<Hazard>> = HashMap::new();
        for (_, name, function) in &self.found.operators {
            if let Some(hazard) = self.unnamed(*function) {
                operators.entry(name.clone()).or_default().push(hazard);
            }
        }
        let mut relations: HashMap<String, Vec<RelationHazard>> = HashMap::new();
        for ((oid, by), (how, hazard)) in &self.relations {
            if let Some((schema, name)) = self.found.relations.get(oid) {
                let (schema, how, hazard) = (self.key(schema), how.clone(), hazard.clone());
                let one = RelationHazard { schema, by: *by, how, hazard };
                relations.entry(self.key(name)).or_default().push(one);
            }
        }
        let silent = self.found.casts.iter().filter(|cast| cast.silent).map(|cast| cast.function);
        let ambient: BTreeSet<u32> = silent.chain(self.found.support.iter().copied()).collect();
        self.parts.ambient = ambient.into_iter().filter_map(|function| self.unnamed(function)).collect();
        let mut types: Vec<TypeHazard> = Vec::new();
        for (oid, hazard) in &self.types {
            if let Some(shape) = self.found.shapes.get(oid) {
                let (name, row, hazard) = (self.key(&shape.name), shape.row, hazard.clone());
                types.push(TypeHazard { name, oid: Some(*oid), row, when_parsed: !self.is_plain(*oid), hazard });
            }
        }
        for cast in self.found.casts.iter().filter(|cast| !cast.silent) {
            let Some(hazard) = self.unnamed(cast.function) else { continue };
            let made = self.found.cast_to.iter().filter(|(target, _)| *target == cast.oid).map(|(_, name)| name);
            for name in made.chain([&cast.target]) {
                let (name, hazard) = (self.key(name), hazard.clone());
                types.push(TypeHazard { name, oid: None, row: false, when_parsed: false, hazard });
            }
        }
        let key = |one: &TypeHazard| (one.name.clone(), one.oid, one.hazard.why.clone());
        types.sort_by_key(key);
        types.dedup_by_key(|one| key(one));
        self.parts.type_hazards = types;
        (self.parts.functions, self.parts.operators, self.parts.relations) = (functions, operators, relations);
    }

    /// A function behind an operator or cast. What an extension wrote in C for its types is taken to be harmless there, for it would be in
    /// every statement's way; the documentation says so.
    fn unnamed(&self, oid: u32) -> Option<Hazard> {
        let by_extension = |function: &Function| {
            let never = |extension: &String| NEVER.contains(&extension.as_str());
            function.language == "c"
                && by_name(function).is_none()
                && function.extension.as_ref().is_some_and(|extension| !never(extension))
        };
        let function = self.functions.get(&oid);
        self.hazard(oid).filter(|_| !function.is_some_and(|function| by_extension(function)))
    }

    fn finish(mut self) -> BookParts {
        self.tables();
        self.parts
    }
}

fn why(callable: &Callable) -> Option<&str> {
    callable.hazard.as_ref().map(|hazard| hazard.why.as_str())
}

fn hazard(function: &Function, what: &str) -> Hazard {
    let name = ObjectName { schema: Some(function.schema.clone()), name: function.name.clone() };
    let definer = if function.security_definer { ", SECURITY DEFINER" } else { "" };
    let what: String = what.chars().take(CLAUSE).collect();
    let why = format!("{name}(), which {what} ({}{definer})", function.language);
    Hazard { function: name, why, effects: Vec::new() }
}

#[cfg(test)]
mod tests;
