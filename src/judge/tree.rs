//! Postgres's parse tree as a flat list in the order of the text, so that *every* node at *every* depth is met by a plain
//! loop, whether or not anyone thought of the field it hides in. Knows nothing of what nodes mean.
//!
//! The typed tree of the grammar crate is poured through serde: names of structs are node kinds, names of fields stay.
//! Default values (0, false, "", empty lists) and `location` fields are left out. Start at [`Tree::of`].

#![expect(clippy::arithmetic_side_effects, reason = "indexes are bounded by the length of a list in memory")]

use serde::Serialize;
use serde::ser::{self, Impossible};

/// A flat tree; entry 0 is the root.
#[derive(Debug, Default)]
pub(super) struct Tree {
    entries: Vec<Entry>,
    text: String,
}

#[derive(Debug)]
struct Entry {
    field: &'static str,
    /// Index behind the last entry of this subtree.
    end: usize,
    value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Node(&'static str),
    List,
    Text { start: usize, end: usize },
    Int(i64),
    True,
    Null,
}

/// A place in the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'t> {
    tree: &'t Tree,
    index: usize,
}

impl Tree {
    /// Flattens a message of the grammar crate. `None` if it holds a type this module does not know.
    pub(super) fn of<T: Serialize>(message: &T) -> Option<Self> {
        let mut builder = Builder { tree: Self::default(), field: "", in_list: false };
        message.serialize(&mut builder).ok()?;
        Some(builder.tree)
    }

    /// The root; `None` for an empty message.
    pub(super) fn root(&self) -> Option<At<'_>> {
        (!self.entries.is_empty()).then_some(At { tree: self, index: 0 })
    }
}

impl<'t> At<'t> {
    fn entry(self) -> Option<&'t Entry> {
        self.tree.entries.get(self.index)
    }

    /// The node's kind (`"SelectStmt"`); empty for lists and values.
    pub(super) fn kind(self) -> &'static str {
        match self.entry().map(|entry| entry.value) {
            Some(Value::Node(kind)) => kind,
            _ => "",
        }
    }

    /// The name of the field it stands in; empty in a list.
    pub(super) fn field(self) -> &'static str {
        self.entry().map_or("", |entry| entry.field)
    }

    /// Its number: grows in the order of the walk, and every subtree is a range of numbers.
    pub(super) fn index(self) -> usize {
        self.index
    }

    /// The number behind its subtree.
    pub(super) fn end(self) -> usize {
        self.entry().map_or(self.index, |entry| entry.end)
    }

    /// Itself and everything below, parents first.
    pub(super) fn descendants(self) -> impl Iterator<Item = Self> + use<'t> {
        let tree = self.tree;
        (self.index..self.end()).map(move |index| Self { tree, index })
    }

    /// Its direct children.
    pub(super) fn children(self) -> impl Iterator<Item = Self> + use<'t> {
        let (tree, end) = (self.tree, self.end());
        let mut index = self.index + 1;
        std::iter::from_fn(move || {
            let child = Self { tree, index };
            (index < end).then(|| {
                index = child.end().max(index + 1);
                child
            })
        })
    }

    /// The child in this field.
    pub(super) fn get(self, field: &str) -> Option<Self> {
        self.children().find(|child| child.field() == field)
    }

    /// The items of the list in this field; none if it is absent.
    pub(super) fn items(self, field: &str) -> impl Iterator<Item = Self> + use<'t> {
        self.get(field).into_iter().flat_map(Self::children)
    }

    /// The text in this field; empty if absent.
    pub(super) fn text(self, field: &str) -> &'t str {
        self.get(field).and_then(Self::as_text).unwrap_or("")
    }

    /// The text it is, if it is one.
    pub(super) fn as_text(self) -> Option<&'t str> {
        match self.entry()?.value {
            Value::Text { start, end } => self.tree.text.get(start..end),
            Value::Node(_) | Value::List | Value::Int(_) | Value::True | Value::Null => None,
        }
    }

    /// The number (or enum) in this field; 0 if absent.
    pub(super) fn int(self, field: &str) -> i64 {
        match self.get(field).and_then(Self::entry).map(|entry| entry.value) {
            Some(Value::Int(number)) => number,
            _ => 0,
        }
    }

    /// The flag in this field.
    pub(super) fn flag(self, field: &str) -> bool {
        self.get(field).and_then(Self::entry).is_some_and(|entry| entry.value == Value::True)
    }

    /// Whether two entries are alike, leaving aside their fields and what is below them.
    pub(super) fn is_alike(self, other: Self) -> bool {
        match (self.as_text(), other.as_text()) {
            (None, None) => match (self.entry(), other.entry()) {
                (Some(one), Some(two)) => one.value == two.value,
                _ => false,
            },
            (one, two) => one == two,
        }
    }

    /// The `String` nodes of the list in this field, as text; other nodes (`*`, subscripts) left out.
    pub(super) fn names(self, field: &str) -> Vec<&'t str> {
        self.items(field).filter(|item| item.kind() == "String").map(|item| item.text("sval")).collect()
    }
}

struct Builder {
    tree: Tree,
    field: &'static str,
    in_list: bool,
}

impl Builder {
    fn push(&mut self, value: Value) -> usize {
        let index = self.tree.entries.len();
        self.tree.entries.push(Entry { field: self.field, end: index + 1, value });
        index
    }

    fn close(&mut self, index: usize) {
        let end = self.tree.entries.len();
        if let Some(entry) = self.tree.entries.get_mut(index) {
            entry.end = end;
        }
    }

    fn number(&mut self, number: i64) {
        if number != 0 || self.in_list {
            self.push(Value::Int(number));
        }
    }

    fn string(&mut self, text: &str) {
        if !text.is_empty() || self.in_list {
            let start = self.tree.text.len();
            self.tree.text.push_str(text);
            self.push(Value::Text { start, end: start + text.len() });
        }
    }

    fn flag(&mut self, set: bool) {
        if set {
            self.push(Value::True);
        }
    }

    fn null(&mut self) {
        if self.in_list {
            self.push(Value::Null);
        }
    }
}

/// The message holds something this module does not know.
#[derive(Debug)]
struct Unexpected;

impl std::fmt::Display for Unexpected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unexpected type in a parse tree")
    }
}

impl std::error::Error for Unexpected {}

impl ser::Error for Unexpected {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

type Done = Result<(), Unexpected>;

/// A node or list being filled.
struct Filling<'b> {
    builder: &'b mut Builder,
    /// `None`: a `Node`, the wrapper around any node, which leaves no entry of its own.
    index: Option<usize>,
    outer: (&'static str, bool),
}

impl ser::SerializeStruct for Filling<'_> {
    type Ok = ();
    type Error = Unexpected;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Done {
        if key == "location" {
            return Ok(());
        }
        if self.index.is_some() {
            self.builder.field = key;
            self.builder.in_list = false;
        }
        value.serialize(&mut *self.builder)
    }

    fn end(self) -> Done {
        if let Some(index) = self.index {
            self.builder.close(index);
        }
        (self.builder.field, self.builder.in_list) = self.outer;
        Ok(())
    }
}

impl ser::SerializeSeq for Filling<'_> {
    type Ok = ();
    type Error = Unexpected;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Done {
        self.builder.field = "";
        self.builder.in_list = true;
        value.serialize(&mut *self.builder)
    }

    fn end(self) -> Done {
        if let Some(index) = self.index {
            if index + 1 == self.builder.tree.entries.len() {
                self.builder.tree.entries.pop();
            } else {
                self.builder.close(index);
            }
        }
        (self.builder.field, self.builder.in_list) = self.outer;
        Ok(())
    }
}

impl<'b> ser::Serializer for &'b mut Builder {
    type Ok = ();
    type Error = Unexpected;
    type SerializeSeq = Filling<'b>;
    type SerializeTuple = Impossible<(), Unexpected>;
    type SerializeTupleStruct = Impossible<(), Unexpected>;
    type SerializeTupleVariant = Impossible<(), Unexpected>;
    type SerializeMap = Impossible<(), Unexpected>;
    type SerializeStruct = Filling<'b>;
    type SerializeStructVariant = Impossible<(), Unexpected>;

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Filling<'b>, Unexpected> {
        let outer = (self.field, self.in_list);
        let index = (name != "Node").then(|| self.push(Value::Node(name)));
        Ok(Filling { builder: self, index, outer })
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Filling<'b>, Unexpected> {
        let outer = (self.field, self.in_list);
        let index = Some(self.push(Value::List));
        Ok(Filling { builder: self, index, outer })
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Done {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_none(self) -> Done {
        self.null();
        Ok(())
    }

    fn serialize_unit(self) -> Done {
        self.null();
        Ok(())
    }

    fn serialize_bool(self, value: bool) -> Done {
        self.flag(value);
        Ok(())
    }

    fn serialize_i32(self, value: i32) -> Done {
        self.number(value.into());
        Ok(())
    }

    fn serialize_i64(self, value: i64) -> Done {
        self.number(value);
        Ok(())
    }

    fn serialize_u32(self, value: u32) -> Done {
        self.number(value.into());
        Ok(())
    }

    fn serialize_u64(self, value: u64) -> Done {
        self.number(i64::try_from(value).unwrap_or(i64::MAX));
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Done {
        self.string(value);
        Ok(())
    }

    /// Cost estimates; a raw parse tree has none that matter.
    fn serialize_f64(self, _: f64) -> Done {
        Ok(())
    }

    fn serialize_i8(self, _: i8) -> Done {
        Err(Unexpected)
    }

    fn serialize_i16(self, _: i16) -> Done {
        Err(Unexpected)
    }

    fn serialize_u8(self, _: u8) -> Done {
        Err(Unexpected)
    }

    fn serialize_u16(self, _: u16) -> Done {
        Err(Unexpected)
    }

    fn serialize_f32(self, _: f32) -> Done {
        Err(Unexpected)
    }

    fn serialize_char(self, _: char) -> Done {
        Err(Unexpected)
    }

    fn serialize_bytes(self, _: &[u8]) -> Done {
        Err(Unexpected)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Done {
        Err(Unexpected)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Done {
        Err(Unexpected)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unexpected> {
        Err(Unexpected)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Unexpected> {
        Err(Unexpected)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unexpected> {
        Err(Unexpected)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unexpected> {
        Err(Unexpected)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unexpected> {
        Err(Unexpected)
    }
}
