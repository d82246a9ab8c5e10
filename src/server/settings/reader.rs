//! Reads TOML tables key by key, collecting every problem with its line instead of stopping at the first. Knows no keys: the
//! sections ask for theirs, and what nobody asked for is an error that names its nearest match. Start at [`Document`].

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// Names further apart than this are no typing mistake of each other.
const CLOSE_ENOUGH: f64 = 0.7;

/// Something about a configuration that its author should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file it is in; `None`: the configuration itself.
    pub file: Option<PathBuf>,
    /// Line from 1 and column (in characters) from 1; `None` where the problem is that something is missing altogether.
    pub place: Option<(usize, usize)>,
    /// It keeps the gate from starting.
    pub fatal: bool,
    /// What is wrong, and what to do. Never holds a secret's value.
    pub message: String,
}

impl Problem {
    /// `file:line:column: error: message`, as compilers write it, so that editors can jump to it.
    pub fn display(&self, file: &Path) -> String {
        let place = self.place.map_or_else(String::new, |(line, column)| format!("{line}:{column}:"));
        let kind = if self.fatal { "error" } else { "warning" };
        format!("{}:{place} {kind}: {}", self.file.as_deref().unwrap_or(file).display(), self.message)
    }
}

/// One configuration text while it is read.
#[derive(Debug)]
pub(super) struct Document<'t> {
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
    /// Every key asked for, as `section.key`; what the example must mention.
    asked: RefCell<BTreeSet<String>>,
}

impl<'t> Document<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, problems: RefCell::default(), asked: RefCell::default() }
    }

    /// The outermost table. Syntax errors are recorded, and what could be read despite them is returned.
    pub(super) fn root(&self) -> Section<'t, '_> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            self.error(error.span(), error.message());
        }
        Section { document: self, path: String::new(), table: table.into_inner(), span: None, keys: Vec::new() }
    }

    pub(super) fn error(&self, span: Option<Range<usize>>, message: impl Into<String>) {
        self.add(span, true, message.into());
    }

    pub(super) fn warning(&self, span: Option<Range<usize>>, message: impl Into<String>) {
        self.add(span, false, message.into());
    }

    fn add(&self, span: Option<Range<usize>>, fatal: bool, message: String) {
        let place = span.map(|span| self.place(span.start));
        self.problems.borrow_mut().push(Problem { file: None, place, fatal, message });
    }

    /// Takes over what was found in a file that this one includes.
    pub(super) fn adopt(&self, file: &Path, included: Document<'_>) {
        let (problems, _) = included.finish();
        let named = problems.into_iter().map(|problem| Problem { file: Some(file.to_owned()), ..problem });
        self.problems.borrow_mut().extend(named);
    }

    /// Where the last of some words stands that follow on each other, each in quotes: the best guess at a key that is not at hand any more.
    pub(super) fn place_of(&self, words: &[&str]) -> Option<Range<usize>> {
        let mut at = 0..0;
        for word in words {
            let quoted = format!("\"{word}\"");
            let start = self.text.get(at.end..)?.find(&quoted)?.checked_add(at.end)?;
            at = start..start.checked_add(quoted.len())?;
        }
        Some(at)
    }

    fn place(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.bytes().filter(|&byte| byte == b'\n').count();
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count();
        (line.saturating_add(1), column.saturating_add(1))
    }

    /// What was found, in the order of the file, and the keys asked for.
    pub(super) fn finish(self) -> (Vec<Problem>, BTreeSet<String>) {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems.dedup();
        (problems, self.asked.into_inner())
    }
}

/// A table whose keys are taken one by one. [`Section::finish`] complains about the rest.
#[derive(Debug)]
pub(super) struct Section<'t, 'd> {
    document: &'d Document<'t>,
    /// Empty for the outermost table, `listen.tls`, `people[]`.
    path: String,
    table: DeTable<'t>,
    /// `None`: the file does not have it.
    span: Option<Range<usize>>,
    keys: Vec<&'static str>,
}

impl<'t, 'd> Section<'t, 'd> {
    pub(super) fn document(&self) -> &'d Document<'t> {
        self.document
    }

    /// Where the table stands, if it is written at all.
    pub(super) fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }

    /// A key's value, if it is there and right.
    pub(super) fn take<T: Deserialize<'t>>(&mut self, key: &'static str) -> Option<T> {
        self.take_spanned(key).map(|(value, _)| value)
    }

    /// With where it stands.
    pub(super) fn take_spanned<T: Deserialize<'t>>(&mut self, key: &'static str) -> Option<(T, Range<usize>)> {
        let value = self.take_value(key)?;
        let span = value.span();
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Some((value, span)),
            Err(error) => {
                let message = format!("`{}`: {}", self.full(key), in_words(error.message()));
                self.document.error(Some(error.span().unwrap_or(span)), message);
                None
            }
        }
    }

    /// A string that must not be repeated in an error.
    pub(super) fn take_secret(&mut self, key: &'static str) -> Option<(String, Range<usize>)> {
        let value = self.take_value(key)?;
        let span = value.span();
        if let DeValue::String(text) = value.into_inner() {
            return Some((text.into_owned(), span));
        }
        self.document.error(Some(span), format!("`{}`: expected a string", self.full(key)));
        None
    }

    /// Replaces `slot` by the key's value, if it is there and right.
    pub(super) fn set<T: Deserialize<'t>>(&mut self, key: &'static str, slot: &mut T) {
        self.set_as(key, slot, |value: T| value);
    }

    /// The same for a value written as a `V`.
    pub(super) fn set_as<V: Deserialize<'t>, T>(&mut self, key: &'static str, slot: &mut T, convert: impl Fn(V) -> T) {
        if let Some(value) = self.take(key) {
            *slot = convert(value);
        }
    }

    /// A table within this one; empty if it is not there.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'t, 'd> {
        let path = self.full(key);
        let (table, span) = match self.take_value(key).map(|value| (value.span(), value.into_inner())) {
            Some((span, DeValue::Table(table))) => (table, Some(span)),
            Some((span, _)) => {
                self.document.error(Some(span), format!("`{path}` is a section: write `[{path}]`"));
                (DeTable::new(), None)
            }
            None => (DeTable::new(), None),
        };
        Section { document: self.document, path, table, span, keys: Vec::new() }
    }

    /// An array of tables (`[[key]]`); empty if it is not there.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'t, 'd>> {
        let path = format!("{}[]", self.full(key));
        let Some(value) = self.take_value(key) else {
            return Vec::new();
        };
        let span = value.span();
        let document = self.document;
        let DeValue::Array(elements) = value.into_inner() else {
            document.error(Some(span), format!("`{key}` is a list of sections: write `[[{key}]]`"));
            return Vec::new();
        };
        elements
            .into_iter()
            .filter_map(|element| match (element.span(), element.into_inner()) {
                (span, DeValue::Table(table)) => {
                    Some(Section { document, path: path.clone(), table, span: Some(span), keys: Vec::new() })
                }
                (span, _) => {
                    document.error(Some(span), format!("`{key}` is a list of sections: write `[[{key}]]`"));
                    None
                }
            })
            .collect()
    }

    /// Everything that was not asked for is unknown.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            let place = match self.path.strip_suffix("[]") {
                Some(path) => format!(" in [[{path}]]"),
                None if self.path.is_empty() => String::new(),
                None => format!(" in [{}]", self.path),
            };
            let hint = nearest(name, self.keys.iter().copied())
                .map_or_else(|| format!("; it knows {}", list(&self.keys)), |best| format!("; did you mean `{best}`?"));
            self.document.error(Some(key.span()), format!("unknown key `{name}`{place}{hint}"));
        }
    }

    fn take_value(&mut self, key: &'static str) -> Option<Spanned<DeValue<'t>>> {
        self.keys.push(key);
        let full = self.full(key);
        self.document.asked.borrow_mut().insert(full);
        self.table.remove(key)
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// The name of `known` that `name` was most likely meant to be.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= CLOSE_ENOUGH)
        .max_by(|(one, _), (two, _)| one.total_cmp(two))
        .map(|(_, candidate)| candidate)
}

fn list(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

/// A time as people write it: `90s`, `15m`, `1h 30m`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span(pub(super) std::time::Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map(Self)
            .map_err(|error| serde::de::Error::custom(format!("{error}; write a time such as \"90s\" or \"15m\"")))
    }
}

/// A number of bytes: `65536` or `"64KiB"`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size(pub(super) usize);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or a size such as \"64KiB\" or \"1MiB\"")
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
                usize::try_from(bytes).map(Size).map_err(|_| E::custom("a size cannot be negative"))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                parse(text).map(Size).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// What is wrong with a number, for people: the reader of TOML names types of the program.
fn in_words(message: &str) -> String {
    let number = message.strip_prefix("invalid value: integer `").and_then(|rest| rest.split_once("`, expected "));
    match number {
        Some((number, "u8" | "u16" | "u32" | "u64" | "usize")) if number.starts_with('-') => {
            format!("{number} is below zero")
        }
        Some((number, "u8" | "u16" | "u32" | "u64" | "usize")) => format!("{number} is too large"),
        Some(_) | None => message.to_owned(),
    }
}

fn parse(text: &str) -> Option<usize> {
    crate::size::parse(text).and_then(|bytes| usize::try_from(bytes).ok())
}
