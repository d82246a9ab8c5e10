//! What is always true of a condition, whatever the row: literals are folded, a thing compared with itself is itself. Values are
//! those of SQL, so `x = x` is true *or unknown*. Where nothing can be told, everything is possible. Knows nodes of the tree.
//!
//! Start at [`look`], which says what an approver should not overlook in a statement's tree.

use pg_query::protobuf::{AExprKind, BoolExprType, BoolTestType, DropBehavior, NullTestType, SubLinkType};

use super::super::tree::At;
use super::super::{Risk, RiskKind};
use super::names::relation;
use super::rows::{self, Target};

mod constant;
mod spell;

use constant::{Compared, Constant};
use spell::spell;

const OR_EXPR: i64 = BoolExprType::OrExpr as i64;
const AND_EXPR: i64 = BoolExprType::AndExpr as i64;
const NOT_EXPR: i64 = BoolExprType::NotExpr as i64;
const OPERATOR: i64 = AExprKind::AexprOp as i64;
const NOT_DISTINCT: i64 = AExprKind::AexprNotDistinct as i64;
const IN: i64 = AExprKind::AexprIn as i64;
const LIKE: i64 = AExprKind::AexprLike as i64;
const ILIKE: i64 = AExprKind::AexprIlike as i64;
const BETWEEN: i64 = AExprKind::AexprBetween as i64;
const EXISTS: i64 = SubLinkType::ExistsSublink as i64;
const IS_NULL: i64 = NullTestType::IsNull as i64;
const DROP_CASCADE: i64 = DropBehavior::DropCascade as i64;

/// Alternatives of an OR that are compared with each other.
const MAX_COMPARED: usize = 32;

/// What an approver should not overlook in a statement.
pub(super) fn look(root: At<'_>) -> Vec<Risk> {
    let mut risks = Vec::new();
    for at in root.descendants() {
        match at.kind() {
            "UpdateStmt" => rewritten(at, "UPDATE", "from_clause", &mut risks),
            "DeleteStmt" => rewritten(at, "DELETE", "using_clause", &mut risks),
            "MergeStmt" => {
                if let Some(condition) = at.get("join_condition") {
                    always(condition, "the ON of its MERGE", None, &mut risks);
                }
            }
            "SelectStmt" if at.items("from_clause").next().is_some() => {
                if let Some(condition) = at.get("where_clause") {
                    always(condition, "the WHERE of a SELECT", sole(at, "from_clause"), &mut risks);
                }
            }
            _ => {}
        }
        if at.int("behavior") == DROP_CASCADE {
            risks.push(Risk::new(RiskKind::Cascade, cascade(at.kind())));
        }
    }
    risks
}

fn cascade(kind: &str) -> &'static str {
    match kind {
        "TruncateStmt" => "TRUNCATE … CASCADE also empties every table that references it",
        "GrantStmt" | "GrantRoleStmt" => "REVOKE … CASCADE also takes the right from whom it was passed on to",
        "DropStmt" => "DROP … CASCADE also drops what depends on it",
        _ => RiskKind::Cascade.plain(),
    }
}

/// UPDATE and DELETE.
fn rewritten(at: At<'_>, verb: &str, sources: &str, risks: &mut Vec<Risk>) {
    let table = at.get("relation").map(|table| relation(table).to_string()).unwrap_or_default();
    let Some(condition) = at.get("where_clause") else {
        let text = format!("{verb} without WHERE: every row of {table}");
        risks.push(Risk::new(RiskKind::NoWhere, &text));
        return;
    };
    let others: Vec<_> = at.items(sources).collect();
    let alone = others.is_empty().then(|| at.get("relation")).flatten().map(rows::target_name);
    let told = always(condition, &format!("the WHERE of its {verb}"), alone, risks);
    let target = Target::of(at, &others, "where_clause");
    let limits = rows::limits(condition, &target) || reads_columns(condition);
    if !told && !limits && truth(condition, alone).may_be_true() {
        let text = format!("its WHERE does not choose among the rows of {table}: {}", spell(condition));
        risks.push(Risk::new(RiskKind::LimitsNothing, &text));
    }
}

/// Functions that tell one row from another without reading it.
const ROW_BY_ROW: &[&str] = &["random", "nextval", "clock_timestamp", "gen_random_uuid"];

/// A column is read outside of subqueries, or rows are told apart by chance.
fn reads_columns(condition: At<'_>) -> bool {
    let mut behind = 0;
    condition.descendants().any(|at| {
        if at.kind() == "SubLink" {
            behind = behind.max(at.end());
        }
        let by_chance =
            at.kind() == "FuncCall" && at.names("funcname").last().is_some_and(|name| ROW_BY_ROW.contains(name));
        by_chance || at.kind() == "ColumnRef" && at.index() >= behind
    })
}

/// The one table a query reads.
fn sole<'t>(query: At<'t>, sources: &str) -> Option<&'t str> {
    let mut from = query.items(sources);
    let only = from.next().filter(|table| table.kind() == "RangeVar")?;
    from.next().is_none().then(|| rows::target_name(only))
}

/// Tells if a condition is always true; `alone`: the only table whose columns it can mean.
fn always(condition: At<'_>, whose: &str, alone: Option<&str>, risks: &mut Vec<Risk>) -> bool {
    let answer = truth(condition, alone);
    let but = match answer {
        Truth::TRUE => "",
        Truth::TRUE_OR_NULL => " where nothing in it is NULL",
        _ => return false,
    };
    // Of an OR, the part that makes it so.
    let culprit = (condition.kind() == "BoolExpr" && condition.int("boolop") == OR_EXPR)
        .then(|| condition.items("args").find(|part| truth(*part, alone) == answer))
        .flatten();
    let shown = spell(culprit.unwrap_or(condition));
    risks.push(Risk::new(RiskKind::AlwaysTrue, &format!("{whose} is true for every row{but}: {shown}")));
    true
}

/// What a condition may be: a set of true, false and NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Truth(u8);

impl Truth {
    const TRUE: Self = Self(1);
    const FALSE: Self = Self(2);
    const NULL: Self = Self(4);
    const TRUE_OR_NULL: Self = Self(5);
    const FALSE_OR_NULL: Self = Self(6);
    const ANY: Self = Self(7);

    fn of(value: bool) -> Self {
        if value { Self::TRUE } else { Self::FALSE }
    }

    fn each(self) -> impl Iterator<Item = Option<bool>> {
        [(1, Some(true)), (2, Some(false)), (4, None)]
            .into_iter()
            .filter(move |(bit, _)| self.0 & bit != 0)
            .map(|(_, value)| value)
    }

    fn with(self, value: Option<bool>) -> Self {
        Self(self.0 | value.map_or(Self::NULL, Self::of).0)
    }

    fn may_be_true(self) -> bool {
        self.0 & Self::TRUE.0 != 0
    }

    fn map(self, change: impl Fn(Option<bool>) -> Option<bool>) -> Self {
        self.each().fold(Self(0), |all, value| all.with(change(value)))
    }

    fn both(self, other: Self, join: impl Fn(Option<bool>, Option<bool>) -> Option<bool>) -> Self {
        self.each().fold(Self(0), |all, one| other.each().fold(all, |all, two| all.with(join(one, two))))
    }

    fn and(self, other: Self) -> Self {
        self.both(other, |one, two| match (one, two) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            (None, _) | (_, None) => None,
        })
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    fn not(self) -> Self {
        self.map(|value| value.map(|value| !value))
    }
}

fn truth(at: At<'_>, alone: Option<&str>) -> Truth {
    match at.kind() {
        "AConst" | "TypeCast" => match Constant::of(at) {
            Some(Constant::Bool(value)) => Truth::of(value),
            Some(Constant::Null) => Truth::NULL,
            Some(Constant::Int(_) | Constant::Float(_) | Constant::Text(_)) | None => Truth::ANY,
        },
        "BoolExpr" => {
            let mut parts = at.items("args").map(|part| truth(part, alone));
            match at.int("boolop") {
                AND_EXPR => parts.fold(Truth::TRUE, Truth::and),
                OR_EXPR => match parts.fold(Truth::FALSE, Truth::or) {
                    open @ (Truth::TRUE | Truth::FALSE) => open,
                    open => exhaustive(at, alone).unwrap_or(open),
                },
                NOT_EXPR => parts.next().map_or(Truth::ANY, Truth::not),
                _ => Truth::ANY,
            }
        }
        "AExpr" => compared(at, alone),
        "NullTest" => null_test(at, alone),
        "BooleanTest" => boolean_test(at, alone),
        "CoalesceExpr" => {
            let mut parts = at.items("args").map(|part| truth(part, alone));
            let first = parts.next().unwrap_or(Truth::ANY);
            parts.fold(first, |one, two| one.both(two, Option::or))
        }
        "SubLink" => match at.get("subselect") {
            Some(query) if at.int("sub_link_type") == EXISTS && is_one_row(query) => Truth::TRUE,
            _ => Truth::ANY,
        },
        _ => Truth::ANY,
    }
}

/// `SELECT 1`: a row, whatever happens.
fn is_one_row(query: At<'_>) -> bool {
    query.kind() == "SelectStmt"
        && query.get("target_list").is_some()
        && ["from_clause", "where_clause", "having_clause", "limit_count", "limit_offset", "larg", "values_lists"]
            .iter()
            .all(|clause| query.get(clause).is_none())
}

fn null_test(at: At<'_>, alone: Option<&str>) -> Truth {
    let Some(arg) = at.get("arg") else { return Truth::ANY };
    let asks_null = at.int("nulltesttype") == IS_NULL;
    let is_null = match Constant::of(arg) {
        Some(Constant::Null) => Some(true),
        Some(_) => Some(false),
        None => match truth(arg, alone) {
            Truth::NULL => Some(true),
            Truth::TRUE | Truth::FALSE => Some(false),
            _ => None,
        },
    };
    // It is never NULL itself.
    is_null.map_or(Truth(Truth::TRUE.0 | Truth::FALSE.0), |is_null| Truth::of(is_null == asks_null))
}

fn boolean_test(at: At<'_>, alone: Option<&str>) -> Truth {
    let Some(arg) = at.get("arg") else { return Truth::ANY };
    let holds = |value: Option<bool>| match BoolTestType::try_from(i32::try_from(at.int("booltesttype")).unwrap_or(0)) {
        Ok(BoolTestType::IsTrue) => Some(value == Some(true)),
        Ok(BoolTestType::IsNotTrue) => Some(value != Some(true)),
        Ok(BoolTestType::IsFalse) => Some(value == Some(false)),
        Ok(BoolTestType::IsNotFalse) => Some(value != Some(false)),
        Ok(BoolTestType::IsUnknown) => Some(value.is_none()),
        Ok(BoolTestType::IsNotUnknown) => Some(value.is_some()),
        Ok(BoolTestType::Undefined) | Err(_) => None,
    };
    truth(arg, alone).map(holds)
}

fn compared(at: At<'_>, alone: Option<&str>) -> Truth {
    let (Some(left), Some(right)) = (at.get("lexpr"), at.get("rexpr")) else { return Truth::ANY };
    let names = at.names("name");
    let operator = names.last().copied().unwrap_or_default();
    match at.int("kind") {
        OPERATOR if is_pattern(operator, right) => Truth::TRUE_OR_NULL,
        OPERATOR => match Compared::of(left, operator, right) {
            Compared::Is(value) => Truth::of(value),
            Compared::Null => Truth::NULL,
            Compared::Unknown if is_same(left, right, alone) => match operator {
                "=" | "<=" | ">=" => Truth::TRUE_OR_NULL,
                "<>" | "<" | ">" => Truth::FALSE_OR_NULL,
                _ => Truth::ANY,
            },
            Compared::Unknown => Truth::ANY,
        },
        NOT_DISTINCT if is_same(left, right, alone) => Truth::TRUE,
        LIKE | ILIKE if operator.starts_with("~~") && is_all_percent(right) => Truth::TRUE_OR_NULL,
        IN if operator == "=" => {
            let answers = right.items("items").map(|item| match Compared::of(left, "=", item) {
                Compared::Is(value) => Truth::of(value),
                Compared::Null => Truth::NULL,
                Compared::Unknown if is_same(left, item, alone) => Truth::TRUE_OR_NULL,
                Compared::Unknown => Truth::ANY,
            });
            answers.fold(Truth::FALSE, Truth::or)
        }
        BETWEEN if right.items("items").all(|bound| is_same(left, bound, alone)) => Truth::TRUE_OR_NULL,
        _ => Truth::ANY,
    }
}

/// `LIKE '%'`: every text is like it.
fn is_all_percent(pattern: At<'_>) -> bool {
    matches!(Constant::of(pattern), Some(Constant::Text(text)) if !text.is_empty() && text.bytes().all(|byte| byte == b'%'))
}

/// `~ ''`, `~ '.*'`: every text matches it.
fn is_pattern(operator: &str, pattern: At<'_>) -> bool {
    matches!(operator, "~" | "~*")
        && matches!(Constant::of(pattern), Some(Constant::Text("" | ".*" | "^.*$" | "^" | "$" | ".*?" | "^.*")))
        || operator == "^@" && matches!(Constant::of(pattern), Some(Constant::Text("")))
}

/// Functions that give the same for the same.
const STEADY: &[&str] = &["lower", "upper", "abs", "trim", "btrim", "length", "char_length", "md5"];

/// Whether two expressions are one and the same, written alike but for a column's table.
fn is_same(one: At<'_>, two: At<'_>, alone: Option<&str>) -> bool {
    if let ("ColumnRef", "ColumnRef") = (one.kind(), two.kind()) {
        let (one, two) = (one.names("fields"), two.names("fields"));
        let bare = |fields: &[&str]| matches!(fields, [_]) || matches!(fields, [table, _] if Some(*table) == alone);
        return one == two || alone.is_some() && bare(&one) && bare(&two) && one.last() == two.last();
    }
    let (mut left, mut right) = (one.descendants(), two.descendants());
    let mut is_first = true;
    loop {
        match (left.next(), right.next()) {
            (None, None) => return !is_first,
            (Some(left), Some(right)) => {
                let steady = match left.kind() {
                    "FuncCall" => left.names("funcname").last().is_some_and(|name| STEADY.contains(name)),
                    "SubLink" | "SqlvalueFunction" | "SQLValueFunction" => false,
                    _ => true,
                };
                if !steady || !left.is_alike(right) || !is_first && left.field() != right.field() {
                    return false;
                }
                is_first = false;
            }
            _ => return false,
        }
    }
}

/// `x IS NULL OR x IS NOT NULL`, `x = 1 OR x <> 1`, `x OR NOT x`: alternatives that leave nothing out.
fn exhaustive(or: At<'_>, alone: Option<&str>) -> Option<Truth> {
    let parts: Vec<_> = or.items("args").take(MAX_COMPARED).collect();
    let null_of = |of: At<'_>| {
        parts.iter().any(|part| {
            let is_null = part.kind() == "NullTest" && part.int("nulltesttype") == IS_NULL;
            is_null && part.get("arg").is_some_and(|arg| is_same(arg, of, alone))
        })
    };
    let mut found = None;
    for (index, one) in parts.iter().enumerate() {
        if let Some(of) = always_but_null(*one, alone)
            && null_of(of)
        {
            return Some(Truth::TRUE);
        }
        for two in parts.iter().skip(index.saturating_add(1)) {
            match complements(*one, *two, alone) {
                Some(Truth::TRUE) => return Some(Truth::TRUE),
                Some(answer) => {
                    if one.get("lexpr").is_some_and(null_of) {
                        return Some(Truth::TRUE);
                    }
                    found = Some(answer);
                }
                None => {}
            }
        }
    }
    found
}

/// What has to be NULL for it not to be true.
fn always_but_null<'t>(at: At<'t>, alone: Option<&str>) -> Option<At<'t>> {
    (at.kind() == "AExpr" && truth(at, alone) == Truth::TRUE_OR_NULL).then(|| at.get("lexpr")).flatten()
}

/// Whether one of two holds whatever the row.
fn complements(one: At<'_>, two: At<'_>, alone: Option<&str>) -> Option<Truth> {
    let denied = |at: At<'_>, other: At<'_>| {
        at.kind() == "BoolExpr"
            && at.int("boolop") == NOT_EXPR
            && at.items("args").next().is_some_and(|arg| is_same(arg, other, alone))
    };
    if denied(one, two) || denied(two, one) {
        let never_null = |at: At<'_>| matches!(at.kind(), "NullTest" | "BooleanTest" | "SubLink");
        return Some(if never_null(one) || never_null(two) { Truth::TRUE } else { Truth::TRUE_OR_NULL });
    }
    match (one.kind(), two.kind()) {
        ("NullTest", "NullTest") => {
            let opposite = one.int("nulltesttype") != two.int("nulltesttype");
            (opposite && is_same(one.get("arg")?, two.get("arg")?, alone)).then_some(Truth::TRUE)
        }
        ("AExpr", "AExpr") if one.int("kind") == OPERATOR && two.int("kind") == OPERATOR => {
            if !is_same(one.get("lexpr")?, two.get("lexpr")?, alone) {
                return None;
            }
            let (first, second) = (one.names("name"), two.names("name"));
            let same_bound = is_same(one.get("rexpr")?, two.get("rexpr")?, alone);
            let opposite = matches!(
                (*first.last()?, *second.last()?),
                ("=", "<>") | ("<>", "=") | ("<", ">=") | (">=", "<") | (">", "<=") | ("<=", ">")
            );
            let both_unequal = (first.last(), second.last()) == (Some(&"<>"), Some(&"<>"))
                && Compared::of(one.get("rexpr")?, "=", two.get("rexpr")?) == Compared::Is(false);
            (same_bound && opposite || both_unequal).then_some(Truth::TRUE_OR_NULL)
        }
        _ => None,
    }
}
