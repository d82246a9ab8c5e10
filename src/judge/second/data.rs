//! Statements that read and write rows, and those that wrap them.

use std::collections::HashSet;

use pg_query::protobuf::{CmdType, DropBehavior, MergeMatchKind, ObjectType};

use super::super::tree::At;
use super::names::{self, relation};
use super::reader::{Reader, effect};
use super::rows::{Target, limits};
use super::{EffectKind, ObjectName, SessionAct};

/// DROP, TRUNCATE … CASCADE: an effect without objects stands for what is not named, so that no rule about objects lets
/// it through.
pub(super) const CASCADE: i64 = DropBehavior::DropCascade as i64;
const DELETE: i64 = CmdType::CmdDelete as i64;
const UPDATE: i64 = CmdType::CmdUpdate as i64;
const INSERT: i64 = CmdType::CmdInsert as i64;
const NOT_MATCHED_BY_SOURCE: i64 = MergeMatchKind::MergeWhenNotMatchedBySource as i64;

/// Reads the statement if it is one of these.
pub(super) fn statement<'t>(reader: &mut Reader<'t>, at: At<'t>) -> bool {
    if reader.is_quiet(at) {
        if at.kind() == "ExecuteStmt"
            && let Some(arguments) = at.get("params")
        {
            // `EvaluateParams` (prepare.c): to plan the statement, EXPLAIN needs its parameters' values.
            reader.loud(arguments);
        }
        return matches!(
            at.kind(),
            "SelectStmt"
                | "InsertStmt"
                | "UpdateStmt"
                | "DeleteStmt"
                | "MergeStmt"
                | "CreateTableAsStmt"
                | "ExecuteStmt"
                | "DeclareCursorStmt"
        );
    }
    match at.kind() {
        "SelectStmt" => select(reader, at),
        "InsertStmt" => insert(reader, at),
        "UpdateStmt" => update(reader, at),
        "DeleteStmt" => delete(reader, at),
        "MergeStmt" => merge(reader, at),
        "CopyStmt" => copy(reader, at),
        "TruncateStmt" => {
            let tables = reader.claim_all(at, "relations");
            reader.add(EffectKind::Truncate, tables, "TRUNCATE empties tables");
            if at.int("behavior") == CASCADE {
                reader.add(EffectKind::Truncate, Vec::new(), "CASCADE empties tables it does not name");
            }
        }
        "CreateTableAsStmt" => create_as(reader, at),
        "ExplainStmt" => explain(reader, at),
        // What the body does counts for the PREPARE itself as well.
        "PrepareStmt" => {
            reader.add(EffectKind::Session, vec![names::plain(at.text("name"))], "it prepares a statement");
        }
        "ExecuteStmt" => {
            let name = at.text("name").to_owned();
            reader.opinion.opaque = true;
            reader.add(
                EffectKind::Execute,
                vec![names::plain(&name)],
                format!("it executes the prepared statement {name}"),
            );
            reader.opinion.acts.push(SessionAct::Execute { name });
        }
        "DeclareCursorStmt" => {
            reader.add(EffectKind::Session, vec![names::plain(at.text("portalname"))], "it declares a cursor");
        }
        _ => return false,
    }
    true
}

fn select<'t>(reader: &mut Reader<'t>, at: At<'t>) {
    reader.reads();
    if let Some(into) = at.get("into_clause") {
        let table = reader.claim(into, "rel");
        reader.add(EffectKind::Create, table, "SELECT INTO creates a table");
    }
    for locking in at.items("locking_clause") {
        // FOR UPDATE OF names aliases, not relations.
        reader.claim_all(locking, "locked_rels");
    }
}

fn columns(at: At<'_>, field: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    at.items(field)
        .filter(|item| item.kind() == "ResTarget")
        .map(|target| target.text("name"))
        .filter(|name| !name.is_empty() && seen.insert(*name))
        .map(str::to_owned)
        .collect()
}

fn insert<'t>(reader: &mut Reader<'t>, at: At<'t>) {
    let table = reader.claim(at, "relation");
    let conflict = at.get("on_conflict_clause").filter(|clause| clause.items("target_list").next().is_some());
    let why = if conflict.is_some() { "it inserts rows, or updates those in conflict" } else { "it inserts rows" };
    let mut insert = effect(EffectKind::Insert, table.clone(), why);
    insert.columns = columns(at, "cols");
    reader.push(insert);
    if let Some(clause) = conflict {
        let target = Target::of(at, &[], "");
        let limited =
            clause.get("where_clause").is_some_and(|condition| limits(condition, &target)) || !copies_itself(at);
        let why =
            if limited { "it updates the rows in conflict" } else { "it updates all rows: it inserts them again" };
        let mut update = effect(EffectKind::Update, table, why);
        update.has_where = Some(limited);
        update.columns = columns(clause, "target_list");
        reader.push(update);
    }
}

/// Whether the rows to insert are those of the table itself, with no condition on them: all are in conflict then. Subqueries
/// in expressions yield single values, not rows.
fn copies_itself(insert: At<'_>) -> bool {
    let name = insert.get("relation").map_or("", |relation| relation.text("relname"));
    let sources = [insert.get("with_clause"), insert.get("select_stmt")];
    sources.into_iter().flatten().any(|source| {
        let (mut skip, mut conditioned) = (0, 0);
        source.descendants().any(|at| {
            if at.index() < skip {
                return false;
            }
            match at.kind() {
                "SubLink" => skip = at.end(),
                "SelectStmt" if at.index() >= conditioned && is_conditioned(at) => conditioned = at.end(),
                "RangeVar" => return at.index() >= conditioned && at.text("relname") == name,
                _ => {}
            }
            false
        })
    })
}

/// Whether a SELECT has a condition on columns.
fn is_conditioned(select: At<'_>) -> bool {
    select.get("where_clause").is_some_and(|condition| match Target::read_by(select) {
        Some(table) => limits(condition, &table),
        None => condition.descendants().any(|at| at.kind() == "ColumnRef"),
    })
}

/// Whether a WHERE clause is there and limits the rows of the target.
fn limited(at: At<'_>, sources: &str) -> bool {
    let sources: Vec<_> = at.items(sources).collect();
    let target = Target::of(at, &sources, "where_clause");
    at.get("where_clause").is_some_and(|condition| limits(condition, &target))
}

fn update<'t>(reader: &mut Reader<'t>, at: At<'t>) {
    let limited = limited(at, "from_clause");
    let why = match (limited, at.get("where_clause").is_some()) {
        (true, _) => "it updates the rows its WHERE finds",
        (false, true) => "it updates all rows: its WHERE reads no column of the table",
        (false, false) => "it updates all rows: it has no WHERE",
    };
    let table = reader.claim(at, "relation");
    let mut update = effect(EffectKind::Update, table, why);
    update.has_where = Some(limited);
    update.columns = columns(at, "target_list");
    reader.push(update);
}

fn delete<'t>(reader: &mut Reader<'t>, at: At<'t>) {
    let limited = limited(at, "using_clause");
    let why = if limited { "it deletes the rows its WHERE finds" } else { "it deletes all rows" };
    let table = reader.claim(at, "relation");
    let mut delete = effect(EffectKind::Delete, table, why);
    delete.has_where = Some(limited);
    reader.push(delete);
}

fn merge<'t>(reader: &mut Reader<'t>, at: At<'t>) {
    let source: Vec<_> = at.get("source_relation").into_iter().collect();
    let target = Target::of(at, &source, "join_condition");
    let joined = at.get("join_condition").is_some_and(|condition| limits(condition, &target));
    let table = reader.claim(at, "relation");
    let mut merge = effect(EffectKind::Merge, table.clone(), "it merges rows");
    for when in at.items("merge_when_clauses") {
        let action = when.int("command_type");
        let conditioned = when.get("condition").is_some_and(|condition| limits(condition, &target));
        let limited = conditioned || joined && when.int("match_kind") != NOT_MATCHED_BY_SOURCE;
        if action == DELETE {
            let mut delete = effect(EffectKind::Delete, table.clone(), "its MERGE deletes rows");
            delete.has_where = Some(limited);
            reader.push(delete);
        } else if action == UPDATE {
            merge.columns.extend(columns(when, "target_list"));
            let why = if limited { "its MERGE updates the rows it finds" } else { "its MERGE updates all rows" };
            let mut update = effect(EffectKind::Update, table.clone(), why);
            update.has_where = Some(limited);
            update.columns = columns(when, "target_list");
            reader.push(update);
        } else if action == INSERT {
            merge.columns.extend(columns(when, "target_list"));
        }
    }
    merge.columns.sort();
    merge.columns.dedup();
    reader.push(merge);
}

fn copy<'t>(reader: &mut Reader<'t>, at: At<'t>) {
    let from = at.flag("is_from");
    let table: Vec<ObjectName> =
        if from { reader.claim(at, "relation") } else { at.get("relation").map(relation).into_iter().collect() };
    if at.flag("is_program") {
        reader.add(EffectKind::CopyServerFile, table.clone(), "COPY PROGRAM runs a program on the server");
    } else if !at.text("filename").is_empty() {
        let verb = if from { "reads" } else { "writes" };
        reader.add(EffectKind::CopyServerFile, table.clone(), format!("COPY {verb} a file of the server"));
    }
    if from {
        let mut insert = effect(EffectKind::Insert, table, "COPY FROM adds rows");
        insert.columns = at.names("attlist").into_iter().map(str::to_owned).collect();
        reader.push(insert);
        if !at.flag("is_program") && at.text("filename").is_empty() {
            reader.opinion.acts.push(SessionAct::CopyIn);
        }
    } else {
        reader.reads();
    }
}

fn create_as<'t>(reader: &mut Reader<'t>, at: At<'t>) {
    let object = at.get("into").map(|into| reader.claim(into, "rel")).unwrap_or_default();
    let what = if at.int("objtype") == ObjectType::ObjectMatview as i64 { "a materialized view" } else { "a table" };
    reader.add(EffectKind::Create, object, format!("it creates {what} from a query"));
}

/// EXPLAIN runs the statement only with ANALYZE. The last of several ANALYZE options counts for Postgres; here any that is
/// on does.
fn explain<'t>(reader: &mut Reader<'t>, at: At<'t>) {
    let analyze = at.items("options").any(|option| option.text("defname") == "analyze" && is_on(option));
    if analyze {
        reader.reads();
    } else {
        reader.quiet(at);
    }
}

/// `defGetBoolean` (src/backend/commands/define.c): absent means on. What is neither on nor off is an error there, on here.
pub(super) fn is_on(option: At<'_>) -> bool {
    match option.get("arg") {
        None => true,
        Some(arg) => match arg.kind() {
            "Integer" => arg.int("ival") != 0,
            "Boolean" => arg.flag("boolval"),
            "String" => {
                let value = arg.text("sval");
                !value.eq_ignore_ascii_case("false") && !value.eq_ignore_ascii_case("off")
            }
            _ => true,
        },
    }
}
