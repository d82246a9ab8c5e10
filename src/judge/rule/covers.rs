//! Whether one rule matches whatever another does, and whether a rule can match at all: read off their conditions, for `policy lint`.
//! Knows no order of rules and no facts. Only what is certain is said: a `false` means nothing.
//!
//! Matches are ordered ([`Match`](super::Match)). A condition covers another if it matches at least as well whatever is asked; a rule matches as
//! well as its worst condition does, so a rule covers another if each of its conditions covers one of the other's.
//!
//! Start at [`Rule::covers`].

use super::{
    AddressRange, Bytes, Critical, Frozen, Glob, ImpactCondition, ObjectPattern, OneOf, Rule, TagPatterns, TimeWindow,
    may_write_untold,
};
use crate::judge::{Action, EffectKind};

impl Rule {
    /// For effects of this kind, it matches at least as well as `later` does, whoever does what, where and when.
    #[must_use]
    pub fn covers(&self, later: &Self, kind: EffectKind) -> bool {
        let same = |own: Option<bool>, other: Option<bool>| own.is_none() || own == other;
        self.effects.as_ref().is_none_or(|kinds| kinds.contains(&kind))
            && names(self.users.as_ref(), later.users.as_ref())
            && names(self.databases.as_ref(), later.databases.as_ref())
            && names(self.application_names.as_ref(), later.application_names.as_ref())
            && self.addresses.as_ref().is_none_or(|own| addresses(own, later.addresses.as_ref()))
            && self.covers_people(later)
            && self.times.as_ref().is_none_or(|own| times(own, later.times.as_ref()))
            && self.frozen.as_ref().is_none_or(|own| later.frozen.as_ref().is_some_and(|other| frozen(own, other)))
            && each(self.objects.as_ref(), later.objects.as_ref(), ObjectPattern::matches_as_well)
            && each(self.columns.as_ref(), later.columns.as_ref(), Glob::covers)
            && same(self.has_where, later.has_where)
            && same(self.in_transaction, later.in_transaction)
            && self.tags.as_ref().is_none_or(|own| later.tags.as_ref().is_some_and(|other| tags(own, other)))
            && each(self.risks.as_ref(), later.risks.as_ref(), PartialEq::eq)
            && self.impact.as_ref().is_none_or(|own| later.impact.as_ref().is_some_and(|other| impact(own, other)))
    }

    /// It never matches only possibly.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.objects.is_none()
            && self.columns.is_none()
            && self.has_where.is_none()
            && self.risks.is_none()
            && self.impact.is_none()
    }

    /// Why it matches no effect of this kind, if it never can: a condition that such effects do not have.
    #[must_use]
    pub fn never_matches(&self, kind: EffectKind) -> Option<&'static str> {
        if self.has_where.is_some() && !matches!(kind, EffectKind::Update | EffectKind::Delete) {
            Some("has_where")
        } else if self.columns.is_some() && !may_write_untold(kind) {
            Some("columns")
        } else {
            None
        }
    }

    /// The kinds of effect it asks for, whether they can have what else it asks for or not.
    pub fn kinds(&self) -> impl Iterator<Item = EffectKind> {
        EffectKind::ALL.into_iter().filter(|kind| self.effects.as_ref().is_none_or(|kinds| kinds.contains(kind)))
    }

    /// Conditions that keep nobody and nothing out, and those on what clients say of themselves. `None`: another one limits what it matches.
    #[must_use]
    pub fn only_weak_conditions(&self) -> Option<WeakConditions> {
        let mut weak = WeakConditions::default();
        let mut any = |key: &'static str, holds: Option<bool>| match holds {
            None => true,
            Some(true) => {
                weak.empty.push(key);
                true
            }
            Some(false) => false,
        };
        let free = |globs: &Option<OneOf<Glob>>| globs.as_ref().map(|globs| globs.iter().any(Glob::is_any));
        let all = any("users", free(&self.users))
            && any("databases", free(&self.databases))
            && any("addresses", self.addresses.as_ref().map(|own| addresses(own, None)))
            && any("times", self.times.as_ref().map(|own| times(own, None)))
            && any("objects", self.objects.as_ref().map(|own| own.iter().any(ObjectPattern::is_broad)))
            && any("columns", free(&self.columns))
            && any("has_where", self.has_where.map(|wanted| !wanted))
            && [self.people.is_none(), self.groups.is_none(), self.frozen.is_none()].iter().all(|absent| *absent)
            && [self.risks.is_none(), self.impact.is_none()].iter().all(|absent| *absent);
        // What a client says of itself it may say as it likes, and it opens transactions itself.
        let chosen = [
            ("application_names", self.application_names.is_some()),
            ("tags", self.tags.is_some()),
            ("in_transaction", self.in_transaction.is_some()),
        ];
        weak.chosen.extend(chosen.iter().filter(|(_, there)| *there).map(|(key, _)| *key));
        all.then_some(weak)
    }

    /// Behind a shared database user a rule that allows wants all people to match, and another any of them.
    fn covers_people(&self, later: &Self) -> bool {
        if !self.names_people() {
            return true;
        }
        let wants_all = |rule: &Self| matches!(rule.action, Action::Allow | Action::Notify);
        later.names_people()
            && (!wants_all(self) || wants_all(later))
            && names(self.people.as_ref(), later.people.as_ref())
            && self.groups.as_ref().is_none_or(|_| each(self.groups.as_ref(), later.groups.as_ref(), Glob::covers))
    }
}

/// Conditions by their keys that do not limit what a rule matches.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct WeakConditions {
    /// They match everybody or everything.
    pub empty: Vec<&'static str>,
    /// They match what the client chooses.
    pub chosen: Vec<&'static str>,
}

/// Every alternative of the other's is covered by one of the own.
fn each<T>(own: Option<&OneOf<T>>, other: Option<&OneOf<T>>, covers: impl Fn(&T, &T) -> bool) -> bool {
    let Some(own) = own else { return true };
    other.is_some_and(|other| other.iter().all(|narrow| own.iter().any(|wide| covers(wide, narrow))))
}

/// The same for what everybody has: `*` matches whatever it is.
fn names(own: Option<&OneOf<Glob>>, other: Option<&OneOf<Glob>>) -> bool {
    own.is_some_and(|own| own.iter().any(Glob::is_any)) || each(own, other, Glob::covers)
}

fn addresses(own: &OneOf<AddressRange>, other: Option<&OneOf<AddressRange>>) -> bool {
    let networks = AddressRange::joined(own.iter());
    let covers = |range: &AddressRange| match range {
        AddressRange::Unix => own.contains(&AddressRange::Unix),
        AddressRange::Net(narrow) => networks.iter().any(|wide| wide.contains(narrow)),
    };
    match other {
        Some(other) => other.iter().all(covers),
        None => AddressRange::everywhere().iter().all(covers),
    }
}

fn times(own: &OneOf<TimeWindow>, other: Option<&OneOf<TimeWindow>>) -> bool {
    match other {
        Some(other) => other.iter().all(|window| window.is_within(own.iter())),
        None => own.iter().any(|window| TimeWindow::whole_week(window).is_within(own.iter())),
    }
}

fn frozen(own: &Frozen, other: &Frozen) -> bool {
    match (own, other) {
        (Frozen::Any(own), Frozen::Any(other)) => own == other,
        (Frozen::Any(own), Frozen::Named(_)) => *own,
        (Frozen::Named(own), Frozen::Named(other)) => other.iter().all(|name| own.contains(name)),
        (Frozen::Named(_), Frozen::Any(_)) => false,
    }
}

fn tags(own: &TagPatterns, other: &TagPatterns) -> bool {
    own.0
        .iter()
        .all(|(key, globs)| other.0.get(key).is_some_and(|narrow| each(Some(globs), Some(narrow), Glob::covers)))
}

fn impact(own: &ImpactCondition, other: &ImpactCondition) -> bool {
    let bytes = |bytes: Option<Bytes>| bytes.map(|Bytes(bytes)| bytes);
    let least = |own: Option<u64>, other: Option<u64>| own.is_none_or(|own| other.is_some_and(|other| own <= other));
    let most = |own: Option<u64>, other: Option<u64>| own.is_none_or(|own| other.is_some_and(|other| own >= other));
    let same = |own: Option<bool>, other: Option<bool>| own.is_none() || own == other;
    let critical = match (own.critical, other.critical) {
        (None, _) | (Some(Critical::Touched), Some(Critical::Cascaded)) => true,
        (Some(own), other) => other == Some(own),
    };
    least(own.min_rows, other.min_rows)
        && most(own.max_rows, other.max_rows)
        && least(bytes(own.min_bytes), bytes(other.min_bytes))
        && most(bytes(own.max_bytes), bytes(other.max_bytes))
        && critical
        && each(own.cascades_into.as_ref(), other.cascades_into.as_ref(), ObjectPattern::matches_as_well)
        && same(own.rewrites, other.rewrites)
        && same(own.triggers, other.triggers)
}
