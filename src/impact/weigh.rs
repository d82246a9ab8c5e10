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
    BookParts, Callable, EffectKind, Hazard, ObjectName, RelationHazard, TypeHazard, function_danger,
    function_is_builtin,
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
/// Longest clause about one function, in characters: of a long chain of calls the beginning is told.
const CLAUSE: usize = 300;

/// What the judge is told.
pub(super) fn weigh(database: &str, found: &Found, harmless: &[String], bodies: &Bodies) -> BookParts {
    let uses: Vec<Arc<Uses>> =
        found.functions.iter().map(|function| uses_of(database, function, found, harmless, bodies)).collect();
    let mut weighing =
        Weighing { found, hazards: HashMap::new(), relations: BTreeMap::new(), parts: BookParts::default() };
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
    if function_danger(Some(&function.schema), &function.name).is_some()
        || function.own
        || function.uncallable
        || function.aggregate
    {
        // What is dangerous by its name the judge knows; aggregates are as what they are made of.
        return Uses::default();
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

struct Weighing<'f> {
    found: &'f Found,
    /// By oid.
    hazards: HashMap<u32, Hazard>,
    /// Relations that call something, by oid and whether only writing does: how, and what.
    relations: BTreeMap<(u32, bool), (String, Hazard)>,
    parts: BookParts,
}

impl Weighing<'_> {
    /// What bodies say by themselves.
    fn begin(&mut self, uses: &[Arc<Uses>]) {
        let own =
            |name: &&(String, String)| !function_is_builtin(None, &name.0) && function_danger(None, &name.0).is_none();
        self.parts.own = self.found.own.values().filter(own).map(|(name, _)| name.clone()).collect();
        self.parts.types = self.found.types.values().cloned().collect();
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

    /// Follows calls one step; whether anything was found.
    fn step(&mut self, uses: &[Arc<Uses>]) -> bool {
        let before = (self.hazards.len(), self.relations.len());
        self.unseen();
        self.tables();
        for (function, uses) in self.found.functions.iter().zip(uses) {
            if !self.hazards.contains_key(&function.oid)
                && let Some(what) = self.calls(function, uses)
            {
                self.hazards.insert(function.oid, hazard(function, &what));
            }
        }
        (self.hazards.len(), self.relations.len()) != before
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
            let kind = function_danger(None, name)?;
            let function = ObjectName { schema: Some("pg_catalog".to_owned()), name: name.clone() };
            Some(Hazard { why: format!("{function}(), which has the effect {kind}"), function, effects: Vec::new() })
        })
    }

    /// Whatever relations, types and functions with trees call.
    fn unseen(&mut self) {
        let operators: HashMap<u32, u32> =
            self.found.operators.iter().map(|(oid, _, function)| (*oid, *function)).collect();
        for unseen in &self.found.unseen {
            let called = match unseen.what.as_str() {
                "operator" => operators.get(&unseen.called).and_then(|function| self.hazard(*function)),
                "relation" => self.relations.get(&(unseen.called, false)).map(|(_, hazard)| hazard.clone()),
                _ => self.hazard(unseen.called),
            };
            if let Some(called) = called {
                self.calls_unseen(unseen, called);
            }
        }
        let children: Vec<_> = self
            .found
            .inherits
            .iter()
            .filter_map(|(child, parent)| Some((*parent, self.relations.get(&(*child, true))?.clone())))
            .collect();
        for (parent, found) in children {
            self.relations.entry((parent, true)).or_insert(found);
        }
    }

    fn calls_unseen(&mut self, unseen: &Unseen, called: Hazard) {
        match unseen.kind.as_str() {
            "domain" => {
                let Some(name) = self.found.types.get(&unseen.of) else { return };
                for (relation, _) in self.found.columns.iter().filter(|(_, of)| *of == unseen.of) {
                    let how = format!("a column of the type {name} calls {}", called.why);
                    self.relations.entry((*relation, true)).or_insert((how, called.clone()));
                }
                let hazard = TypeHazard { name: name.clone(), hazard: called };
                if !self.parts.type_hazards.iter().any(|known| known.name == hazard.name) {
                    self.parts.type_hazards.push(hazard);
                }
            }
            "body" => {
                let function = self.found.functions.iter().find(|function| function.oid == unseen.of);
                if let Some(function) = function.filter(|function| !self.hazards.contains_key(&function.oid)) {
                    self.hazards.insert(function.oid, hazard(function, &format!("calls {}", called.why)));
                }
            }
            kind => {
                let Some((schema, name)) = self.found.relations.get(&unseen.of) else { return };
                let what = match kind {
                    "view" => "the view",
                    "rule" => "a rule of",
                    "policy" => "a row security policy of",
                    "default" => "a default of",
                    "check" => "a check of",
                    "index" => "an index of",
                    _ => "the partitioning of",
                };
                let how = format!("{what} {schema}.{name} calls {}", called.why);
                let by_writing = !matches!(kind, "view" | "policy");
                self.relations.entry((unseen.of, by_writing)).or_insert((how, called));
            }
        }
    }

    /// The tables by name, as far as is known by now.
    fn tables(&mut self) {
        let mut functions: HashMap<String, Vec<Callable>> = HashMap::new();
        for function in self.found.functions.iter().filter(|function| !function.uncallable) {
            let hazard = self.hazards.get(&function.oid).cloned();
            functions.entry(function.name.clone()).or_default().push(Callable {
                schema: function.schema.clone(),
                single: function.single,
                hazard,
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
        for ((oid, by_writing), (how, hazard)) in &self.relations {
            if let Some((schema, name)) = self.found.relations.get(oid) {
                let (schema, how, hazard) = (schema.clone(), how.clone(), hazard.clone());
                let one = RelationHazard { schema, by_writing: *by_writing, how, hazard };
                relations.entry(name.clone()).or_default().push(one);
            }
        }
        let silent = self.found.casts.iter().filter(|cast| cast.silent).map(|cast| cast.function);
        let ambient: BTreeSet<u32> = silent.chain(self.found.support.iter().copied()).collect();
        self.parts.ambient = ambient.into_iter().filter_map(|function| self.unnamed(function)).collect();
        for cast in self.found.casts.iter().filter(|cast| !cast.silent) {
            if let Some(hazard) = self.unnamed(cast.function)
                && !self.parts.type_hazards.iter().any(|known| known.name == cast.target)
            {
                self.parts.type_hazards.push(TypeHazard { name: cast.target.clone(), hazard });
            }
        }
        (self.parts.functions, self.parts.operators, self.parts.relations) = (functions, operators, relations);
    }

    /// A function behind an operator or cast. What an extension wrote in C for its types is taken to be harmless there, for it would be in
    /// every statement's way; the documentation says so.
    fn unnamed(&self, oid: u32) -> Option<Hazard> {
        let by_extension = |function: &Function| {
            let never = |extension: &String| NEVER.contains(&extension.as_str());
            function.language == "c" && function.extension.as_ref().is_some_and(|extension| !never(extension))
        };
        let function = self.found.functions.iter().find(|function| function.oid == oid);
        self.hazard(oid).filter(|_| !function.is_some_and(by_extension))
    }

    fn finish(mut self) -> BookParts {
        self.tables();
        let mut seen = HashSet::new();
        self.parts.type_hazards.retain(|hazard| seen.insert(hazard.name.clone()));
        self.parts.type_hazards.sort_by(|one, two| one.name.cmp(&two.name));
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
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::*;

    fn function(oid: u32, name: &str, language: &str, source: &str) -> Function {
        Function {
            oid,
            name: name.to_owned(),
            schema: "public".to_owned(),
            language: language.to_owned(),
            source: source.to_owned(),
            ..Function::default()
        }
    }

    fn unseen(kind: &str, of: u32, what: &str, called: u32) -> Unseen {
        Unseen { kind: kind.to_owned(), of, what: what.to_owned(), called }
    }

    fn weighed(found: &Found) -> BookParts {
        weigh("d", found, &["mine".to_owned()], &Bodies::new(16))
    }

    fn is_hazard(parts: &BookParts, name: &str) -> Option<String> {
        parts.functions[name][0].hazard.as_ref().map(|hazard| hazard.why.clone())
    }

    #[test]
    fn calls_are_followed_to_what_writes_however_they_are_made() {
        let found = Found {
            functions: vec![
                function(1, "purge", "plpgsql", "BEGIN DELETE FROM orders; END"),
                function(2, "outer", "sql", "SELECT middle()"),
                function(3, "middle", "plpgsql", "BEGIN PERFORM purge(); END"),
                function(4, "by_view", "sql", "SELECT * FROM public.w"),
                function(5, "by_operator", "sql", "SELECT 1 === 2"),
                function(
                    6,
                    "by_word",
                    "plpgsql",
                    "DECLARE r w%ROWTYPE; BEGIN FOR r IN SELECT * FROM w LOOP NULL; END LOOP; END",
                ),
                function(7, "reads", "sql", "SELECT total FROM t WHERE id = twice(2)"),
                function(8, "twice", "plpgsql", "BEGIN RETURN twice($1 - 1) + reads(); END"),
                Function { aggregate: true, ..function(9, "summed", "internal", "aggregate_dummy") },
                Function { tree_writes: Some(false), ..function(10, "tree", "sql", "") },
                function(11, "missing", "sql", "SELECT not_there()"),
                function(12, "lower", "plpgsql", " BEGIN PERFORM purge(); RETURN $1; END "),
            ],
            aggregates: HashMap::from([(9, vec![7, 3])]),
            operators: vec![(50, "===".to_owned(), 1)],
            unseen: vec![
                unseen("view", 100, "function", 1),
                unseen("view", 101, "relation", 100),
                unseen("body", 10, "operator", 50),
                unseen("default", 102, "function", 2),
            ],
            relations: [(100, "v"), (101, "w"), (102, "child"), (103, "parent")]
                .map(|(oid, name)| (oid, ("public".to_owned(), name.to_owned())))
                .into_iter()
                .collect(),
            inherits: vec![(102, 103)],
            ..Found::default()
        };
        let parts = weighed(&found);
        for name in
            ["purge", "outer", "middle", "by_view", "by_operator", "by_word", "summed", "tree", "missing", "lower"]
        {
            assert!(is_hazard(&parts, name).is_some(), "{name}");
        }
        for name in ["reads", "twice"] {
            assert_eq!(is_hazard(&parts, name), None, "{name}");
        }
        assert_eq!(is_hazard(&parts, "purge").unwrap(), "public.purge(), which deletes from orders (plpgsql)");
        assert!(parts.relations["v"].iter().all(|hazard| !hazard.by_writing));
        assert!(parts.relations["w"].iter().all(|hazard| !hazard.by_writing));
        assert!(parts.relations["parent"][0].by_writing, "rows go to its partitions");
    }

    #[test]
    fn languages_that_are_not_read_are_in_doubt_but_for_extensions_that_are_known() {
        let c = |oid, name: &str, extension: Option<&str>| Function {
            extension: extension.map(str::to_owned),
            ..function(oid, name, "c", "x")
        };
        let found = Found {
            functions: vec![
                c(1, "of_nobody", None),
                c(2, "of_pgcrypto", Some("pgcrypto")),
                c(3, "of_mine", Some("mine")),
                c(4, "of_other", Some("other")),
                function(5, "python", "plpython3u", "pass"),
                function(6, "renamed_lower", "internal", "lower"),
                function(7, "renamed_unlink", "internal", "be_lo_unlink"),
                Function { uncallable: true, ..function(8, "trigger", "plpgsql", "BEGIN DELETE FROM t; END") },
            ],
            own: HashMap::from([
                (90, ("lower".to_owned(), "lower".to_owned())),
                (91, ("lo_unlink".to_owned(), "be_lo_unlink".to_owned())),
            ]),
            operators: vec![(50, "=".to_owned(), 4), (51, "~~~".to_owned(), 91), (52, "@@@".to_owned(), 1)],
            ..Found::default()
        };
        let parts = weighed(&found);
        for name in ["of_nobody", "of_other", "python", "renamed_unlink"] {
            assert!(is_hazard(&parts, name).is_some(), "{name}");
        }
        for name in ["of_pgcrypto", "of_mine", "renamed_lower"] {
            assert_eq!(is_hazard(&parts, name), None, "{name}");
        }
        assert!(!parts.functions.contains_key("trigger"), "nobody can call it");
        assert!(!parts.operators.contains_key("="), "an extension's in C");
        assert!(parts.operators.contains_key("~~~") && parts.operators.contains_key("@@@"));
    }

    #[test]
    fn domains_and_casts_count_for_their_types_and_silent_casts_for_everything() {
        let cast = |target: &str, silent| super::super::survey::Cast { target: target.to_owned(), function: 1, silent };
        let found = Found {
            functions: vec![function(1, "purge", "sql", "DELETE FROM orders")],
            casts: vec![cast("loud", false), cast("quiet", true)],
            types: HashMap::from([(200, "checked".to_owned())]),
            columns: vec![(100, 200)],
            unseen: vec![unseen("domain", 200, "function", 1)],
            relations: HashMap::from([(100, ("public".to_owned(), "t".to_owned()))]),
            ..Found::default()
        };
        let parts = weighed(&found);
        let names: Vec<&str> = parts.type_hazards.iter().map(|hazard| hazard.name.as_str()).collect();
        assert_eq!(names, ["checked", "loud"]);
        assert_eq!(parts.ambient.len(), 1);
        assert!(parts.relations["t"][0].by_writing);
        assert_eq!(parts.ambient[0].effects[0].kind, EffectKind::Delete, "what it certainly does is known");
        assert_eq!(weighed(&found), parts, "the same finds give the same book");
    }
}
