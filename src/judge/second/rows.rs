//! Does a condition limit the rows a statement touches? `WHERE true`, `WHERE 1 = 1` and conditions on other tables alone
//! do not. (`WHERE id > 0` cannot be told from the text: an honest limit of every gate.)

use super::super::tree::At;

/// Codes of the grammar's enums.
const OR_EXPR: i64 = pg_query::protobuf::BoolExprType::OrExpr as i64;
const OPERATOR: i64 = pg_query::protobuf::AExprKind::AexprOp as i64;
const NOT_DISTINCT: i64 = pg_query::protobuf::AExprKind::AexprNotDistinct as i64;

/// How a statement's condition can name its target: by alias if it has one, else by name.
pub(super) fn target_name(relation: At<'_>) -> &str {
    match relation.get("alias").map(|alias| alias.text("aliasname")) {
        Some(alias) if !alias.is_empty() => alias,
        _ => relation.text("relname"),
    }
}

/// Whether `condition` reads a column of the table known as `target` in a way that can leave rows out. Literals never
/// decide: two texts that differ in them alone get the same answer.
pub(super) fn limits(condition: At<'_>, target: &str) -> bool {
    match condition.kind() {
        "BoolExpr" => {
            let mut parts = condition.items("args");
            match condition.int("boolop") {
                OR_EXPR => parts.all(|part| limits(part, target)),
                // AND, NOT.
                _ => parts.any(|part| limits(part, target)),
            }
        }
        "CurrentOfExpr" => true,
        "AExpr" if is_tautology(condition) => false,
        "NullTest" if tests_system_column(condition) => false,
        _ => reads(condition, target),
    }
}

/// `a = a`, `a <= a`, `a IS NOT DISTINCT FROM a`.
fn is_tautology(condition: At<'_>) -> bool {
    let always = match condition.int("kind") {
        OPERATOR => matches!(condition.names("name").last(), Some(&("=" | "<=" | ">="))),
        NOT_DISTINCT => true,
        _ => false,
    };
    always
        && match (condition.get("lexpr"), condition.get("rexpr")) {
            (Some(left), Some(right)) => {
                left.kind() == "ColumnRef"
                    && right.kind() == "ColumnRef"
                    && left.names("fields") == right.names("fields")
            }
            _ => false,
        }
}

/// `ctid IS NOT NULL`: system columns always have a value.
fn tests_system_column(condition: At<'_>) -> bool {
    condition.get("arg").is_some_and(|arg| {
        let system = ["ctid", "tableoid", "xmin", "xmax", "cmin", "cmax"];
        arg.kind() == "ColumnRef" && arg.names("fields").last().is_some_and(|name| system.contains(name))
    })
}

/// Whether a column of the target is read: outside subqueries any column that may be the target's, inside them only one
/// that names the target.
fn reads(expression: At<'_>, target: &str) -> bool {
    // The outermost subquery we are in: where it ends, and whether something in it goes by the target's name.
    let mut inside: Option<(usize, bool)> = None;
    expression.descendants().any(|at| {
        if inside.is_some_and(|(end, _)| at.index() >= end) {
            inside = None;
        }
        if inside.is_none() && at.kind() == "SelectStmt" {
            inside = Some((at.end(), shadows(at, target)));
        }
        if at.kind() != "ColumnRef" {
            return false;
        }
        let fields = at.names("fields");
        let starred = at.items("fields").any(|field| field.kind() == "AStar");
        let qualifier = if starred { fields.last() } else { fields.len().checked_sub(2).and_then(|at| fields.get(at)) };
        match (qualifier, inside) {
            (Some(qualifier), None) => *qualifier == target,
            (Some(qualifier), Some((_, shadowed))) => *qualifier == target && !shadowed,
            (None, None) => true,
            (None, Some(_)) => false,
        }
    })
}

/// Whether something inside a subquery goes by the target's name.
fn shadows(subquery: At<'_>, target: &str) -> bool {
    subquery.descendants().any(|at| match at.kind() {
        "Alias" => at.text("aliasname") == target,
        "RangeVar" => at.get("alias").is_none() && at.text("relname") == target,
        _ => false,
    })
}
