//! What each sub-command of ALTER TABLE does to a table: its lock and its work. Knows only the text. Locks are those of
//! `AlterTableGetLockLevel`, work that of phase 3, both in Postgres's `tablecmds.c`; what is not in the table here is taken for
//! the worst.

#![expect(clippy::wildcard_enum_match_arm, reason = "of a syntax tree the rest is what is refused or not known")]

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterTableCmd, AlterTableStmt, AlterTableType, ColumnDef, ConstrType, Constraint, DropBehavior, Node, ObjectType,
    TypeName, a_const,
};

use super::harmless::{Names, Refusal, Walker};
use super::report::{AlterStep, AlterWork};

/// A sub-command, and what the catalogue has to be asked about it.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) step: AlterStep,
    /// ALTER COLUMN TYPE without USING.
    pub(super) retyped: Option<Retyped>,
    /// Names in the type and default of a new column: the step holds only if these are the server's own and not volatile.
    pub(super) computed: Option<Result<Names, Refusal>>,
    pub(super) dropped: Option<Dropped>,
}

/// A column that gets another type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Retyped {
    pub(super) column: String,
    /// Name of the new type; it is that of `pg_catalog`, if there is no temporary one of that name.
    pub(super) to: String,
    /// What is written in parentheses behind it: plain numbers only.
    pub(super) modifiers: Vec<i32>,
}

/// What a sub-command drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) part: Part,
    pub(super) name: String,
    pub(super) cascade: bool,
    /// IF EXISTS is written.
    pub(super) missing_ok: bool,
}

/// What of a table it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Column,
    Constraint,
    /// A composite type's, whose typed tables change along with CASCADE.
    Attribute,
}

const ACCESS_EXCLUSIVE: &str = "ACCESS EXCLUSIVE";
const SHARE_ROW_EXCLUSIVE: &str = "SHARE ROW EXCLUSIVE";
const SHARE_UPDATE_EXCLUSIVE: &str = "SHARE UPDATE EXCLUSIVE";

/// From the weakest to the strongest.
const LOCKS: [&str; 8] = [
    "ACCESS SHARE",
    "ROW SHARE",
    "ROW EXCLUSIVE",
    SHARE_UPDATE_EXCLUSIVE,
    "SHARE",
    SHARE_ROW_EXCLUSIVE,
    "EXCLUSIVE",
    ACCESS_EXCLUSIVE,
];

/// The lock of a statement with these sub-commands: the strongest (`AlterTableGetLockLevel`).
pub(super) fn strongest(commands: &[Command]) -> Option<&'static str> {
    let rank = |step: &AlterStep| LOCKS.iter().position(|lock| *lock == step.lock);
    commands.iter().filter_map(|command| rank(&command.step)).max().and_then(|rank| LOCKS.get(rank).copied())
}

/// The lock of that number (`lockdefs.h`).
pub(super) fn numbered(number: i32) -> Option<&'static str> {
    usize::try_from(number).ok().and_then(|number| LOCKS.get(number.checked_sub(1)?)).copied()
}

/// Renames of tables and columns (`RenameRelation`, `renameatt`).
pub(super) fn rename() -> Command {
    known(
        "RENAME",
        ACCESS_EXCLUSIVE,
        AlterWork::Catalogue,
        "only names change; views keep working, text that names it does not",
    )
}

/// `SET SCHEMA` (`AlterTableNamespace`).
pub(super) fn moved() -> Command {
    known(
        "SET SCHEMA",
        ACCESS_EXCLUSIVE,
        AlterWork::Catalogue,
        "text that names it with its old schema, or finds it by a search_path, does not find it any more",
    )
}

/// The sub-commands of a statement.
pub(super) fn commands(alter: &AlterTableStmt) -> Vec<Command> {
    let of_type = alter.objtype() == ObjectType::ObjectType;
    let described = |node: &Node| {
        let Some(NodeEnum::AlterTableCmd(written)) = &node.node else { return None };
        let mut command = described(written);
        let cascade = written.behavior() == DropBehavior::DropCascade;
        if of_type && cascade {
            command.step.work = AlterWork::Unknown;
            "tables of that type change along".clone_into(&mut command.step.why);
        }
        let part = match AlterTableType::try_from(written.subtype) {
            _ if of_type && cascade => Some(Part::Attribute),
            Ok(AlterTableType::AtDropColumn) => Some(Part::Column),
            Ok(AlterTableType::AtDropConstraint) => Some(Part::Constraint),
            _ => None,
        };
        let (name, missing_ok) = (written.name.clone(), written.missing_ok);
        command.dropped = part.map(|part| Dropped { part, name, cascade, missing_ok });
        Some(command)
    };
    alter.cmds.iter().filter_map(described).collect()
}

fn known(command: &str, lock: &str, work: AlterWork, why: &str) -> Command {
    let step = AlterStep { command: command.to_owned(), lock: lock.to_owned(), work, why: why.to_owned() };
    Command { step, retyped: None, computed: None, dropped: None }
}

#[expect(clippy::too_many_lines, reason = "a table, a line or two for each entry")]
fn described(command: &AlterTableCmd) -> Command {
    use AlterTableType as T;
    use AlterWork::{Catalogue, Rewrite, Scan, Unknown};
    let kind = AlterTableType::try_from(command.subtype).unwrap_or(T::Undefined);
    let (name, lock, work, why) = match kind {
        T::AtAddColumn => return add_column(command),
        T::AtAddConstraint => return add_constraint(command),
        T::AtAlterColumnType => return retype(command),
        T::AtColumnDefault => {
            ("ALTER COLUMN SET or DROP DEFAULT", ACCESS_EXCLUSIVE, Catalogue, "only later rows get it")
        }
        T::AtDropNotNull => ("DROP NOT NULL", ACCESS_EXCLUSIVE, Catalogue, "ATExecDropNotNull"),
        T::AtSetNotNull => {
            ("SET NOT NULL", ACCESS_EXCLUSIVE, Scan, "unless a valid CHECK proves it (NotNullImpliedByRelConstraints)")
        }
        T::AtSetExpression => ("SET EXPRESSION", ACCESS_EXCLUSIVE, Rewrite, "stored values are computed anew"),
        T::AtDropExpression => ("DROP EXPRESSION", ACCESS_EXCLUSIVE, Catalogue, "ATExecDropExpression"),
        T::AtSetStatistics => ("SET STATISTICS", SHARE_UPDATE_EXCLUSIVE, Catalogue, "ATExecSetStatistics"),
        T::AtSetOptions | T::AtResetOptions => {
            ("SET or RESET of column options", SHARE_UPDATE_EXCLUSIVE, Catalogue, "ATExecSetOptions")
        }
        T::AtSetStorage => ("SET STORAGE", ACCESS_EXCLUSIVE, Catalogue, "only later values get it"),
        T::AtSetCompression => ("SET COMPRESSION", ACCESS_EXCLUSIVE, Catalogue, "only later values get it"),
        T::AtDropColumn => {
            ("DROP COLUMN", ACCESS_EXCLUSIVE, Catalogue, "the column's values are lost at once, its space later")
        }
        T::AtAlterConstraint => ("ALTER CONSTRAINT", ACCESS_EXCLUSIVE, Catalogue, "ATExecAlterConstraint"),
        T::AtValidateConstraint => {
            ("VALIDATE CONSTRAINT", SHARE_UPDATE_EXCLUSIVE, Scan, "reads and writes of others go on meanwhile")
        }
        T::AtDropConstraint => ("DROP CONSTRAINT", ACCESS_EXCLUSIVE, Catalogue, "ATExecDropConstraint"),
        T::AtChangeOwner => ("OWNER TO", ACCESS_EXCLUSIVE, Catalogue, "ATExecChangeOwner"),
        T::AtClusterOn | T::AtDropCluster => {
            ("CLUSTER ON, SET WITHOUT CLUSTER", SHARE_UPDATE_EXCLUSIVE, Catalogue, "only a mark for later")
        }
        T::AtSetLogged => ("SET LOGGED", ACCESS_EXCLUSIVE, Rewrite, "ATPrepChangePersistence"),
        T::AtSetUnLogged => ("SET UNLOGGED", ACCESS_EXCLUSIVE, Rewrite, "ATPrepChangePersistence"),
        T::AtSetAccessMethod => ("SET ACCESS METHOD", ACCESS_EXCLUSIVE, Rewrite, "ATPrepSetAccessMethod"),
        T::AtSetTableSpace => {
            ("SET TABLESPACE", ACCESS_EXCLUSIVE, Rewrite, "its files are copied (ATExecSetTableSpace)")
        }
        T::AtSetRelOptions | T::AtResetRelOptions => (
            "SET or RESET of storage parameters",
            ACCESS_EXCLUSIVE,
            Catalogue,
            "most take SHARE UPDATE EXCLUSIVE only (reloptions.c)",
        ),
        T::AtEnableTrig
        | T::AtEnableAlwaysTrig
        | T::AtEnableReplicaTrig
        | T::AtDisableTrig
        | T::AtEnableTrigAll
        | T::AtDisableTrigAll
        | T::AtEnableTrigUser
        | T::AtDisableTrigUser => {
            ("ENABLE or DISABLE TRIGGER", SHARE_ROW_EXCLUSIVE, Catalogue, "foreign keys are triggers too")
        }
        T::AtEnableRule | T::AtEnableAlwaysRule | T::AtEnableReplicaRule | T::AtDisableRule => {
            ("ENABLE or DISABLE RULE", ACCESS_EXCLUSIVE, Catalogue, "ATExecEnableDisableRule")
        }
        T::AtAddInherit | T::AtDropInherit => {
            ("INHERIT or NO INHERIT", ACCESS_EXCLUSIVE, Catalogue, "ATExecAddInherit")
        }
        T::AtReplicaIdentity => ("REPLICA IDENTITY", ACCESS_EXCLUSIVE, Catalogue, "ATExecReplicaIdentity"),
        T::AtEnableRowSecurity | T::AtDisableRowSecurity | T::AtForceRowSecurity | T::AtNoForceRowSecurity => {
            ("ROW LEVEL SECURITY", ACCESS_EXCLUSIVE, Catalogue, "who sees which rows changes at once")
        }
        T::AtAttachPartition => (
            "ATTACH PARTITION",
            SHARE_UPDATE_EXCLUSIVE,
            Scan,
            "the new partition is locked and read unless a CHECK proves its bounds",
        ),
        T::AtDetachPartition => {
            ("DETACH PARTITION", ACCESS_EXCLUSIVE, Catalogue, "CONCURRENTLY takes SHARE UPDATE EXCLUSIVE")
        }
        T::AtDetachPartitionFinalize => {
            ("DETACH PARTITION FINALIZE", SHARE_UPDATE_EXCLUSIVE, Catalogue, "ATExecDetachPartitionFinalize")
        }
        T::AtAddIdentity | T::AtSetIdentity | T::AtDropIdentity => {
            ("IDENTITY of a column", ACCESS_EXCLUSIVE, Catalogue, "ATExecAddIdentity")
        }
        // Fail closed: a sub-command that is not in the table.
        _ => {
            ("another sub-command", ACCESS_EXCLUSIVE, Unknown, "not known; take it as a rewrite under ACCESS EXCLUSIVE")
        }
    };
    known(name, lock, work, why)
}

fn add_column(command: &AlterTableCmd) -> Command {
    let step = |work, why| known("ADD COLUMN", ACCESS_EXCLUSIVE, work, why);
    let Some(NodeEnum::ColumnDef(column)) = command.def.as_ref().and_then(|def| def.node.as_ref()) else {
        return step(AlterWork::Unknown, "its definition is not known; take it as a rewrite");
    };
    let constraints = || column.constraints.iter().filter_map(constraint);
    let has = |kind: ConstrType| constraints().any(|constraint| constraint.contype() == kind);
    if !is_plain(column) {
        return step(
            AlterWork::Unknown,
            "its type may be a domain, whose constraints rewrite the table; take it as a rewrite",
        );
    }
    if is_serial(column) || has(ConstrType::ConstrIdentity) {
        return step(AlterWork::Rewrite, "every row gets a number of its own");
    }
    if has(ConstrType::ConstrGenerated) {
        return step(AlterWork::Rewrite, "stored values are computed for every row");
    }
    let default = constraints().find(|constraint| constraint.contype() == ConstrType::ConstrDefault);
    let computed = names_of_new(column, default.and_then(|default| default.raw_expr.as_deref()));
    Command { computed: Some(computed), ..step_of_new(&has, default.is_some()) }
}

/// What a new column costs whose default is computed once (`ATExecAddColumn`): a volatile one is for every row.
fn step_of_new(has: &impl Fn(ConstrType) -> bool, default: bool) -> Command {
    let step = |work, why| known("ADD COLUMN", ACCESS_EXCLUSIVE, work, why);
    if has(ConstrType::ConstrPrimary) || has(ConstrType::ConstrUnique) || has(ConstrType::ConstrCheck) {
        return step(AlterWork::Scan, "a constraint is checked, or its index built");
    }
    if has(ConstrType::ConstrForeign) && default {
        return step(AlterWork::Scan, "the foreign key is checked for every row");
    }
    if has(ConstrType::ConstrNotnull) && !default {
        return step(AlterWork::Scan, "NOT NULL without a default fails if there are rows");
    }
    step(
        AlterWork::Catalogue,
        "a default that is the same for every row is kept in the catalogue (pg_attribute.attmissingval)",
    )
}

/// Every name in the type of a new column and in its default.
fn names_of_new(column: &ColumnDef, default: Option<&Node>) -> Result<Names, Refusal> {
    let mut walker = Walker::collecting(&[]);
    walker.type_name(column.type_name.clone().as_mut())?;
    walker.maybe(default.map(|default| Box::new(default.clone())).as_mut())?;
    Ok(walker.names)
}

/// Whether its type is the server's own, as Postgres's grammar or everybody writes it.
fn is_plain(column: &ColumnDef) -> bool {
    let names = column.type_name.as_ref().map(|name| super::harmless::strings(&name.names)).unwrap_or_default();
    match names.as_slice() {
        ["pg_catalog", _] => true,
        [name] => PLAIN.contains(name) || is_serial(column),
        _ => false,
    }
}

/// Types of the server's own that are written by their names (those the grammar knows come with their schema).
const PLAIN: &[&str] = &[
    "text",
    "uuid",
    "json",
    "jsonb",
    "bytea",
    "date",
    "timestamptz",
    "timetz",
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "bool",
    "money",
    "xml",
    "oid",
    "name",
    "tsvector",
    "tsquery",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
];

fn is_serial(column: &ColumnDef) -> bool {
    let names = column.type_name.as_ref().map(|name| super::harmless::strings(&name.names)).unwrap_or_default();
    names
        .last()
        .is_some_and(|name| matches!(*name, "serial" | "bigserial" | "smallserial" | "serial2" | "serial4" | "serial8"))
}

fn constraint(node: &Node) -> Option<&Constraint> {
    match &node.node {
        Some(NodeEnum::Constraint(constraint)) => Some(constraint),
        _ => None,
    }
}

fn add_constraint(command: &AlterTableCmd) -> Command {
    use AlterWork::{Catalogue, Scan, Unknown};
    let Some(constraint) = command.def.as_ref().and_then(|def| constraint(def)) else {
        return known("ADD CONSTRAINT", ACCESS_EXCLUSIVE, Unknown, "its definition is not known; take it as a rewrite");
    };
    let checked = |name, lock, why| {
        if constraint.skip_validation {
            known(name, lock, Catalogue, "NOT VALID: rows that are there are not checked")
        } else {
            known(name, lock, Scan, why)
        }
    };
    match constraint.contype() {
        ConstrType::ConstrForeign => checked(
            "ADD FOREIGN KEY",
            SHARE_ROW_EXCLUSIVE,
            "every row is looked up; both tables are locked against writes (ATAddForeignKeyConstraint)",
        ),
        ConstrType::ConstrCheck => checked("ADD CHECK", ACCESS_EXCLUSIVE, "every row is checked (ATRewriteTables)"),
        ConstrType::ConstrNotnull => checked("ADD NOT NULL", ACCESS_EXCLUSIVE, "every row is checked"),
        ConstrType::ConstrPrimary | ConstrType::ConstrUnique if !constraint.indexname.is_empty() => known(
            "ADD UNIQUE or PRIMARY KEY USING INDEX",
            ACCESS_EXCLUSIVE,
            Scan,
            "the index is there; a primary key checks its columns for nulls if they are not NOT NULL yet",
        ),
        ConstrType::ConstrPrimary | ConstrType::ConstrUnique | ConstrType::ConstrExclusion => {
            known("ADD UNIQUE, PRIMARY KEY or EXCLUDE", ACCESS_EXCLUSIVE, Scan, "its index is built (DefineIndex)")
        }
        _ => known("ADD CONSTRAINT", ACCESS_EXCLUSIVE, Unknown, "not known; take it as a rewrite"),
    }
}

fn retype(command: &AlterTableCmd) -> Command {
    let mut retype = known(
        "ALTER COLUMN TYPE",
        ACCESS_EXCLUSIVE,
        AlterWork::Rewrite,
        "every row and every index of the column (ATColumnChangeRequiresRewrite)",
    );
    if let Some(NodeEnum::ColumnDef(column)) = command.def.as_ref().and_then(|def| def.node.as_ref())
        && column.raw_default.is_none()
        && column.coll_clause.is_none()
        && let Some(name) = &column.type_name
    {
        retype.retyped =
            written_type(name).map(|(to, modifiers)| Retyped { column: command.name.clone(), to, modifiers });
    }
    retype
}

/// A type that is no array, without a schema or with `pg_catalog`, and its modifiers.
fn written_type(name: &TypeName) -> Option<(String, Vec<i32>)> {
    let number = |node: &Node| match &node.node {
        Some(NodeEnum::AConst(constant)) => match constant.val {
            Some(a_const::Val::Ival(ref number)) => Some(number.ival),
            _ => None,
        },
        _ => None,
    };
    let to = match super::harmless::strings(&name.names).as_slice() {
        [to] | ["pg_catalog", to] => (*to).to_owned(),
        _ => return None,
    };
    let plain = name.array_bounds.is_empty() && !name.setof && !name.pct_type;
    plain.then(|| name.typmods.iter().map(number).collect::<Option<Vec<i32>>>().map(|modifiers| (to, modifiers)))?
}
