//! Which rule judges an effect, and why the ones before it do not. Knows what [`super::decide`] asks, and asks it condition by
//! condition. Start at [`Policy::explain`].

use super::rego::ENTRY;
use super::rule::{Match, Scene};
use super::{Effect, Facts, ObjectName, Policy, Rule};

/// What one rule says to one effect on one object and column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The rule.
    pub rule: String,
    /// How well it matches.
    pub matches: Match,
    /// The conditions that do not match, or, of a rule that matches possibly, that cannot be told; as the configuration spells them.
    pub because: Vec<&'static str>,
}

impl Policy {
    /// The rules in the order in which they are asked, up to and including the first that surely matches. None of them may: then
    /// the effect is held under the name [`super::DEFAULT_RULE`].
    pub fn explain(
        &self,
        facts: &Facts<'_>,
        effect: &Effect,
        object: Option<&ObjectName>,
        column: Option<&str>,
        scene: Scene<'_>,
    ) -> Vec<Step> {
        let freezes = self.freezes().iter().filter(|freeze| freeze.contains(facts.now));
        let freezes: Vec<&str> = freezes.map(|freeze| freeze.name.as_str()).collect();
        let mut steps = Vec::new();
        if let Some(rego) = self.rego() {
            let answer = rego.ask(&rego.session(facts, &freezes), effect, object, scene, false);
            let (matches, because) = match answer {
                Ok(answer) if answer.is_empty() => (Match::No, vec!["undefined"]),
                Ok(_) => (Match::Surely, Vec::new()),
                Err(_) => (Match::Surely, vec!["it could not be asked, so it holds"]),
            };
            steps.push(Step { rule: ENTRY.to_owned(), matches, because });
            if matches == Match::Surely {
                return steps;
            }
        }
        for rule in self.rules() {
            let mut step = step(rule, |rule| {
                if rule.matches_session(facts, &freezes) {
                    rule.matches_effect(effect, object, column, scene)
                } else {
                    Match::No
                }
            });
            for key in step.because.iter_mut().filter(|key| scene.impact.is_none() && **key == "impact") {
                *key = "impact (not known here; a gate with [impact] looks into it, and may judge otherwise)";
            }
            let last = step.matches == Match::Surely;
            steps.push(step);
            if last {
                break;
            }
        }
        steps
    }
}

fn step(rule: &Rule, matches: impl Fn(&Rule) -> Match) -> Step {
    let answers: Vec<(&'static str, Match)> =
        alone(rule).into_iter().map(|(key, rule)| (key, matches(&rule))).collect();
    let worst = answers.iter().map(|(_, answer)| *answer).min().unwrap_or(Match::Surely);
    let because = answers.into_iter().filter(|(_, answer)| *answer == worst && worst < Match::Surely);
    Step { rule: rule.name.clone(), matches: worst, because: because.map(|(key, _)| key).collect() }
}

/// The conditions of a rule, each as a rule of its own. Those on people are one, for they are of one person.
fn alone(rule: &Rule) -> Vec<(&'static str, Rule)> {
    let bare = || Rule::new(rule.name.clone(), rule.action);
    let mut all = Vec::new();
    macro_rules! conditions {
        ($($key:literal $($field:ident)+;)+) => {
            $(if $(rule.$field.is_some())||+ {
                all.push(($key, Rule { $($field: rule.$field.clone(),)+ ..bare() }));
            })+
        };
    }
    conditions! {
        "users" users;
        "databases" databases;
        "application_names" application_names;
        "addresses" addresses;
        "people, groups" people groups;
        "times" times;
        "frozen" frozen;
        "effects" effects;
        "objects" objects;
        "columns" columns;
        "has_where" has_where;
        "in_transaction" in_transaction;
        "tags" tags;
        "risks" risks;
        "impact" impact;
    }
    all
}
