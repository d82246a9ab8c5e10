//! Names of objects, from the several ways the grammar spells them.

use pg_query::protobuf::ObjectType;

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

/// The objects a list names that holds more than a name: a cast's two types, a column behind its table, an access method
/// before its operator class. What belongs to a table or a domain counts as that.
pub(super) fn of(what: ObjectType, at: At<'_>) -> Vec<ObjectName> {
    let items: Vec<_> = at.items("items").collect();
    let named = |items: &[At<'_>]| qualified(&items.iter().filter_map(|item| part(*item)).collect::<Vec<_>>());
    let name = match (what, items.as_slice()) {
        (ObjectType::ObjectCast, types) if !types.is_empty() => {
            return types.iter().filter_map(|name| any(*name)).collect();
        }
        (ObjectType::ObjectDomconstraint | ObjectType::ObjectTransform, [owner, ..]) => {
            return any(*owner).into_iter().collect();
        }
        (ObjectType::ObjectOpclass | ObjectType::ObjectOpfamily, [_, name @ ..]) => named(name),
        (
            ObjectType::ObjectColumn
            | ObjectType::ObjectTabconstraint
            | ObjectType::ObjectTrigger
            | ObjectType::ObjectRule
            | ObjectType::ObjectPolicy,
            [table @ .., _],
        ) => named(table),
        _ => return any(at).into_iter().collect(),
    };
    if name.name.is_empty() { Vec::new() } else { vec![name] }
}

/// One part of a name in a list.
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

/// The catalogues and views of `pg_catalog` in PostgreSQL 12 to 18, and the tables of `information_schema`. Users' tables
/// may be called `pg_…` too (`pg_search_documents`).
const CATALOGS: &str = "
    pg_aggregate pg_am pg_amop pg_amproc pg_attrdef pg_attribute pg_auth_members pg_authid pg_cast pg_class pg_collation
    pg_constraint pg_conversion pg_database pg_db_role_setting pg_default_acl pg_depend pg_description pg_enum
    pg_event_trigger pg_extension pg_foreign_data_wrapper pg_foreign_server pg_foreign_table pg_index pg_inherits
    pg_init_privs pg_language pg_largeobject pg_largeobject_metadata pg_namespace pg_opclass pg_operator pg_opfamily
    pg_parameter_acl pg_partitioned_table pg_pltemplate pg_policy pg_proc pg_publication pg_publication_namespace
    pg_publication_rel pg_range pg_replication_origin pg_rewrite pg_seclabel pg_sequence pg_shdepend pg_shdescription
    pg_shseclabel pg_statistic pg_statistic_ext pg_statistic_ext_data pg_subscription pg_subscription_rel pg_tablespace
    pg_transform pg_trigger pg_ts_config pg_ts_config_map pg_ts_dict pg_ts_parser pg_ts_template pg_type pg_user_mapping
    pg_aios pg_available_extension_versions pg_available_extensions pg_backend_memory_contexts pg_config pg_cursors
    pg_file_settings pg_group pg_hba_file_rules pg_ident_file_mappings pg_indexes pg_locks pg_matviews pg_policies
    pg_prepared_statements pg_prepared_xacts pg_publication_tables pg_replication_origin_status pg_replication_slots
    pg_roles pg_rules pg_seclabels pg_sequences pg_settings pg_shadow pg_shmem_allocations pg_shmem_allocations_numa
    pg_tables pg_timezone_abbrevs pg_timezone_names pg_user pg_user_mappings pg_views pg_wait_events
    sql_features sql_implementation_info sql_parts sql_sizing
";
/// Families of them that grow with every version.
const CATALOG_PREFIXES: &[&str] = &["pg_stat", "pg_toast", "pg_propgraph"];

/// Whether a relation belongs to the system catalogues, which only the server should write. Unqualified names of
/// `pg_catalog` are found before any other schema's.
pub(in super::super) fn is_catalog(name: &ObjectName) -> bool {
    match schema(name) {
        Some(schema) => matches!(schema, "pg_catalog" | "information_schema" | "pg_toast"),
        None => {
            CATALOG_PREFIXES.iter().any(|prefix| name.name.starts_with(prefix))
                || CATALOGS.split_whitespace().any(|catalog| catalog == name.name)
        }
    }
}
