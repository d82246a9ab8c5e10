//! What sqlparser's statements do: rows, settings and COPY in detail, the others by [`kind`].

use sqlparser::ast::{
    CopySource, CopyTarget, Expr, FromTable, Ident, MergeAction, ObjectName as TheirName, ObjectNamePart, Reset, Set,
    Statement, TableFactor, TableObject, TableWithJoins, UtilityOption,
};

use super::super::second::is_catalog;
use super::super::settings::{self, Change};
use super::effect;
use super::kinds::kind;
use super::{Effect, EffectKind, ObjectName};

/// A name as Postgres folds it.
pub(super) fn fold(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_ascii_lowercase() }
}

/// A qualified name.
pub(super) fn object(name: &TheirName) -> ObjectName {
    let mut parts: Vec<String> = name
        .0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(name) => fold(name),
            ObjectNamePart::Function(function) => fold(&function.name),
        })
        .collect();
    let name = parts.pop().unwrap_or_default();
    ObjectName { schema: (!parts.is_empty()).then(|| parts.join(".")), name }
}

fn objects<'n>(names: impl IntoIterator<Item = &'n TheirName>) -> Vec<ObjectName> {
    names.into_iter().map(object).collect()
}

fn table(factor: &TableFactor) -> Vec<ObjectName> {
    if let TableFactor::Table { name, .. } = factor { vec![object(name)] } else { Vec::new() }
}

fn tables(list: &[TableWithJoins]) -> Vec<ObjectName> {
    list.iter().flat_map(|item| table(&item.relation)).collect()
}

/// Whether what it wraps is only planned.
pub(super) fn is_quiet(statement: &Statement) -> bool {
    matches!(statement, Statement::Explain { analyze, options, .. } if !runs(*analyze, options.as_deref()))
}

fn runs(analyze: bool, options: Option<&[UtilityOption]>) -> bool {
    analyze || options.unwrap_or_default().iter().any(|option| fold(&option.name) == "analyze" && is_on(option))
}

fn is_on(option: &UtilityOption) -> bool {
    match &option.arg {
        Some(Expr::Identifier(word)) => !["false", "off"].contains(&fold(word).as_str()),
        Some(Expr::Value(value)) => {
            let written = value.value.clone().into_string().unwrap_or_else(|| value.value.to_string());
            !["false", "off", "0"].iter().any(|off| written.eq_ignore_ascii_case(off))
        }
        Some(_) | None => true,
    }
}

/// Rows written, with the catalogue check that goes with it.
fn written(kind: EffectKind, names: Vec<ObjectName>, why: &str, has_where: Option<bool>) -> Vec<Effect> {
    let catalogs: Vec<_> = names.iter().filter(|name| is_catalog(name)).cloned().collect();
    let mut found = vec![Effect { has_where, ..effect(kind, names, why) }];
    if !catalogs.is_empty() {
        found.push(effect(EffectKind::Admin, catalogs, "it writes system catalogues"));
    }
    found
}

/// The effects of one statement; those of statements inside it come with them.
#[expect(clippy::wildcard_enum_match_arm, reason = "`kind` is exhaustive")]
pub(super) fn effects(statement: &Statement) -> Vec<Effect> {
    match statement {
        Statement::Set(set) => setting(set),
        Statement::Reset(reset) => vec![resetting(&reset.reset)],
        Statement::Copy { source, to, target, values, .. } => copy(source, *to, target, values.is_empty()),
        other => rows(other).unwrap_or_else(|| vec![effect(kind(other), Vec::new(), "it is that kind of statement")]),
    }
}

fn resetting(reset: &Reset) -> Effect {
    match reset {
        Reset::ALL => effect(EffectKind::Session, Vec::new(), "it resets settings"),
        Reset::SessionAuthorization => effect(EffectKind::Privilege, Vec::new(), "it changes whose rights apply"),
        Reset::ConfigurationParameter(name) => {
            let name = object(name);
            effect(settings::judge(&name.to_string(), Change::Reset), vec![name], "it resets a setting")
        }
    }
}

/// Statements on rows.
#[expect(clippy::wildcard_enum_match_arm, reason = "`kind` is exhaustive")]
fn rows(statement: &Statement) -> Option<Vec<Effect>> {
    Some(match statement {
        Statement::Insert(insert) => {
            let names = match &insert.table {
                TableObject::TableName(name) => vec![object(name)],
                TableObject::TableFunction(function) => vec![object(&function.name)],
                TableObject::TableQuery(_) => Vec::new(),
            };
            written(EffectKind::Insert, names, "it inserts rows", None)
        }
        Statement::Update(update) => {
            let limited = Some(update.selection.is_some());
            written(EffectKind::Update, table(&update.table.relation), "it updates rows", limited)
        }
        Statement::Delete(delete) => {
            let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
            written(EffectKind::Delete, tables(from), "it deletes rows", Some(delete.selection.is_some()))
        }
        Statement::Merge(merge) => {
            let mut found = written(EffectKind::Merge, table(&merge.table), "it merges rows", None);
            if merge.clauses.iter().any(|clause| matches!(clause.action, MergeAction::Delete { .. })) {
                found.extend(written(EffectKind::Delete, table(&merge.table), "its MERGE deletes rows", Some(true)));
            }
            found
        }
        Statement::Truncate(truncate) => {
            let names = objects(truncate.table_names.iter().map(|target| &target.name));
            written(EffectKind::Truncate, names, "it empties tables", None)
        }
        _ => return None,
    })
}

fn copy(source: &CopySource, to: bool, target: &CopyTarget, no_data: bool) -> Vec<Effect> {
    let names = match source {
        CopySource::Table { table_name, .. } => vec![object(table_name)],
        CopySource::Query(_) => Vec::new(),
    };
    let mut found = match target {
        CopyTarget::Stdin | CopyTarget::Stdout => Vec::new(),
        CopyTarget::File { .. } | CopyTarget::Program { .. } => {
            vec![effect(EffectKind::CopyServerFile, names.clone(), "it reads or writes on the server")]
        }
    };
    if !no_data {
        // Fail closed: what sqlparser takes for data, Postgres would run.
        found.push(effect(EffectKind::Unknown, Vec::new(), "data follows a COPY in the same text"));
    }
    if !to {
        found.extend(written(EffectKind::Insert, names, "COPY adds rows", None));
    }
    found
}

/// A value as SET takes it: a literal or a word.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is no constant has no value here, and no value is judged worst"
)]
fn constant(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => value.value.clone().into_string().or_else(|| Some(value.value.to_string())),
        Expr::Identifier(word) => Some(fold(word)),
        _ => None,
    }
}

fn is_default(values: &[Expr]) -> bool {
    matches!(values, [Expr::Identifier(word)] if word.quote_style.is_none() && fold(word) == "default")
}

fn setting(set: &Set) -> Vec<Effect> {
    let judged = |name: &str, change| {
        let name = name.to_ascii_lowercase();
        let kind = settings::judge(&name, change);
        effect(kind, vec![ObjectName { schema: None, name }], "it changes a setting")
    };
    let privilege = || vec![effect(EffectKind::Privilege, Vec::new(), "it changes whose rights apply")];
    match set {
        Set::SingleAssignment { variable, values, .. } => {
            let name = object(variable).to_string();
            let value = match values.as_slice() {
                names if name.eq_ignore_ascii_case("search_path") && !is_default(names) => {
                    let names = names.iter().map(constant).collect::<Option<Vec<_>>>();
                    names.map(|names| settings::path_of(names.iter().map(String::as_str)))
                }
                [only] => constant(only),
                _ => None,
            };
            let change = match value.as_deref() {
                Some("default") => Change::Reset,
                value => Change::To(value),
            };
            vec![judged(&name, change)]
        }
        Set::ParenthesizedAssignments { variables, .. } => {
            variables.iter().map(|variable| judged(&object(variable).to_string(), Change::To(None))).collect()
        }
        Set::MultipleAssignments { assignments } => assignments
            .iter()
            .map(|assignment| judged(&object(&assignment.name).to_string(), Change::To(None)))
            .collect(),
        Set::SetSessionAuthorization(_) | Set::SetRole { .. } => privilege(),
        Set::SetTimeZone { .. } => vec![judged("timezone", Change::To(None))],
        Set::SetNames { charset_name, .. } => vec![judged("client_encoding", Change::To(Some(&charset_name.value)))],
        Set::SetNamesDefault {} => vec![judged("client_encoding", Change::Reset)],
        Set::SetTransaction { .. } => vec![effect(EffectKind::Transaction, Vec::new(), "it sets the transaction")],
        // SQL Server's.
        Set::SetSessionParam(_) => vec![effect(EffectKind::Unknown, Vec::new(), "a setting of another product")],
    }
}
