//! What is known of one database's own functions: which can write, and what calls them unseen. Filled in by whoever can ask the
//! database; knows no connection and no text. Start at [`Book::raises`].
//!
//! Everything goes by name. Which of several functions of one name a statement calls depends on its types and on the `search_path`,
//! neither of which the judge knows: any that can write counts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

mod recoding;

pub(crate) use self::recoding::recoded;
use self::recoding::recoded_piece;
use super::functions::{attribute_danger, danger, is_builtin};
use super::{Calls, Effect, EffectKind, ObjectName, Piece, SessionClass};

/// Effects that one statement is raised by. One with more cannot be listed.
const MAX_RAISED: usize = 100;
/// Classes remembered: one for each kind of session of the database.
const MAX_CLASSES: usize = 256;
/// Operators that SQL calls by other words (IN, BETWEEN, DISTINCT, JOIN … USING, CASE, ORDER BY): any statement may.
const UNWRITTEN: [&str; 6] = ["=", "<>", "<", ">", "<=", ">="];

/// What is known of one database's functions at one time. Never changes; a later look makes another.
#[derive(Debug)]
pub struct Book {
    content: Content,
    /// By the class that was bound to it; the key lives as long as its entry.
    classes: Mutex<HashMap<usize, (SessionClass, SessionClass)>>,
}

#[derive(Debug, PartialEq)]
enum Content {
    /// Nobody has looked, or could; why.
    Unknown(String),
    Known(Arc<BookParts>),
    /// What was known, and why that is not all.
    Doubtful(Arc<BookParts>, String),
}

/// What a look at a database found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BookParts {
    /// Everybody's functions, by name.
    pub functions: HashMap<String, Vec<Callable>>,
    /// Names of the server's own functions that the judge does not know as harmless or dangerous.
    pub own: HashSet<String>,
    /// Operators that call a function that can write, by name.
    pub operators: HashMap<String, Vec<Hazard>>,
    /// Everybody's types that `name(x)` can cast to.
    pub types: HashSet<String>,
    /// Everybody's types, by oid.
    pub type_oids: HashSet<u32>,
    /// Types with values that call a function that can write when they are made, or to which an explicit cast does, by name.
    pub type_hazards: Vec<TypeHazard>,
    /// Views, and tables with policies, defaults, checks or rules, that call a function that can write, by name.
    pub relations: HashMap<String, Vec<RelationHazard>>,
    /// Functions and operators that may make a value of a type which one of their arguments has, by name.
    pub polymorphic: HashSet<String>,
    /// The database is in another encoding than UTF-8: names stand here as `recoded` makes them.
    pub recodes: bool,
    /// What any statement may call unseen: casts that need not be written, functions that compare.
    pub ambient: Vec<Hazard>,
}

/// A function of somebody's.
#[derive(Debug, Clone, PartialEq)]
pub struct Callable {
    /// Its schema.
    pub schema: String,
    /// It can be called with one argument, so as `x.name`.
    pub single: bool,
    /// It can write, or nobody knows; `None`: it only reads.
    pub hazard: Option<Hazard>,
    /// All that is known to be dangerous of it is its name: where that is written the judge says so by itself.
    pub by_name: bool,
}

/// A function that can write, or that cannot be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Hazard {
    /// Which.
    pub function: ObjectName,
    /// What it does, in a clause that begins with its name.
    pub why: String,
    /// What it certainly does, where its body could be read whole.
    pub effects: Vec<Effect>,
}

/// A type that calls such a function.
#[derive(Debug, Clone, PartialEq)]
pub struct TypeHazard {
    /// Its name.
    pub name: String,
    /// Its oid; `None`: only a cast to it calls something, not its values by themselves.
    pub oid: Option<u32>,
    /// It is a row's: `x.name` makes no value of it.
    pub row: bool,
    /// A text that is to be a value of it is made one when the statement is parsed, before anything of it runs.
    pub when_parsed: bool,
    /// What it calls.
    pub hazard: Hazard,
}

/// What somebody does with a relation that makes it call something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// Reading or writing its rows.
    Read,
    /// Planning a statement that reads or writes its rows, or gathering its statistics.
    Plan,
    /// Reading or writing its rows, and parsing a statement that compares a text with a column.
    Parse,
    /// Writing its rows, not reading them.
    Write,
    /// Writing its rows, and reading them where a function may make values of the types of its columns.
    Convert,
    /// Updating or deleting rows of it.
    Change,
    /// Gathering its statistics.
    Analyze,
}

/// A relation that calls such a function.
#[derive(Debug, Clone, PartialEq)]
pub struct RelationHazard {
    /// Its schema.
    pub schema: String,
    /// What calls it.
    pub by: Touch,
    /// How: "the view public.v calls …".
    pub how: String,
    /// What it calls.
    pub hazard: Hazard,
}

impl Book {
    /// Of a database that could not be looked at, and why.
    pub fn unknown(why: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { content: Content::Unknown(why.into()), classes: Mutex::default() })
    }

    /// Of a database that was looked at.
    pub fn known(parts: BookParts) -> Arc<Self> {
        Arc::new(Self { content: Content::Known(Arc::new(parts)), classes: Mutex::default() })
    }

    /// The same for whoever cannot be sure that nothing has changed since: what was known to write still does, and of every other function
    /// but the server's own nobody knows.
    pub fn in_doubt(&self, why: impl Into<String>) -> Arc<Self> {
        let content = match &self.content {
            Content::Unknown(why) => Content::Unknown(why.clone()),
            Content::Known(parts) | Content::Doubtful(parts, _) => Content::Doubtful(Arc::clone(parts), why.into()),
        };
        Arc::new(Self { content, classes: Mutex::default() })
    }

    /// Why nothing is known, if nothing is.
    pub fn trouble(&self) -> Option<&str> {
        match &self.content {
            Content::Unknown(why) => Some(why),
            Content::Known(_) | Content::Doubtful(..) => None,
        }
    }

    /// Both say the same, so that verdicts by one are verdicts by the other.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.content == other.content
    }

    /// `class`, with statements judged by this book. Sessions of one class share what they get, and the verdicts remembered for it.
    pub fn bind(self: &Arc<Self>, class: &SessionClass) -> SessionClass {
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bound)) = classes.get(&class.identity()) {
            return bound.clone();
        }
        let bound = class.with_functions(Some(Arc::clone(self)));
        if classes.len() >= MAX_CLASSES {
            // Sessions keep those they have.
            classes.clear();
        }
        classes.insert(class.identity(), (class.clone(), bound.clone()));
        bound
    }

    /// Whether parsing a statement may call what it is to be held for: the server makes values of texts then (`coerce_type`), and what
    /// contains domains checks them.
    pub fn runs_when_parsed(&self, piece: &Piece) -> bool {
        let (Content::Known(parts) | Content::Doubtful(parts, _)) = &self.content else { return false };
        let recoded = parts.recodes.then(|| recoded_piece(piece)).flatten();
        let piece = recoded.as_ref().unwrap_or(piece);
        let types = &piece.calls.types;
        let named = || parts.type_hazards.iter().any(|hazard| hazard.when_parsed && types.contains(&hazard.name));
        let of = |name: &ObjectName| parts.relations.get(&name.name).into_iter().flatten();
        let compared = || {
            let mut objects = piece.effects.iter().flat_map(|effect| &effect.objects);
            objects.any(|name| of(name).any(|relation| relation.by == Touch::Parse))
        };
        named() || compared()
    }

    /// The effects a statement has by what it calls: each is `code` on a function that can write, or of which nobody knows; behind it what the
    /// function's body certainly does.
    pub fn raises(&self, piece: &Piece) -> Vec<Effect> {
        let mut raised = match &self.content {
            Content::Unknown(why) => unknown_calls(&piece.calls, why),
            Content::Known(parts) => parts.raises(piece),
            Content::Doubtful(parts, why) => {
                let mut raised = parts.raises(piece);
                raised.extend(unknown_calls(&piece.calls, why));
                raised
            }
        };
        if piece.calls.more {
            raised.push(code(Vec::new(), "it calls more than can be listed".to_owned()));
        }
        if raised.len() > MAX_RAISED {
            raised.truncate(MAX_RAISED);
            // Fail closed: nobody could read them all.
            let why = "it calls more functions that can write than can be listed".to_owned();
            raised.push(Effect { kind: EffectKind::Unknown, ..code(Vec::new(), why) });
        }
        raised
    }
}

fn code(objects: Vec<ObjectName>, why: String) -> Effect {
    Effect { kind: EffectKind::Code, objects, has_where: None, columns: Vec::new(), why }
}

/// Fail closed: of what nobody has looked at, only the server's own functions and types are known not to write.
fn unknown_calls(calls: &Calls, why: &str) -> Vec<Effect> {
    let names: Vec<ObjectName> = calls.strange().cloned().collect();
    let mut raised = Vec::new();
    if !names.is_empty() {
        let what = "it calls a function that may write: what this database's functions do is not known";
        raised.push(code(names, format!("{what} ({why})")));
    }
    if !calls.parameters.is_empty() {
        let what = "a parameter is of a type that may call a function: what this database's types do is not known";
        raised.push(code(Vec::new(), format!("{what} ({why})")));
    }
    raised
}

/// The last part of a schema's name, which may be written behind the database's.
fn schema(name: &ObjectName) -> Option<&str> {
    name.schema.as_deref().map(|schema| schema.rsplit('.').next().unwrap_or(schema))
}

/// The server's own functions (and hstore's) that make a value of a type which is given by a value: its oid, its name, or a row of it.
pub(crate) const MAKERS: &[&str] = &[
    "array_in",
    "array_recv",
    "domain_in",
    "domain_recv",
    "json_populate_record",
    "json_populate_recordset",
    "jsonb_populate_record",
    "jsonb_populate_record_valid",
    "jsonb_populate_recordset",
    "multirange_in",
    "multirange_recv",
    "pg_input_error_info",
    "pg_input_is_valid",
    "populate_record",
    "range_in",
    "range_recv",
    "record_in",
    "record_recv",
];

fn makes_values(name: &ObjectName) -> bool {
    MAKERS.contains(&name.name.as_str())
}

/// `pg_temp` stands for the session's own of many schemas.
fn is_schema(written: Option<&str>, schema: &str) -> bool {
    written.is_none_or(|written| written == schema || written == "pg_temp" && schema.starts_with("pg_temp_"))
}

impl BookParts {
    /// As [`Book::raises`].
    pub fn raises(&self, piece: &Piece) -> Vec<Effect> {
        let recoded = self.recodes.then(|| recoded_piece(piece)).flatten();
        let piece = recoded.as_ref().unwrap_or(piece);
        let mut raised = Raised::default();
        let calls = &piece.calls;
        for name in &calls.functions {
            self.function(name, &mut raised);
        }
        for name in &calls.attributes {
            let known = attribute_danger(name).is_some();
            let counts = |callable: &&Callable| callable.single && !(known && callable.by_name);
            let candidates = self.functions.get(name).into_iter().flatten().filter(counts);
            for hazard in candidates.filter_map(|callable| callable.hazard.as_ref()) {
                raised.add(hazard, || format!("`.{name}` can call {}", hazard.why));
            }
        }
        for name in calls.operators.iter().map(String::as_str).chain(UNWRITTEN) {
            for hazard in self.operators.get(name).into_iter().flatten() {
                raised.add(hazard, || format!("the operator {name} can call {}", hazard.why));
            }
        }
        self.types_of(calls, &mut raised);
        for effect in &piece.effects {
            self.relations_of(effect, calls, &mut raised);
        }
        let builds = |effect: &Effect| effect.kind == EffectKind::Create || calls.analyzes;
        if piece.effects.iter().any(|effect| touches_rows(effect.kind) || builds(effect)) {
            for hazard in &self.ambient {
                raised.add(hazard, || format!("a cast or a comparison can call {}", hazard.why));
            }
        }
        raised.effects
    }

    fn function(&self, name: &ObjectName, raised: &mut Raised) {
        let written = schema(name);
        let candidates = self.functions.get(&name.name).into_iter().flatten();
        let mut found = false;
        // What is dangerous by its name has an effect of its own.
        let dangerous = danger(written, &name.name).is_some();
        for callable in candidates.filter(|callable| is_schema(written, &callable.schema)) {
            found = true;
            if let Some(hazard) = callable.hazard.as_ref().filter(|_| !(dangerous && callable.by_name)) {
                raised.add(hazard, || format!("it can call {}", hazard.why));
            }
        }
        let own = written.is_none_or(|schema| schema == "pg_catalog")
            && (is_builtin(None, &name.name) || self.own.contains(&name.name));
        let known = found || own || self.types.contains(&name.name) || dangerous;
        if !known {
            // Fail closed: it may have been made a moment ago.
            let why =
                format!("it calls {name}(), which was not there when this database's functions were looked at last");
            raised.effects.push(code(vec![name.clone()], why));
        }
    }

    fn types_of(&self, calls: &Calls, raised: &mut Raised) {
        let by_value = calls.functions.iter().find(|name| makes_values(name));
        let by_value = by_value.map(|name| format!("{}()", name.name));
        // `record #= hstore` (hstore) makes a row of the record's type.
        let by_value = by_value.or_else(|| calls.operators.iter().find(|name| *name == "#=").cloned());
        for TypeHazard { name, oid, hazard, row, .. } in &self.type_hazards {
            let cast = oid.is_none() && calls.own_types.contains(name);
            let called = || calls.functions.iter().any(|called| called.name == *name);
            // `ParseFuncOrColumn` takes `x.name` for a cast, but not to a row's type.
            let dotted = || oid.is_some() && !row && calls.attributes.contains(name);
            if cast || calls.types.contains(name) || called() || dotted() {
                raised.add(hazard, || format!("a value of the type {name} calls {}", hazard.why));
            } else if oid.is_some_and(|oid| calls.parameters.contains(&oid)) {
                raised.add(hazard, || format!("a parameter of the type {name} calls {}", hazard.why));
            } else if let Some(maker) = by_value.as_ref().filter(|_| oid.is_some()) {
                let why = || format!("{maker} can make a value of the type {name}, which calls {}", hazard.why);
                raised.add(hazard, why);
            }
        }
        for oid in calls.parameters.iter().filter(|oid| !self.type_oids.contains(oid)) {
            // Fail closed: it may have been made a moment ago.
            let why = format!(
                "a parameter is of the type with the oid {oid}, which was not there when this database's types were looked at last"
            );
            raised.effects.push(code(Vec::new(), why));
        }
    }

    fn relations_of(&self, effect: &Effect, calls: &Calls, raised: &mut Raised) {
        if self.relations.is_empty() {
            return;
        }
        if calls.analyzes && effect.kind == EffectKind::Session {
            return self.analyzed(effect, raised);
        }
        if !(touches_rows(effect.kind) || effect.kind == EffectKind::Create) {
            return;
        }
        let writes = effect.kind != EffectKind::Read || calls.copies;
        let changes = matches!(effect.kind, EffectKind::Update | EffectKind::Delete | EffectKind::Merge);
        for name in &effect.objects {
            let written = schema(name);
            for relation in self.relations.get(&name.name).into_iter().flatten() {
                let counts = match relation.by {
                    Touch::Read | Touch::Plan | Touch::Parse => true,
                    Touch::Write => writes,
                    Touch::Convert => writes || self.converts(calls),
                    Touch::Change => changes,
                    Touch::Analyze => false,
                };
                if counts && is_schema(written, &relation.schema) {
                    raised.add(&relation.hazard, || relation.how.clone());
                }
            }
        }
    }

    /// Whether values may be made of the types of columns that are read, without their being written.
    fn converts(&self, calls: &Calls) -> bool {
        let functions = calls.functions.iter().map(|name| &name.name);
        let mut names = functions.chain(&calls.attributes).chain(&calls.operators).map(String::as_str).chain(UNWRITTEN);
        calls.converts || names.any(|name| self.polymorphic.contains(name))
    }

    /// ANALYZE of these relations, or of all that there are.
    fn analyzed(&self, effect: &Effect, raised: &mut Raised) {
        let all = effect.objects.is_empty();
        let mut found: Vec<&RelationHazard> = if all {
            self.relations.values().flatten().collect()
        } else {
            let of = |name: &ObjectName| self.relations.get(&name.name).into_iter().flatten();
            let named = |name| of(name).filter(|relation| is_schema(schema(name), &relation.schema));
            effect.objects.iter().flat_map(named).collect()
        };
        found.retain(|relation| matches!(relation.by, Touch::Plan | Touch::Analyze));
        // Tables come in no order.
        found.sort_by(|one, two| one.how.cmp(&two.how));
        for relation in found {
            raised.add(&relation.hazard, || relation.how.clone());
        }
    }
}

/// Whether an effect reads or writes rows, which may call what is called unseen.
fn touches_rows(kind: EffectKind) -> bool {
    match kind {
        EffectKind::Read
        | EffectKind::Insert
        | EffectKind::Update
        | EffectKind::Delete
        | EffectKind::Merge
        | EffectKind::CopyServerFile => true,
        // These are held as what they are, run nothing of anybody's, or are looked up when they run.
        EffectKind::Truncate
        | EffectKind::Drop
        | EffectKind::Alter
        | EffectKind::Create
        | EffectKind::Privilege
        | EffectKind::Code
        | EffectKind::LargeObject
        | EffectKind::Admin
        | EffectKind::ReadingSetting
        | EffectKind::SensitiveSetting
        | EffectKind::Session
        | EffectKind::Transaction
        | EffectKind::Execute
        | EffectKind::Unparsed
        | EffectKind::Disagreement
        | EffectKind::Unknown => false,
    }
}

#[derive(Default)]
struct Raised {
    effects: Vec<Effect>,
    functions: HashSet<(ObjectName, String)>,
}

impl Raised {
    /// Each function of a signature once, however it is called.
    fn add(&mut self, hazard: &Hazard, why: impl FnOnce() -> String) {
        if self.effects.len() > MAX_RAISED || !self.functions.insert((hazard.function.clone(), hazard.why.clone())) {
            return;
        }
        self.effects.push(code(vec![hazard.function.clone()], why()));
        self.effects.extend(hazard.effects.iter().cloned());
    }
}

#[cfg(test)]
mod tests;
