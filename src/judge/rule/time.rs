//! When rules apply: time windows and freezes. Knows no clock: the time is an argument.
//!
//! A window is told in the civil time of its zone, so it moves with summer time: 02:00–03:00 happens twice on the night the
//! clocks go back and not at all on the night they go forward.

use std::fmt;

use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::OneOf;

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Its days.
const WEEK: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

/// A span of the day, on some days of the week. One that ends before it begins goes past midnight and belongs to the day
/// on which it begins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct TimeWindow {
    days: Days,
    from: Minute,
    until: Minute,
    zone: Zone,
}

/// As it stands in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    days: Days,
    #[serde(default = "midnight")]
    from: Minute,
    #[serde(default = "end_of_day")]
    until: Minute,
    #[serde(default)]
    zone: Zone,
}

fn midnight() -> Minute {
    Minute(0)
}

fn end_of_day() -> Minute {
    Minute(DAY)
}

impl TimeWindow {
    /// Whether `now` is in it. Its first minute is, its last is not.
    #[must_use]
    pub fn contains(&self, now: Timestamp) -> bool {
        let local = self.zone.zone.to_datetime(now);
        self.is_on(local.weekday(), Minute::of(local))
    }

    fn is_on(&self, today: Weekday, minute: Minute) -> bool {
        if self.from < self.until {
            return self.days.contain(today) && self.from <= minute && minute < self.until;
        }
        // Past midnight: the part before it is today's, the part after it yesterday's.
        (minute >= self.from && self.days.contain(today))
            || (minute < self.until && self.days.contain(today.previous()))
    }
}

impl TimeWindow {
    /// All of the week, in its zone.
    pub(super) fn whole_week(&self) -> Self {
        Self { days: Days::default(), from: midnight(), until: end_of_day(), zone: self.zone.clone() }
    }

    /// Whether some others of the same zone are on whenever it is.
    pub(super) fn is_within<'a>(&self, others: impl Iterator<Item = &'a Self>) -> bool {
        let others: Vec<&Self> = others.filter(|other| other.zone == self.zone).collect();
        let week = WEEK.into_iter().flat_map(|day| (0..DAY).map(move |minute| (day, Minute(minute))));
        let mut own = week.filter(|(day, minute)| self.is_on(*day, *minute));
        own.all(|(day, minute)| others.iter().any(|other| other.is_on(day, minute)))
    }
}

impl TryFrom<Written> for TimeWindow {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { days, from, until, zone } = written;
        if from == until {
            return Err("a time window that ends as it begins; leave `from` and `until` out for whole days");
        }
        if from.0 == DAY {
            return Err("no time window begins at 24:00; write 00:00 of the next day");
        }
        Ok(Self { days, from, until, zone })
    }
}

impl From<TimeWindow> for Written {
    fn from(window: TimeWindow) -> Self {
        let TimeWindow { days, from, until, zone } = window;
        Self { days, from, until, zone }
    }
}

/// The next moment at which a window may begin or end: they do at whole minutes of every zone in use today.
#[must_use]
pub(in crate::judge) fn next_minute(now: Timestamp) -> Timestamp {
    let second = now.as_second();
    let next = second.saturating_sub(second.rem_euclid(60)).saturating_add(60);
    Timestamp::from_second(next).unwrap_or(Timestamp::MAX)
}

/// A minute of the day, 00:00 to 24:00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Minute(u16);

impl Minute {
    fn of(time: DateTime) -> Self {
        let (hour, minute) = (u16::from(time.hour().unsigned_abs()), u16::from(time.minute().unsigned_abs()));
        Self(hour.saturating_mul(60).saturating_add(minute))
    }
}

impl TryFrom<String> for Minute {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = |part: &str| {
            let all = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            all.then(|| part.parse::<u16>().ok()).flatten()
        };
        let (hour, minute) = text.split_once(':').ok_or(MINUTE)?;
        let (hour, minute) = digits(hour).zip(digits(minute)).ok_or(MINUTE)?;
        let total = hour.saturating_mul(60).saturating_add(minute);
        if minute < 60 && total <= DAY { Ok(Self(total)) } else { Err(MINUTE) }
    }
}

const MINUTE: &str = "a time of day is written \"HH:MM\", from \"00:00\" to \"24:00\"";

impl From<Minute> for String {
    fn from(Minute(minute): Minute) -> Self {
        format!("{:02}:{:02}", minute / 60, minute % 60)
    }
}

/// Days of the week, Monday first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
struct Days([bool; 7]);

const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Days {
    fn contain(self, day: Weekday) -> bool {
        let index = usize::from(day.to_monday_zero_offset().unsigned_abs());
        self.0.get(index).copied().unwrap_or(false)
    }
}

impl Default for Days {
    fn default() -> Self {
        Self([true; 7])
    }
}

impl TryFrom<Vec<String>> for Days {
    type Error = String;

    /// Names of days and spans of them: `mon-fri`, `sat-mon`.
    fn try_from(words: Vec<String>) -> Result<Self, Self::Error> {
        let day = |name: &str| {
            let at = NAMES.iter().position(|known| *known == name);
            at.ok_or_else(|| {
                format!("`{name}` is no day; days are mon, tue, wed, thu, fri, sat, sun, and spans as mon-fri")
            })
        };
        if words.is_empty() {
            return Err("no day at all; leave `days` out for every day".to_owned());
        }
        let mut days = [false; 7];
        for word in &words {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let (mut at, last) = (day(first)?, day(last)?);
            while let Some(slot) = days.get_mut(at) {
                *slot = true;
                if at == last {
                    break;
                }
                at = if at == 6 { 0 } else { at.saturating_add(1) };
            }
        }
        Ok(Self(days))
    }
}

impl From<Days> for Vec<String> {
    fn from(Days(days): Days) -> Self {
        NAMES.iter().zip(days).filter(|(_, on)| *on).map(|(name, _)| (*name).to_owned()).collect()
    }
}

/// A time zone by its IANA name; UTC if none is given.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// The civil time of the zone, to the minute.
    pub(in crate::judge) fn told(&self, now: Timestamp) -> serde_json::Value {
        let local = self.zone.to_datetime(now);
        serde_json::json!({
            "zone": self.name,
            "date": local.date().to_string(),
            "weekday": local.strftime("%a").to_string().to_ascii_lowercase(),
            "hour": local.hour(),
            "minute": local.minute(),
            "unix": now.as_second().saturating_sub(now.as_second().rem_euclid(60)),
        })
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        // What /etc says at the moment is not what a policy's version can stand for.
        match TimeZone::get(&name) {
            Ok(zone) if name != "local" => Ok(Self { name, zone }),
            Ok(_) | Err(_) => {
                Err(format!("there is no time zone `{name}`; write a name such as \"Europe/Berlin\" or \"UTC\""))
            }
        }
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartialOrd for Zone {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Zone {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name.cmp(&other.name)
    }
}

/// A time in which changes are not wanted, by its name: `[[freeze]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenFreeze")]
pub struct Freeze {
    /// Its name; unique.
    pub name: String,
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment behind it.
    pub until: Timestamp,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Freeze {
    /// Whether `now` is in it.
    #[must_use]
    pub fn contains(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

/// As it stands in a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenFreeze {
    /// Its name.
    pub name: String,
    /// Its first moment.
    pub from: Moment,
    /// The first moment behind it; of a date alone, its midnight.
    pub until: Moment,
    /// What dates and times without an offset are of.
    #[serde(default)]
    pub zone: Zone,
    /// Why, for people.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A date, a date and time, or one with its offset; as a string or as TOML's own.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Moment {
    /// As a string.
    Written(String),
    /// As TOML writes times.
    Native(toml::value::Datetime),
}

impl Moment {
    fn in_zone(&self, zone: &Zone) -> Result<Timestamp, String> {
        let text = match self {
            Self::Written(text) => text.clone(),
            Self::Native(time) => time.to_string(),
        };
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(at);
        }
        let wrong = || {
            format!(
                "`{text}` is no time; write 2026-12-20, 2026-12-20T18:00:00 (in `zone`) or 2026-12-20T18:00:00+01:00"
            )
        };
        let local: DateTime = text.parse().map_err(|_| wrong())?;
        zone.zone.to_timestamp(local).map_err(|_| wrong())
    }
}

impl TryFrom<WrittenFreeze> for Freeze {
    type Error = String;

    fn try_from(written: WrittenFreeze) -> Result<Self, Self::Error> {
        let WrittenFreeze { name, from, until, zone, reason } = written;
        if name.trim().is_empty() {
            return Err("a freeze needs a name".to_owned());
        }
        let (from, until) = (from.in_zone(&zone)?, until.in_zone(&zone)?);
        if from >= until || until.duration_since(from) < SignedDuration::from_secs(1) {
            return Err(format!("the freeze `{name}` ends before it begins"));
        }
        Ok(Self { name, from, until, reason })
    }
}

/// Whether a freeze has to be on for a rule to apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Frozen {
    /// `true`: any freeze; `false`: none.
    Any(bool),
    /// One of these.
    Named(OneOf<String>),
}

impl Frozen {
    /// Whether it is so while these freezes are on.
    #[must_use]
    pub fn matches(&self, active: &[&str]) -> bool {
        match self {
            Self::Any(wanted) => *wanted != active.is_empty(),
            Self::Named(names) => names.iter().any(|name| active.contains(&name.as_str())),
        }
    }
}

#[cfg(test)]
mod tests;
