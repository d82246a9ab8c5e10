//! From effects to a verdict: asks a session's rules about every effect on every object and column, and explains the answer. Knows no
//! text and no cache. Start at [`message`].

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

mod rego;

pub(super) use rego::RegoClass;

use super::policy::{ClassRules, CompiledRule, DEFAULT_RULE, EMPTY_RULE};
use super::rule::Match;
use super::{
    Action, Analysis, Calls, Effect, EffectKind, Guard, Judgement, Measured, ObjectName, Otherwise, Piece, Prepared,
    Redact, Remark, RemarkKind, RiskKind, Scene, SessionAct, SessionClass, Undo, Verdict,
};

/// EXECUTE of a statement that is an EXECUTE … : Postgres refuses most of these; deeper is `unknown`.
const MAX_EXECUTE_DEPTH: usize = 4;
/// Columns a table can have (`MaxHeapAttributeNumber` in `htup_details.h`).
const MAX_COLUMNS: usize = 1600;
/// Further rules whose reasons a sentence tells.
const RULES_NAMED: usize = 3;
/// Messages, and pieces of advice, that one requester is told.
const WORDS_TOLD: usize = 10;
/// Objects named in a sentence before "and … more".
const OBJECTS_NAMED: usize = 3;

/// The answer for one piece, with its findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceJudgement {
    /// Byte range of the piece in its text.
    pub range: Range<usize>,
    /// The strictest of the findings.
    pub judgement: Judgement,
    /// What each effect was found to be, in the order of the piece's effects; effects of a statement that an EXECUTE runs
    /// stand behind those of the piece.
    pub findings: Vec<Finding>,
}

/// The answer for one effect on some of its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What the rules said.
    pub verdict: Verdict,
    /// The rule that said it.
    pub rule: Arc<str>,
    /// The effect, with only the objects this answer is for.
    pub effect: Effect,
    /// Other rules that hold it, should they be meant.
    pub also: Vec<Arc<str>>,
    /// The rule matched only possibly: the text leaves open what is named.
    pub uncertain: bool,
    /// The kinds of risk it was judged with; `None`: not known.
    pub risks: Option<Vec<RiskKind>>,
    /// The kinds of all effects of its statement.
    pub effects: Vec<EffectKind>,
    /// The rule's message to the requester.
    pub message: Option<Arc<str>>,
    /// What the rule advises them to do instead.
    pub advice: Option<Arc<str>>,
    /// The strictest `redact` of the rule and of those that may be meant.
    pub redact: Redact,
    /// A rule that was asked about it asks what the message would touch.
    pub by_impact: bool,
    /// It passes only because it writes no more rows than these.
    pub most_rows: Option<u64>,
    /// A rule that was asked about it depends on what the message would touch, which was not known.
    pub examine: bool,
    /// What is told of it if its message passes: why, by which rule, in whose words.
    pub remark: Option<(RemarkKind, Arc<str>, Option<Arc<str>>)>,
}

/// Judges a message: the strictest verdict of its pieces; among equals the first.
pub(super) fn message(
    class: &SessionClass,
    analysis: &Analysis,
    in_transaction: bool,
    prepared: &dyn Prepared,
    impact: Option<Measured<'_>>,
) -> Judgement {
    let pieces = pieces(class, analysis, in_transaction, prepared, impact);
    // Fail closed: the text is one, so what one piece of it has to hide is hidden in all of it.
    let redact = pieces.iter().map(|piece| piece.judgement.redact).max().unwrap_or_default();
    let remarks = remarks(pieces.iter().flat_map(|piece| &piece.findings));
    let findings: Vec<&Finding> = pieces.iter().flat_map(|piece| &piece.findings).collect();
    let judgements = pieces.iter().map(|piece| &piece.judgement);
    let judgement = strictest(judgements, |judgement| judgement.verdict).cloned().unwrap_or_else(empty);
    let judgement = with_words(with_others(judgement, &findings), &class.0, &findings);
    let judgement = guarded(with_owners(judgement, &class.0, &findings), &class.0, &findings);
    let remarks = if judgement.verdict == Verdict::Allow { remarks } else { Vec::new() };
    let raised = pieces.iter().flat_map(|piece| piece.judgement.raised.iter().cloned()).collect();
    let redefines = pieces.iter().any(|piece| piece.judgement.redefines);
    let judgement = Judgement { redact, remarks, raised, redefines, ..judgement };
    let judgement = to_examine(judgement, &findings);
    with_impact(judgement, &class.0, &findings, impact)
}

/// What it would touch decides, unless it is rejected whatever that is. Until it is known nothing passes and nothing is rejected.
fn to_examine(judgement: Judgement, findings: &[&Finding]) -> Judgement {
    let rejected = findings.iter().any(|finding| finding.verdict == Verdict::Reject && !finding.examine);
    let examine = !rejected && findings.iter().any(|finding| finding.examine);
    // Fail closed: should nobody look, people are asked.
    let verdict = if examine { Verdict::Hold } else { judgement.verdict };
    Judgement { verdict, examine, ..judgement }
}

/// Where a rule asks for it, people are told what was found.
fn with_impact(
    mut judgement: Judgement,
    class: &ClassRules,
    findings: &[&Finding],
    impact: Option<Measured<'_>>,
) -> Judgement {
    let asks = findings.iter().any(|finding| finding.by_impact);
    if let Some(found) = impact.map(|impact| impact.measure).filter(|found| asks && !found.said.is_empty()) {
        let mut said = found.said.clone();
        // Or a few rows that were counted would seem to be all, and too many.
        if found.rows.is_none() && class.asks_rows() {
            said.push_str("; rows that cannot be relied on count as many");
        }
        let _ = write!(judgement.why, " ({said})");
        for remark in &mut judgement.remarks {
            let _ = write!(remark.why, " ({said})");
        }
    }
    judgement
}

/// What is told of a message that passes: of each rule the gravest.
fn remarks<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<Remark> {
    let mut remarks: Vec<Remark> = Vec::new();
    for finding in findings {
        let Some((kind, rule, message)) = &finding.remark else { continue };
        if remarks.iter().any(|known| known.rule == *rule && known.kind >= *kind) {
            continue;
        }
        remarks.retain(|known| known.rule != *rule);
        remarks.push(Remark { kind: *kind, rule: rule.clone(), why: finding.sentence().why, message: message.clone() });
    }
    remarks
}

/// Judges each piece.
pub(super) fn pieces(
    class: &SessionClass,
    analysis: &Analysis,
    in_transaction: bool,
    prepared: &dyn Prepared,
    impact: Option<Measured<'_>>,
) -> Vec<PieceJudgement> {
    let mut scope = Scope { session: prepared, here: HashMap::new() };
    analysis
        .pieces
        .iter()
        .map(|piece| {
            let (mut findings, mut called) = (Vec::new(), Vec::new());
            // What an EXECUTE runs is judged with the tags of the message that runs it.
            let kinds = analysis.risk_kinds(piece);
            let raised = class.0.raised(piece, piece.calls.copies);
            let effects = effect_kinds(piece, &raised);
            let scene =
                Scene { in_transaction, tags: &analysis.tags, risks: kinds.as_deref(), effects: &effects, impact };
            let mut found = Found { findings: &mut findings, raised: &mut called, redefines: false, copies: false };
            piece_findings(&class.0, (piece, raised), scene, &scope, 0, &mut found);
            let redefines = found.redefines;
            scope.follow(piece);
            if findings.is_empty() {
                findings.push(Finding::unknown(&class.0, scene, "it has no known effect"));
            }
            let judgement = strictest(findings.iter(), |finding| finding.verdict).map_or_else(
                || Finding::unknown(&class.0, scene, "it has no known effect").sentence(),
                Finding::sentence,
            );
            let all: Vec<&Finding> = findings.iter().collect();
            let judgement = with_words(with_others(judgement, &all), &class.0, &all);
            let judgement = guarded(with_owners(judgement, &class.0, &all), &class.0, &all);
            let redact = findings.iter().map(|finding| finding.redact).fold(judgement.redact, Redact::max);
            let remarks = if judgement.verdict == Verdict::Allow { remarks(findings.iter()) } else { Vec::new() };
            let judgement = Judgement { redact, remarks, raised: called, redefines, ..judgement };
            PieceJudgement { range: piece.range.clone(), judgement, findings }
        })
        .collect()
}

/// Who is asked must not depend on what a message names first: every rule that holds some of it is named.
fn with_others(mut judgement: Judgement, findings: &[&Finding]) -> Judgement {
    if judgement.verdict != Verdict::Hold {
        return judgement;
    }
    let mut told = 0;
    for finding in findings.iter().filter(|finding| finding.verdict == Verdict::Hold) {
        for rule in std::iter::once(&finding.rule).chain(&finding.also) {
            if *rule == judgement.rule || judgement.also.contains(rule) {
                continue;
            }
            judgement.also.push(Arc::clone(rule));
            if told < RULES_NAMED {
                told = told.saturating_add(1);
                let why = if *rule == finding.rule { finding.sentence().why } else { "it may be meant".to_owned() };
                let _ = write!(judgement.why, "; and rule `{rule}`: {why}");
            }
        }
    }
    judgement
}

/// Every rule that holds some of it, or may be meant, has its say to the requester.
fn with_words(mut judgement: Judgement, class: &ClassRules, findings: &[&Finding]) -> Judgement {
    if judgement.verdict != Verdict::Hold || judgement.also.is_empty() && findings.len() == 1 {
        return judgement;
    }
    let add = |all: &mut Vec<Arc<str>>, words: Option<&Arc<str>>| {
        if let Some(words) = words.filter(|words| all.len() < WORDS_TOLD && !all.contains(words)) {
            all.push(Arc::clone(words));
        }
    };
    let (mut messages, mut advice) = (Vec::new(), Vec::new());
    for name in std::iter::once(&judgement.rule).chain(&judgement.also) {
        for finding in findings.iter().filter(|finding| finding.verdict == Verdict::Hold && finding.rule == *name) {
            add(&mut messages, finding.message.as_ref());
            add(&mut advice, finding.advice.as_ref());
        }
        for rule in class.rules.iter().filter(|rule| rule.name == *name) {
            add(&mut messages, rule.message.as_ref());
            add(&mut advice, rule.advice.as_ref());
        }
    }
    let joined = |all: Vec<Arc<str>>| (!all.is_empty()).then(|| Arc::from(all.join("\n")));
    (judgement.message, judgement.advice) = (joined(messages), joined(advice));
    judgement
}

/// Who owns what the held effects touch has to agree, whatever rule holds them. What would pass alone asks nobody.
fn with_owners(mut judgement: Judgement, class: &ClassRules, findings: &[&Finding]) -> Judgement {
    if let Some(owners) = class.owners.as_ref().filter(|_| judgement.verdict == Verdict::Hold) {
        let held = findings.iter().filter(|finding| finding.verdict == Verdict::Hold);
        judgement.owners = owners.of(held.map(|finding| &finding.effect));
    }
    judgement
}

/// Whatever rule holds some of it, or may be meant: its guard counts, and so does its undo. What passes because it is small runs under that ceiling.
fn guarded(mut judgement: Judgement, class: &ClassRules, findings: &[&Finding]) -> Judgement {
    if judgement.verdict == Verdict::Allow {
        let max_rows = findings.iter().filter_map(|finding| finding.most_rows).min();
        let otherwise = Otherwise::Reject;
        judgement.guard = max_rows.map(|_| Guard { max_rows, lock_timeout: None, statement_timeout: None, otherwise });
    } else if judgement.verdict == Verdict::Hold {
        let holds = |name: &Arc<str>| *name == judgement.rule || judgement.also.contains(name);
        let guards = class.rules.iter().filter(|rule| holds(&rule.name)).filter_map(|rule| rule.rule.guard);
        judgement.guard = guards.reduce(Guard::and);
        let undos = class.rules.iter().filter(|rule| holds(&rule.name)).filter_map(|rule| rule.rule.undo);
        judgement.undo = undos.reduce(Undo::and);
    }
    judgement
}

/// What is found in a statement, and in those it executes.
struct Found<'a> {
    findings: &'a mut Vec<Finding>,
    /// The effects by what is called.
    raised: &'a mut Vec<Effect>,
    redefines: bool,
    /// A table is made of what an EXECUTE reads.
    copies: bool,
}

impl ClassRules {
    /// The effects of a statement by what it calls; `copies`: a table is made of what it reads.
    fn raised(&self, piece: &Piece, copies: bool) -> Vec<Effect> {
        let Some(book) = &self.functions else { return Vec::new() };
        if copies && !piece.calls.copies {
            let calls = Calls { copies, ..piece.calls.clone() };
            return book.raises(&Piece { calls, ..piece.clone() });
        }
        book.raises(piece)
    }
}

fn piece_findings(
    class: &ClassRules,
    (piece, raised): (&Piece, Vec<Effect>),
    scene: Scene<'_>,
    scope: &Scope<'_>,
    depth: usize,
    found: &mut Found<'_>,
) {
    for effect in piece.effects.iter().chain(&raised) {
        effect_findings(class, effect, scene, found.findings);
    }
    // A function that can write can write to the catalogue, and run text that defines another.
    found.redefines |= piece.calls.redefines || !raised.is_empty();
    found.raised.extend(raised);
    let mut executes = false;
    for act in &piece.acts {
        if let SessionAct::Execute { name } = act {
            executes = true;
            found.copies |= piece.calls.copies;
            execute_findings(class, name, scene, scope, depth, found);
        }
    }
    if !executes && piece.effects.iter().any(|effect| effect.kind == EffectKind::Execute) {
        found.redefines = true;
        found.findings.push(Finding::unknown(class, scene, "it executes a statement that cannot be told"));
    }
}

/// Each kind once.
fn effect_kinds(piece: &Piece, raised: &[Effect]) -> Vec<EffectKind> {
    let mut kinds: Vec<EffectKind> = piece.effects.iter().chain(raised).map(|effect| effect.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// What EXECUTE runs, judged as if it stood there.
fn execute_findings(
    class: &ClassRules,
    name: &str,
    scene: Scene<'_>,
    scope: &Scope<'_>,
    depth: usize,
    found: &mut Found<'_>,
) {
    // Fail closed: a name prepared before the gate looked, or a chain without end.
    let Some(body) = scope.prepared(name).filter(|_| depth < MAX_EXECUTE_DEPTH) else {
        let why = format!("it executes `{name}`, which was not prepared through this session");
        found.redefines = true;
        found.findings.push(Finding::unknown(class, scene, &why));
        return;
    };
    for piece in &body.pieces {
        // It has the risks of both texts, and is unknown if one of them is.
        let both = body.risk_kinds(piece).zip(scene.risks).map(|(kinds, outer)| [&kinds, outer].concat());
        let raised = class.raised(piece, found.copies);
        let effects = effect_kinds(piece, &raised);
        let scene = Scene { risks: both.as_deref(), effects: &effects, ..scene };
        piece_findings(class, (piece, raised), scene, scope, depth.saturating_add(1), found);
    }
}

fn effect_findings(class: &ClassRules, effect: &Effect, scene: Scene<'_>, findings: &mut Vec<Finding>) {
    match &class.rego {
        Some(rego) => {
            let mut own = Vec::new();
            rego.findings(class, effect, scene, &mut own);
            findings.extend(own);
        }
        None => by_rules(class, effect, scene, findings),
    }
}

/// One finding per rule that judges some of the effect's objects.
fn by_rules(class: &ClassRules, effect: &Effect, scene: Scene<'_>, findings: &mut Vec<Finding>) {
    let mut answers: Vec<(Answer<'_>, Vec<ObjectName>, Vec<String>)> = Vec::new();
    // One loop for both; an effect without names, or without columns, is asked about once.
    let objects: Vec<Option<&ObjectName>> =
        if effect.objects.is_empty() { vec![None] } else { effect.objects.iter().map(Some).collect() };
    let columns: Vec<Option<&String>> =
        if class.tells_columns(effect) { effect.columns.iter().map(Some).collect() } else { vec![None] };
    for object in objects {
        for column in &columns {
            let answer = ask(class, effect, object, column.map(String::as_str), scene);
            if !answers.iter().any(|(known, ..)| known.is(&answer)) {
                answers.push((answer.clone(), Vec::new(), Vec::new()));
            }
            let known = answers.iter_mut().find(|(known, ..)| known.is(&answer));
            let Some((_, objects, columns)) = known else { continue };
            if let Some(object) = object.filter(|object| objects.last() != Some(*object)) {
                objects.push(object.clone());
            }
            if let Some(column) = column.filter(|column| !columns.contains(*column)) {
                columns.push(column.clone());
            }
        }
    }
    let all = &effect.columns;
    findings.extend(answers.into_iter().map(|(answer, objects, columns)| {
        let columns = if columns.is_empty() { all.clone() } else { columns };
        answer.finding(effect, objects, columns, scene)
    }));
}

impl ClassRules {
    /// A rule asks how many rows would be written.
    fn asks_rows(&self) -> bool {
        let impacts = self.rules.iter().filter_map(|compiled| compiled.rule.impact.as_ref());
        self.rego.is_some() || impacts.into_iter().any(|impact| impact.min_rows.is_some() || impact.max_rows.is_some())
    }

    /// Whether the columns of an effect are judged one by one. A list longer than any table is as good as none.
    fn tells_columns(&self, effect: &Effect) -> bool {
        self.by_column && (1..=MAX_COLUMNS).contains(&effect.columns.len())
    }
}

/// What the rules say to one effect on one object and column.
#[derive(Clone)]
struct Answer<'a> {
    verdict: Verdict,
    /// `None`: no rule matched.
    rule: Option<&'a CompiledRule>,
    /// Rules before that one that would hold or reject it, if they are meant.
    also: Vec<&'a CompiledRule>,
    uncertain: bool,
    examine: bool,
    by_impact: bool,
    most_rows: Option<u64>,
    redact: Redact,
    remark: Option<Said<'a>>,
}

/// Why a rule wants it told; `None`: no rule matched, and the gate only observes.
#[derive(Clone, Copy)]
struct Said<'a>(RemarkKind, Option<&'a CompiledRule>);

impl<'a> Answer<'a> {
    fn is(&self, other: &Answer<'a>) -> bool {
        let same_rule = |one: Option<&CompiledRule>, two: Option<&CompiledRule>| match (one, two) {
            (Some(one), Some(two)) => std::ptr::eq(one, two),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let same_remark = match (self.remark, other.remark) {
            (Some(Said(one, by)), Some(Said(two, by_other))) => one == two && same_rule(by, by_other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let same_answer = (self.verdict, self.uncertain, self.redact) == (other.verdict, other.uncertain, other.redact)
            && (self.examine, self.by_impact, self.most_rows) == (other.examine, other.by_impact, other.most_rows);
        let same_others = self.also.len() == other.also.len()
            && self.also.iter().zip(&other.also).all(|(one, two)| std::ptr::eq(*one, *two));
        same_answer && same_remark && same_others && same_rule(self.rule, other.rule)
    }

    fn finding(self, effect: &Effect, objects: Vec<ObjectName>, columns: Vec<String>, scene: Scene<'_>) -> Finding {
        let name = |rule: Option<&CompiledRule>| rule.map_or_else(|| Arc::from(DEFAULT_RULE), |rule| rule.name.clone());
        let remark = self.remark.map(|Said(kind, by)| (kind, name(by), by.and_then(|rule| rule.message.clone())));
        Finding {
            verdict: self.verdict,
            remark,
            rule: name(self.rule),
            message: self.rule.and_then(|rule| rule.message.clone()),
            advice: self.rule.and_then(|rule| rule.advice.clone()),
            effect: Effect {
                kind: effect.kind,
                objects,
                has_where: effect.has_where,
                columns,
                why: effect.why.clone(),
            },
            also: self.also.iter().map(|rule| rule.name.clone()).collect(),
            uncertain: self.uncertain,
            examine: self.examine,
            by_impact: self.by_impact,
            most_rows: self.most_rows,
            risks: scene.risks.map(<[_]>::to_vec),
            effects: scene.effects.to_vec(),
            redact: self.redact,
        }
    }
}

/// The first rule that surely matches decides. Rules passed on the way that only *possibly* match cannot allow, and if
/// they would have held or rejected, the answer is at least `Hold`.
fn ask<'a>(
    class: &'a ClassRules,
    effect: &Effect,
    object: Option<&ObjectName>,
    column: Option<&str>,
    scene: Scene<'_>,
) -> Answer<'a> {
    let mut doubts: Vec<&'a CompiledRule> = Vec::new();
    let mut aside: Option<Said<'a>> = None;
    let (mut redact, mut examine, mut by_impact, mut most_rows) = (Redact::None, false, false, None);
    let mut sure: Option<&'a CompiledRule> = None;
    for compiled in &class.rules {
        let besides = compiled.rule.matches_besides_impact(effect, object, column, scene);
        let matches = besides.min(compiled.rule.matches_impact(scene.impact));
        let asks = besides > Match::No && compiled.rule.impact.is_some();
        by_impact |= asks;
        examine |= asks && scene.impact.is_none();
        if matches > Match::No || (examine && besides > Match::No) {
            // Fail closed: a rule that only may be meant still hides.
            redact = redact.max(compiled.rule.redact);
        }
        let (verdict, remark) = says(compiled.rule.action, class.observe || compiled.rule.observe);
        let said = remark.map(|kind| Said(kind, Some(compiled)));
        if let Some(found) = scene.impact.filter(|_| besides > Match::No) {
            // By the time it runs it may write more: so much, and it would have been another rule's.
            let ceiling =
                compiled.rule.impact.as_ref().and_then(|impact| impact.ceiling(verdict, matches, found.measure.rows));
            most_rows = most_rows.into_iter().chain(ceiling).min();
        }
        match matches {
            Match::Surely => {
                sure = Some(compiled);
                break;
            }
            Match::Possibly => {
                aside = aside.or(said);
                if verdict > Verdict::Allow {
                    doubts.push(compiled);
                }
            }
            Match::No => {}
        }
    }
    // Fail closed: nothing matches, so people are asked.
    let action = sure.map_or(Action::Hold, |compiled| compiled.rule.action);
    let (verdict, kind) = says(action, class.observe || sure.is_some_and(|compiled| compiled.rule.observe));
    let said = kind.map(|kind| Said(kind, sure));
    // What may have been meant before is told where the rule that decides has nothing to tell, and in place of there being none.
    let remark = if sure.is_some() { said.or(aside) } else { aside.or(said) };
    let (rule, also, uncertain) = (sure, Vec::new(), false);
    let answer = Answer { verdict, rule, also, uncertain, examine, by_impact, most_rows, redact, remark };
    match (verdict, sure) {
        (Verdict::Reject, _) => answer,
        // Whoever is asked by a rule that may be meant is asked as well.
        (Verdict::Hold, Some(_)) => Answer { also: doubts, ..answer },
        // Fail closed: an earlier rule may be the one that is meant.
        (Verdict::Allow, _) | (Verdict::Hold, None) => match doubts.split_first() {
            Some((first, others)) => {
                let (rule, also) = (Some(*first), others.to_vec());
                Answer { verdict: Verdict::Hold, rule, also, uncertain: true, remark: None, ..answer }
            }
            None => answer,
        },
    }
}

/// What becomes of a statement by an action, and what is told of it.
fn says(action: Action, observe: bool) -> (Verdict, Option<RemarkKind>) {
    match action {
        Action::Allow => (Verdict::Allow, None),
        Action::Notify => (Verdict::Allow, Some(RemarkKind::Noticed)),
        Action::Hold if observe => (Verdict::Allow, Some(RemarkKind::WouldHaveHeld)),
        Action::Reject if observe => (Verdict::Allow, Some(RemarkKind::WouldHaveRejected)),
        Action::Hold | Action::Reject => (action.verdict(), None),
    }
}

impl Finding {
    fn unknown(class: &ClassRules, scene: Scene<'_>, why: &str) -> Self {
        let effect = Effect {
            kind: EffectKind::Unknown,
            objects: Vec::new(),
            has_where: None,
            columns: Vec::new(),
            why: why.to_owned(),
        };
        ask(class, &effect, None, None, scene).finding(&effect, Vec::new(), Vec::new(), scene)
    }

    fn sentence(&self) -> Judgement {
        let mut why = self.effect.kind.to_string();
        let objects = &self.effect.objects;
        for (index, object) in objects.iter().take(OBJECTS_NAMED).enumerate() {
            let _ = write!(why, "{}{object}", if index == 0 { " of " } else { ", " });
        }
        let more = objects.len().saturating_sub(OBJECTS_NAMED);
        if more > 0 {
            let _ = write!(why, " and {more} more");
        }
        let _ = write!(why, ": {}", self.effect.why);
        let meant: Vec<String> = Some(&self.rule)
            .filter(|_| self.uncertain)
            .into_iter()
            .chain(&self.also)
            .take(RULES_NAMED)
            .map(|rule| format!("`{rule}`"))
            .collect();
        if !meant.is_empty() {
            let meant = meant.join(" or ");
            let _ = write!(why, " (what it touches cannot be told for certain; rule {meant} may be meant)");
        }
        let (rule, message, advice) = (self.rule.clone(), self.message.clone(), self.advice.clone());
        Judgement {
            verdict: self.verdict,
            rule,
            why,
            message,
            advice,
            redact: self.redact,
            also: self.also.clone(),
            owners: Vec::new(),
            remarks: Vec::new(),
            guard: None,
            examine: false,
            undo: None,
            raised: Vec::new(),
            redefines: false,
        }
    }
}

fn empty() -> Judgement {
    Judgement {
        verdict: Verdict::Allow,
        rule: Arc::from(EMPTY_RULE),
        why: "there is no statement in it".to_owned(),
        message: None,
        advice: None,
        redact: Redact::None,
        also: Vec::new(),
        owners: Vec::new(),
        remarks: Vec::new(),
        guard: None,
        examine: false,
        undo: None,
        raised: Vec::new(),
        redefines: false,
    }
}

/// The first of the strictest.
fn strictest<T>(items: impl Iterator<Item = T>, verdict: impl Fn(&T) -> Verdict) -> Option<T> {
    items.reduce(|best, next| if verdict(&next) > verdict(&best) { next } else { best })
}

/// Prepared statements as they stand when a piece of the message runs: the session's, changed by earlier pieces.
struct Scope<'a> {
    session: &'a dyn Prepared,
    /// `None`: deallocated.
    here: HashMap<String, Option<Arc<Analysis>>>,
}

impl Scope<'_> {
    fn prepared(&self, name: &str) -> Option<Arc<Analysis>> {
        match self.here.get(name) {
            Some(known) => known.clone(),
            None => self.session.prepared(name),
        }
    }

    fn follow(&mut self, piece: &Piece) {
        for act in &piece.acts {
            match act {
                SessionAct::Prepare { name, body } => {
                    self.here.insert(name.clone(), Some(body.clone()));
                }
                SessionAct::Deallocate { name: Some(name) } => {
                    self.here.insert(name.clone(), None);
                }
                // What the session knew stays visible here. If it is gone, EXECUTE fails in Postgres; if it is prepared
                // again in this message, the new body is found first.
                SessionAct::Deallocate { name: None }
                | SessionAct::Execute { .. }
                | SessionAct::SetReason { .. }
                | SessionAct::CopyIn
                | SessionAct::EndTransaction => {}
            }
        }
    }
}

#[cfg(test)]
mod impact_tests;
#[cfg(test)]
mod tests;
