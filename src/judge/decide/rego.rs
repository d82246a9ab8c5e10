//! Effects judged by a Rego policy. What it leaves undecided the rules judge.

use std::sync::Arc;

use serde_json::Value;

use super::super::rego::{Decision, REGO_FAILED, Rego};
use super::{ClassRules, Effect, Finding, ObjectName, Redact, RemarkKind, Scene, Verdict, by_rules, says};
use crate::judge::Action;

/// Objects of one effect that the policy is asked about; each is a question.
const MAX_OBJECTS: usize = 200;

/// A policy, and what of its input is the session's.
#[derive(Debug, Clone)]
pub(in crate::judge) struct RegoClass {
    pub(in crate::judge) rego: Arc<Rego>,
    pub(in crate::judge) session: Value,
    /// It is asked for somebody who will ask soon.
    pub(in crate::judge) ahead: bool,
}

impl RegoClass {
    /// One finding for each answer, of the objects it is for.
    pub(super) fn findings(&self, class: &ClassRules, effect: &Effect, scene: Scene<'_>, findings: &mut Vec<Finding>) {
        let mut answers: Vec<(Arc<[Decision]>, Vec<ObjectName>)> = Vec::new();
        let mut undecided = Vec::new();
        let mut failed: Option<String> = None;
        let objects: Vec<Option<&ObjectName>> =
            if effect.objects.is_empty() { vec![None] } else { effect.objects.iter().map(Some).collect() };
        for (index, object) in objects.iter().enumerate() {
            if index >= MAX_OBJECTS {
                failed = Some(format!("it names more than {MAX_OBJECTS} objects"));
                break;
            }
            match self.rego.ask(&self.session, effect, *object, scene, self.ahead) {
                Ok(answer) if answer.is_empty() => undecided.extend(object.cloned()),
                Ok(answer) => {
                    let object = object.cloned();
                    match answers.iter_mut().find(|(known, _)| *known == answer) {
                        Some((_, objects)) => objects.extend(object),
                        None => answers.push((answer, object.into_iter().collect())),
                    }
                }
                // The statement is held now, so the rest need not be asked about.
                Err(why) => {
                    failed = Some(why);
                    break;
                }
            }
        }
        if let Some(why) = failed {
            findings.push(self.failed(class, effect, scene, &why));
        }
        let nothing = answers.is_empty() && findings.is_empty();
        if !undecided.is_empty() || effect.objects.is_empty() && nothing {
            by_rules(class, &Effect { objects: undecided, ..effect.clone() }, scene, findings);
        }
        let observe = class.observe;
        findings.extend(answers.into_iter().map(|(answer, objects)| finding(&answer, observe, effect, objects, scene)));
    }

    fn failed(&self, class: &ClassRules, effect: &Effect, scene: Scene<'_>, why: &str) -> Finding {
        // Fail closed: a policy that did not answer did not allow anything; and it might have hidden all of it.
        let (verdict, kind) = says(Action::Hold, class.observe);
        let why = format!("{}; and the Rego policy could not be asked: {why}", effect.why);
        let rule: Arc<str> = REGO_FAILED.into();
        Finding {
            verdict,
            remark: kind.map(|kind| (kind, Arc::clone(&rule), None)),
            rule,
            effect: Effect { why, ..effect.clone() },
            also: Vec::new(),
            uncertain: false,
            examine: false,
            by_impact: false,
            most_rows: None,
            risks: scene.risks.map(<[_]>::to_vec),
            effects: scene.effects.to_vec(),
            message: None,
            advice: None,
            redact: if self.rego.reads.redacts { Redact::All } else { Redact::None },
        }
    }
}

/// The strictest of some decisions; among equals the first.
fn finding(
    decisions: &[Decision],
    observe: bool,
    effect: &Effect,
    objects: Vec<ObjectName>,
    scene: Scene<'_>,
) -> Finding {
    let small = |most: u64| scene.impact.is_some_and(|found| found.measure.rows.is_some_and(|rows| rows <= most));
    let said = || {
        decisions.iter().map(|one| {
            // Fail closed: what is larger, or not known, is not what it lets pass.
            let action = if one.max_rows.is_none_or(small) { one.action } else { Action::Hold };
            (one, says(action, observe || one.observe))
        })
    };
    let strictest = said().reduce(|best, next| if next.1.0 > best.1.0 { next } else { best });
    let (verdict, rule, message, advice) = strictest.map_or_else(
        // Fail closed: there is no answer without a decision.
        || (Verdict::Hold, Arc::from(REGO_FAILED), None, None),
        |(one, (verdict, _))| (verdict, Arc::clone(&one.rule), one.message.clone(), one.advice.clone()),
    );
    let mut also: Vec<Arc<str>> = Vec::new();
    for (one, (other, _)) in said() {
        if verdict == Verdict::Hold && other == Verdict::Hold && one.rule != rule && !also.contains(&one.rule) {
            also.push(Arc::clone(&one.rule));
        }
    }
    // What is rejected without a look is, whatever one would find.
    let rejected = said().any(|(one, (verdict, _))| verdict == Verdict::Reject && !one.impact);
    let by_impact = decisions.iter().any(|one| one.impact);
    let told = said().filter_map(|(one, (_, kind))| kind.map(|kind| (kind, one)));
    let told: Option<(RemarkKind, &Decision)> = told.reduce(|best, next| if next.0 > best.0 { next } else { best });
    Finding {
        verdict,
        rule,
        effect: Effect { objects, ..effect.clone() },
        also,
        uncertain: false,
        examine: by_impact && scene.impact.is_none() && !rejected,
        by_impact,
        most_rows: scene.impact.and(decisions.iter().filter_map(|one| one.max_rows).min()),
        risks: scene.risks.map(<[_]>::to_vec),
        effects: scene.effects.to_vec(),
        message,
        advice,
        redact: decisions.iter().map(|one| one.redact).max().unwrap_or_default(),
        remark: told.map(|(kind, one)| (kind, Arc::clone(&one.rule), one.message.clone())),
    }
}
