//! A text, as far as its impact goes: what each statement does and to what, and the query that selects the rows it would
//! touch. Knows no connection. Trees are deep where texts are hostile, so none leaves this module: it is parsed on a deep
//! stack, once for its [`Outline`]s and again for each query.

#![expect(clippy::wildcard_enum_match_arm, reason = "of a syntax tree the rest is what is refused or not known")]

use std::collections::HashMap;

use pg_query::protobuf::{
    self, Alias, ColumnRef, DeleteStmt, DropBehavior, InsertStmt, Node, ObjectType, OnConflictAction, ParseResult,
    RangeVar, RawStmt, ResTarget, SelectStmt, UpdateStmt,
};
use pg_query::{NodeEnum, ParserOptions};

use super::alter::{self, Command};
use super::cascade::Change;
use super::harmless::{Names, Refusal, Value, Walker, Written, string, strings, written};
use super::report::Action;
use crate::judge::on_deep_stack;

/// Column of the row query that says which table a row is in.
pub(super) const TABLE: &str = "qg_table";
/// Column of the row query that says where in it.
pub(super) const ROW: &str = "qg_row";

/// What one statement does.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing of the text")]
pub(super) struct Outline {
    pub(super) action: Action,
    pub(super) targets: Vec<Target>,
    /// Every name in what selects its rows, or why that is not looked into.
    pub(super) names: Result<Names, Refusal>,
    /// Every name in what it runs besides: the values of an UPDATE, RETURNING, ON CONFLICT.
    pub(super) runs: Result<Names, Refusal>,
    /// Columns an UPDATE writes.
    pub(super) columns: Vec<String>,
    /// Rows an INSERT writes out.
    pub(super) written_rows: Option<u64>,
    /// The row query joins, so a row may come more than once.
    pub(super) joins: bool,
    /// An INSERT that updates rows that are there.
    pub(super) updates: bool,
    /// CASCADE is written.
    pub(super) cascade: bool,
    /// Sub-commands of ALTER TABLE.
    pub(super) alter: Vec<Command>,
    pub(super) lock: Option<&'static str>,
    pub(super) notes: Vec<&'static str>,
    /// What MERGE does to rows that are there.
    pub(super) changes: Vec<Change>,
    /// Number of its statement in the text, from 0.
    pub(super) place: usize,
    /// It is not the statement itself: a query of its WITH, or what it prepares.
    pub(super) part: bool,
    /// What it does that is not in the text, or is made up when it runs.
    pub(super) uncompared: Option<String>,
}

/// What a statement is aimed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) written: Written,
    pub(super) sort: Sort,
    /// Without ONLY: partitions and children as well.
    pub(super) children: bool,
}

/// What sort of name it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sort {
    /// Tables, views, indexes, sequences: one namespace.
    Relation,
    /// A function; its arguments as written, `None` if they are not.
    Function(Option<String>),
    /// A type or domain.
    Type,
    /// A schema.
    Schema,
    /// Something that is not looked up.
    Other,
}

/// The outlines of all statements.
///
/// # Errors
/// The text cannot be parsed.
pub(super) fn outlines(text: &str, values: &[Value]) -> Result<Vec<Outline>, String> {
    on_deep_stack(|| {
        let parsed = parse(text).ok()?;
        let mut prepared = Vec::new();
        let mut outlines = Vec::new();
        for (place, raw) in parsed.stmts.into_iter().enumerate() {
            let name = preparing(&raw);
            let part = name.is_some();
            let runs = executing(&raw).filter(|name| !prepared.contains(name));
            prepared.extend(name);
            let Some(node) = inner(raw) else { continue };
            for (node, within) in parts(node) {
                let mut found = outline(node, values);
                (found.place, found.part) = (place, part || within);
                if part {
                    found.notes.push("it is only prepared: EXECUTE runs it");
                }
                let before = runs.as_ref().map(|name| format!("what {name} is, which was prepared before"));
                found.uncompared = found.uncompared.or(before);
                outlines.push(found);
            }
        }
        Some(outlines)
    })
    .ok_or_else(|| "the text cannot be parsed".to_owned())
}

/// The query that selects the rows statement `index` of `text` would touch, with the schemas of its tables written in.
/// `physical`: its target has rows of its own (a table), which the columns [`TABLE`] and [`ROW`] then name.
///
/// # Errors
/// It has something that is not surely harmless.
pub(super) fn rows_query(
    text: &str,
    index: usize,
    values: &[Value],
    found: &HashMap<Written, (String, String)>,
    physical: bool,
) -> Result<String, Refusal> {
    on_deep_stack(|| {
        let built = parse(text).and_then(|parsed| {
            let node = parsed
                .stmts
                .into_iter()
                .filter_map(inner)
                .flat_map(parts)
                .map(|(node, _)| node)
                .nth(index)
                .ok_or("there is no such statement")?;
            let (mut select, _) = selection(node, physical)?;
            let mut walker = Walker::rewriting(values, found);
            walker.select(&mut select)?;
            deparse(select).and_then(|sql| checked(sql, &walker.names, found))
        });
        Some(built)
    })
    .unwrap_or_else(|| Err("it is too deep".to_owned()))
}

/// What a view's definition names; `definition` as `pg_get_viewdef` prints it.
pub(super) fn view_names(definition: &str) -> Result<Names, Refusal> {
    on_deep_stack(|| {
        Some(parse(definition).and_then(|parsed| match parsed.stmts.into_iter().find_map(inner) {
            Some(NodeEnum::SelectStmt(mut select)) => {
                let mut walker = Walker::collecting(&[]);
                walker.select(&mut select)?;
                Ok(walker.names)
            }
            _ => Err("its definition is no query".to_owned()),
        }))
    })
    .unwrap_or_else(|| Err("its definition is too deep".to_owned()))
}

/// What a view of one table is made of.
pub(super) struct Source {
    /// The one relation that it reads.
    pub(super) written: Written,
    pub(super) children: bool,
    /// Its columns, and which column of that relation each is; `None`: it is computed.
    pub(super) columns: Vec<(String, Option<String>)>,
}

/// What is changed through a view; `definition` as `pg_get_viewdef` prints it.
pub(super) fn view_source(definition: &str) -> Result<Source, Refusal> {
    on_deep_stack(|| {
        Some(parse(definition).and_then(|parsed| match parsed.stmts.into_iter().find_map(inner) {
            Some(NodeEnum::SelectStmt(select)) => source(&select),
            _ => Err("its definition is no query".to_owned()),
        }))
    })
    .unwrap_or_else(|| Err("its definition is too deep".to_owned()))
}

fn source(select: &SelectStmt) -> Result<Source, Refusal> {
    let [Node { node: Some(NodeEnum::RangeVar(range)) }] = select.from_clause.as_slice() else {
        return Err("it reads more than one table".to_owned());
    };
    let renamed = range.alias.as_ref().is_some_and(|alias| !alias.colnames.is_empty());
    let column = |node: &Node| {
        let Some(NodeEnum::ResTarget(target)) = &node.node else { return None };
        let last = match target.val.as_ref().and_then(|value| value.node.as_ref()) {
            Some(NodeEnum::ColumnRef(column)) => strings(&column.fields).last().map(|name| (*name).to_owned()),
            _ => None,
        };
        let name = if target.name.is_empty() { last.clone()? } else { target.name.clone() };
        Some((name, last.filter(|_| !renamed)))
    };
    let columns = select.target_list.iter().filter_map(column).collect();
    Ok(Source { written: written(range), children: range.inh, columns })
}

fn parse(text: &str) -> Result<ParseResult, String> {
    pg_query::parse(text, ParserOptions::DEFAULT).map(|parsed| parsed.protobuf).map_err(|error| error.to_string())
}

/// A statement, with the queries of its WITH that change rows before it, each as a statement of its own (`true`). All of them see the
/// rows as they were before the statement.
fn parts(mut node: NodeEnum) -> Vec<(NodeEnum, bool)> {
    let Some(with) = with_of(&mut node).and_then(|with| with.clone()) else { return vec![(node, false)] };
    let changing: Vec<&protobuf::CommonTableExpr> =
        with.ctes.iter().filter_map(cte).filter(|cte| changes(cte)).collect();
    if changing.is_empty() {
        return vec![(node, false)];
    }
    let only_read = |node: &&Node| cte(node).is_some_and(|cte| !changes(cte));
    let alone = |mut part: NodeEnum, before: usize| {
        let whole = part.clone();
        let own = with_of(&mut part)?;
        let mut ctes: Vec<Node> = with.ctes.iter().take(before).filter(only_read).cloned().collect();
        let inside = own.as_ref().filter(|_| before < with.ctes.len()).map(|own| own.ctes.clone()).unwrap_or_default();
        ctes.extend(inside);
        *own = (!ctes.is_empty()).then(|| protobuf::WithClause { ctes, ..with.clone() });
        // Fail closed: what another one returns cannot be had before, and no table has its rows. So that is refused: anything in
        // the tree that has its name counts.
        let printed = format!("{part:?}");
        let uses = changing.iter().any(|cte| printed.contains(&format!("{:?}", cte.ctename)));
        if uses {
            let mut refused = whole;
            with_of(&mut refused)?.clone_from(&Some(with.clone()));
            return Some(refused);
        }
        Some(part)
    };
    let query = |cte: &protobuf::CommonTableExpr| cte.ctequery.as_ref().and_then(|query| query.node.clone());
    let places = with.ctes.iter().enumerate().filter_map(|(place, node)| Some((place, cte(node)?)));
    let within = places.filter(|(_, cte)| changes(cte)).filter_map(|(place, cte)| alone(query(cte)?, place));
    let mut all: Vec<(NodeEnum, bool)> = within.map(|part| (part, true)).collect();
    let main = alone(node.clone(), with.ctes.len()).unwrap_or(node);
    all.push((main, false));
    all
}

fn cte(node: &Node) -> Option<&protobuf::CommonTableExpr> {
    match &node.node {
        Some(NodeEnum::CommonTableExpr(cte)) => Some(cte),
        _ => None,
    }
}

/// Its query is no SELECT.
fn changes(cte: &protobuf::CommonTableExpr) -> bool {
    !matches!(cte.ctequery.as_ref().and_then(|query| query.node.as_ref()), Some(NodeEnum::SelectStmt(_)))
}

fn with_of(node: &mut NodeEnum) -> Option<&mut Option<protobuf::WithClause>> {
    match node {
        NodeEnum::SelectStmt(select) => Some(&mut select.with_clause),
        NodeEnum::InsertStmt(insert) => Some(&mut insert.with_clause),
        NodeEnum::UpdateStmt(update) => Some(&mut update.with_clause),
        NodeEnum::DeleteStmt(delete) => Some(&mut delete.with_clause),
        NodeEnum::MergeStmt(merge) => Some(&mut merge.with_clause),
        _ => None,
    }
}

/// The name that a statement gives to another.
fn preparing(raw: &RawStmt) -> Option<String> {
    match raw.stmt.as_ref()?.node.as_ref()? {
        NodeEnum::PrepareStmt(prepare) => Some(prepare.name.clone()),
        _ => None,
    }
}

/// The name of the prepared statement it runs.
fn executing(raw: &RawStmt) -> Option<String> {
    match raw.stmt.as_ref()?.node.as_ref()? {
        NodeEnum::ExecuteStmt(execute) => Some(execute.name.clone()),
        NodeEnum::ExplainStmt(explain) => match explain.query.as_ref()?.node.as_ref()? {
            NodeEnum::ExecuteStmt(execute) => Some(execute.name.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// A statement, or the one that an EXPLAIN explains or a PREPARE names.
fn inner(raw: RawStmt) -> Option<NodeEnum> {
    match raw.stmt?.node? {
        NodeEnum::ExplainStmt(explain) => explain.query?.node,
        NodeEnum::PrepareStmt(prepare) => prepare.query?.node,
        other => Some(other),
    }
}

/// The text of a query the prober made, if it still reads as what was looked into.
fn checked(sql: String, before: &Names, found: &HashMap<Written, (String, String)>) -> Result<String, Refusal> {
    let mut parsed = parse(&sql)?;
    let one = match (parsed.stmts.pop(), parsed.stmts.pop()) {
        (Some(raw), None) => inner(raw),
        _ => None,
    };
    // Fail closed: from here to the end.
    let Some(NodeEnum::SelectStmt(mut select)) = one else { return Err("it does not stay one query".to_owned()) };
    let mut walker = Walker::collecting(&[]);
    walker.select(&mut select)?;
    let relations = found.values().map(|(schema, name)| (Some(schema.clone()), name.clone())).collect();
    let after = &walker.names;
    let same = after.relations.is_subset(&relations)
        && after.functions == before.functions
        && after.own_functions == before.own_functions
        && after.operators == before.operators
        && after.types == before.types
        && after.own_types == before.own_types;
    if same { Ok(sql) } else { Err("it cannot be written as a query with certainty".to_owned()) }
}

fn deparse(select: SelectStmt) -> Result<String, Refusal> {
    let stmt = Some(Box::new(Node { node: Some(NodeEnum::SelectStmt(Box::new(select))) }));
    let tree = ParseResult { version: 0, stmts: vec![RawStmt { stmt, stmt_location: 0, stmt_len: 0 }] };
    pg_query::deparse(&tree, pg_query::DeparseOptions::default()).map_err(|error| error.to_string())
}

/// The query over the rows a statement touches, and whether it joins.
fn selection(node: NodeEnum, physical: bool) -> Result<(SelectStmt, bool), Refusal> {
    match node {
        NodeEnum::DeleteStmt(delete) => {
            let DeleteStmt { relation, using_clause, where_clause, returning_clause: _, with_clause } = *delete;
            rows_of(relation, using_clause, where_clause, with_clause, physical)
        }
        NodeEnum::UpdateStmt(update) => {
            // What is written does not choose rows, but it runs: not in the prober.
            let UpdateStmt { relation, target_list: _, where_clause, from_clause, returning_clause: _, with_clause } =
                *update;
            rows_of(relation, from_clause, where_clause, with_clause, physical)
        }
        NodeEnum::InsertStmt(insert) => match insert.select_stmt.and_then(|select| select.node) {
            Some(NodeEnum::SelectStmt(mut select)) => {
                if select.with_clause.is_none() {
                    select.with_clause = insert.with_clause;
                } else if insert.with_clause.is_some() {
                    return Err("it has two WITH clauses".to_owned());
                }
                Ok((*select, false))
            }
            _ => Err("it has no query".to_owned()),
        },
        _ => Err("rows are counted only for DELETE, UPDATE and INSERT".to_owned()),
    }
}

fn rows_of(
    relation: Option<RangeVar>,
    others: Vec<Node>,
    where_clause: Option<Box<Node>>,
    with_clause: Option<protobuf::WithClause>,
    physical: bool,
) -> Result<(SelectStmt, bool), Refusal> {
    let relation = relation.ok_or("it has no target")?;
    let alias = relation.alias.as_ref().map_or(&relation.relname, |alias: &Alias| &alias.aliasname).clone();
    let column = |name: Node, as_name: &str| {
        let fields = vec![string(&alias), name];
        let value = Node { node: Some(NodeEnum::ColumnRef(ColumnRef { fields, location: -1 })) };
        let target =
            ResTarget { name: as_name.to_owned(), val: Some(Box::new(value)), location: -1, ..ResTarget::default() };
        Node { node: Some(NodeEnum::ResTarget(Box::new(target))) }
    };
    let mut target_list = vec![column(Node { node: Some(NodeEnum::AStar(protobuf::AStar {})) }, "")];
    if physical {
        target_list.extend([column(string("tableoid"), TABLE), column(string("ctid"), ROW)]);
    }
    let joins = !others.is_empty();
    let from_clause = std::iter::once(Node { node: Some(NodeEnum::RangeVar(relation)) }).chain(others).collect();
    let select = SelectStmt {
        target_list,
        from_clause,
        where_clause,
        with_clause,
        limit_option: protobuf::LimitOption::Default.into(),
        op: protobuf::SetOperation::SetopNone.into(),
        ..SelectStmt::default()
    };
    Ok((select, joins))
}

fn names(node: NodeEnum, values: &[Value]) -> (Result<Names, Refusal>, bool) {
    let mut joined = false;
    let own_columns = !matches!(node, NodeEnum::InsertStmt(_));
    let names = selection(node, false).and_then(|(mut select, joins)| {
        joined = joins;
        if own_columns {
            // `target.*` is the prober's, not the statement's.
            select.target_list.clear();
        }
        let mut walker = Walker::collecting(values);
        walker.select(&mut select)?;
        Ok(walker.names)
    });
    (names, joined)
}

/// What a statement runs besides choosing rows, which the prober never does: only its names matter.
fn runs(node: &NodeEnum, values: &[Value]) -> Result<Names, Refusal> {
    let mut walker = Walker::collecting(values);
    let (returning, mut nodes) = match node {
        NodeEnum::DeleteStmt(delete) => (delete.returning_clause.as_ref(), Vec::new()),
        NodeEnum::UpdateStmt(update) => (update.returning_clause.as_ref(), update.target_list.clone()),
        NodeEnum::InsertStmt(insert) => {
            let conflict = insert.on_conflict_clause.as_ref();
            let mut nodes = conflict.map(|conflict| conflict.target_list.clone()).unwrap_or_default();
            nodes.extend(conflict.and_then(|conflict| conflict.where_clause.as_ref()).map(|node| (**node).clone()));
            (insert.returning_clause.as_ref(), nodes)
        }
        _ => return Ok(Names::default()),
    };
    nodes.extend(returning.map(|returning| returning.exprs.clone()).unwrap_or_default());
    walker.nodes(&mut nodes)?;
    Ok(walker.names)
}

fn blank(runs: Result<Names, Refusal>) -> Outline {
    Outline {
        action: Action::Other,
        targets: Vec::new(),
        names: Ok(Names::default()),
        runs,
        columns: Vec::new(),
        written_rows: None,
        joins: false,
        updates: false,
        cascade: false,
        alter: Vec::new(),
        lock: None,
        notes: Vec::new(),
        changes: Vec::new(),
        place: 0,
        part: false,
        uncompared: None,
    }
}

fn outline(node: NodeEnum, values: &[Value]) -> Outline {
    let mut outline = blank(runs(&node, values));
    let row_exclusive = Some("ROW EXCLUSIVE");
    match node {
        NodeEnum::DeleteStmt(ref delete) => {
            (outline.action, outline.lock) = (Action::Delete, row_exclusive);
            outline.targets.extend(delete.relation.as_ref().map(relation));
            (outline.names, outline.joins) = names(node, values);
        }
        NodeEnum::UpdateStmt(ref update) => {
            (outline.action, outline.lock) = (Action::Update, row_exclusive);
            outline.targets.extend(update.relation.as_ref().map(relation));
            outline.columns = update.target_list.iter().filter_map(column_written).collect();
            (outline.names, outline.joins) = names(node, values);
        }
        NodeEnum::InsertStmt(ref insert) => {
            (outline.action, outline.lock) = (Action::Insert, row_exclusive);
            outline.targets.extend(insert.relation.as_ref().map(relation));
            outline.written_rows = written_rows(insert);
            if let Some(conflict) = &insert.on_conflict_clause {
                outline.updates = conflict.action() != OnConflictAction::OnconflictNothing;
                outline.notes.push("ON CONFLICT: rows may be skipped or update rows that are there");
            }
            // DEFAULT VALUES has no query, and names nothing.
            if insert.select_stmt.is_some() {
                (outline.names, _) = names(node, values);
            }
        }
        NodeEnum::MergeStmt(merge) => {
            (outline.action, outline.lock) = (Action::Merge, row_exclusive);
            outline.targets.extend(merge.relation.as_ref().map(relation));
            outline.changes = merge.merge_when_clauses.iter().filter_map(merged).collect();
            outline.names = Err("rows of MERGE are not counted".to_owned());
        }
        NodeEnum::TruncateStmt(truncate) => {
            (outline.action, outline.lock) = (Action::Truncate, Some("ACCESS EXCLUSIVE"));
            outline.cascade = truncate.behavior() == DropBehavior::DropCascade;
            outline.targets = ranges(&truncate.relations);
        }
        NodeEnum::SelectStmt(mut select) => {
            outline.action = Action::Read;
            let mut walker = Walker::collecting(values);
            outline.names = walker.select(&mut select).map(|()| walker.names);
            // Fail closed: its parts are looked into where they stand; elsewhere nobody does.
            if outline.names.as_ref().is_err_and(|why| why.contains("changes rows")) {
                outline.notes.push(NOT_LOOKED);
            }
        }
        other => {
            definition(&mut outline, &other);
            if outline.action == Action::Other && outline.targets.is_empty() {
                outline.names = Err("it is not looked into".to_owned());
                if !is_control(&other) {
                    outline.notes.push(NOT_LOOKED);
                }
            }
        }
    }
    outline
}

/// What a WHEN of MERGE does to rows that are there.
fn merged(node: &Node) -> Option<Change> {
    let Some(NodeEnum::MergeWhenClause(when)) = &node.node else { return None };
    match when.command_type() {
        protobuf::CmdType::CmdDelete => Some(Change::Delete),
        protobuf::CmdType::CmdUpdate => {
            Some(Change::Update(when.target_list.iter().filter_map(column_written).collect()))
        }
        _ => None,
    }
}

/// What it does to rows and definitions nobody here knows.
pub(super) const NOT_LOOKED: &str = "what it does is not looked into";

/// It touches no rows and no definitions.
fn is_control(node: &NodeEnum) -> bool {
    matches!(
        node,
        NodeEnum::TransactionStmt(_)
            | NodeEnum::VariableSetStmt(_)
            | NodeEnum::VariableShowStmt(_)
            | NodeEnum::DeallocateStmt(_)
            | NodeEnum::ClosePortalStmt(_)
            | NodeEnum::ListenStmt(_)
            | NodeEnum::UnlistenStmt(_)
            | NodeEnum::NotifyStmt(_)
    )
}

/// `DO` with a body that runs texts it makes up.
fn executes(node: &protobuf::DoStmt) -> bool {
    let text = |node: &Node| match &node.node {
        Some(NodeEnum::DefElem(element)) => match element.arg.as_ref().map(|arg| &arg.node) {
            Some(Some(NodeEnum::String(text))) => text.sval.to_ascii_lowercase(),
            _ => String::new(),
        },
        _ => String::new(),
    };
    // Fail closed: one in another language makes up what it likes.
    node.args.len() != 1 || node.args.iter().any(|node| text(node).contains("execute"))
}

/// Statements that change definitions or maintain tables.
fn definition(outline: &mut Outline, node: &NodeEnum) {
    match node {
        NodeEnum::DropStmt(drop) => {
            (outline.action, outline.lock) = (Action::Drop, Some("ACCESS EXCLUSIVE"));
            if drop.concurrent {
                outline.lock = Some("SHARE UPDATE EXCLUSIVE");
            }
            outline.cascade = drop.behavior() == DropBehavior::DropCascade;
            outline.targets = drop.objects.iter().filter_map(|node| dropped(node, drop.remove_type())).collect();
        }
        NodeEnum::AlterTableStmt(alter) => {
            outline.action = Action::Alter;
            outline.targets.extend(alter.relation.as_ref().map(relation));
            outline.alter = alter::commands(alter);
        }
        NodeEnum::RenameStmt(rename) => {
            outline.action = Action::Alter;
            outline.targets.extend(rename.relation.as_ref().map(relation));
            outline.alter = vec![alter::rename()];
        }
        NodeEnum::IndexStmt(index) => {
            outline.targets.extend(index.relation.as_ref().map(relation));
            outline.lock = Some(if index.concurrent { "SHARE UPDATE EXCLUSIVE" } else { "SHARE" });
            outline.notes.push("it reads every row of the table to build the index");
        }
        NodeEnum::LockStmt(lock) => locked(outline, lock),
        NodeEnum::CreateTrigStmt(trigger) => {
            outline.targets.extend(trigger.relation.as_ref().map(relation));
            outline.lock = Some("SHARE ROW EXCLUSIVE");
        }
        NodeEnum::RuleStmt(rule) => {
            outline.targets.extend(rule.relation.as_ref().map(relation));
            outline.lock = Some("ACCESS EXCLUSIVE");
        }
        NodeEnum::RefreshMatViewStmt(refresh) => {
            outline.targets.extend(refresh.relation.as_ref().map(relation));
            outline.lock = Some(if refresh.concurrent { "EXCLUSIVE" } else { "ACCESS EXCLUSIVE" });
        }
        NodeEnum::VacuumStmt(vacuum) => {
            let named = |node: &Node| match &node.node {
                Some(NodeEnum::VacuumRelation(of)) => of.relation.as_ref().map(relation),
                _ => None,
            };
            outline.targets = vacuum.rels.iter().filter_map(named).collect();
            let full = vacuum.is_vacuumcmd && vacuum.options.iter().any(is_full);
            outline.lock = Some(if full { "ACCESS EXCLUSIVE" } else { "SHARE UPDATE EXCLUSIVE" });
            if full {
                outline.notes.push("it rewrites the table");
            }
        }
        NodeEnum::ReindexStmt(reindex) => {
            outline.targets.extend(reindex.relation.as_ref().map(relation));
            // Of the index; writing to its table waits meanwhile.
            outline.lock = Some("ACCESS EXCLUSIVE");
            outline.notes.push("it builds indexes anew: writing to the table waits meanwhile, but for CONCURRENTLY");
        }
        NodeEnum::AlterObjectSchemaStmt(moved) if moved.relation.is_some() => {
            outline.action = Action::Alter;
            outline.targets.extend(moved.relation.as_ref().map(relation));
            outline.alter = vec![alter::moved()];
        }
        NodeEnum::DoStmt(block) if executes(block) => {
            outline.uncompared = Some("what its DO block runs with EXECUTE, or in another language".to_owned());
        }
        NodeEnum::ClusterStmt(cluster) => {
            outline.targets.extend(cluster.relation.as_ref().map(relation));
            outline.lock = Some("ACCESS EXCLUSIVE");
            outline.notes.push("it rewrites the table");
        }
        _ => (),
    }
}

/// `FULL` of VACUUM, unless it says `FULL false`; what is written otherwise is taken for true.
fn is_full(node: &Node) -> bool {
    let Some(NodeEnum::DefElem(option)) = &node.node else { return false };
    let off = |node: &Node| match &node.node {
        Some(NodeEnum::String(text)) => matches!(text.sval.to_ascii_lowercase().as_str(), "false" | "off" | "0"),
        Some(NodeEnum::Integer(number)) => number.ival == 0,
        _ => false,
    };
    option.defname.eq_ignore_ascii_case("full") && !option.arg.as_ref().is_some_and(|arg| off(arg))
}

fn locked(outline: &mut Outline, lock: &protobuf::LockStmt) {
    outline.targets = ranges(&lock.relations);
    outline.lock = alter::numbered(lock.mode);
}

fn relation(range: &RangeVar) -> Target {
    Target { written: written(range), sort: Sort::Relation, children: range.inh }
}

fn ranges(nodes: &[Node]) -> Vec<Target> {
    let range = |node: &Node| match &node.node {
        Some(NodeEnum::RangeVar(range)) => Some(relation(range)),
        _ => None,
    };
    nodes.iter().filter_map(range).collect()
}

fn column_written(node: &Node) -> Option<String> {
    match &node.node {
        Some(NodeEnum::ResTarget(target)) => Some(target.name.clone()),
        _ => None,
    }
}

/// Rows written out in the statement itself.
fn written_rows(insert: &InsertStmt) -> Option<u64> {
    match insert.select_stmt.as_ref().map(|select| &select.node) {
        None => Some(1),
        Some(Some(NodeEnum::SelectStmt(select))) if !select.values_lists.is_empty() => {
            u64::try_from(select.values_lists.len()).ok()
        }
        Some(_) => None,
    }
}

fn dropped(node: &Node, kind: ObjectType) -> Option<Target> {
    let (names, arguments) = match node.node.as_ref()? {
        NodeEnum::List(list) => (strings(&list.items), None),
        NodeEnum::TypeName(name) => (strings(&name.names), None),
        NodeEnum::String(name) => (vec![name.sval.as_str()], None),
        NodeEnum::ObjectWithArgs(object) => {
            let known = (!object.args_unspecified).then(|| arguments(&object.objargs)).flatten();
            (strings(&object.objname), known)
        }
        _ => return None,
    };
    let (name, before) = names.split_last()?;
    let schema = before.last().map(|schema| (*schema).to_owned());
    let sort = match kind {
        ObjectType::ObjectTable
        | ObjectType::ObjectView
        | ObjectType::ObjectMatview
        | ObjectType::ObjectIndex
        | ObjectType::ObjectSequence
        | ObjectType::ObjectForeignTable => Sort::Relation,
        ObjectType::ObjectFunction
        | ObjectType::ObjectProcedure
        | ObjectType::ObjectRoutine
        | ObjectType::ObjectAggregate => Sort::Function(arguments),
        ObjectType::ObjectType | ObjectType::ObjectDomain => Sort::Type,
        ObjectType::ObjectSchema => Sort::Schema,
        _ => Sort::Other,
    };
    Some(Target { written: (schema, (*name).to_owned()), sort, children: true })
}

/// Argument types as the catalogue function `to_regprocedure` reads them.
fn arguments(nodes: &[Node]) -> Option<String> {
    let mut list = Vec::new();
    for node in nodes {
        let Some(NodeEnum::TypeName(name)) = &node.node else { return None };
        let quoted: Vec<String> = strings(&name.names).iter().map(|part| super::connection::quoted(part)).collect();
        list.push(format!("{}{}", quoted.join("."), "[]".repeat(name.array_bounds.len())));
    }
    Some(list.join(", "))
}
