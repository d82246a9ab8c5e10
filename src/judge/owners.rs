//! Who owns what: an owners file, in the manner of CODEOWNERS. Knows effects and names; knows no people, no channels and no
//! files. Start at [`Owners`].
//!
//! Each line is `pattern owner… [slack=CONVERSATION…] [webhook=NAME…]`; what follows a `#` that begins a word is a comment. As in
//! CODEOWNERS the **last** line that matches counts, alone, and one without owners takes ownership away. Unlike there each owner of the
//! line has to agree; `a|b` is one owner, for whom either may speak.
//!
//! What a statement touches cannot always be told from its text. A name without a schema may be in any, so a line for one schema
//! matches it only possibly: its owners are asked, and so are those of the lines before it. A statement that names nothing (`DO`,
//! unreadable text) may touch anything, so every owner is asked, unless a line for [`UNNAMED`] says who is.

use std::fmt::{self, Write as _};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::rule::{Match, may_touch_unnamed};
use super::{Effect, EffectKind, ObjectName, ObjectPattern};

/// In the place of a pattern: statements that do not say what they touch.
pub const UNNAMED: &str = "<unnamed>";
/// Owners named in a sentence before "… more owners".
pub const OWNERS_NAMED: usize = 5;
/// Lines of a file.
const MAX_LINES: usize = 10_000;
/// Objects kept for each owner of a request.
const MAX_OBJECTS: usize = 20;
/// Objects named in a sentence before "and … more".
const OBJECTS_NAMED: usize = 3;

/// An owners file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners {
    lines: Vec<OwnersLine>,
}

/// A line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnersLine {
    /// Counted from 1.
    pub number: usize,
    /// Where it stands in the text, in bytes.
    pub at: Range<usize>,
    /// What it is about; `None`: statements that do not say what they touch.
    pub pattern: Option<ObjectPattern>,
    /// Each of them has to agree. Empty: nobody owns it.
    pub owners: Vec<Owner>,
    /// Conversations of Slack where they are asked.
    pub slack: Vec<String>,
    /// Webhooks that are told.
    pub webhooks: Vec<String>,
}

/// One owner: any of these may speak for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Owner {
    /// Members of these groups.
    pub groups: Vec<String>,
    /// These people.
    pub people: Vec<String>,
}

/// An owner who has to agree to a statement, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// Objects of theirs that it touches, or may; none: it does not say what it touches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<String>,
    /// There are more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Members of these groups may speak for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// So may these people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<String>,
    /// Conversations of Slack where they are asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slack: Vec<String>,
    /// Webhooks that are told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<String>,
    /// Lines of the owners file that say so.
    pub lines: Vec<usize>,
}

/// What a name in the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// A group.
    Group,
    /// A person.
    Person,
}

/// Why a text is no owners file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct OwnersError {
    /// Counted from 1.
    pub line: usize,
    /// Where, in bytes of the text.
    pub at: Range<usize>,
    /// What is wrong.
    pub message: String,
}

impl Owners {
    /// Reads a file; `kind` says what a name is, or what is wrong with it.
    ///
    /// # Errors
    /// Everything that is wrong with it. Part of it would be another file.
    pub fn parse(text: &str, kind: &dyn Fn(&str) -> Result<NameKind, String>) -> Result<Self, Vec<OwnersError>> {
        let (mut lines, mut errors) = (Vec::new(), Vec::new());
        let mut start = 0_usize;
        for (index, raw) in text.split('\n').enumerate() {
            let at = start..start.saturating_add(raw.len());
            start = at.end.saturating_add(1);
            let number = index.saturating_add(1);
            match line(number, raw.strip_suffix('\r').unwrap_or(raw), kind) {
                Ok(None) => {}
                Ok(Some(line)) => lines.push(OwnersLine { at, ..line }),
                Err(message) => errors.push(OwnersError { line: number, at, message }),
            }
        }
        if lines.len() > MAX_LINES {
            errors.push(OwnersError { line: 1, at: 0..0, message: format!("more than {MAX_LINES} lines") });
        }
        if errors.is_empty() { Ok(Self { lines }) } else { Err(errors) }
    }

    /// Its lines, in order.
    pub fn lines(&self) -> &[OwnersLine] {
        &self.lines
    }

    /// Who owns what these effects touch, in the order in which it is touched; each once.
    pub fn of<'e>(&self, effects: impl IntoIterator<Item = &'e Effect>) -> Vec<Ownership> {
        let mut found: Vec<Ownership> = Vec::new();
        for effect in effects {
            if effect.objects.is_empty() {
                self.add(effect.kind, None, &mut found);
            }
            for object in &effect.objects {
                self.add(effect.kind, Some(object), &mut found);
            }
        }
        found
    }

    fn add(&self, kind: EffectKind, object: Option<&ObjectName>, found: &mut Vec<Ownership>) {
        for line in self.lines_for(kind, object) {
            for owner in &line.owners {
                if !found.iter().any(|one| one.is(owner)) {
                    found.push(Ownership::new(owner));
                }
                if let Some(known) = found.iter_mut().find(|one| one.is(owner)) {
                    known.note(line, object);
                }
            }
        }
    }

    /// The lines that count: the last that surely matches, and those behind it that may be meant.
    fn lines_for(&self, kind: EffectKind, object: Option<&ObjectName>) -> Vec<&OwnersLine> {
        let mut found = Vec::new();
        for line in self.lines.iter().rev() {
            let matches = match (&line.pattern, object) {
                (Some(pattern), Some(object)) => pattern.matches(object),
                // Fail closed: what names nothing may touch anything.
                (Some(_), None) if may_touch_unnamed(kind) => Match::Possibly,
                (None, None) if may_touch_unnamed(kind) => Match::Surely,
                (Some(_) | None, None) | (None, Some(_)) => Match::No,
            };
            match matches {
                Match::No => {}
                Match::Possibly => found.push(line),
                Match::Surely => {
                    found.push(line);
                    break;
                }
            }
        }
        found
    }

    /// What makes two files mean the same, for the policy's version.
    pub(super) fn canonical(&self) -> impl Iterator<Item = String> + '_ {
        self.lines.iter().map(ToString::to_string)
    }

    /// Lines that are odd: number, and why.
    pub fn odd(&self) -> Vec<(usize, String)> {
        let mut odd = Vec::new();
        for (index, line) in self.lines.iter().enumerate() {
            let Some(pattern) = &line.pattern else {
                let mut behind = self.lines.iter().skip(index.saturating_add(1));
                if let Some(other) = behind.find(|other| other.pattern.is_none()) {
                    odd.push((
                        line.number,
                        format!("`{UNNAMED}` is never asked: line {} takes its place", other.number),
                    ));
                }
                continue;
            };
            if let Some(why) = pattern.cannot_match() {
                odd.push((line.number, format!("`{pattern}` {why}")));
            }
            let mut behind = self.lines.iter().skip(index.saturating_add(1));
            let covers = |other: &&OwnersLine| other.pattern.as_ref().is_some_and(|other| other.covers(pattern));
            if let Some(other) = behind.find(covers) {
                odd.push((
                    line.number,
                    format!(
                        "`{pattern}` is not asked where the schema is written: line {} matches the same, and the last line that matches counts",
                        other.number
                    ),
                ));
            }
        }
        odd
    }
}

fn line(
    number: usize,
    text: &str,
    kind: &dyn Fn(&str) -> Result<NameKind, String>,
) -> Result<Option<OwnersLine>, String> {
    let mut words = text.split_whitespace().take_while(|word| !word.starts_with('#'));
    let Some(first) = words.next() else { return Ok(None) };
    let pattern = match first {
        UNNAMED => None,
        _ if first.starts_with('[') => {
            return Err("sections are not known here; write the owners on each line".to_owned());
        }
        _ if first.starts_with('!') => {
            return Err("patterns cannot be turned round; a later line without owners takes ownership away".to_owned());
        }
        _ => Some(ObjectPattern::try_from(first.to_owned()).map_err(|why| format!("`{first}`: {why}"))?),
    };
    let mut found =
        OwnersLine { number, at: 0..0, pattern, owners: Vec::new(), slack: Vec::new(), webhooks: Vec::new() };
    for word in words {
        match word.split_once('=') {
            Some((_, "")) => return Err(format!("`{word}` names nothing")),
            Some(("slack", conversation)) => found.slack.push(conversation.to_owned()),
            Some(("webhook", name)) => found.webhooks.push(name.to_owned()),
            Some((key, _)) => return Err(format!("`{key}=` is not known; there are `slack=` and `webhook=`")),
            None => {
                let owner = owner(word, kind)?;
                if !found.owners.contains(&owner) {
                    found.owners.push(owner);
                }
            }
        }
    }
    if found.owners.is_empty() && !(found.slack.is_empty() && found.webhooks.is_empty()) {
        return Err("there is somewhere to ask, but no owner to be asked".to_owned());
    }
    Ok(Some(found))
}

fn owner(word: &str, kind: &dyn Fn(&str) -> Result<NameKind, String>) -> Result<Owner, String> {
    let mut owner = Owner::default();
    for name in word.split('|') {
        // People bring `@team` along from CODEOWNERS.
        let name = name.strip_prefix('@').unwrap_or(name);
        if name.is_empty() {
            return Err(format!("`{word}`: there is a name missing"));
        }
        match kind(name)? {
            NameKind::Group => owner.groups.push(name.to_owned()),
            NameKind::Person => owner.people.push(name.to_owned()),
        }
    }
    for names in [&mut owner.groups, &mut owner.people] {
        names.sort();
        names.dedup();
    }
    Ok(owner)
}

/// A canonical form: what it says, not how it is laid out.
impl fmt::Display for OwnersLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            Some(pattern) => write!(f, "{pattern}")?,
            None => f.write_str(UNNAMED)?,
        }
        for owner in &self.owners {
            write!(f, " groups:{} people:{}", owner.groups.join("|"), owner.people.join("|"))?;
        }
        for conversation in &self.slack {
            write!(f, " slack={conversation}")?;
        }
        for name in &self.webhooks {
            write!(f, " webhook={name}")?;
        }
        Ok(())
    }
}

impl Ownership {
    fn new(owner: &Owner) -> Self {
        Self {
            of: Vec::new(),
            more: false,
            groups: owner.groups.clone(),
            people: owner.people.clone(),
            slack: Vec::new(),
            webhooks: Vec::new(),
            lines: Vec::new(),
        }
    }

    fn is(&self, owner: &Owner) -> bool {
        self.groups == owner.groups && self.people == owner.people
    }

    /// The same owner, for whatever objects.
    #[must_use]
    pub fn same_owner(&self, other: &Self) -> bool {
        self.groups == other.groups && self.people == other.people
    }

    fn note(&mut self, line: &OwnersLine, object: Option<&ObjectName>) {
        fn add<T: PartialEq>(all: &mut Vec<T>, one: T) {
            if !all.contains(&one) {
                all.push(one);
            }
        }
        if let Some(object) = object.map(ToString::to_string).filter(|object| !self.of.contains(object)) {
            if self.of.len() < MAX_OBJECTS {
                self.of.push(object);
            } else {
                self.more = true;
            }
        }
        line.slack.iter().for_each(|one| add(&mut self.slack, one.clone()));
        line.webhooks.iter().for_each(|one| add(&mut self.webhooks, one.clone()));
        add(&mut self.lines, line.number);
    }

    /// The objects, in words: "shop.orders, shop.items"; a short list.
    #[must_use]
    pub fn objects_in_words(&self) -> String {
        let mut words = self.of.iter().take(OBJECTS_NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = self.of.len().saturating_sub(OBJECTS_NAMED);
        if words.is_empty() {
            "what it may touch".clone_into(&mut words);
        } else if self.more {
            words.push_str(" and more");
        } else if more > 0 {
            let _infallible = write!(words, " and {more} more");
        }
        words
    }

    /// Who may speak for the owner, in words: "group shop-team or ann".
    #[must_use]
    pub fn owner_in_words(&self) -> String {
        let groups = self.groups.iter().map(|group| format!("group {group}"));
        groups.chain(self.people.iter().cloned()).collect::<Vec<_>>().join(" or ")
    }

    /// Who is asked, and as what: "group shop-team, owners of shop.orders".
    #[must_use]
    pub fn in_words(&self) -> String {
        format!("{}, owners of {}", self.owner_in_words(), self.objects_in_words())
    }
}

#[cfg(test)]
mod tests;
