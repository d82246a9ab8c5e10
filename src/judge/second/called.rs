//! Collects the names by which a statement can reach somebody's code, while the reader walks over it. What they stand for it does not
//! know.

use std::collections::HashSet;

use super::super::calls::MAX_CALLS;
use super::super::tree::At;
use super::{Calls, Effect, EffectKind, ObjectName, names};

/// Names found so far.
#[derive(Debug, Default)]
pub(super) struct Called {
    calls: Calls,
    functions: HashSet<ObjectName>,
    words: HashSet<(Kind, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Attribute,
    Operator,
    Type,
    OwnType,
}

impl Called {
    /// A call by name.
    pub(super) fn function(&mut self, name: &ObjectName) {
        if !self.is_full() && self.functions.insert(name.clone()) {
            self.calls.functions.push(name.clone());
        }
    }

    /// `x.name`.
    pub(super) fn attribute(&mut self, name: &str) {
        self.word(Kind::Attribute, name);
    }

    /// The operator in this field, without its schema: whoever looks it up takes every operator of the name.
    pub(super) fn operator(&mut self, at: At<'_>, field: &str) {
        if let Some(name) = at.names(field).last() {
            self.word(Kind::Operator, name);
        }
    }

    /// A type, surely the server's own or not.
    pub(super) fn type_name(&mut self, at: At<'_>) {
        let name = names::qualified(&at.names("names"));
        let kind = if name.schema.as_deref() == Some("pg_catalog") { Kind::OwnType } else { Kind::Type };
        self.word(kind, &name.name);
        if at.items("array_bounds").next().is_some() {
            // `makeArrayTypeName` in pg_type.c, unless that is somebody else's.
            self.word(kind, &format!("_{}", name.name));
        }
    }

    /// A statement, at any depth.
    pub(super) fn statement(&mut self, at: At<'_>) {
        self.calls.redefines |= redefines(at.kind());
        self.calls.copies |= match at.kind() {
            "CreateStmt" | "CreateTableAsStmt" => true,
            "SelectStmt" => at.get("into_clause").is_some(),
            _ => false,
        };
        let analyze = |option: At<'_>| option.text("defname") == "analyze";
        self.calls.analyzes |=
            at.kind() == "VacuumStmt" && (!at.flag("is_vacuumcmd") || at.items("options").any(analyze));
    }

    fn word(&mut self, kind: Kind, name: &str) {
        if self.is_full() || !self.words.insert((kind, name.to_owned())) {
            return;
        }
        let list = match kind {
            Kind::Attribute => &mut self.calls.attributes,
            Kind::Operator => &mut self.calls.operators,
            Kind::Type => &mut self.calls.types,
            Kind::OwnType => &mut self.calls.own_types,
        };
        list.push(name.to_owned());
    }

    fn is_full(&mut self) -> bool {
        let full = self.functions.len().saturating_add(self.words.len()) >= MAX_CALLS;
        self.calls.more |= full;
        full
    }

    /// What was found, in a statement with these effects.
    pub(super) fn take(&mut self, effects: &[Effect]) -> Calls {
        let mut calls = std::mem::take(&mut self.calls);
        // Fail closed: a function that runs text, a write to the catalogue, and what nobody could read may have changed a definition.
        calls.redefines |= effects.iter().any(|effect| match effect.kind {
            EffectKind::Code
            | EffectKind::Admin
            | EffectKind::Unknown
            | EffectKind::Unparsed
            | EffectKind::Disagreement => true,
            EffectKind::Read
            | EffectKind::Insert
            | EffectKind::Update
            | EffectKind::Delete
            | EffectKind::Merge
            | EffectKind::Truncate
            | EffectKind::Drop
            | EffectKind::Alter
            | EffectKind::Create
            | EffectKind::Privilege
            | EffectKind::CopyServerFile
            | EffectKind::LargeObject
            | EffectKind::ReadingSetting
            | EffectKind::SensitiveSetting
            | EffectKind::Session
            | EffectKind::Transaction
            | EffectKind::Execute => false,
        });
        calls
    }
}

/// Statements that can make a function, or what calls one unseen, do something else than before. (What installs code has the effect
/// `code`.)
fn redefines(kind: &str) -> bool {
    matches!(
        kind,
        "AlterFunctionStmt"
            | "AlterTableStmt"
            | "AlterObjectSchemaStmt"
            | "AlterOwnerStmt"
            | "AlterDomainStmt"
            | "AlterTypeStmt"
            | "AlterOperatorStmt"
            | "AlterOpFamilyStmt"
            | "AlterExtensionStmt"
            | "AlterExtensionContentsStmt"
            | "AlterPolicyStmt"
            | "CreatePolicyStmt"
            | "CreateDomainStmt"
            | "RenameStmt"
            | "ViewStmt"
    )
}
