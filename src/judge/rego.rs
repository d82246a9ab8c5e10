//! A policy written in Rego, asked about one effect on one object at a time. Knows no rules of the configuration and no settings
//! file; what it is given, and what it has to answer, is in `proxy-tests/docs/rego.md`.
//!
//! Asked effect by effect, for a policy that says "allow if *some* effect reads" must not let a DROP through beside it; the
//! strictest answer is found by [`super::decide`], as for rules.
//!
//! Start at [`Rego::new`], then [`Rego::ask`].

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use regorus::Engine;
use regorus::utils::limits::ExecutionTimerConfig;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{Action, DEFAULT_RULE, EMPTY_RULE, Effect, EffectKind, Facts, ObjectName, Redact, Scene, Zone};

/// The rule name given when the policy could not be asked, or answered nonsense.
pub const REGO_FAILED: &str = "rego-failed";
/// What is evaluated.
pub(super) const ENTRY: &str = "data.querygate.decision";
/// The rule name of a decision that names none.
const UNNAMED: &str = "rego";

/// Answers remembered.
const REMEMBERED: usize = 10_000;
/// Interpreters kept for the next question.
const MAX_ENGINES: usize = 32;
/// Longest name of a rule, and message, in bytes.
const MAX_NAME: usize = 100;
const MAX_MESSAGE: usize = 1_000;
/// Most decisions of one answer.
const MAX_DECISIONS: usize = 20;
/// Steps of the interpreter between two looks at its clock.
const CHECKED_EVERY: u32 = 16;
/// A policy is asked for the first time when it is loaded; that takes longer.
const FIRST_TIME: u32 = 50;
/// Stack an evaluation has, and how much it takes of its own if there is less.
const STACK: usize = 1 << 20;
const OWN_STACK: usize = 8 << 20;
/// Longest explanation of a failure, in characters.
const MAX_WHY: usize = 300;
/// Builtins whose work no limit interrupts.
const UNBOUNDED: &[&str] = &["numbers.range", "numbers.range_step"];

/// What a Rego policy is made of.
#[derive(Debug, Clone, Default)]
pub struct RegoParts {
    /// Names and texts of the policy files.
    pub modules: Vec<(String, String)>,
    /// Names and texts of JSON documents; together they are `data`.
    pub data: Vec<(String, String)>,
    /// Longest time an evaluation may take.
    pub limit: Duration,
    /// Whose clock `input.time` tells.
    pub zone: Zone,
}

/// A policy in Rego. Shared by all threads.
#[derive(Debug)]
pub struct Rego {
    template: Engine,
    engines: Mutex<Vec<Engine>>,
    answers: Cache<Box<str>, Arc<[Decision]>>,
    /// What the policy reads of what changes often.
    pub(super) reads: Reads,
    zone: Zone,
    profiles: OnceLock<BTreeSet<String>>,
    failures: AtomicU64,
    version: String,
}

/// The parts of the input that the policy names; the others are not in it, so no answer depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each says of one part of the input whether it is there")]
pub(super) struct Reads {
    application_name: bool,
    address: bool,
    tags: bool,
    pub(super) risks: bool,
    pub(super) time: bool,
    /// Its decisions may hide something.
    pub(super) redacts: bool,
}

/// What the policy says to one effect on one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) action: Action,
    pub(super) rule: Arc<str>,
    pub(super) message: Option<Arc<str>>,
    pub(super) observe: bool,
    pub(super) redact: Redact,
}

/// As the policy writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    action: Action,
    rule: Option<String>,
    profile: Option<String>,
    message: Option<String>,
    #[serde(default)]
    observe: bool,
    #[serde(default)]
    redact: Redact,
}

impl Rego {
    /// A policy of these parts, after it was asked about one effect of each kind.
    ///
    /// # Errors
    /// What the compiler says, or what an evaluation failed with.
    pub fn new(parts: &RegoParts) -> Result<Self, String> {
        let mut template = Engine::new();
        for (name, text) in &parts.modules {
            if let Some(builtin) = UNBOUNDED.iter().find(|builtin| text.contains(*builtin)) {
                return Err(format!("{name}: `{builtin}` is not available: no limit would stop it"));
            }
            template.add_policy(name.clone(), text.clone()).map_err(|error| brief(&error.to_string()))?;
        }
        for (name, text) in &parts.data {
            template.add_data_json(text).map_err(|error| format!("{name}: {}", brief(&error.to_string())))?;
        }
        limit(&mut template, parts.limit.saturating_mul(FIRST_TIME));
        let mut rego = Self {
            template,
            engines: Mutex::default(),
            answers: Cache::new(REMEMBERED),
            reads: Reads::of(&parts.modules),
            zone: parts.zone.clone(),
            profiles: OnceLock::new(),
            failures: AtomicU64::new(0),
            version: version(parts),
        };
        rego.rehearse()?;
        let mut template = rego.engines.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(template) = &mut template {
            limit(template, parts.limit);
        }
        // It is ready to be asked, which its copies then are as well.
        rego.template = template.unwrap_or(rego.template);
        rego.failures = AtomicU64::new(0);
        Ok(rego)
    }

    /// The approval profiles that decisions may name. Until they are known there are none.
    pub fn know_profiles<'a>(&self, names: impl Iterator<Item = &'a String>) {
        let _ = self.profiles.set(names.cloned().collect());
    }

    /// How often it could not be asked, or answered nonsense, since it was loaded.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// SHA-256 of its files, in hexadecimal digits.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// What of the input is the session's. Two sessions with the same get the same answers.
    pub(super) fn session(&self, facts: &Facts<'_>, freezes: &[&str]) -> Value {
        let people: Vec<Value> =
            facts.people.iter().map(|somebody| json!({"name": somebody.name, "groups": somebody.groups})).collect();
        let mut session = json!({"user": facts.user, "database": facts.database, "people": people});
        let mut add = |key: &str, value: Value| {
            if let Some(session) = session.as_object_mut() {
                session.insert(key.to_owned(), value);
            }
        };
        if self.reads.application_name {
            add("application_name", facts.application_name.into());
        }
        if self.reads.address {
            add("address", facts.client_addr.map_or_else(|| "unix".to_owned(), |address| address.to_string()).into());
        }
        let mut all = json!({"session": session});
        if self.reads.time
            && let Some(all) = all.as_object_mut()
        {
            all.insert("time".to_owned(), self.zone.told(facts.now));
            all.insert("freezes".to_owned(), freezes.into());
        }
        all
    }

    /// What it says to an effect on one of its objects. Empty: it is undefined.
    ///
    /// # Errors
    /// Why it could not be asked, or what is wrong with its answer.
    pub(super) fn ask(
        &self,
        session: &Value,
        effect: &Effect,
        object: Option<&ObjectName>,
        scene: Scene<'_>,
    ) -> Result<Arc<[Decision]>, String> {
        let input = self.input(session, effect, object, scene);
        let key: Box<str> = input.to_string().into();
        if let Some(known) = self.answers.get(&*key) {
            return Ok(known);
        }
        let answer = self.evaluate(input).and_then(|answer| self.read(&answer));
        match answer {
            Ok(decisions) => {
                let decisions: Arc<[Decision]> = decisions.into();
                self.answers.insert(key, Arc::clone(&decisions));
                Ok(decisions)
            }
            // Not remembered: it may have been the machine that was slow.
            Err(why) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                Err(why)
            }
        }
    }

    fn input(&self, session: &Value, effect: &Effect, object: Option<&ObjectName>, scene: Scene<'_>) -> Value {
        let mut told = json!({"kind": effect.kind, "columns": effect.columns});
        if let Some(told) = told.as_object_mut() {
            told.extend(effect.has_where.map(|has| ("has_where".to_owned(), Value::Bool(has))));
            told.extend(object.map(|object| ("object".to_owned(), json!(object))));
        }
        let mut input = session.clone();
        let mut all = Map::new();
        all.insert("effect".to_owned(), told);
        all.insert("statement".to_owned(), json!({"effects": scene.effects}));
        all.insert("in_transaction".to_owned(), scene.in_transaction.into());
        if self.reads.tags {
            let tags = scene.tags.iter().map(|(key, value)| (key.to_owned(), Value::from(value)));
            all.insert("tags".to_owned(), Value::Object(tags.collect()));
        }
        if self.reads.risks {
            // Fail closed: no risks known is a risk.
            let risks = scene.risks.map_or_else(|| json!(["unread"]), |risks| json!(risks));
            all.insert("risks".to_owned(), risks);
        }
        if let Some(input) = input.as_object_mut() {
            input.extend(all);
        }
        input
    }

    fn evaluate(&self, input: Value) -> Result<Value, String> {
        let kept = self.engines.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut engine = kept.unwrap_or_else(|| self.template.clone());
        let run = AssertUnwindSafe(|| {
            engine.set_input(regorus::Value::from(input));
            engine.eval_rule(ENTRY.to_owned())
        });
        // Fail closed: a panic of the interpreter is no answer.
        let answer = stacker::maybe_grow(STACK, OWN_STACK, || catch_unwind(run))
            .map_err(|_| "the interpreter failed".to_owned())?
            .map_err(|error| brief(&error.to_string()))?;
        // Only one that is certainly well is used again.
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if engines.len() < MAX_ENGINES {
            engines.push(engine);
        }
        drop(engines);
        if answer == regorus::Value::Undefined {
            return Ok(Value::Null);
        }
        serde_json::to_value(&answer).map_err(|error| brief(&error.to_string()))
    }

    /// A decision, or a list or set of some; null: undefined.
    fn read(&self, answer: &Value) -> Result<Vec<Decision>, String> {
        let written: Vec<Written> = match answer {
            Value::Null => Ok(Vec::new()),
            Value::Array(all) if all.len() > MAX_DECISIONS => {
                return Err(format!("it gave more than {MAX_DECISIONS} decisions"));
            }
            Value::Array(_) => Vec::deserialize(answer),
            Value::Object(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Written::deserialize(answer).map(|one| vec![one])
            }
        }
        .map_err(|error| format!("its answer is no decision: {}", brief(&error.to_string())))?;
        written.into_iter().map(|written| self.check(written)).collect()
    }

    fn check(&self, written: Written) -> Result<Decision, String> {
        let name = written.rule.unwrap_or_else(|| UNNAMED.to_owned());
        let is_name = !name.trim().is_empty()
            && name.len() <= MAX_NAME
            && !name.chars().any(|c| c.is_control() || c == '@')
            && ![DEFAULT_RULE, EMPTY_RULE, REGO_FAILED].contains(&name.as_str());
        if !is_name {
            return Err("its decision has an unusable `rule`".to_owned());
        }
        if written.message.as_ref().is_some_and(|message| message.len() > MAX_MESSAGE) {
            return Err(format!("the `message` of its decision is longer than {MAX_MESSAGE} bytes"));
        }
        let rule = match written.profile {
            None => name,
            // Fail closed: whoever should have been asked is not known.
            Some(profile) if !self.profiles.get().is_some_and(|known| known.contains(&profile)) => {
                return Err("its decision names an approval profile that does not exist".to_owned());
            }
            Some(profile) => format!("{name}@{profile}"),
        };
        Ok(Decision {
            action: written.action,
            rule: rule.into(),
            message: written.message.map(Into::into),
            observe: written.observe,
            redact: written.redact,
        })
    }

    /// Asks about an effect of each kind: what is wrong with a policy is mostly wrong with each answer.
    fn rehearse(&self) -> Result<(), String> {
        let facts = Facts { user: "somebody", database: "somewhere", ..Facts::default() };
        let session = self.session(&facts, &[]);
        let object = ObjectName { schema: Some("public".to_owned()), name: "something".to_owned() };
        for kind in EffectKind::ALL {
            for object in [None, Some(&object)] {
                let effect = Effect {
                    kind,
                    objects: object.into_iter().cloned().collect(),
                    has_where: None,
                    columns: Vec::new(),
                    why: String::new(),
                };
                let (tags, effects) = (super::Tags::default(), [kind]);
                let scene =
                    Scene { in_transaction: false, tags: &tags, risks: Some(&[]), effects: &effects, impact: None };
                let input = self.input(&session, &effect, object, scene);
                let answer = self.evaluate(input)?;
                // Which profiles there are is not known yet.
                serde_json::to_string(&answer).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}

impl Reads {
    fn of(modules: &[(String, String)]) -> Self {
        let names = |word: &str| modules.iter().any(|(_, text)| text.contains(word));
        Self {
            application_name: names("application_name"),
            address: names("address"),
            tags: names("tags"),
            risks: names("risks"),
            time: names("time") || names("freezes"),
            redacts: names("redact"),
        }
    }
}

fn limit(engine: &mut Engine, limit: Duration) {
    let check_interval = NonZeroU32::new(CHECKED_EVERY).unwrap_or(NonZeroU32::MIN);
    engine.set_execution_timer_config(ExecutionTimerConfig { limit, check_interval });
}

fn version(parts: &RegoParts) -> String {
    let mut hash = Sha256::new();
    for (what, (_, text)) in
        parts.modules.iter().map(|file| (b"m", file)).chain(parts.data.iter().map(|file| (b"d", file)))
    {
        hash.update(what);
        hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(text);
    }
    hash.update(String::from(parts.zone.clone()));
    hex::encode(hash.finalize())
}

/// What the interpreter says of a failure, on one line.
fn brief(error: &str) -> String {
    let line = error.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = line.chars().take(MAX_WHY).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
