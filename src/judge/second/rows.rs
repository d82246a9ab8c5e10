//! Does a condition limit the rows a statement touches? `WHERE true`, `WHERE 1 = 1`, comparisons of a thing with itself and
//! conditions on other tables alone do not. (`WHERE id > 0` cannot be told from the text: an honest limit of every gate.)

use std::collections::HashMap;

use pg_query::protobuf::{AExprKind, BoolExprType, BoolTestType, NullTestType};

use super::super::tree::At;

/// Codes of the grammar's enums.
const OR_EXPR: i64 = BoolExprType::OrExpr as i64;
const NOT_EXPR: i64 = BoolExprType::NotExpr as i64;
const OPERATOR: i64 = AExprKind::AexprOp as i64;
const OPERATOR_ANY: i64 = AExprKind::AexprOpAny as i64;
const DISTINCT: i64 = AExprKind::AexprDistinct as i64;
const NOT_DISTINCT: i64 = AExprKind::AexprNotDistinct as i64;
const IN: i64 = AExprKind::AexprIn as i64;
const LIKE: i64 = AExprKind::AexprLike as i64;
const ILIKE: i64 = AExprKind::AexprIlike as i64;
const BETWEEN: i64 = AExprKind::AexprBetween as i64;
const NOT_BETWEEN_SYM: i64 = AExprKind::AexprNotBetweenSym as i64;
const IS_TRUE: i64 = BoolTestType::IsTrue as i64;
const IS_NOT_TRUE: i64 = BoolTestType::IsNotTrue as i64;
const IS_FALSE: i64 = BoolTestType::IsFalse as i64;
const IS_NOT_FALSE: i64 = BoolTestType::IsNotFalse as i64;
const IS_NOT_NULL: i64 = NullTestType::IsNotNull as i64;

/// How a statement's condition can name its target: by alias if it has one, else by name.
pub(super) fn target_name(relation: At<'_>) -> &str {
    match relation.get("alias").map(|alias| alias.text("aliasname")) {
        Some(alias) if !alias.is_empty() => alias,
        _ => relation.text("relname"),
    }
}

/// Whether `condition` reads a column of the table known as `target` in a way that can leave rows out. Literals never
/// decide (but for the pattern of a LIKE: see [`is_like`]): two texts that differ in them alone get the same answer.
pub(super) fn limits(condition: At<'_>, target: &str) -> bool {
    restricts(condition, target, true)
}

/// Whether this is `LIKE` or `ILIKE`, whose pattern decides whether it limits anything.
pub(super) fn is_like(at: At<'_>) -> bool {
    matches!(at.int("kind"), LIKE | ILIKE)
}

/// Whether requiring `condition` to be `wanted` can leave rows out.
fn restricts(condition: At<'_>, target: &str, wanted: bool) -> bool {
    match condition.kind() {
        "BoolExpr" => {
            let mut parts = condition.items("args");
            match condition.int("boolop") {
                NOT_EXPR => parts.all(|part| restricts(part, target, !wanted)),
                // OR; or NOT over AND, which is the OR of what is denied.
                kind if (kind == OR_EXPR) == wanted => {
                    parts.all(|part| restricts(part, target, wanted)) && !is_complementary(condition, target)
                }
                _ => parts.any(|part| restricts(part, target, wanted)),
            }
        }
        "BooleanTest" => match (condition.get("arg"), condition.int("booltesttype")) {
            (Some(arg), IS_TRUE | IS_NOT_FALSE) => restricts(arg, target, wanted),
            (Some(arg), IS_FALSE | IS_NOT_TRUE) => restricts(arg, target, !wanted),
            _ => reads(condition, target),
        },
        "TypeCast" | "CollateClause" => condition.get("arg").is_some_and(|arg| restricts(arg, target, wanted)),
        "CurrentOfExpr" => true,
        "AExpr" => compares(condition, target, wanted),
        "NullTest" if tests_system_column(condition) => false,
        "CaseExpr" => case(condition, target, wanted),
        _ => reads(condition, target),
    }
}

/// Comparisons. What compares a thing with itself limits nothing, whichever way the answer is wanted: literals count as
/// alike here, so whether it is always or never true is not known.
fn compares(condition: At<'_>, target: &str, wanted: bool) -> bool {
    let (Some(left), Some(right)) = (condition.get("lexpr"), condition.get("rexpr")) else {
        return reads(condition, target);
    };
    let operator = condition.names("name").last().copied().unwrap_or_default();
    let alike = |other: At<'_>| same(left, other, target);
    let with_itself = match condition.int("kind") {
        OPERATOR if matches!(operator, "=" | "<>") => match (boolean(left), boolean(right)) {
            // `x = true`, `false <> x`.
            (None, Some(value)) => return restricts(left, target, wanted == (value == (operator == "="))),
            (Some(value), None) => return restricts(right, target, wanted == (value == (operator == "="))),
            _ => alike(right),
        },
        OPERATOR if matches!(operator, "<" | ">" | "<=" | ">=") => alike(right),
        DISTINCT | NOT_DISTINCT => alike(right),
        OPERATOR_ANY => right.kind() == "AArrayExpr" && right.items("elements").any(alike),
        IN => right.items("items").any(alike),
        LIKE | ILIKE => alike(right) || is_any_pattern(right),
        BETWEEN..=NOT_BETWEEN_SYM => right.items("items").all(alike),
        _ => false,
    };
    !with_itself && reads(condition, target)
}

/// `'%'`: every text is like it.
fn is_any_pattern(pattern: At<'_>) -> bool {
    let pattern = bare(pattern);
    pattern.kind() == "AConst"
        && pattern.get("val").is_some_and(|value| {
            let text = value.text("sval");
            value.kind() == "String" && !text.is_empty() && text.bytes().all(|byte| byte == b'%')
        })
}

/// The keyword TRUE or FALSE.
fn boolean(at: At<'_>) -> Option<bool> {
    let value = (at.kind() == "AConst").then(|| at.get("val")).flatten()?;
    (value.kind() == "Boolean").then(|| value.flag("boolval"))
}

/// `CASE WHEN true THEN true …`: one result that limits nothing, chosen by nothing the row says, is enough.
fn case(case: At<'_>, target: &str, wanted: bool) -> bool {
    let default = case.get("defresult");
    let mut results = case.items("args").filter_map(|when| when.get("result")).chain(default);
    if default.is_some() && results.all(|result| boolean(result) == Some(wanted)) {
        return false;
    }
    if case.get("arg").is_some() {
        return reads(case, target);
    }
    for when in case.items("args") {
        let (Some(expr), Some(result)) = (when.get("expr"), when.get("result")) else { return false };
        if boolean(expr) == Some(true) {
            return restricts(result, target, wanted);
        }
        if restricts(expr, target, true) {
            return true;
        }
        if !restricts(result, target, wanted) {
            return false;
        }
    }
    default.is_none_or(|default| restricts(default, target, wanted))
}

/// Through casts and collations.
fn bare(mut at: At<'_>) -> At<'_> {
    while matches!(at.kind(), "TypeCast" | "CollateClause") {
        let Some(arg) = at.get("arg") else { return at };
        at = arg;
    }
    at
}

/// A column's name; the qualifier left out if it is the target's.
fn column<'t>(at: At<'t>, target: &str) -> Vec<&'t str> {
    let fields = at.names("fields");
    match fields.as_slice() {
        [.., qualifier, name] if *qualifier == target => vec![name],
        _ => fields,
    }
}

/// Whether two expressions are the same but for casts, literals and the target's qualifier.
fn same(one: At<'_>, two: At<'_>, target: &str) -> bool {
    let (one, two) = (bare(one), bare(two));
    if !one.is_alike(two) {
        return false;
    }
    match one.kind() {
        "AConst" => true,
        "ColumnRef" => column(one, target) == column(two, target),
        _ => {
            let (mut left, mut right) = (one.children(), two.children());
            loop {
                match (left.next(), right.next()) {
                    (None, None) => return true,
                    (Some(left), Some(right)) if left.field() == right.field() && same(left, right, target) => {}
                    _ => return false,
                }
            }
        }
    }
}

/// `a IS NULL OR a IS NOT NULL`, `a = 1 OR a <> 1`, `a OR NOT a`.
fn is_complementary(alternatives: At<'_>, target: &str) -> bool {
    let mut seen: HashMap<String, bool> = HashMap::new();
    alternatives.items("args").filter_map(|part| claim(part, target)).any(|(what, holds)| {
        let before = *seen.entry(what).or_insert(holds);
        before != holds
    })
}

/// What an alternative says of what, and whether it says so or denies it.
fn claim(part: At<'_>, target: &str) -> Option<(String, bool)> {
    let part = bare(part);
    match part.kind() {
        "BoolExpr" if part.int("boolop") == NOT_EXPR => {
            let arg = part.items("args").next().filter(|arg| arg.kind() != "BoolExpr")?;
            claim(arg, target).map(|(what, holds)| (what, !holds))
        }
        "BoolExpr" => None,
        "NullTest" => {
            Some((format!("null {}", form(part.get("arg")?, target)), part.int("nulltesttype") != IS_NOT_NULL))
        }
        "AExpr" if part.int("kind") == OPERATOR && matches!(part.names("name").last(), Some(&("=" | "<>"))) => {
            let what = format!("{} = {}", form(part.get("lexpr")?, target), form(part.get("rexpr")?, target));
            Some((what, part.names("name").last() == Some(&"=")))
        }
        _ => Some((form(part, target), true)),
    }
}

/// An expression as text, alike for expressions that are the [`same`].
fn form(at: At<'_>, target: &str) -> String {
    let mut text = String::new();
    let mut skip = 0;
    for part in at.descendants() {
        if part.index() < skip {
            continue;
        }
        match part.kind() {
            // Casts and collations among them: they leave the value what it is.
            "AConst" => skip = part.end(),
            "ColumnRef" => {
                text.push_str(&column(part, target).join("\0"));
                skip = part.end();
            }
            _ => {}
        }
        text.push(' ');
        text.push_str(part.kind());
        text.push_str(part.as_text().unwrap_or_default());
    }
    text
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
