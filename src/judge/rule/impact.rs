//! Conditions on what a statement would touch, and the measure they are compared with. Knows no database: whoever can ask one makes the
//! measure. Start at [`ImpactCondition::matches`].

use serde::{Deserialize, Serialize};

use super::{Match, ObjectPattern, OneOf};
use crate::judge::{ObjectName, Verdict};

/// What a text would touch, as far as rules ask. What is not known, they see as large.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measure {
    /// Rows that would come, change or go at most, those of cascades included. `None`: not known, or not to be relied on.
    pub rows: Option<u64>,
    /// Size of all tables it touches, in bytes, with indexes and TOAST, partitions and children included.
    pub bytes: Option<u64>,
    /// It writes every row of a table anew, or reads them all, under the lock it takes for that.
    pub rewrites: Option<bool>,
    /// Triggers would fire, or rewrite rules change what it does.
    pub triggers: Option<bool>,
    /// What it touches, by the names the catalogue has.
    pub reached: Vec<Reached>,
    /// Nothing else is touched, as far as names and foreign keys tell.
    pub complete: bool,
    /// What people are told of it; empty if they may not be told.
    pub said: String,
}

/// Something a text would touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Schema and name.
    pub object: ObjectName,
    /// Only a foreign key leads there.
    pub by_cascade: bool,
}

impl Measure {
    /// Nothing is known, and why.
    #[must_use]
    pub fn unknown(why: &str) -> Self {
        Self { said: format!("what it would touch is not known: {why}"), ..Self::default() }
    }
}

/// A measure, and what of the database is marked critical.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// What the text would touch.
    pub measure: &'a Measure,
    /// The policy's list.
    pub critical: &'a [ObjectPattern],
}

/// What a rule asks about impact. Every part that is present must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct ImpactCondition {
    /// Rows, cascades included: surely no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<u64>,
    /// Rows, cascades included: so many or more, or not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_rows: Option<u64>,
    /// Size of the tables touched: surely no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Bytes>,
    /// Size of the tables touched: so much or more, or not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_bytes: Option<Bytes>,
    /// How it gets to tables that are marked critical.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical: Option<Critical>,
    /// Patterns for tables that foreign keys lead to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cascades_into: Option<OneOf<ObjectPattern>>,
    /// Whether it rewrites or scans a table under a lock, or drops a column's values (ALTER).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrites: Option<bool>,
    /// Whether triggers or rewrite rules have a part in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triggers: Option<bool>,
}

/// How a statement gets to tables that are marked critical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Critical {
    /// It does not.
    Untouched,
    /// It names one, or a cascade leads to one.
    Touched,
    /// A cascade leads to one.
    Cascaded,
}

/// Bytes, written as a number or as "64KiB", "1MiB", "1GiB".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "WrittenBytes")]
pub struct Bytes(pub u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenBytes {
    Number(u64),
    Text(String),
}

impl TryFrom<WrittenBytes> for Bytes {
    type Error = String;

    fn try_from(written: WrittenBytes) -> Result<Self, Self::Error> {
        match written {
            WrittenBytes::Number(bytes) => Ok(Self(bytes)),
            WrittenBytes::Text(text) => crate::size::parse(&text)
                .map(Self)
                .ok_or_else(|| format!("`{text}` is no size: write it like 65536, \"64KiB\", \"1MiB\" or \"1GiB\"")),
        }
    }
}

/// A condition as it stands in a rule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    max_rows: Option<u64>,
    min_rows: Option<u64>,
    max_bytes: Option<Bytes>,
    min_bytes: Option<Bytes>,
    critical: Option<Critical>,
    cascades_into: Option<OneOf<ObjectPattern>>,
    rewrites: Option<bool>,
    triggers: Option<bool>,
}

impl TryFrom<Written> for ImpactCondition {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { max_rows, min_rows, max_bytes, min_bytes, critical, cascades_into, rewrites, triggers } = written;
        let condition = Self { max_rows, min_rows, max_bytes, min_bytes, critical, cascades_into, rewrites, triggers };
        if condition == Self::default() {
            return Err("it asks nothing: give `max_rows`, `min_rows`, `max_bytes`, `min_bytes`, `critical`, \
                        `cascades_into`, `rewrites` or `triggers`");
        }
        let crossed = |least: Option<u64>, most: Option<u64>| least.zip(most).is_some_and(|(least, most)| least > most);
        let bytes = |bytes: Option<Bytes>| bytes.map(|Bytes(bytes)| bytes);
        if crossed(condition.min_rows, condition.max_rows)
            || crossed(bytes(condition.min_bytes), bytes(condition.max_bytes))
        {
            return Err("the least is more than the most, so nothing matches");
        }
        Ok(condition)
    }
}

impl ImpactCondition {
    /// How well a measure matches.
    #[must_use]
    pub fn matches(&self, measured: Measured<'_>) -> Match {
        let Measured { measure, critical } = measured;
        let bytes = |bytes: Option<Bytes>| bytes.map(|Bytes(bytes)| bytes);
        within(measure.rows, self.min_rows, self.max_rows)
            .min(within(measure.bytes, bytes(self.min_bytes), bytes(self.max_bytes)))
            .min(self.matches_critical(measure, critical))
            .min(self.cascades_into.as_ref().map_or(Match::Surely, |patterns| {
                leads_to(measure, &patterns.iter().collect::<Vec<_>>(), Reached::is_cascade)
            }))
            .min(is(self.rewrites, measure.rewrites))
            .min(is(self.triggers, measure.triggers))
    }

    /// Rows of a message that passes its rule, or because its rule does not match it: one more, and that would not be so.
    pub(in crate::judge) fn ceiling(&self, verdict: Verdict, matches: Match, rows: Option<u64>) -> Option<u64> {
        match (verdict, matches) {
            (Verdict::Allow, Match::Surely) => self.max_rows,
            (Verdict::Hold | Verdict::Reject, Match::No) => {
                let least = self.min_rows.filter(|least| rows.is_some_and(|rows| rows < *least))?;
                least.checked_sub(1)
            }
            (Verdict::Allow, Match::No | Match::Possibly)
            | (Verdict::Hold | Verdict::Reject, Match::Possibly | Match::Surely) => None,
        }
    }

    fn matches_critical(&self, measure: &Measure, critical: &[ObjectPattern]) -> Match {
        let critical: Vec<&ObjectPattern> = critical.iter().collect();
        match self.critical {
            None => Match::Surely,
            Some(Critical::Touched) => leads_to(measure, &critical, |_| true),
            Some(Critical::Cascaded) => leads_to(measure, &critical, Reached::is_cascade),
            Some(Critical::Untouched) => match leads_to(measure, &critical, |_| true) {
                Match::No => Match::Surely,
                Match::Possibly => Match::Possibly,
                Match::Surely => Match::No,
            },
        }
    }
}

impl Reached {
    fn is_cascade(&self) -> bool {
        self.by_cascade
    }
}

/// What is not known is large: it is as much as anybody asks for at least, and never as little as they ask for at most.
fn within(found: Option<u64>, least: Option<u64>, most: Option<u64>) -> Match {
    let enough = least.is_none_or(|least| found.is_none_or(|found| found >= least));
    let few = most.is_none_or(|most| found.is_some_and(|found| found <= most));
    if enough && few { Match::Surely } else { Match::No }
}

fn is(wanted: Option<bool>, found: Option<bool>) -> Match {
    match (wanted, found) {
        (None, _) => Match::Surely,
        (Some(wanted), Some(found)) if wanted == found => Match::Surely,
        (Some(_), Some(_)) => Match::No,
        // Fail closed: what is only possible never allows, and makes whatever holds or rejects ask people.
        (Some(_), None) => Match::Possibly,
    }
}

/// Whether any of the objects that count matches any of the patterns.
fn leads_to(measure: &Measure, patterns: &[&ObjectPattern], counts: impl Fn(&Reached) -> bool) -> Match {
    let reached = measure.reached.iter().filter(|reached| counts(reached));
    let best = reached.flat_map(|reached| patterns.iter().map(|pattern| pattern.matches(&reached.object))).max();
    match best {
        Some(best) if best > Match::No => best,
        // Fail closed: it may be what could not be looked up.
        _ if !measure.complete => Match::Possibly,
        _ => Match::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ImpactCondition, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    fn patterns(texts: &[&str]) -> Vec<ObjectPattern> {
        texts.iter().map(|text| ObjectPattern::try_from((*text).to_owned()).unwrap()).collect()
    }

    fn reached(name: &str, by_cascade: bool) -> Reached {
        let (schema, name) = name.split_once('.').unwrap();
        Reached { object: ObjectName { schema: Some(schema.to_owned()), name: name.to_owned() }, by_cascade }
    }

    fn measure(rows: Option<u64>) -> Measure {
        let reached = vec![reached("public.customers", false), reached("billing.invoices", true)];
        let (rewrites, triggers) = (Some(false), Some(true));
        Measure { rows, bytes: Some(1 << 20), rewrites, triggers, reached, complete: true, said: String::new() }
    }

    fn matches(text: &str, measure: &Measure, critical: &[&str]) -> Match {
        read(text).unwrap().matches(Measured { measure, critical: &patterns(critical) })
    }

    #[test]
    fn what_asks_nothing_or_cannot_match_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "asks nothing"),
            ("min_rows = 10\nmax_rows = 9", "nothing matches"),
            ("min_bytes = \"1GiB\"\nmax_bytes = \"1MiB\"", "nothing matches"),
            ("max_bytes = \"big\"", "is no size"),
            ("max_rows = -1", "invalid value"),
            ("critical = \"maybe\"", "unknown variant"),
            ("cascades_into = []", "empty list"),
            ("rows = 5", "unknown field"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn rows_and_bytes_are_compared_and_what_is_not_known_is_large() {
        for (text, rows, expected) in [
            ("max_rows = 10", Some(10), Match::Surely),
            ("max_rows = 10", Some(11), Match::No),
            ("max_rows = 10", None, Match::No),
            ("min_rows = 10", Some(10), Match::Surely),
            ("min_rows = 10", Some(9), Match::No),
            ("min_rows = 10", None, Match::Surely),
            ("min_rows = 5\nmax_rows = 10", None, Match::No),
            ("max_bytes = \"1MiB\"", None, Match::Surely),
            ("max_bytes = 1048575", None, Match::No),
            ("min_bytes = \"1MiB\"\nmax_rows = 3", Some(3), Match::Surely),
        ] {
            assert_eq!(matches(text, &measure(rows), &[]), expected, "{text} {rows:?}");
        }
        let unknown = Measure::unknown("no time");
        assert_eq!(matches("min_bytes = \"9GiB\"", &unknown, &[]), Match::Surely);
        assert_eq!(matches("max_bytes = \"9GiB\"", &unknown, &[]), Match::No);
    }

    #[test]
    fn critical_tables_are_those_of_the_list_however_they_are_reached() {
        let known = measure(Some(1));
        for (critical, touched, cascaded, untouched) in [
            ("billing.*", Match::Surely, Match::Surely, Match::No),
            ("customers", Match::Surely, Match::No, Match::No),
            ("public.orders", Match::No, Match::No, Match::Surely),
        ] {
            assert_eq!(matches("critical = \"touched\"", &known, &[critical]), touched, "{critical}");
            assert_eq!(matches("critical = \"cascaded\"", &known, &[critical]), cascaded, "{critical}");
            assert_eq!(matches("critical = \"untouched\"", &known, &[critical]), untouched, "{critical}");
        }
        assert_eq!(matches("cascades_into = [\"billing.*\"]", &known, &[]), Match::Surely);
        assert_eq!(matches("cascades_into = [\"customers\"]", &known, &[]), Match::No);
    }

    #[test]
    fn what_may_be_touched_unseen_is_possible_and_no_more() {
        let part = Measure { complete: false, rewrites: None, triggers: None, ..measure(Some(1)) };
        for text in [
            "critical = \"touched\"",
            "critical = \"cascaded\"",
            "critical = \"untouched\"",
            "cascades_into = [\"audit.*\"]",
            "rewrites = true",
            "rewrites = false",
            "triggers = false",
        ] {
            assert_eq!(matches(text, &part, &["audit.*"]), Match::Possibly, "{text}");
        }
        assert_eq!(matches("critical = \"touched\"", &part, &["customers"]), Match::Surely);
        assert_eq!(matches("triggers = true", &measure(None), &[]), Match::Surely);
        assert_eq!(matches("triggers = false", &measure(None), &[]), Match::No);
    }
}
