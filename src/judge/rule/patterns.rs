//! What conditions are written as: lists, names with `*`, objects, addresses. Knows no rules.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::Match;
use crate::judge::ObjectName;

/// Bytes of a name that Postgres keeps (`NAMEDATALEN` − 1); what is written beyond them does not name anything.
const NAME_BYTES: usize = 63;

/// A list of alternatives, never empty, sorted, without duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<T>", bound(deserialize = "T: Deserialize<'de> + Ord"))]
pub struct OneOf<T>(Vec<T>);

impl<T> OneOf<T> {
    /// The alternatives.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// Whether `value` is one of them.
    pub fn contains(&self, value: &T) -> bool
    where
        T: PartialEq,
    {
        self.0.contains(value)
    }
}

impl<'a, T> IntoIterator for &'a OneOf<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Ord> TryFrom<Vec<T>> for OneOf<T> {
    type Error = &'static str;

    fn try_from(mut values: Vec<T>) -> Result<Self, Self::Error> {
        if values.is_empty() {
            return Err("an empty list matches nothing; leave the key out to match everything");
        }
        values.sort();
        values.dedup();
        Ok(Self(values))
    }
}

/// A name with `*` (any characters) and `?` (one character); everything else stands for itself, case and all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(Box<str>);

impl Glob {
    /// Whether `text` matches, as a whole.
    pub fn matches(&self, text: &str) -> bool {
        // Two cursors and the place to come back to after the last `*`: linear memory, at worst quadratic time over
        // names a few dozen bytes long, and no pattern that explodes.
        let (mut pattern, mut rest) = (self.0.chars(), text.chars());
        let mut retry = None;
        loop {
            let before = rest.clone();
            match (pattern.next(), rest.next()) {
                (Some('*'), _) => {
                    rest = before.clone();
                    retry = Some((pattern.clone(), before));
                }
                (None, None) => return true,
                (Some('?'), Some(_)) => {}
                (Some(wanted), Some(found)) if wanted == found => {}
                _ => {
                    let Some((after_star, skipped)) = &mut retry else {
                        return false;
                    };
                    if skipped.next().is_none() {
                        return false;
                    }
                    pattern = after_star.clone();
                    rest = skipped.clone();
                }
            }
        }
    }

    /// Surely matches whatever `other` does. Only what is easily seen: a `*` of `other` meets a `*`.
    pub(super) fn covers(&self, other: &Self) -> bool {
        // Which beginnings of the own pattern match what has been read of the other's.
        let own: Vec<char> = self.0.chars().collect();
        let skip_stars = |reached: &mut Vec<bool>| {
            for (at, c) in own.iter().enumerate() {
                if *c == '*' && reached.get(at) == Some(&true) {
                    reached.iter_mut().skip(at).take(2).for_each(|slot| *slot = true);
                }
            }
        };
        let mut reached = vec![false; own.len().saturating_add(1)];
        reached.iter_mut().take(1).for_each(|slot| *slot = true);
        skip_stars(&mut reached);
        for symbol in other.0.chars() {
            let mut next = vec![false; reached.len()];
            for ((at, c), _) in own.iter().enumerate().zip(&reached).filter(|(_, reached)| **reached) {
                let stays = *c == '*';
                let goes_on = !stays && (*c == symbol || *c == '?') && symbol != '*';
                let to = if stays { Some(at) } else { goes_on.then_some(at.saturating_add(1)) };
                next.iter_mut().skip(to.unwrap_or(usize::MAX)).take(1).for_each(|slot| *slot = true);
            }
            skip_stars(&mut next);
            reached = next;
        }
        reached.last() == Some(&true)
    }

    /// Why no name as Postgres has it matches, unless it is quoted.
    fn cannot_match(&self) -> Option<&'static str> {
        if !self.0.contains('*') && self.0.len() > NAME_BYTES {
            Some("is longer than any name")
        } else if self.0.chars().any(char::is_uppercase) {
            Some("matches only names that were made in double quotes: others are in lower case")
        } else {
            None
        }
    }

    /// Matches every name.
    pub(super) fn is_any(&self) -> bool {
        self.0.chars().all(|c| c == '*')
    }
}

impl TryFrom<String> for Glob {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() {
            return Err("an empty pattern matches no name");
        }
        Ok(Self(text.into()))
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.0.into()
    }
}

/// `schema.name` or `name`, each a [`Glob`], compared with names as Postgres folds them (lower case unless quoted).
///
/// A pattern without a schema matches the name in any schema, written or not. A pattern with a schema matches a
/// qualified name by both parts. An **unqualified** name may be in any schema, because the session chooses its
/// `search_path`: it matches a pattern with a schema only *possibly*. A possible match never allows, and it turns
/// `hold` and `reject` into `hold`. The name of a schema matches the patterns for its contents possibly, since `DROP SCHEMA`
/// takes them along.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectPattern {
    schema: Option<Glob>,
    name: Glob,
}

impl ObjectPattern {
    /// How well `object` matches.
    pub fn matches(&self, object: &ObjectName) -> Match {
        let name_matches = self.name.matches(kept(&object.name));
        let Some(wanted) = &self.schema else {
            return if name_matches { Match::Surely } else { Match::No };
        };
        match &object.schema {
            None if wanted.is_any() && name_matches => Match::Surely,
            None if name_matches || wanted.matches(kept(&object.name)) => Match::Possibly,
            Some(schema) if name_matches => schema_matches(wanted, schema),
            None | Some(_) => Match::No,
        }
    }
}

impl ObjectPattern {
    /// Surely matches every object with a written schema that `other` matches. Only what is easily seen.
    pub(in crate::judge) fn covers(&self, other: &Self) -> bool {
        let schema = match (&self.schema, &other.schema) {
            (None, _) => true,
            (Some(own), Some(other)) => own.covers(other),
            (Some(own), None) => own.is_any(),
        };
        schema && self.name.covers(&other.name)
    }

    /// Matches every object at least as well as `other` does. Only what is easily seen. The name of a schema matches patterns for what is
    /// in it possibly, so a pattern without a schema has to cover that as well.
    pub(super) fn matches_as_well(&self, other: &Self) -> bool {
        self.covers(other)
            && match (&self.schema, &other.schema) {
                (None, Some(schema)) => self.name.covers(schema),
                (None, None) | (Some(_), _) => true,
            }
    }

    /// Matches whatever is in the schema that is there for everybody.
    pub(super) fn is_broad(&self) -> bool {
        self.name.is_any() && self.schema.as_ref().is_none_or(|schema| schema.matches("public"))
    }

    /// Why it matches nothing, or next to nothing.
    pub(in crate::judge) fn cannot_match(&self) -> Option<&'static str> {
        self.schema.iter().chain([&self.name]).find_map(Glob::cannot_match)
    }
}

/// A written schema may be `catalog.schema`, or a quoted name with a dot in it; from the joined text one cannot tell.
fn schema_matches(wanted: &Glob, schema: &str) -> Match {
    let whole = wanted.matches(kept(schema));
    let last = schema.rsplit_once('.').map_or(whole, |(_, last)| wanted.matches(kept(last)));
    match (whole, last) {
        (true, true) => Match::Surely,
        (false, false) => Match::No,
        (true, false) | (false, true) => Match::Possibly,
    }
}

/// The part of a name that Postgres keeps (`truncate_identifier` in parser/scansup.c).
pub(super) fn kept(name: &str) -> &str {
    (0..=NAME_BYTES).rev().find_map(|end| name.get(..end)).filter(|_| name.len() > NAME_BYTES).unwrap_or(name)
}

impl TryFrom<String> for ObjectPattern {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut parts = text.split('.');
        let pattern = match (parts.next(), parts.next(), parts.next()) {
            (Some(name), None, None) => Self { schema: None, name: Glob::try_from(name.to_owned())? },
            (Some(schema), Some(name), None) => {
                Self { schema: Some(Glob::try_from(schema.to_owned())?), name: Glob::try_from(name.to_owned())? }
            }
            _ => {
                return Err("a pattern is `name` or `schema.name`; `?` stands for a dot within a name");
            }
        };
        Ok(pattern)
    }
}

impl fmt::Display for ObjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", schema.0)?;
        }
        f.write_str(&self.name.0)
    }
}

impl From<ObjectPattern> for String {
    fn from(pattern: ObjectPattern) -> Self {
        pattern.to_string()
    }
}

/// A network (`10.0.0.0/8`), an address (`10.1.2.3`, `::1`), or `unix` for local sockets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AddressRange {
    /// Clients on a Unix socket.
    Unix,
    /// Clients from this network.
    Net(IpNet),
}

impl AddressRange {
    /// Whether a client comes from there; `None` for a Unix socket.
    pub fn contains(&self, client: Option<IpAddr>) -> bool {
        match (self, client) {
            (Self::Unix, None) => true,
            // A socket listening on `::` reports IPv4 clients as `::ffff:a.b.c.d`; people write `a.b.c.d`.
            (Self::Net(net), Some(addr)) => net.contains(&addr.to_canonical()),
            (Self::Unix, Some(_)) | (Self::Net(_), None) => false,
        }
    }
}

impl AddressRange {
    /// Everybody, wherever they are.
    pub(super) fn everywhere() -> [Self; 3] {
        [Self::Unix, Self::Net(IpNet::V4(Ipv4Net::default())), Self::Net(IpNet::V6(Ipv6Net::default()))]
    }

    /// Networks, with neighbours put together.
    pub(super) fn joined<'a>(ranges: impl Iterator<Item = &'a Self>) -> Vec<IpNet> {
        let networks = ranges.filter_map(|range| match range {
            Self::Unix => None,
            Self::Net(net) => Some(*net),
        });
        IpNet::aggregate(&networks.collect())
    }
}

impl TryFrom<String> for AddressRange {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match net {
            Ok(net) if net.trunc() == net => Ok(Self::Net(net)),
            Ok(_) => Err("the address has bits beyond its prefix; write the network's own address"),
            Err(_) => Err("expected an address, a network such as `10.0.0.0/8`, or `unix`"),
        }
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> Self {
        match range {
            AddressRange::Unix => "unix".to_owned(),
            AddressRange::Net(net) => net.to_string(),
        }
    }
}
