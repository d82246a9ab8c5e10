//! One rule: which facts and effects it matches, and what it says. Knows effects and names; knows no text, no order of
//! rules and no settings file. Start at [`Rule`].

mod covers;
mod guard;
mod impact;
mod patterns;
mod time;
mod undo;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use covers::WeakConditions;
pub use guard::{Guard, Otherwise, Timeout};
pub use impact::{Bytes, Critical, ImpactCondition, Measure, Measured, Reached};
pub use patterns::{AddressRange, Glob, ObjectPattern, OneOf};
pub(super) use time::next_minute;
pub use time::{Freeze, Frozen, Moment, TimeWindow, WrittenFreeze, Zone};
pub use undo::Undo;

use super::{Action, Effect, EffectKind, Facts, ObjectName, RiskKind, Somebody, Tags};
use patterns::kept;

/// What to do with what it matches. Every condition that is present must hold; an absent one always does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name in answers, requests and logs; unique within a policy.
    pub name: String,
    /// `allow`, `notify`, `hold` or `reject`.
    pub action: Action,
    /// Only tell what it would have held or rejected, which passes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observe: bool,
    /// Told to the requester when the rule holds or rejects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What they can do instead; told to the requester likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Database users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<OneOf<Glob>>,
    /// Databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub databases: Option<OneOf<Glob>>,
    /// `application_name`s. The client chooses its own: this tells programs apart that do not lie, and identifies nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_names: Option<OneOf<Glob>>,
    /// Client addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<OneOf<AddressRange>>,
    /// People of the configuration behind the session. Where several may be, a rule that allows wants all of them to match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<OneOf<Glob>>,
    /// Groups of theirs, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<OneOf<Glob>>,
    /// Time windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<OneOf<TimeWindow>>,
    /// Whether a freeze is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
    /// Kinds of effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effects: Option<OneOf<EffectKind>>,
    /// Patterns over the objects of an effect. See [`ObjectPattern`] for what an unqualified name matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<OneOf<ObjectPattern>>,
    /// Columns written. Which ones a statement writes that names none cannot be told, so such a one matches possibly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<OneOf<Glob>>,
    /// UPDATE and DELETE: whether a condition that reads a column limits the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_where: Option<bool>,
    /// Whether a transaction block is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_transaction: Option<bool>,
    /// Tags of the statement's comment, by key. The client chooses them, as it does its `application_name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<TagPatterns>,
    /// Kinds of risk, of which the statement or its whole text has one. Where a risk may have gone unseen, it matches possibly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risks: Option<OneOf<RiskKind>>,
    /// What the whole message would touch. The database is asked before the rule is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impact: Option<ImpactCondition>,
    /// Who is asked: the name of an approval profile, which means nothing in this room. Absent: the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// What of the message is kept off the record and out of channels, wherever this rule judges one of its effects.
    #[serde(default, skip_serializing_if = "Redact::is_none")]
    pub redact: Redact,
    /// What a statement it holds runs under once it is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// Whether the rows that a statement it holds changes are kept, so that it can be undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
}

/// What of statements is kept off the record, or out of channels. Ordered: the later, the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redact {
    /// Nothing.
    #[default]
    None,
    /// Literals and comments in the text, and bound values.
    Literals,
    /// The whole text, and bound values.
    All,
}

impl Redact {
    /// Everything is shown.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// How well a rule matches. Ordered by certainty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// It does not.
    No,
    /// It may: what the text names cannot be told from the text alone.
    Possibly,
    /// It does.
    Surely,
}

impl Rule {
    /// A rule that matches everything.
    pub fn new(name: impl Into<String>, action: impl Into<Action>) -> Self {
        Self {
            name: name.into(),
            action: action.into(),
            observe: false,
            message: None,
            advice: None,
            users: None,
            databases: None,
            application_names: None,
            addresses: None,
            people: None,
            groups: None,
            times: None,
            frozen: None,
            effects: None,
            objects: None,
            columns: None,
            has_where: None,
            in_transaction: None,
            tags: None,
            risks: None,
            impact: None,
            approval: None,
            redact: Redact::None,
            guard: None,
            undo: None,
        }
    }

    /// It has no conditions, so no rule behind it is ever asked.
    pub fn is_unconditional(&self) -> bool {
        // What it says does not limit what it matches.
        let bare = Self {
            observe: self.observe,
            message: self.message.clone(),
            advice: self.advice.clone(),
            approval: self.approval.clone(),
            redact: self.redact,
            guard: self.guard,
            undo: self.undo,
            ..Self::new(self.name.clone(), self.action)
        };
        *self == bare
    }

    /// The conditions that do not depend on the statement. `freezes` are those that are on.
    pub fn matches_session(&self, facts: &Facts<'_>, freezes: &[&str]) -> bool {
        let glob = |globs: &Option<OneOf<Glob>>, value: &str| {
            globs.as_ref().is_none_or(|globs| globs.iter().any(|glob| glob.matches(value)))
        };
        glob(&self.users, facts.user)
            && glob(&self.databases, facts.database)
            && glob(&self.application_names, facts.application_name)
            && self.addresses.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.contains(facts.client_addr)))
            && self.matches_people(facts.people)
            && self.times.as_ref().is_none_or(|times| times.iter().any(|window| window.contains(facts.now)))
            && self.frozen.as_ref().is_none_or(|frozen| frozen.matches(freezes))
    }

    /// The conditions on who is behind the session; an unknown person is nobody's name and in no group.
    fn matches_people(&self, people: &[Somebody]) -> bool {
        if !self.names_people() {
            return true;
        }
        let fits = |globs: &Option<OneOf<Glob>>, name: &String| {
            globs.as_ref().is_none_or(|globs| globs.iter().any(|glob| glob.matches(name)))
        };
        let matches = |somebody: &Somebody| {
            fits(&self.people, &somebody.name)
                && (self.groups.is_none() || somebody.groups.iter().any(|group| fits(&self.groups, group)))
        };
        // Fail closed: behind a shared database user may be any of them, so the one who is not meant counts where a rule
        // allows, and the one who is where it does not.
        match self.action {
            Action::Allow | Action::Notify => !people.is_empty() && people.iter().all(matches),
            Action::Hold | Action::Reject => people.iter().any(matches),
        }
    }

    /// Whether it asks who is behind the session.
    pub fn names_people(&self) -> bool {
        self.people.is_some() || self.groups.is_some()
    }

    /// Whether it asks what time it is.
    pub fn is_timed(&self) -> bool {
        self.times.is_some() || self.frozen.is_some()
    }

    /// The other conditions, for one effect on one of its objects (`None`: the effect names none) and one of the columns it
    /// writes (`None`: it is not told which, if any).
    pub fn matches_effect(
        &self,
        effect: &Effect,
        object: Option<&ObjectName>,
        column: Option<&str>,
        scene: Scene<'_>,
    ) -> Match {
        self.matches_besides_impact(effect, object, column, scene).min(self.matches_impact(scene.impact))
    }

    /// The condition on impact.
    pub(super) fn matches_impact(&self, measured: Option<Measured<'_>>) -> Match {
        let Some(wanted) = &self.impact else { return Match::Surely };
        // Fail closed: what nobody has looked into is as large as can be.
        measured.map_or_else(
            || wanted.matches(Measured { measure: &Measure::default(), critical: &[] }),
            |measured| wanted.matches(measured),
        )
    }

    /// All conditions of [`Self::matches_effect`] but that one.
    pub(super) fn matches_besides_impact(
        &self,
        effect: &Effect,
        object: Option<&ObjectName>,
        column: Option<&str>,
        scene: Scene<'_>,
    ) -> Match {
        if self.effects.as_ref().is_some_and(|kinds| !kinds.contains(&effect.kind))
            || self.in_transaction.is_some_and(|wanted| wanted != scene.in_transaction)
            || self.tags.as_ref().is_some_and(|tags| !tags.match_all(scene.tags))
        {
            return Match::No;
        }
        let columns = self.matches_column(effect.kind, column);
        self.matches_where(effect)
            .min(self.matches_object(effect.kind, object))
            .min(columns)
            .min(self.matches_risks(scene.risks))
    }

    fn matches_risks(&self, found: Option<&[RiskKind]>) -> Match {
        let Some(wanted) = &self.risks else {
            return Match::Surely;
        };
        match found {
            Some(found) if found.iter().any(|kind| wanted.contains(kind)) => Match::Surely,
            Some(found) if !found.contains(&RiskKind::Unread) => Match::No,
            // Fail closed: what could not be read may hold any of them.
            Some(_) | None => Match::Possibly,
        }
    }

    fn matches_column(&self, kind: EffectKind, column: Option<&str>) -> Match {
        let Some(patterns) = &self.columns else {
            return Match::Surely;
        };
        match column {
            Some(column) if patterns.iter().any(|pattern| pattern.matches(kept(column))) => Match::Surely,
            // Fail closed: an INSERT without a list of columns, ALTER, DO or unreadable text may write any.
            None if may_write_untold(kind) => Match::Possibly,
            Some(_) | None => Match::No,
        }
    }

    fn matches_where(&self, effect: &Effect) -> Match {
        match (self.has_where, effect.has_where) {
            (None, _) => Match::Surely,
            (Some(wanted), Some(has)) if wanted == has => Match::Surely,
            // Fail closed: an UPDATE or DELETE nobody read a condition of may lack one.
            (Some(_), None) if matches!(effect.kind, EffectKind::Update | EffectKind::Delete) => Match::Possibly,
            (Some(_), _) => Match::No,
        }
    }

    fn matches_object(&self, kind: EffectKind, object: Option<&ObjectName>) -> Match {
        let Some(patterns) = &self.objects else {
            return Match::Surely;
        };
        match object {
            Some(object) => patterns.iter().map(|pattern| pattern.matches(object)).max().unwrap_or(Match::No),
            // Fail closed: DO, CHECKPOINT or unreadable text name nothing and may touch anything.
            None if may_touch_unnamed(kind) => Match::Possibly,
            None => Match::No,
        }
    }
}

/// What of a message matters to rules besides its effects.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// A transaction block is open.
    pub in_transaction: bool,
    /// The text's tags.
    pub tags: &'a Tags,
    /// Kinds of risk of the statement and its text; `None`: not known.
    pub risks: Option<&'a [RiskKind]>,
    /// The kinds of all effects of the statement.
    pub effects: &'a [EffectKind],
    /// What the message would touch; `None`: nobody has looked.
    pub impact: Option<Measured<'a>>,
}

/// Patterns for the values of tags, by key. All of them have to match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, OneOf<Glob>>")]
pub struct TagPatterns(BTreeMap<String, OneOf<Glob>>);

impl TagPatterns {
    fn match_all(&self, tags: &Tags) -> bool {
        let matches = |value: &str, globs: &OneOf<Glob>| globs.iter().any(|glob| glob.matches(value));
        self.0.iter().all(|(key, globs)| tags.get(key).is_some_and(|value| matches(value, globs)))
    }
}

impl TryFrom<BTreeMap<String, OneOf<Glob>>> for TagPatterns {
    type Error = &'static str;

    fn try_from(patterns: BTreeMap<String, OneOf<Glob>>) -> Result<Self, Self::Error> {
        if patterns.is_empty() {
            return Err("no tag at all; leave the key out to match everything");
        }
        Ok(Self(patterns))
    }
}

/// Whether an effect that tells no columns may still write some: of rows, where DELETE and its like write none.
fn may_write_untold(kind: EffectKind) -> bool {
    match kind {
        EffectKind::Read
        | EffectKind::Session
        | EffectKind::Transaction
        | EffectKind::ReadingSetting
        | EffectKind::SensitiveSetting
        | EffectKind::Execute
        | EffectKind::Delete
        | EffectKind::Truncate
        | EffectKind::Drop
        | EffectKind::Create
        | EffectKind::Privilege
        | EffectKind::LargeObject => false,
        EffectKind::Insert
        | EffectKind::Update
        | EffectKind::Merge
        | EffectKind::Alter
        | EffectKind::Code
        | EffectKind::CopyServerFile
        | EffectKind::Admin
        | EffectKind::Unparsed
        | EffectKind::Disagreement
        | EffectKind::Unknown => true,
    }
}

/// Whether an effect that names no object may still touch some.
pub(super) fn may_touch_unnamed(kind: EffectKind) -> bool {
    match kind {
        EffectKind::Read
        | EffectKind::Session
        | EffectKind::Transaction
        | EffectKind::ReadingSetting
        | EffectKind::SensitiveSetting
        // What an EXECUTE does is judged by the effects of the statement it runs.
        | EffectKind::Execute => false,
        EffectKind::Insert
        | EffectKind::Update
        | EffectKind::Delete
        | EffectKind::Merge
        | EffectKind::Truncate
        | EffectKind::Drop
        | EffectKind::Alter
        | EffectKind::Create
        | EffectKind::Privilege
        | EffectKind::Code
        | EffectKind::CopyServerFile
        | EffectKind::LargeObject
        | EffectKind::Admin
        | EffectKind::Unparsed
        | EffectKind::Disagreement
        | EffectKind::Unknown => true,
    }
}

#[cfg(test)]
mod tests;
