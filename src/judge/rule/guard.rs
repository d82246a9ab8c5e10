//! What a released statement runs under: how many rows it may write, how long it may wait for locks, how long it may take. Knows how
//! it is written, and no statement. Start at [`Guard`].

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits a held statement runs under once it is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Guard {
    /// Rows it may write, as its command tag counts them. One more, and the statement is undone.
    pub max_rows: Option<u64>,
    /// `lock_timeout`, unless the session's own is stricter.
    pub lock_timeout: Option<Timeout>,
    /// `statement_timeout`, likewise.
    pub statement_timeout: Option<Timeout>,
    /// What becomes of a statement that some of this cannot be applied to.
    pub otherwise: Otherwise,
}

/// What becomes of a statement that its guard cannot be applied to. Ordered: the later, the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// People are asked all the same, are told what cannot be limited, and what they release runs without.
    Run,
    /// It is refused, and nobody is asked.
    // Fail closed: the default.
    #[default]
    Reject,
}

/// A time limit as Postgres takes it: 1 to 2,147,483,647 milliseconds (`guc_tables.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timeout(u32);

impl Guard {
    /// The stricter of both, value by value.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            max_rows: stricter(self.max_rows, other.max_rows),
            lock_timeout: stricter(self.lock_timeout, other.lock_timeout),
            statement_timeout: stricter(self.statement_timeout, other.statement_timeout),
            otherwise: self.otherwise.max(other.otherwise),
        }
    }
}

fn stricter<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl Timeout {
    /// Never 0, which would mean no limit.
    #[must_use]
    pub fn millis(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(Duration::from_millis(u64::from(self.0))).fmt(f)
    }
}

impl TryFrom<String> for Timeout {
    type Error = String;

    fn try_from(written: String) -> Result<Self, Self::Error> {
        let duration = humantime::parse_duration(&written)
            .map_err(|_| format!("`{written}` is no length of time: write it like \"5s\", \"500ms\" or \"2min\""))?;
        let millis = u32::try_from(duration.as_millis()).ok().filter(|millis| i32::try_from(*millis).is_ok());
        match millis {
            Some(0) => Err(format!("`{written}`: 0 would be no limit at all; leave the key out for that")),
            Some(millis) => Ok(Self(millis)),
            None => Err(format!("`{written}` is longer than Postgres takes (24 days)")),
        }
    }
}

impl From<Timeout> for String {
    fn from(timeout: Timeout) -> Self {
        timeout.to_string()
    }
}

/// A guard as it stands in a rule.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_rows: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lock_timeout: Option<Timeout>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    statement_timeout: Option<Timeout>,
    #[serde(default)]
    otherwise: Otherwise,
}

impl TryFrom<Written> for Guard {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { max_rows, lock_timeout, statement_timeout, otherwise } = written;
        if max_rows == Some(0) {
            return Err("`max_rows = 0` lets nothing be written: use `action = \"reject\"`");
        }
        if max_rows.is_none() && lock_timeout.is_none() && statement_timeout.is_none() {
            return Err("it limits nothing: give `max_rows`, `lock_timeout` or `statement_timeout`");
        }
        Ok(Self { max_rows, lock_timeout, statement_timeout, otherwise })
    }
}

impl From<Guard> for Written {
    fn from(guard: Guard) -> Self {
        let Guard { max_rows, lock_timeout, statement_timeout, otherwise } = guard;
        Self { max_rows, lock_timeout, statement_timeout, otherwise }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Guard, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_limits_nothing_or_cannot_be_read_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "limits nothing"),
            ("otherwise = \"run\"", "limits nothing"),
            ("max_rows = 0", "reject"),
            ("max_rows = -1", "invalid value"),
            ("lock_timeout = \"0s\"", "no limit at all"),
            ("lock_timeout = \"1us\"", "no limit at all"),
            ("lock_timeout = \"soon\"", "no length of time"),
            ("statement_timeout = \"25days\"", "24 days"),
            ("max_rows = 1\notherwise = \"ask\"", "unknown variant"),
            ("rows = 1", "unknown field"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn of_two_the_stricter_of_each_value_counts() {
        let one = read("max_rows = 10\nlock_timeout = \"5s\"\notherwise = \"run\"").unwrap();
        let other = read("max_rows = 20\nlock_timeout = \"500ms\"\nstatement_timeout = \"1min\"").unwrap();
        for both in [one.and(other), other.and(one)] {
            let written = read("max_rows = 10\nlock_timeout = \"500ms\"\nstatement_timeout = \"60s\"").unwrap();
            assert_eq!(both, written);
            assert_eq!(both.otherwise, Otherwise::Reject);
        }
        assert_eq!(one.lock_timeout.unwrap().to_string(), "5s");
    }
}
