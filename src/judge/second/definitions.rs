//! Statements that make, change and remove objects and rights. Each kind of statement is listed: what is not, is unknown.

use pg_query::protobuf::{AlterTableType, ObjectType};

use super::super::functions;
use super::super::tree::At;
use super::data::CASCADE;
use super::names;
use super::reader::Reader;
use super::{EffectKind, ObjectName};

/// Reads the statement if it is one of these.
pub(super) fn statement<'t>(reader: &mut Reader<'t>, at: At<'t>) -> bool {
    drops(reader, at)
        || alters(reader, at)
        || privileges(reader, at)
        || installs_code(reader, at)
        || administers(reader, at)
        || creates(reader, at)
}

/// The objects a statement names, wherever its kind keeps them.
fn objects<'t>(reader: &mut Reader<'t>, at: At<'t>) -> Vec<ObjectName> {
    const RELATIONS: &[&str] = &["relation", "sequence", "view", "typevar", "table"];
    const NODES: &[&str] = &["object", "func", "role"];
    const LISTS: &[&str] = &["objects", "roles"];
    const NAME_LISTS: &[&str] = &[
        "funcname",
        "defnames",
        "domainname",
        "type_name",
        "opclassname",
        "opfamilyname",
        "dictname",
        "cfgname",
        "conversion_name",
        "collname",
    ];
    const TEXTS: &[&str] = &[
        "schemaname",
        "dbname",
        "extname",
        "fdwname",
        "servername",
        "subname",
        "pubname",
        "tablespacename",
        "plname",
        "amname",
        "evtname",
        "trigname",
        "policy_name",
        "rulename",
        "role",
        "filename",
    ];
    let mut found = Vec::new();
    for field in RELATIONS {
        found.extend(reader.claim(at, field));
    }
    let what = object_type(at);
    for field in NODES {
        found.extend(at.get(field).into_iter().flat_map(|object| names::of(what, object)));
    }
    for field in LISTS {
        found.extend(at.items(field).flat_map(|object| names::of(what, object)));
        reader.claim_all(at, field);
    }
    for field in NAME_LISTS {
        found.extend(names::listed(at, field));
    }
    let root = reader.root();
    if at.index() != root.index() && root.kind() == "CreateSchemaStmt" {
        // CREATE SCHEMA x CREATE TABLE t makes x.t.
        let schema = Some(root.text("schemaname")).filter(|schema| !schema.is_empty());
        let schema = schema.or_else(|| root.get("authrole").map(|role| role.text("rolename")));
        for name in found.iter_mut().filter(|name| name.schema.is_none()) {
            name.schema = schema.map(str::to_owned);
        }
    }
    if found.is_empty() {
        found.extend(TEXTS.iter().map(|field| at.text(field)).filter(|name| !name.is_empty()).map(names::plain));
    }
    found
}

/// What kind of object a statement is about, wherever its kind says so.
fn object_type(at: At<'_>) -> ObjectType {
    let fields = ["remove_type", "objtype", "object_type", "rename_type"];
    let written = fields.iter().map(|field| at.int(field)).find(|kind| *kind != 0).unwrap_or_default();
    ObjectType::try_from(i32::try_from(written).unwrap_or_default()).unwrap_or_default()
}

/// The tables of `OWNED BY table.column`.
fn owning_tables(at: At<'_>) -> Vec<ObjectName> {
    let owners = at.items("options").filter(|option| option.text("defname") == "owned_by");
    owners
        .filter_map(|option| option.get("arg"))
        .flat_map(|column| names::of(ObjectType::ObjectColumn, column))
        .collect()
}

fn add<'t>(reader: &mut Reader<'t>, at: At<'t>, kind: EffectKind, why: &str) {
    let objects = objects(reader, at);
    reader.add(kind, objects, why);
}

fn drops<'t>(reader: &mut Reader<'t>, at: At<'t>) -> bool {
    if at.kind().starts_with("Drop") && at.int("behavior") == CASCADE {
        reader.add(EffectKind::Drop, Vec::new(), "CASCADE drops what it does not name");
    }
    match at.kind() {
        "DropStmt" => {
            let what = object_type(at);
            let dropped = objects(reader, at);
            if at.int("behavior") == CASCADE {
                reader.add(EffectKind::Drop, Vec::new(), "CASCADE drops what it does not name");
            }
            if what == ObjectType::ObjectPolicy {
                reader.add(EffectKind::Privilege, dropped.clone(), "it drops a row security policy");
            }
            reader.add(EffectKind::Drop, dropped, format!("it drops {}", kind_name(what)));
        }
        "DropdbStmt" => {
            add(reader, at, EffectKind::Drop, "it drops a database");
            reader.add(EffectKind::Drop, Vec::new(), "what is in the database is not named");
        }
        "DropTableSpaceStmt" => add(reader, at, EffectKind::Drop, "it drops a tablespace"),
        "DropSubscriptionStmt" => add(reader, at, EffectKind::Drop, "it drops a subscription"),
        "DropRoleStmt" => {
            add(reader, at, EffectKind::Drop, "it drops roles");
            add(reader, at, EffectKind::Privilege, "it drops roles");
        }
        "DropOwnedStmt" => {
            add(reader, at, EffectKind::Drop, "it drops everything a role owns");
            reader.add(EffectKind::Drop, Vec::new(), "what the role owns is not named");
            add(reader, at, EffectKind::Privilege, "it revokes a role's rights");
        }
        "DropUserMappingStmt" => {
            add(reader, at, EffectKind::Drop, "it drops a user mapping");
            add(reader, at, EffectKind::Privilege, "it drops a user mapping");
        }
        _ => return false,
    }
    true
}

/// `ObjectTable` → "table".
fn kind_name(what: ObjectType) -> String {
    what.as_str_name().trim_start_matches("OBJECT_").replace('_', " ").to_ascii_lowercase()
}

#[expect(clippy::too_many_lines, reason = "one arm for each kind of node; in parts it would be harder to check")]
fn alters<'t>(reader: &mut Reader<'t>, at: At<'t>) -> bool {
    match at.kind() {
        "AlterTableStmt" => {
            add(reader, at, EffectKind::Alter, "it changes a definition");
            // A partition to attach, a parent to inherit from, a table to refer to: changed as well.
            let others: Vec<_> = at.items("cmds").flat_map(|command| reader.claim_below(command)).collect();
            if !others.is_empty() {
                reader.add(EffectKind::Alter, others, "it ties a table to another");
            }
            if at.items("cmds").any(|command| command.int("behavior") == CASCADE) {
                reader.add(EffectKind::Alter, Vec::new(), "CASCADE changes what it does not name");
            }
            if at.items("cmds").any(|command| changes_rights(command.int("subtype"))) {
                add(reader, at, EffectKind::Privilege, "it changes an owner or row security");
            }
        }
        "AlterOwnerStmt" => {
            add(reader, at, EffectKind::Alter, "it changes an owner");
            add(reader, at, EffectKind::Privilege, "it changes an owner");
        }
        "AlterExtensionStmt" | "AlterExtensionContentsStmt" => {
            add(reader, at, EffectKind::Alter, "it changes an extension");
            add(reader, at, EffectKind::Code, "it runs the scripts of an extension");
        }
        "AlterObjectSchemaStmt" => {
            let from = objects(reader, at);
            let schema = at.text("newschema").to_owned();
            let to = from.iter().map(|name| ObjectName { schema: Some(schema.clone()), name: name.name.clone() });
            let both = from.iter().cloned().chain(to).collect();
            reader.add(EffectKind::Alter, both, "it moves an object to another schema");
        }
        "AlterSeqStmt" => {
            add(reader, at, EffectKind::Alter, "it changes a definition");
            let tables = owning_tables(at);
            if !tables.is_empty() {
                reader.add(EffectKind::Alter, tables, "it ties a sequence to a table");
            }
        }
        "RenameStmt" => add(reader, at, EffectKind::Alter, "it renames an object"),
        // A comment replaces the one before, and tools read settings from comments (PostgREST, PostGraphile).
        "CommentStmt" => add(reader, at, EffectKind::Alter, "it replaces an object's comment"),
        "AlterDomainStmt"
        | "AlterEnumStmt"
        | "AlterTypeStmt"
        | "AlterCollationStmt"
        | "AlterStatsStmt"
        | "AlterFunctionStmt"
        | "AlterObjectDependsStmt"
        | "AlterOperatorStmt"
        | "AlterOpFamilyStmt"
        | "AlterTsDictionaryStmt"
        | "AlterTsConfigurationStmt"
        | "AlterDatabaseStmt"
        | "AlterDatabaseSetStmt"
        | "AlterDatabaseRefreshCollStmt"
        | "AlterTableMoveAllStmt"
        | "AlterTableSpaceOptionsStmt"
        | "AlterFdwStmt"
        | "AlterForeignServerStmt"
        | "AlterEventTrigStmt"
        | "AlterPublicationStmt"
        | "AlterSubscriptionStmt" => {
            add(reader, at, EffectKind::Alter, "it changes a definition");
        }
        "AlterRoleStmt"
        | "AlterRoleSetStmt"
        | "AlterPolicyStmt"
        | "AlterUserMappingStmt"
        | "AlterDefaultPrivilegesStmt" => {
            add(reader, at, EffectKind::Alter, "it changes a definition");
            add(reader, at, EffectKind::Privilege, "it changes who may do what");
        }
        _ => return false,
    }
    true
}

fn changes_rights(subtype: i64) -> bool {
    [
        AlterTableType::AtChangeOwner,
        AlterTableType::AtEnableRowSecurity,
        AlterTableType::AtDisableRowSecurity,
        AlterTableType::AtForceRowSecurity,
        AlterTableType::AtNoForceRowSecurity,
    ]
    .iter()
    .any(|right| *right as i64 == subtype)
}

fn privileges<'t>(reader: &mut Reader<'t>, at: At<'t>) -> bool {
    let why = match at.kind() {
        "GrantStmt" => "it grants or revokes rights",
        "GrantRoleStmt" => {
            let roles = names::all(at, "granted_roles");
            reader.add(EffectKind::Privilege, roles, "it grants or revokes membership in roles");
            return true;
        }
        "CreateRoleStmt" => "it creates a role",
        "CreatePolicyStmt" => {
            let table = reader.claim(at, "table");
            reader.add(EffectKind::Privilege, table, "it creates a row security policy");
            return true;
        }
        "CreateUserMappingStmt" => "it stores a login for a foreign server",
        "ReassignOwnedStmt" => {
            reader.add(EffectKind::Privilege, Vec::new(), "what the role owns is not named");
            "it gives a role's objects to another"
        }
        "SecLabelStmt" => "it changes a security label",
        _ => return false,
    };
    add(reader, at, EffectKind::Privilege, why);
    true
}

fn installs_code<'t>(reader: &mut Reader<'t>, at: At<'t>) -> bool {
    let why = match at.kind() {
        "DoStmt" => "DO runs code that cannot be seen through",
        "CallStmt" => {
            let names = at.get("funccall").map(|call| names::listed(call, "funcname")).unwrap_or_default();
            reader.opinion.opaque = true;
            reader.add(EffectKind::Code, names, "CALL runs a procedure");
            return true;
        }
        "LoadStmt" => "LOAD runs a library of the server",
        "CreateFunctionStmt" => "it installs a function",
        "RuleStmt" => "it installs a rule, which rewrites later statements",
        "CreateTrigStmt" | "CreateEventTrigStmt" => "it installs a trigger",
        "CreateExtensionStmt" => "it installs an extension",
        "CreatePLangStmt" => "it installs a language",
        "CreateCastStmt"
        | "CreateOpClassStmt"
        | "CreateOpFamilyStmt"
        | "CreateTransformStmt"
        | "CreateAmStmt"
        | "CreateConversionStmt" => "it installs code that later statements run unseen",
        "CreateFdwStmt" | "CreateForeignServerStmt" | "CreateForeignTableStmt" | "ImportForeignSchemaStmt" => {
            "it reaches out to another server"
        }
        "DefineStmt" if !defines_data_only(at) => "it installs code that later statements run unseen",
        "CreateRangeStmt" if range_runs_code(at) => "its type runs functions unseen",
        _ => return false,
    };
    reader.opinion.opaque = true;
    add(reader, at, EffectKind::Code, why);
    true
}

/// CREATE COLLATION, TEXT SEARCH CONFIGURATION, and the shell of a type, name nothing that runs. (DICTIONARY reads files,
/// OPERATOR, AGGREGATE, a base type, PARSER and TEMPLATE name functions.)
fn defines_data_only(at: At<'_>) -> bool {
    let kind = at.int("kind");
    kind == ObjectType::ObjectCollation as i64
        || kind == ObjectType::ObjectTsconfiguration as i64
        || kind == ObjectType::ObjectType as i64 && at.items("definition").next().is_none()
}

fn range_runs_code(at: At<'_>) -> bool {
    at.items("params").any(|param| matches!(param.text("defname"), "canonical" | "subtype_diff" | "subtype_opclass"))
}

fn administers<'t>(reader: &mut Reader<'t>, at: At<'t>) -> bool {
    let why = match at.kind() {
        "AlterSystemStmt" => "ALTER SYSTEM changes the server's settings",
        "ClusterStmt" => "CLUSTER rewrites a table under an exclusive lock",
        "ReindexStmt" => "REINDEX rebuilds indexes",
        "RefreshMatViewStmt" => "REFRESH replaces a materialized view's rows",
        "CheckPointStmt" => "CHECKPOINT strains the server",
        "CreatedbStmt" => "it creates a database",
        "CreateTableSpaceStmt" => "it creates a tablespace",
        "CreatePublicationStmt" => "it publishes tables to other servers",
        "CreateSubscriptionStmt" => "it subscribes to another server",
        _ => return false,
    };
    add(reader, at, EffectKind::Admin, why);
    true
}

/// A view that Postgres makes updatable by itself selects from one relation (`view_query_is_auto_updatable` in
/// rewriteHandler.c). Over `pg_settings`, an UPDATE of the view is SET; over a catalogue, a write to it.
fn opens_catalog(at: At<'_>) -> bool {
    let Some(query) = at.get("query") else { return true };
    let from: Vec<_> = query.items("from_clause").collect();
    match from.as_slice() {
        [only] if only.kind() == "RangeVar" => {
            let name = names::relation(*only);
            names::is_catalog(&name) || names::schema(&name).and_then(functions::schema_danger).is_some()
        }
        _ => false,
    }
}

fn creates<'t>(reader: &mut Reader<'t>, at: At<'t>) -> bool {
    match at.kind() {
        "CreateStmt" => {
            add(reader, at, EffectKind::Create, "it creates a table");
            // The rows of a partition or child are the parent's, too.
            let parents = reader.claim_all(at, "inh_relations");
            if !parents.is_empty() {
                reader.add(EffectKind::Create, parents, "it creates a child of a table");
            }
        }
        "IndexStmt" => add(reader, at, EffectKind::Create, "it creates an index"),
        "CreateSeqStmt" => {
            add(reader, at, EffectKind::Create, "it creates a sequence");
            let tables = owning_tables(at);
            if !tables.is_empty() {
                reader.add(EffectKind::Create, tables, "it ties a sequence to a table");
            }
        }
        "CreateSchemaStmt" => add(reader, at, EffectKind::Create, "it creates a schema"),
        "CreateDomainStmt" | "CompositeTypeStmt" | "CreateEnumStmt" | "CreateRangeStmt" => {
            add(reader, at, EffectKind::Create, "it creates a type");
        }
        "CreateStatsStmt" => add(reader, at, EffectKind::Create, "it creates statistics"),
        "DefineStmt" if at.flag("replace") => add(reader, at, EffectKind::Alter, "it replaces a definition"),
        "DefineStmt" => add(reader, at, EffectKind::Create, "it creates an object"),
        "ViewStmt" if opens_catalog(at) => {
            add(reader, at, EffectKind::Admin, "through its view a system catalogue can be written");
            add(reader, at, EffectKind::Create, "it creates a view");
        }
        "ViewStmt" if at.flag("replace") => add(reader, at, EffectKind::Alter, "it replaces a view if there is one"),
        "ViewStmt" => add(reader, at, EffectKind::Create, "it creates a view"),
        _ => return false,
    }
    true
}
