//! The small language the checks are written in: a place in the JSON ([`At`]), the keys an object may have ([`need`],
//! [`may`]), and a report that collects every fault with its JSON pointer. It knows JSON, not Slack.

use serde_json::{Map, Value};

use super::Refused;

/// A check of one value.
pub(super) trait Check: Fn(&mut Report, &At<'_>) {}
impl<F: Fn(&mut Report, &At<'_>)> Check for F {}

/// The faults found so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    faults: Vec<String>,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<'v> {
    pub(super) value: &'v Value,
    pointer: String,
}

/// A key an object may have.
pub(super) struct Field<'c> {
    name: &'static str,
    required: bool,
    check: &'c dyn Check,
}

/// A key that must be there.
pub(super) fn need<'c>(name: &'static str, check: &'c dyn Check) -> Field<'c> {
    Field { name, required: true, check }
}

/// A key that may be missing.
pub(super) fn may<'c>(name: &'static str, check: &'c dyn Check) -> Field<'c> {
    Field { name, required: false, check }
}

/// Slack's way of naming a place.
fn pointer_at(what: &str, pointer: &str) -> String {
    format!("{what} [json-pointer:{pointer}]")
}

impl<'v> At<'v> {
    pub(super) fn root(value: &'v Value, pointer: &str) -> At<'v> {
        At { value, pointer: pointer.to_owned() }
    }

    /// The value under `key`.
    pub(super) fn key(&self, key: &str) -> Option<At<'v>> {
        let value = self.value.get(key)?;
        Some(At { value, pointer: format!("{}/{}", self.pointer, key.replace('~', "~0").replace('/', "~1")) })
    }

    /// The items of an array; none of anything else.
    pub(super) fn items(&self) -> Vec<At<'v>> {
        let items = self.value.as_array().map_or(&[][..], Vec::as_slice);
        items
            .iter()
            .enumerate()
            .map(|(index, value)| At { value, pointer: format!("{}/{index}", self.pointer) })
            .collect()
    }

    /// The string under `key`; empty when there is none.
    pub(super) fn str(&self, key: &str) -> &'v str {
        self.value.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Report {
    pub(super) fn fault(&mut self, at: &At<'_>, what: impl AsRef<str>) {
        self.faults.push(pointer_at(what.as_ref(), &at.pointer));
    }

    pub(super) fn done(self, error: &'static str) -> Result<(), Refused> {
        if self.faults.is_empty() { Ok(()) } else { Err(Refused { error, messages: self.faults }) }
    }

    /// An object with these keys and no others.
    pub(super) fn object(&mut self, at: &At<'_>, fields: &[Field<'_>]) {
        let Some(object) = self.map(at) else { return };
        for field in fields {
            match at.key(field.name) {
                Some(value) => (field.check)(self, &value),
                None if field.required => self.fault(at, format!("missing required field: {}", field.name)),
                None => {}
            }
        }
        for key in object.keys() {
            if !fields.iter().any(|field| field.name == key) {
                self.fault(at, format!("invalid additional property: {key}"));
            }
        }
    }

    fn map<'v>(&mut self, at: &At<'v>) -> Option<&'v Map<String, Value>> {
        let map = at.value.as_object();
        if map.is_none() {
            self.fault(at, "must provide an object");
        }
        map
    }

    /// An array of `least` to `most` items, each of which passes `check`.
    pub(super) fn list(&mut self, at: &At<'_>, least: usize, most: usize, check: impl Check) {
        let Some(items) = at.value.as_array() else { return self.fault(at, "must provide an array") };
        if items.len() < least {
            self.fault(at, format!("no fewer than {least} items allowed"));
        }
        if items.len() > most {
            self.fault(at, format!("no more than {most} items allowed"));
        }
        for item in at.items() {
            check(self, &item);
        }
    }
}

/// A string of `least` to `most` characters.
pub(super) fn string(least: usize, most: usize) -> impl Check {
    move |report, at| {
        let Some(text) = at.value.as_str() else { return report.fault(at, "must provide a string") };
        let length = text.chars().count();
        if length < least {
            report.fault(at, format!("must be more than {} characters", least.saturating_sub(1)));
        }
        if length > most {
            report.fault(at, format!("must be less than {} characters", most.saturating_add(1)));
        }
    }
}

/// One of these strings.
pub(super) fn one_of(allowed: &'static [&'static str]) -> impl Check {
    move |report, at| {
        if !at.value.as_str().is_some_and(|text| allowed.contains(&text)) {
            report.fault(at, format!("must be one of: {}", allowed.join(", ")));
        }
    }
}

/// A whole number between two bounds.
pub(super) fn integer(least: i64, most: i64) -> impl Check {
    move |report, at| {
        if !at.value.as_i64().is_some_and(|number| (least..=most).contains(&number)) {
            report.fault(at, format!("must be a whole number from {least} to {most}"));
        }
    }
}

/// `true` or `false`.
pub(super) fn boolean(report: &mut Report, at: &At<'_>) {
    if !at.value.is_boolean() {
        report.fault(at, "must provide a boolean");
    }
}

/// A `type` already looked at.
pub(super) fn anything(_: &mut Report, _: &At<'_>) {}

/// A web address.
pub(super) fn address(report: &mut Report, at: &At<'_>) {
    string(1, 3000)(report, at);
    if let Some(url) = at.value.as_str()
        && !["https://", "http://", "slack://", "mailto:"].iter().any(|scheme| url.starts_with(scheme))
    {
        report.fault(at, "must be a valid url");
    }
}

/// No two of `items` have the same string under `key`.
pub(super) fn unique(report: &mut Report, items: &[At<'_>], key: &str) {
    let mut seen = Vec::new();
    for item in items {
        let Some(value) = item.value.get(key).and_then(Value::as_str) else { continue };
        if seen.contains(&value) {
            report.fault(item, format!("`{key}` {value:?} already exists"));
        }
        seen.push(value);
    }
}
