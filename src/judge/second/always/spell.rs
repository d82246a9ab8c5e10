//! A condition in words short enough for a remark.

use pg_query::protobuf::{BoolExprType, NullTestType};

use super::super::super::tree::At;

/// Nesting shown.
const MAX_DEPTH: usize = 4;
/// Characters of a literal shown.
const LITERAL: usize = 20;
/// Alternatives shown.
const ALTERNATIVES: usize = 4;

/// The condition between marks, with `…` for what would take too long.
pub(super) fn spell(at: At<'_>) -> String {
    format!("`{}`", within(at, 0))
}

fn within(at: At<'_>, depth: usize) -> String {
    if depth > MAX_DEPTH {
        return "…".to_owned();
    }
    let deeper = depth.saturating_add(1);
    let part = |field: &str| at.get(field).map_or_else(String::new, |part| within(part, deeper));
    match at.kind() {
        "ColumnRef" => at.names("fields").join("."),
        "ParamRef" => format!("${}", at.int("number")),
        "AConst" if at.flag("isnull") => "NULL".to_owned(),
        "AConst" => at.get("val").map_or_else(String::new, literal),
        "TypeCast" => part("arg"),
        "AExpr" => expression(at, &part),
        "NullTest" => {
            let not = if at.int("nulltesttype") == NullTestType::IsNotNull as i64 { "NOT " } else { "" };
            format!("{} IS {not}NULL", part("arg"))
        }
        "BooleanTest" => format!("{} IS …", part("arg")),
        "CoalesceExpr" => format!("coalesce({})", list(at, "args", ", ", deeper)),
        "FuncCall" => format!("{}(…)", at.names("funcname").join(".")),
        "SubLink" => "(SELECT …)".to_owned(),
        "BoolExpr" => match at.int("boolop") {
            kind if kind == BoolExprType::NotExpr as i64 => format!("NOT ({})", list(at, "args", "", deeper)),
            kind if kind == BoolExprType::AndExpr as i64 => list(at, "args", " AND ", deeper),
            _ => list(at, "args", " OR ", deeper),
        },
        _ => "…".to_owned(),
    }
}

fn expression(at: At<'_>, part: &dyn Fn(&str) -> String) -> String {
    use pg_query::protobuf::AExprKind as Kind;
    let operator = at.names("name").join(".");
    let (left, right) = (part("lexpr"), part("rexpr"));
    match at.int("kind") {
        kind if kind == Kind::AexprLike as i64 => format!("{left} LIKE {right}"),
        kind if kind == Kind::AexprIlike as i64 => format!("{left} ILIKE {right}"),
        kind if kind == Kind::AexprIn as i64 => format!("{left} IN (…)"),
        kind if kind == Kind::AexprBetween as i64 => format!("{left} BETWEEN …"),
        kind if kind == Kind::AexprNotDistinct as i64 => format!("{left} IS NOT DISTINCT FROM {right}"),
        kind if kind == Kind::AexprOp as i64 => format!("{left} {operator} {right}").trim_start().to_owned(),
        _ => "…".to_owned(),
    }
}

fn list(at: At<'_>, field: &str, between: &str, depth: usize) -> String {
    let mut parts: Vec<String> =
        at.items(field).take(ALTERNATIVES.saturating_add(1)).map(|part| within(part, depth)).collect();
    if parts.len() > ALTERNATIVES {
        parts.truncate(ALTERNATIVES);
        parts.push("…".to_owned());
    }
    parts.join(between)
}

fn literal(value: At<'_>) -> String {
    match value.kind() {
        "Integer" => value.int("ival").to_string(),
        "Float" => value.text("fval").to_owned(),
        "Boolean" => value.flag("boolval").to_string(),
        "String" => {
            let text = value.text("sval");
            let shown: String = text.chars().take(LITERAL).collect();
            let more = if shown.len() < text.len() { "…" } else { "" };
            format!("'{shown}{more}'")
        }
        _ => "…".to_owned(),
    }
}
