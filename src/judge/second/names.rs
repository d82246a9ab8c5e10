//! Names of objects, from the several ways the grammar spells them.

use super::super::tree::At;
use super::ObjectName;

/// From the parts of a qualified name.
pub(super) fn qualified(parts: &[&str]) -> ObjectName {
    match parts {
        [] => ObjectName { schema: None, name: String::new() },
        [name] => ObjectName { schema: None, name: (*name).to_owned() },
        [schema @ .., name] => ObjectName { schema: Some(schema.join(".")), name: (*name).to_owned() },
    }
}

/// A plain name without a schema.
pub(super) fn plain(name: &str) -> ObjectName {
    ObjectName { schema: None, name: name.to_owned() }
}

/// A table, view, sequence … as a `RangeVar` names it.
pub(super) fn relation(range_var: At<'_>) -> ObjectName {
    let parts = [range_var.text("catalogname"), range_var.text("schemaname"), range_var.text("relname")];
    let written: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    qualified(&written)
}

/// Whatever names an object in a DROP, GRANT, COMMENT …: a string, a list of strings, a relation, a type, a function.
pub(super) fn any(at: At<'_>) -> Option<ObjectName> {
    let name = match at.kind() {
        "String" => plain(at.text("sval")),
        "RangeVar" => relation(at),
        "TypeName" => qualified(&at.names("names")),
        "ObjectWithArgs" => qualified(&at.names("objname")),
        "RoleSpec" => plain(at.text("rolename")),
        "AccessPriv" => plain(at.text("priv_name")),
        "List" => {
            let parts: Vec<_> = at.items("items").filter_map(|item| part(item)).collect();
            qualified(&parts)
        }
        _ => return None,
    };
    (!name.name.is_empty()).then_some(name)
}

/// One part of a name in a list; DROP CAST and the like mix types into it.
fn part(item: At<'_>) -> Option<&str> {
    match item.kind() {
        "String" => Some(item.text("sval")),
        "TypeName" => item.names("names").last().copied(),
        _ => None,
    }
}

/// The names of all items of a list field.
pub(super) fn all(at: At<'_>, field: &str) -> Vec<ObjectName> {
    at.items(field).filter_map(any).collect()
}

/// A name given as a list of strings in a field (`CREATE TYPE a.b`).
pub(super) fn listed(at: At<'_>, field: &str) -> Vec<ObjectName> {
    let parts = at.names(field);
    if parts.is_empty() { Vec::new() } else { vec![qualified(&parts)] }
}

/// The schema itself, without the database before it.
pub(super) fn schema(name: &ObjectName) -> Option<&str> {
    name.schema.as_deref().map(|schema| schema.rsplit('.').next().unwrap_or(schema))
}

/// Whether a relation belongs to the system catalogues, which only the server should write. Unqualified `pg_…` names are
/// found in `pg_catalog` before any other schema.
pub(in super::super) fn is_catalog(name: &ObjectName) -> bool {
    match schema(name) {
        Some(schema) => matches!(schema, "pg_catalog" | "information_schema" | "pg_toast"),
        None => name.name.starts_with("pg_"),
    }
}
