//! Rules of a policy that decide nothing. Knows the order of rules and what they say, no facts. Start at [`Policy::idle_rules`].

use super::{Action, EffectKind, Policy, Redact, Rule, Verdict};

/// A rule that decides nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleRule<'a> {
    /// It.
    pub rule: &'a Rule,
    /// Why.
    pub why: Idle<'a>,
}

/// Why a rule decides nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Idle<'a> {
    /// It asks for a condition (by its key) that effects of its kinds do not have.
    Impossible(&'static str),
    /// Rules before it match all it would.
    Covered {
        /// Which, in order.
        by: Vec<&'a Rule>,
        /// It is never asked. Otherwise it may still be named beside them, where what a text names cannot be told for certain.
        never_asked: bool,
    },
}

impl Policy {
    /// Rules that decide nothing, as far as their conditions tell.
    #[must_use]
    pub fn idle_rules(&self) -> Vec<IdleRule<'_>> {
        let rules: Vec<&Rule> = self.rules().collect();
        let idle = |(index, rule): (usize, &&'_ Rule)| {
            let earlier = rules.get(..index).unwrap_or_default();
            self.why_idle(rule, earlier)
        };
        let found = rules.iter().enumerate().map(|(index, rule)| (*rule, idle((index, rule))));
        found.filter_map(|(rule, why)| why.map(|why| IdleRule { rule, why })).collect()
    }

    /// A rule before this one that keeps it from deciding about effects of this kind.
    #[must_use]
    pub fn decided_before<'a>(&'a self, rule: &Rule, kind: EffectKind) -> Option<&'a Rule> {
        let earlier = self.rules().take_while(|earlier| earlier.name != rule.name);
        earlier.into_iter().find(|earlier| self.outdoes(earlier, rule, kind))
    }

    fn why_idle<'a>(&self, rule: &Rule, earlier: &[&'a Rule]) -> Option<Idle<'a>> {
        let (mut by, mut never_asked, mut impossible) = (Vec::new(), true, None);
        for kind in rule.kinds() {
            if let Some(condition) = rule.never_matches(kind) {
                impossible = impossible.or(Some(condition));
                continue;
            }
            // One that is certain is the better reason.
            let outdoes = |earlier: &&&'a Rule| self.outdoes(earlier, rule, kind);
            let covering = earlier.iter().find(|earlier| earlier.is_certain() && outdoes(earlier));
            let covering = *covering.or_else(|| earlier.iter().find(outdoes))?;
            never_asked &= covering.is_certain();
            if !by.iter().any(|known: &&Rule| std::ptr::eq(*known, covering)) {
                by.push(covering);
            }
        }
        if !by.is_empty() {
            return Some(Idle::Covered { by, never_asked });
        }
        impossible.map(Idle::Impossible)
    }

    /// For effects of this kind, `later` never is the rule that decides, because of `earlier`.
    fn outdoes(&self, earlier: &Rule, later: &Rule, kind: EffectKind) -> bool {
        let holds = |rule: &Rule| rule.action.verdict() > Verdict::Allow && !rule.observe && !self.observes();
        let told = |rule: &Rule| rule.action > Action::Allow && !holds(rule);
        // Where both match possibly, the earlier one is the one that is meant if it holds; if it lets pass, the later one may be.
        let first = holds(earlier) || !holds(later) && (told(earlier) || !told(later));
        // What hides something does so also where it is only possibly meant.
        let hides = later.redact > earlier.redact && later.redact > Redact::None;
        earlier.covers(later, kind) && (earlier.is_certain() || first && !hides)
    }
}

#[cfg(test)]
mod tests;
