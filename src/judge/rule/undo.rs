//! How much of what a released statement changes is kept for an undo. Knows how it is written, and no statement. Start at [`Undo`].

use serde::{Deserialize, Serialize};

use super::{Bytes, Otherwise};

/// Most rows of one request that can be kept.
const MOST_ROWS: u64 = 50_000;
/// Most bytes.
const MOST_BYTES: u64 = 1 << 30;
/// Bytes, unless the rule says so.
const USUAL_BYTES: u64 = 10 << 20;

/// Has the rows that a held statement changes kept once it is released, so that it can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Undo {
    /// Rows that are kept, those that foreign keys reach included.
    pub max_rows: u64,
    /// Bytes.
    pub max_bytes: u64,
    /// What becomes of a statement whose rows cannot be kept.
    pub otherwise: Otherwise,
}

impl Undo {
    /// The stricter of both, value by value.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            max_rows: self.max_rows.min(other.max_rows),
            max_bytes: self.max_bytes.min(other.max_bytes),
            otherwise: self.otherwise.max(other.otherwise),
        }
    }
}

/// As it stands in a rule.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    max_rows: u64,
    #[serde(default = "usual_bytes")]
    max_bytes: Bytes,
    #[serde(default)]
    otherwise: Otherwise,
}

fn usual_bytes() -> Bytes {
    Bytes(USUAL_BYTES)
}

impl TryFrom<Written> for Undo {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { max_rows, max_bytes, otherwise } = written;
        if !(1..=MOST_ROWS).contains(&max_rows) {
            return Err(format!("`max_rows`: between 1 and {MOST_ROWS}"));
        }
        if !(1..=MOST_BYTES).contains(&max_bytes.0) {
            return Err("`max_bytes`: between 1 byte and 1 GiB".to_owned());
        }
        Ok(Self { max_rows, max_bytes: max_bytes.0, otherwise })
    }
}

impl From<Undo> for Written {
    fn from(undo: Undo) -> Self {
        let Undo { max_rows, max_bytes, otherwise } = undo;
        Self { max_rows, max_bytes: Bytes(max_bytes), otherwise }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Undo, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "missing field"),
            ("max_rows = 0", "between 1"),
            ("max_rows = 50001", "between 1"),
            ("max_rows = 1\nmax_bytes = 0", "between 1 byte"),
            ("max_rows = 1\nmax_bytes = \"10 parsecs\"", "no size"),
            ("max_rows = 1\nmax_bytes = \"2GiB\"", "between 1 byte"),
            ("max_rows = 1\notherwise = \"ask\"", "unknown variant"),
            ("max_rows = 1\nrows = 1", "unknown field"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn of_two_the_stricter_of_each_value_counts() {
        let one = read("max_rows = 10\notherwise = \"run\"").unwrap();
        let other = read("max_rows = 20\nmax_bytes = \"1KiB\"").unwrap();
        for both in [one.and(other), other.and(one)] {
            assert_eq!(both, Undo { max_rows: 10, max_bytes: 1024, otherwise: Otherwise::Reject });
        }
        assert_eq!(one.max_bytes, 10 << 20);
    }
}
