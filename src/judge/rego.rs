//! A policy written in Rego, asked about one effect on one object at a time. Knows no rules of the configuration and no settings
//! file; what it is given, and what it has to answer, is in `proxy-tests/docs/rego.md`.
//!
//! Asked effect by effect, for a policy that says "allow if *some* effect reads" must not let a DROP through beside it; the
//! strictest answer is found by [`super::decide`], as for rules.
//!
//! Start at [`Rego::with`], then [`Rego::ask`].

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

mod impact;
mod interpreter;

pub use interpreter::Interpreter;

use super::{
    Action, DEFAULT_RULE, EMPTY_RULE, Effect, EffectKind, Facts, Measure, Measured, ObjectName, Redact, Scene, Zone,
};

/// The rule name given when the policy could not be asked, or answered nonsense.
pub const REGO_FAILED: &str = "rego-failed";
/// What is evaluated.
pub(super) const ENTRY: &str = "data.querygate.decision";
/// The rule name of a decision that names none.
const UNNAMED: &str = "rego";

/// Answers remembered.
const REMEMBERED: usize = 10_000;
/// Failures that wait for whoever was to be told.
const WAITING: usize = 1_000;
/// How often one is told before it is asked about anew: a message may be decided about more than once until it is held.
const MAX_TOLD: u32 = 4;
/// Longest name of a rule, and message or advice, in bytes.
const MAX_NAME: usize = 100;
const MAX_MESSAGE: usize = 1_000;
/// Most decisions of one answer.
const MAX_DECISIONS: usize = 20;
/// Longest explanation of a failure, in characters.
const MAX_WHY: usize = 300;

/// What a Rego policy is made of.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RegoParts {
    /// Names and texts of the policy files.
    pub modules: Vec<(String, String)>,
    /// Names and texts of JSON documents; together they are `data`.
    pub data: Vec<(String, String)>,
    /// Longest time an evaluation may take.
    pub limit: Duration,
    /// Most that a process which evaluates may allocate, in bytes.
    pub memory: u64,
    /// Whose clock `input.time` tells.
    pub zone: Zone,
}

/// Where a policy is evaluated.
pub trait Evaluate: Debug + Send + Sync {
    /// The value of `data.querygate.decision` for an input; both are JSON. Null: it is undefined.
    ///
    /// # Errors
    /// Why there is none.
    fn evaluate(&self, input: &str) -> Result<Value, String>;

    /// It will hardly be asked again: nothing is kept for the next question.
    fn retire(&self) {}
}

/// A policy in Rego. Shared by all threads.
#[derive(Debug)]
pub struct Rego {
    evaluator: Box<dyn Evaluate>,
    answers: Cache<Box<str>, Arc<[Decision]>>,
    /// Failures of questions that were asked ahead, and how often each was told.
    failed: Cache<Box<str>, Arc<Failed>>,
    /// What the policy reads of what changes often.
    pub(super) reads: Reads,
    zone: Zone,
    profiles: OnceLock<BTreeSet<String>>,
    /// Profiles that decisions named when it was loaded.
    named: BTreeSet<String>,
    failures: AtomicU64,
    version: String,
}

/// Why a question that was asked ahead has no answer.
#[derive(Debug)]
struct Failed {
    why: String,
    told: AtomicU32,
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
    /// It may ask for a look at what would be touched.
    pub(super) impact: bool,
    /// Its decisions may hide something.
    pub(super) redacts: bool,
}

/// What the policy says to one effect on one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) action: Action,
    pub(super) rule: Arc<str>,
    pub(super) message: Option<Arc<str>>,
    pub(super) advice: Option<Arc<str>>,
    pub(super) observe: bool,
    pub(super) redact: Redact,
    /// It depends on what the message would touch.
    pub(super) impact: bool,
    /// It passes only if surely no more rows than these are written.
    pub(super) max_rows: Option<u64>,
}

/// As the policy writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    action: Action,
    rule: Option<String>,
    profile: Option<String>,
    message: Option<String>,
    advice: Option<String>,
    #[serde(default)]
    observe: bool,
    #[serde(default)]
    redact: Redact,
    #[serde(default)]
    impact: bool,
    max_rows: Option<u64>,
}

impl Rego {
    /// A policy of these parts that is evaluated in this process, where nothing limits its memory: for trying it out.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn new(parts: &RegoParts) -> Result<Self, String> {
        Self::with(parts, Box::new(Interpreter::new(parts)?))
    }

    /// A policy of these parts that is evaluated there, after it was asked about one effect of each kind.
    ///
    /// # Errors
    /// What an evaluation failed with, or what is wrong with an answer.
    pub fn with(parts: &RegoParts, evaluator: Box<dyn Evaluate>) -> Result<Self, String> {
        let mut rego = Self {
            evaluator,
            answers: Cache::new(REMEMBERED),
            failed: Cache::new(WAITING),
            reads: Reads::of(&parts.modules),
            zone: parts.zone.clone(),
            profiles: OnceLock::new(),
            named: BTreeSet::new(),
            failures: AtomicU64::new(0),
            version: version(parts),
        };
        rego.named = rego.rehearse()?;
        Ok(rego)
    }

    /// The approval profiles that decisions may name. Until they are known there are none.
    pub fn know_profiles<'a>(&self, names: impl Iterator<Item = &'a String>) {
        let _ = self.profiles.set(names.cloned().collect());
    }

    /// Approval profiles that its decisions named when it was loaded. It may name others to other questions.
    pub fn named_profiles(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(String::as_str)
    }

    /// It may ask what statements would touch.
    pub fn asks_impact(&self) -> bool {
        self.reads.impact
    }

    /// Another policy is in force. What was held by this one may still be judged by it, but nothing is kept ready for that.
    pub fn retire(&self) {
        self.evaluator.retire();
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

    /// What it says to an effect on one of its objects. Empty: it is undefined. What is asked ahead is asked for somebody who will
    /// ask soon; they are told of a failure without another evaluation.
    ///
    /// # Errors
    /// Why it could not be asked, or what is wrong with its answer.
    pub(super) fn ask(
        &self,
        session: &Value,
        effect: &Effect,
        object: Option<&ObjectName>,
        scene: Scene<'_>,
        ahead: bool,
    ) -> Result<Arc<[Decision]>, String> {
        let key: Box<str> = self.input(session, effect, object, scene).to_string().into();
        if let Some(known) = self.answers.get(&*key) {
            return Ok(known);
        }
        if !ahead && let Some(failed) = self.failed.get(&*key) {
            if failed.told.fetch_add(1, Ordering::Relaxed) >= MAX_TOLD {
                self.failed.remove(&*key);
            }
            return Err(failed.why.clone());
        }
        let known = |name: &str| self.profiles.get().is_some_and(|known| known.contains(name));
        let answer = self.evaluator.evaluate(&key).and_then(|answer| read(&answer, known));
        match answer {
            Ok(decisions) => {
                let decisions: Arc<[Decision]> = decisions.into();
                self.failed.remove(&*key);
                self.answers.insert(key, Arc::clone(&decisions));
                Ok(decisions)
            }
            // Not remembered for long: it may have been the machine that was slow.
            Err(why) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                if ahead {
                    self.failed.insert(key, Arc::new(Failed { why: why.clone(), told: AtomicU32::new(0) }));
                }
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
        if self.reads.impact {
            // Fail closed: before anybody has looked nothing is known, and what is not known is large.
            let unlooked = Measured { measure: &Measure::default(), critical: &[] };
            all.insert("impact".to_owned(), impact::told(scene.impact.unwrap_or(unlooked)));
        }
        if let Some(input) = input.as_object_mut() {
            input.extend(all);
        }
        input
    }

    /// Asks about an effect of each kind, with and without an object and a condition, before and after a look at what it would touch: what is
    /// wrong with a policy is mostly wrong with each answer. Which profiles there are is not known yet: those named are returned.
    fn rehearse(&self) -> Result<BTreeSet<String>, String> {
        let facts = Facts { user: "somebody", database: "somewhere", ..Facts::default() };
        let session = self.session(&facts, &[]);
        let object = ObjectName { schema: Some("public".to_owned()), name: "something".to_owned() };
        let found = Measure { rows: Some(1), ..Measure::default() };
        let looks = [None, Some(Measured { measure: &found, critical: &[] })];
        let mut named = BTreeSet::new();
        for kind in EffectKind::ALL {
            let may_have_one = matches!(kind, EffectKind::Update | EffectKind::Delete);
            let conditions: &[Option<bool>] = if may_have_one { &[None, Some(true), Some(false)] } else { &[None] };
            for object in [None, Some(&object)] {
                for has_where in conditions.iter().copied() {
                    let objects = object.into_iter().cloned().collect();
                    let effect = Effect { kind, objects, has_where, columns: Vec::new(), why: String::new() };
                    let (tags, effects) = (super::Tags::default(), [kind]);
                    for impact in looks.into_iter().take(if self.reads.impact { 2 } else { 1 }) {
                        let risks = Some([].as_slice());
                        let scene = Scene { in_transaction: false, tags: &tags, risks, effects: &effects, impact };
                        let input = self.input(&session, &effect, object, scene);
                        let answer = self.evaluator.evaluate(&input.to_string())?;
                        let knows = |name: &str| {
                            named.insert(name.to_owned());
                            true
                        };
                        read(&answer, knows).map_err(|why| asked(&effect, object, &why))?;
                    }
                }
            }
        }
        Ok(named)
    }
}

/// What is wrong with an answer, and to which question it was given.
fn asked(effect: &Effect, object: Option<&ObjectName>, why: &str) -> String {
    let of = object.map_or_else(|| "without an object".to_owned(), |object| format!("of {object}"));
    format!("asked about the effect `{}` {of}: {why}", effect.kind)
}

/// A decision, or a list or set of some; null: undefined.
fn read(answer: &Value, mut knows: impl FnMut(&str) -> bool) -> Result<Vec<Decision>, String> {
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
    written.into_iter().map(|written| check(written, &mut knows)).collect()
}

fn check(written: Written, mut knows: impl FnMut(&str) -> bool) -> Result<Decision, String> {
    let name = written.rule.unwrap_or_else(|| UNNAMED.to_owned());
    let is_name = !name.trim().is_empty()
        && name.len() <= MAX_NAME
        && !name.chars().any(|c| c.is_control() || c == '@')
        && ![DEFAULT_RULE, EMPTY_RULE, REGO_FAILED].contains(&name.as_str());
    if !is_name {
        return Err("its decision has an unusable `rule`".to_owned());
    }
    for (key, words) in [("message", &written.message), ("advice", &written.advice)] {
        if words.as_ref().is_some_and(|words| words.len() > MAX_MESSAGE) {
            return Err(format!("the `{key}` of its decision is longer than {MAX_MESSAGE} bytes"));
        }
    }
    let passes = matches!(written.action, Action::Allow | Action::Notify);
    if written.max_rows.is_some() && !passes {
        return Err("its decision has `max_rows`, which is for what passes".to_owned());
    }
    let rule = match written.profile {
        None => name,
        // Fail closed: whoever should have been asked is not known.
        Some(profile) if !knows(&profile) => {
            return Err("its decision names an approval profile that does not exist".to_owned());
        }
        Some(profile) => format!("{name}@{profile}"),
    };
    Ok(Decision {
        action: written.action,
        rule: rule.into(),
        message: written.message.map(Into::into),
        advice: written.advice.map(Into::into),
        observe: written.observe,
        redact: written.redact,
        impact: written.impact || written.max_rows.is_some(),
        max_rows: written.max_rows,
    })
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
            impact: names("impact") || names("max_rows"),
            redacts: names("redact"),
        }
    }
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
