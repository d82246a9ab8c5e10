//! Rules in order, and the verdict they give. Knows effects and facts; knows no text and no settings file.
//!
//! Start at [`Policy::decide`]. Every effect on every object is judged by the first rule that matches it, and the
//! strictest verdict of all wins, so a rule for `scratch.*` cannot let `DROP TABLE scratch.a, prod.b` through. Nothing
//! matches: held, under the rule name [`DEFAULT_RULE`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::decide::{self, PieceJudgement, RegoClass};
use super::rego::{REGO_FAILED, Rego};
use super::rule::next_minute;
use super::{
    Analysis, Book, Effect, Freeze, Frozen, Guard, Measure, Measured, ObjectPattern, Owners, Ownership, Redact, Rule,
    Undo,
};

/// The rule name given when no rule matches.
pub const DEFAULT_RULE: &str = "default";
/// The rule name given to a text without statements.
pub const EMPTY_RULE: &str = "empty";

/// Session classes remembered by a policy; beyond it they still work, but share no cached verdicts.
const MAX_CLASSES: usize = 4096;

/// What the policy says to a statement or message. Ordered: the later, the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Forward it.
    Allow,
    /// Ask people first.
    Hold,
    /// Refuse it.
    Reject,
}

/// What a rule does with what it matches. Ordered: the later, the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Forward it.
    Allow,
    /// Forward it, and tell of it.
    Notify,
    /// Ask people first.
    Hold,
    /// Refuse it.
    Reject,
}

impl Action {
    /// What becomes of the statement.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Allow | Self::Notify => Verdict::Allow,
            Self::Hold => Verdict::Hold,
            Self::Reject => Verdict::Reject,
        }
    }
}

impl From<Verdict> for Action {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Allow,
            Verdict::Hold => Self::Hold,
            Verdict::Reject => Self::Reject,
        }
    }
}

/// Why a statement that passes is told of. Ordered: the later, the graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemarkKind {
    /// A rule wants it told.
    Noticed,
    /// It would have been held, were it not that the rule, or the gate, only observes.
    WouldHaveHeld,
    /// It would have been rejected, likewise.
    WouldHaveRejected,
}

/// What is to be told of a statement that passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Why.
    pub kind: RemarkKind,
    /// The rule that says so; [`DEFAULT_RULE`] when no rule matched.
    pub rule: Arc<str>,
    /// One sentence: which effect on what, and why the text has it.
    pub why: String,
    /// The rule's own message.
    pub message: Option<Arc<str>>,
}

/// Who is asking, from where, when: what rules may match besides what a statement does. Constant for a session, but for
/// `application_name` and the time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// Database user of the startup message.
    pub user: &'a str,
    /// Database of the startup message (the user's name if absent, as in Postgres).
    pub database: &'a str,
    /// `application_name`, as the server last reported it. The client chooses it; it identifies nobody.
    pub application_name: &'a str,
    /// The client's address; `None` for a Unix socket.
    pub client_addr: Option<IpAddr>,
    /// The people who are, or may be, behind it; empty when nobody is known to.
    pub people: &'a [Somebody],
    /// What time it is. Matters only to a policy with conditions on it: see [`Policy::class_ends`].
    pub now: Timestamp,
}

/// A person of the configuration, as far as rules ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Somebody {
    /// Their name.
    pub name: String,
    /// Their groups.
    pub groups: Vec<String>,
}

/// The answer for one message (or one piece of it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The strictest verdict of all effects of all pieces.
    pub verdict: Verdict,
    /// Name of the rule that gave it; [`DEFAULT_RULE`] when no rule matched.
    pub rule: Arc<str>,
    /// One sentence: which effect on what, and why the text has it.
    pub why: String,
    /// The other rules that hold some of it, or may: whoever they ask has to agree as well. Empty unless the verdict is `Hold`.
    pub also: Vec<Arc<str>>,
    /// Who owns what it touches: each of them has to agree as well. Empty unless the verdict is `Hold`.
    pub owners: Vec<Ownership>,
    /// The rule's own message to the requester (`message = …`); of a message that is held, a line for each rule with one.
    pub message: Option<Arc<str>>,
    /// What the requester can do instead, likewise (`advice = …`).
    pub advice: Option<Arc<str>>,
    /// The strictest `redact` of all rules that judge, or may judge, an effect of it.
    pub redact: Redact,
    /// What is told of it if it passes, each rule's once; empty otherwise.
    pub remarks: Vec<Remark>,
    /// What it runs under once it is released: the strictest of all rules that hold some of it, or may. If it passes by its
    /// impact: a ceiling on its rows, should it write more by then.
    pub guard: Option<Guard>,
    /// A rule asks what it would touch, which was not known: it has to be looked into, and judged again. Until then the verdict is
    /// `Hold`.
    pub examine: bool,
    /// Whether the rows it changes are kept: the strictest of all rules that hold some of it, or may.
    pub undo: Option<Undo>,
    /// What it does besides what its text says, by the functions it calls; see [`Book`].
    pub raised: Vec<Effect>,
    /// Once it has run, what is known of the database's functions may be so no more.
    pub redefines: bool,
}

impl Judgement {
    /// It passes, and nobody is told.
    #[must_use]
    pub fn passes_unnoticed(&self) -> bool {
        self.verdict == Verdict::Allow && self.remarks.is_empty()
    }
}

/// Looks up what a prepared statement of this session does, for `EXECUTE name`.
pub trait Prepared {
    /// `None`: no such name is known, which is judged as `Unknown`.
    fn prepared(&self, name: &str) -> Option<Arc<Analysis>>;
}

/// A session without prepared statements.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingPrepared;

impl Prepared for NothingPrepared {
    fn prepared(&self, _name: &str) -> Option<Arc<Analysis>> {
        None
    }
}

/// An ordered list of rules with a version.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Arc<CompiledRule>>,
    freezes: Vec<Freeze>,
    owners: Option<Arc<Owners>>,
    critical: Arc<[ObjectPattern]>,
    observe: bool,
    /// A rule has a condition on the time.
    timed: bool,
    version: Arc<str>,
    classes: Mutex<HashMap<ClassKey, SessionClass>>,
    rego: Option<Arc<Rego>>,
}

/// The rules that apply, and what a Rego policy is told of the session.
type ClassKey = (Box<[usize]>, Option<Box<str>>);

/// A rule whose name and message are shared with the judgements it gives.
#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) rule: Rule,
    pub(super) name: Arc<str>,
    pub(super) message: Option<Arc<str>>,
    pub(super) advice: Option<Arc<str>>,
}

/// The rules that apply to a session: its user, database, `application_name` and address are matched once, here, not per
/// statement. Cheap to clone. It belongs to the policy that made it: after a reload, or when the server reports another
/// `application_name`, ask for a new one.
#[derive(Debug, Clone)]
pub struct SessionClass(pub(super) Arc<ClassRules>);

#[derive(Debug, Clone)]
pub(super) struct ClassRules {
    pub(super) rules: Vec<Arc<CompiledRule>>,
    /// A rule has a condition on columns, so each column is judged on its own.
    pub(super) by_column: bool,
    /// A rule has a condition on risks, which literals decide: texts of one shape are not alike.
    pub(super) by_risk: bool,
    /// Nothing is held or rejected.
    pub(super) observe: bool,
    /// Tables that conditions on impact mean by `critical`.
    critical: Arc<[ObjectPattern]>,
    /// Who owns what.
    pub(super) owners: Option<Arc<Owners>>,
    /// Asked before the rules.
    pub(super) rego: Option<RegoClass>,
    /// What the functions of the session's database do; `None`: nobody looks.
    pub(super) functions: Option<Arc<Book>>,
    version: Arc<str>,
}

/// Why a list of rules is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Two rules share a name, so a verdict could not say which one gave it.
    #[error("two rules are named `{0}`")]
    Duplicate(String),
    /// The name is empty or one the gate gives itself.
    #[error("a rule cannot be named `{0}`")]
    Name(String),
    /// Nothing is released that the rule does not hold.
    #[error("rule `{0}`: `guard` limits what is released, so it needs `action = \"hold\"`")]
    Guard(String),
    /// Every statement would wait for an answer of the database.
    #[error(
        "rule `{0}`: `impact` is asked of the database before each statement the rule may match, so the rule needs `effects`"
    )]
    Impact(String),
    /// Nothing is marked.
    #[error(
        "rule `{0}`: `impact.critical` asks for tables that are marked critical, and none is: list them in `critical`"
    )]
    NothingCritical(String),
    /// So does `undo`.
    #[error("rule `{0}`: `undo` keeps rows of what is released, so it needs `action = \"hold\"`")]
    Undo(String),
    /// Two freezes share a name.
    #[error("two freezes are named `{0}`")]
    DuplicateFreeze(String),
    /// A rule waits for a freeze that will never come.
    #[error("rule `{0}`: there is no [[freeze]] named `{1}`")]
    NoFreeze(String, String),
    /// The text is not a list of rules.
    #[error("{0}")]
    Syntax(String),
}

/// What a policy is made of.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// The rules, in order.
    pub rules: Vec<Rule>,
    /// The freezes they may name.
    pub freezes: Vec<Freeze>,
    /// Who owns what.
    pub owners: Option<Owners>,
    /// Tables that conditions on impact mean by `critical`.
    pub critical: Vec<ObjectPattern>,
    /// Hold and reject nothing, and tell of what would have been.
    pub observe: bool,
    /// Asked before the rules; they judge what it leaves undecided.
    pub rego: Option<Arc<Rego>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    #[serde(default)]
    rule: Vec<Rule>,
    #[serde(default)]
    freeze: Vec<Freeze>,
    #[serde(default)]
    critical: Vec<ObjectPattern>,
}

impl Policy {
    /// A policy of these rules, in this order.
    pub fn new(rules: Vec<Rule>) -> Result<Self, PolicyError> {
        Self::of(Parts { rules, ..Parts::default() })
    }

    /// A policy of these parts.
    pub fn of(parts: Parts) -> Result<Self, PolicyError> {
        let version = version(&parts);
        let Parts { rules, freezes, owners, critical, observe, rego } = parts;
        let owners = owners.map(Arc::new);
        for (index, rule) in rules.iter().enumerate() {
            if rule.name.trim().is_empty() || [DEFAULT_RULE, EMPTY_RULE, REGO_FAILED].contains(&rule.name.as_str()) {
                return Err(PolicyError::Name(rule.name.clone()));
            }
            if rules.iter().take(index).any(|earlier| earlier.name == rule.name) {
                return Err(PolicyError::Duplicate(rule.name.clone()));
            }
            if rule.guard.is_some() && rule.action != Action::Hold {
                return Err(PolicyError::Guard(rule.name.clone()));
            }
            if let Some(impact) = &rule.impact {
                if rule.effects.is_none() {
                    return Err(PolicyError::Impact(rule.name.clone()));
                }
                if impact.critical.is_some() && critical.is_empty() {
                    return Err(PolicyError::NothingCritical(rule.name.clone()));
                }
            }
            if rule.undo.is_some() && rule.action != Action::Hold {
                return Err(PolicyError::Undo(rule.name.clone()));
            }
        }
        check_freezes(&rules, &freezes)?;
        let timed = rules.iter().any(Rule::is_timed) || rego.as_ref().is_some_and(|rego| rego.reads.time);
        let rules = rules
            .into_iter()
            .map(|rule| {
                let name = Arc::from(rule.name.as_str());
                let message = rule.message.as_deref().map(Arc::from);
                let advice = rule.advice.as_deref().map(Arc::from);
                Arc::new(CompiledRule { rule, name, message, advice })
            })
            .collect();
        let critical = critical.into();
        Ok(Self { rules, freezes, owners, critical, observe, rego, timed, version, classes: Mutex::default() })
    }

    /// A policy written as TOML `[[rule]]` and `[[freeze]]` tables and nothing else.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let file: RuleFile = toml::from_str(text).map_err(|error| PolicyError::Syntax(error.to_string()))?;
        Self::of(Parts { rules: file.rule, freezes: file.freeze, critical: file.critical, ..Parts::default() })
    }

    /// The policy used when the configuration has no rules: see `shipped.toml` beside this file.
    ///
    /// # Panics
    /// Never: the text is a constant, and tests read it.
    pub fn shipped() -> Self {
        Self::from_toml(SHIPPED).expect("the shipped policy is valid")
    }

    /// Forwards everything, even what could not be read. For measuring, and for suites that test transparency.
    ///
    /// # Panics
    /// Never: one rule with a name of its own is a policy.
    pub fn allow_all() -> Self {
        Self::new(vec![Rule::new("everything", Verdict::Allow)]).expect("one named rule is valid")
    }

    /// SHA-256 of the rules' canonical form, lower-case hex. Two policies with the same version judge alike.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// The rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|compiled| &compiled.rule)
    }

    /// It holds and rejects nothing.
    pub fn observes(&self) -> bool {
        self.observe
    }

    /// A rule asks what statements would touch.
    pub fn asks_impact(&self) -> Option<&Rule> {
        self.rules().find(|rule| rule.impact.is_some())
    }

    /// The policy in Rego that is asked before the rules, if there is one.
    pub fn rego(&self) -> Option<&Rego> {
        self.rego.as_deref()
    }

    /// Who owns what, if the policy says.
    pub fn owners(&self) -> Option<&Owners> {
        self.owners.as_deref()
    }

    /// Who owns what a text may touch that is not run yet: it is not known which of its effects will be held.
    pub fn may_be_owned_by(&self, analysis: &Analysis) -> Vec<Ownership> {
        let effects = analysis.pieces.iter().flat_map(|piece| &piece.effects);
        // Nobody is asked about what is read: it cannot be asked for beforehand either.
        let effects = effects.filter(|effect| effect.kind != super::EffectKind::Read);
        self.owners.as_ref().map(|owners| owners.of(effects)).unwrap_or_default()
    }

    /// The freezes.
    pub fn freezes(&self) -> &[Freeze] {
        &self.freezes
    }

    /// A rule asks who is behind a session.
    pub fn names_people(&self) -> bool {
        self.rego.is_some() || self.rules().any(Rule::names_people)
    }

    /// Until when a class made at `now` is the right one for its session. `None`: as long as its facts stay, for no rule asks
    /// what time it is.
    pub fn class_ends(&self, now: Timestamp) -> Option<Timestamp> {
        let ends = self.freezes.iter().flat_map(|freeze| [freeze.from, freeze.until]).filter(|end| *end > now);
        self.timed.then(|| ends.fold(next_minute(now), Timestamp::min))
    }

    /// The rules that apply to sessions with these facts. Sessions to which the same rules apply share a class.
    pub fn class(&self, facts: &Facts<'_>) -> SessionClass {
        let freezes = self.freezes.iter().filter(|freeze| freeze.contains(facts.now));
        let freezes: Vec<&str> = freezes.map(|freeze| freeze.name.as_str()).collect();
        let matching: Box<[usize]> = self
            .rules
            .iter()
            .enumerate()
            .filter(|(_, compiled)| compiled.rule.matches_session(facts, &freezes))
            .map(|(index, _)| index)
            .collect();
        let session = self.rego.as_ref().map(|rego| rego.session(facts, &freezes));
        let key: ClassKey = (matching.clone(), session.as_ref().map(|session| session.to_string().into()));
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(class) = classes.get(&key) {
            return class.clone();
        }
        let rules: Vec<_> = matching.iter().filter_map(|&index| self.rules.get(index)).cloned().collect();
        let by_column = rules.iter().any(|compiled| compiled.rule.columns.is_some());
        let by_risk = rules.iter().any(|compiled| compiled.rule.risks.is_some())
            || self.rego.as_ref().is_some_and(|rego| rego.reads.risks);
        let rego = self.rego.clone().zip(session).map(|(rego, session)| RegoClass { rego, session, ahead: false });
        let class = SessionClass(Arc::new(ClassRules {
            rules,
            by_column,
            by_risk,
            observe: self.observe,
            critical: Arc::clone(&self.critical),
            owners: self.owners.clone(),
            rego,
            functions: None,
            version: self.version.clone(),
        }));
        if classes.len() >= MAX_CLASSES && self.rego.is_some() {
            // Every minute may have classes of its own. Sessions keep those they have.
            classes.clear();
        }
        if classes.len() < MAX_CLASSES {
            classes.insert(key, class.clone());
        }
        class
    }

    /// What has to be kept of a text that is not run yet: it is not known who will run it, when, from where and after what. So the
    /// strictest of all rules counts that might judge an effect of it as that user in that database, in whatever order they stand.
    pub fn may_redact(&self, analysis: &Analysis, user: &str, database: &str) -> Redact {
        if self.rego.as_ref().is_some_and(|rego| rego.reads.redacts) {
            // Fail closed: what it would hide depends on what is not known yet.
            return Redact::All;
        }
        let facts =
            Facts { user, database, application_name: "", client_addr: None, people: &[], now: Timestamp::UNIX_EPOCH };
        let redacting = self.rules().filter(|rule| !rule.redact.is_none());
        let each = redacting.map(|rule| {
            let alone = Rule {
                users: rule.users.clone(),
                databases: rule.databases.clone(),
                effects: rule.effects.clone(),
                objects: rule.objects.clone(),
                columns: rule.columns.clone(),
                has_where: rule.has_where,
                redact: rule.redact,
                ..Rule::new("alone", Verdict::Hold)
            };
            // Fail closed: a rule that cannot stand alone might mean anything.
            Self::new(vec![alone])
                .map_or(rule.redact, |policy| policy.decide(analysis, &facts, false, &NothingPrepared).redact)
        });
        each.max().unwrap_or_default()
    }

    /// The verdict for a whole message. Convenience for callers that judge once; sessions keep their [`SessionClass`].
    pub fn decide(
        &self,
        analysis: &Analysis,
        facts: &Facts<'_>,
        in_transaction: bool,
        prepared: &dyn Prepared,
    ) -> Judgement {
        self.class(facts).decide(analysis, in_transaction, prepared)
    }
}

const SHIPPED: &str = include_str!("shipped.toml");

impl SessionClass {
    /// The verdict for a whole message: the strictest of its pieces'.
    pub fn decide(&self, analysis: &Analysis, in_transaction: bool, prepared: &dyn Prepared) -> Judgement {
        decide::message(self, analysis, in_transaction, prepared, None)
    }

    /// The verdict for a whole message of which it is known what it would touch, or that this cannot be had.
    pub fn decide_measured(
        &self,
        analysis: &Analysis,
        in_transaction: bool,
        prepared: &dyn Prepared,
        measure: &Measure,
    ) -> Judgement {
        decide::message(self, analysis, in_transaction, prepared, Some(self.measured(measure)))
    }

    /// The verdict for each piece, with what was found for each effect. `measure` is of the whole message.
    pub fn decide_pieces(
        &self,
        analysis: &Analysis,
        in_transaction: bool,
        prepared: &dyn Prepared,
        measure: &Measure,
    ) -> Vec<PieceJudgement> {
        decide::pieces(self, analysis, in_transaction, prepared, Some(self.measured(measure)))
    }

    fn measured<'a>(&'a self, measure: &'a Measure) -> Measured<'a> {
        Measured { measure, critical: &self.0.critical }
    }

    /// The same rules, with what is called judged by a book; see [`Book::bind`].
    pub(super) fn with_functions(&self, functions: Option<Arc<Book>>) -> Self {
        Self(Arc::new(ClassRules { functions, ..ClassRules::clone(&self.0) }))
    }

    /// Whether parsing a text may already call what it is to be held for; see [`Book::runs_when_parsed`].
    pub fn runs_when_parsed(&self, analysis: &Analysis) -> bool {
        self.0.functions.as_ref().is_some_and(|book| analysis.pieces.iter().any(|piece| book.runs_when_parsed(piece)))
    }

    /// Whether a verdict that is not remembered may take its time: it is best asked for ahead.
    pub fn takes_time(&self) -> bool {
        self.0.rego.is_some()
    }

    /// Finds out what has to be known for a verdict that takes its time; the next one who decides the same need not wait, unless it
    /// depends on what the session has prepared. `measure`: as for [`Self::decide_measured`].
    pub fn ask_ahead(&self, analysis: &Analysis, in_transaction: bool, measure: Option<&Measure>) {
        let Some(rego) = &self.0.rego else { return };
        let rego = Some(RegoClass { ahead: true, ..rego.clone() });
        let ahead = Self(Arc::new(ClassRules { rego, ..ClassRules::clone(&self.0) }));
        let impact = measure.map(|measure| ahead.measured(measure));
        decide::message(&ahead, analysis, in_transaction, &NothingPrepared, impact);
    }

    /// Version of the policy it belongs to.
    pub fn policy_version(&self) -> &Arc<str> {
        &self.0.version
    }

    /// Tells classes apart that exist at the same time.
    pub fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Whether both are the same class, so that a verdict for one is a verdict for the other.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

fn check_freezes(rules: &[Rule], freezes: &[Freeze]) -> Result<(), PolicyError> {
    for (index, freeze) in freezes.iter().enumerate() {
        if freezes.iter().take(index).any(|earlier| earlier.name == freeze.name) {
            return Err(PolicyError::DuplicateFreeze(freeze.name.clone()));
        }
    }
    for rule in rules {
        let Some(Frozen::Named(names)) = &rule.frozen else { continue };
        if let Some(name) = names.iter().find(|name| freezes.iter().all(|freeze| freeze.name != **name)) {
            return Err(PolicyError::NoFreeze(rule.name.clone(), name.clone()));
        }
    }
    Ok(())
}

/// Rules are hashed as JSON: fields in the order of [`Rule`], absent conditions left out, lists sorted.
fn version(parts: &Parts) -> Arc<str> {
    let mut hash = Sha256::new();
    hash.update(b"querygate policy 1\n");
    for rule in &parts.rules {
        let line = serde_json::to_vec(rule).expect("a rule can be written as JSON");
        hash.update(&line);
        hash.update(b"\n");
    }
    if parts.observe {
        hash.update(b"observe\n");
    }
    for freeze in &parts.freezes {
        hash.update(serde_json::to_vec(freeze).expect("a freeze can be written as JSON"));
        hash.update(b"\n");
    }
    for pattern in &parts.critical {
        hash.update(format!("critical {pattern}\n"));
    }
    for line in parts.owners.iter().flat_map(Owners::canonical) {
        hash.update(b"owners ");
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    if let Some(rego) = &parts.rego {
        hash.update(format!("rego {}\n", rego.version()));
    }
    hex::encode(hash.finalize()).into()
}
