//! Does a condition limit the rows a statement touches? `WHERE true`, `WHERE 1 = 1`, comparisons of a thing with itself and
//! conditions on other tables alone do not. (`WHERE id > 0` cannot be told from the text: an honest limit of every gate.)

use std::collections::HashMap;

use pg_query::protobuf::{AExprKind, BoolExprType, BoolTestType, NullTestType, SubLinkType};

use super::super::tree::At;

/// Codes of the grammar's enums.
const OR_EXPR: i64 = BoolExprType::OrExpr as i64;
const AND_EXPR: i64 = BoolExprType::AndExpr as i64;
const NOT_EXPR: i64 = BoolExprType::NotExpr as i64;
const OPERATOR: i64 = AExprKind::AexprOp as i64;
const OPERATOR_ANY: i64 = AExprKind::AexprOpAny as i64;
const DISTINCT: i64 = AExprKind::AexprDistinct as i64;
const NOT_DISTINCT: i64 = AExprKind::AexprNotDistinct as i64;
const IN: i64 = AExprKind::AexprIn as i64;
const LIKE: i64 = AExprKind::AexprLike as i64;
const ILIKE: i64 = AExprKind::AexprIlike as i64;
const SIMILAR: i64 = AExprKind::AexprSimilar as i64;
const BETWEEN: i64 = AExprKind::AexprBetween as i64;
const NOT_BETWEEN_SYM: i64 = AExprKind::AexprNotBetweenSym as i64;
const ANY: i64 = SubLinkType::AnySublink as i64;
const EXISTS: i64 = SubLinkType::ExistsSublink as i64;
const IS_TRUE: i64 = BoolTestType::IsTrue as i64;
const IS_NOT_TRUE: i64 = BoolTestType::IsNotTrue as i64;
const IS_FALSE: i64 = BoolTestType::IsFalse as i64;
const IS_NOT_FALSE: i64 = BoolTestType::IsNotFalse as i64;
const IS_NOT_NULL: i64 = NullTestType::IsNotNull as i64;

/// The table whose rows a statement writes, as its conditions see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'t> {
    table: Option<At<'t>>,
    name: &'t str,
    /// The name of the same table once more, all its rows, beside it: `UPDATE t … FROM t AS twin`. A column compared with the
    /// twin's column of the same name is compared with itself.
    twin: Option<&'t str>,
    /// They are compared so, and then a condition on the twin limits the target.
    joined: bool,
}

impl<'t> Target<'t> {
    /// The table in the field `relation`; `sources`: what it is joined with.
    pub(super) fn of(statement: At<'t>, sources: &[At<'t>], condition: &str) -> Self {
        let table = statement.get("relation");
        let name = table.map_or("", target_name);
        let target = Self { table, name, twin: None, joined: false };
        match sources {
            [only] => target.beside(*only, statement.get(condition)),
            // With other tables beside it, conditions on those may limit it.
            _ => target,
        }
    }

    /// The one table that a query reads.
    pub(super) fn read_by(query: At<'t>) -> Option<Self> {
        let from: Vec<_> = query.items("from_clause").collect();
        match from.as_slice() {
            [only] if only.kind() == "RangeVar" => {
                Some(Self { table: Some(*only), name: target_name(*only), twin: None, joined: false })
            }
            _ => None,
        }
    }

    fn beside(self, source: At<'t>, condition: Option<At<'t>>) -> Self {
        let is_twin = match source.kind() {
            "RangeVar" => self.is_table(source),
            "RangeSubselect" => source.get("subquery").is_some_and(|query| self.is_whole(query)),
            _ => false,
        };
        let twin = Some(target_name(source)).filter(|name| is_twin && *name != self.name);
        let target = Self { twin, ..self };
        Self { joined: condition.is_some_and(|condition| target.is_joined(condition)), ..target }
    }

    fn is_table(&self, other: At<'_>) -> bool {
        self.table.is_some_and(|table| {
            let (one, two) = (table.text("schemaname"), other.text("schemaname"));
            table.text("relname") == other.text("relname") && (one == two || one.is_empty() || two.is_empty())
        })
    }

    /// `SELECT … FROM t` and nothing else: a row for each of the table's.
    fn is_whole(&self, query: At<'_>) -> bool {
        let from: Vec<_> = query.items("from_clause").collect();
        let all = ["where_clause", "limit_count", "limit_offset", "having_clause", "larg"];
        query.kind() == "SelectStmt"
            && all.iter().all(|clause| query.get(clause).is_none())
            && matches!(from.as_slice(), [only] if only.kind() == "RangeVar" && self.is_table(*only))
    }

    /// `t.id = twin.id`, alone or among others that hold too.
    fn is_joined(&self, condition: At<'_>) -> bool {
        match condition.kind() {
            "BoolExpr" if condition.int("boolop") == AND_EXPR => {
                condition.items("args").any(|part| self.is_joined(part))
            }
            "AExpr" if condition.int("kind") == OPERATOR && condition.names("name") == ["="] => {
                let (Some(left), Some(right)) = (condition.get("lexpr"), condition.get("rexpr")) else { return false };
                left.kind() == "ColumnRef" && left.names("fields") != right.names("fields") && same(left, right, self)
            }
            _ => false,
        }
    }

    /// Without its twin.
    fn apart(self) -> Self {
        Self { twin: None, joined: false, ..self }
    }

    fn is_called(&self, name: &str) -> bool {
        name == self.name || self.joined && self.twin == Some(name)
    }
}

/// Operators behind LIKE, ILIKE and their like, and of regular expressions.
const PATTERN_OPERATORS: &[&str] = &["~~", "!~~", "~~*", "!~~*", "~", "!~", "~*", "!~*", "^@"];

/// Columns every row has, with values that rows share; `ctid` tells rows apart.
const SYSTEM_COLUMNS: &[&str] = &["tableoid", "xmin", "xmax", "cmin", "cmax"];

/// How a statement's condition can name its target: by alias if it has one, else by name.
pub(super) fn target_name(relation: At<'_>) -> &str {
    match relation.get("alias").map(|alias| alias.text("aliasname")) {
        Some(alias) if !alias.is_empty() => alias,
        _ => relation.text("relname"),
    }
}

/// Whether `condition` reads a column of the table known as `target` in a way that can leave rows out. Literals never
/// decide (but for patterns: see [`has_pattern`]): two texts that differ in them alone get the same answer.
pub(super) fn limits(condition: At<'_>, target: &Target<'_>) -> bool {
    restricts(condition, target, true)
}

/// Whether this compares with a pattern, which decides whether it limits anything.
pub(super) fn has_pattern(at: At<'_>) -> bool {
    match at.int("kind") {
        LIKE | ILIKE | SIMILAR => true,
        OPERATOR => at.names("name").last().is_some_and(|name| PATTERN_OPERATORS.contains(name)),
        _ => false,
    }
}

/// Whether requiring `condition` to be `wanted` can leave rows out.
fn restricts(condition: At<'_>, target: &Target<'_>, wanted: bool) -> bool {
    match condition.kind() {
        "BoolExpr" => {
            let mut parts = condition.items("args");
            match condition.int("boolop") {
                NOT_EXPR => parts.all(|part| restricts(part, target, !wanted)),
                // OR; or NOT over AND, which is the OR of what is denied.
                kind if (kind == OR_EXPR) == wanted => {
                    parts.all(|part| restricts(part, target, wanted)) && !is_complementary(condition, target, wanted)
                }
                _ => parts.any(|part| restricts(part, target, wanted)),
            }
        }
        "BooleanTest" => match (condition.get("arg"), condition.int("booltesttype")) {
            (Some(arg), IS_TRUE | IS_NOT_FALSE) => restricts(arg, target, wanted),
            (Some(arg), IS_FALSE | IS_NOT_TRUE) => restricts(arg, target, !wanted),
            (Some(arg), _) if is_truth(arg) => false,
            _ => reads(condition, target),
        },
        "TypeCast" | "CollateClause" => condition.get("arg").is_some_and(|arg| restricts(arg, target, wanted)),
        "CurrentOfExpr" => true,
        "AExpr" => compares(condition, target, wanted),
        "NullTest" if condition.get("arg").is_some_and(|arg| is_truth(arg) || is_ctid(arg)) => false,
        "SubLink" => !finds_all(condition, target) && reads(condition, target),
        "CaseExpr" => case(condition, target, wanted),
        _ => reads(condition, target),
    }
}

/// Comparisons. What compares a thing with itself limits nothing, whichever way the answer is wanted: literals count as
/// alike here, so whether it is always or never true is not known.
fn compares(condition: At<'_>, target: &Target<'_>, wanted: bool) -> bool {
    let (Some(left), Some(right)) = (condition.get("lexpr"), condition.get("rexpr")) else {
        return reads(condition, target);
    };
    let operator = condition.names("name").last().copied().unwrap_or_default();
    // A row and its twin are the same row only if they are equal: `t.name = twin.name AND t.id > twin.id` limits.
    let kind = condition.int("kind");
    let equal = operator == "=" && kind != DISTINCT;
    let compared = if equal { *target } else { target.apart() };
    let alike = |other: At<'_>| same(left, other, &compared);
    let with_itself = match kind {
        OPERATOR if matches!(operator, "=" | "<>") => match (boolean(left), boolean(right)) {
            // `x = true`, `false <> x`.
            (None, Some(value)) => return restricts(left, target, wanted == (value == (operator == "="))),
            (Some(value), None) => return restricts(right, target, wanted == (value == (operator == "="))),
            _ => alike(right),
        },
        OPERATOR if matches!(operator, "<" | ">" | "<=" | ">=") => alike(right) || is_ctid(left) || is_ctid(right),
        OPERATOR | LIKE | ILIKE | SIMILAR if has_pattern(condition) => {
            alike(right) || is_any_pattern(operator, kind == SIMILAR, right)
        }
        DISTINCT | NOT_DISTINCT => alike(right) || is_truth(left) && is_null(right) || is_truth(right) && is_null(left),
        OPERATOR_ANY => right.kind() == "AArrayExpr" && right.items("elements").any(alike),
        IN => right.items("items").any(alike),
        BETWEEN..=NOT_BETWEEN_SYM => is_ctid(left) || right.items("items").all(alike),
        _ => false,
    };
    !with_itself && reads(condition, target)
}

/// `LIKE '%'`, `~ ''`, `~ '.*'`: every text is like it, or all but the shortest.
fn is_any_pattern(operator: &str, similar: bool, pattern: At<'_>) -> bool {
    let mut pattern = bare(pattern);
    // `… ESCAPE '!'` and SIMILAR TO.
    if pattern.kind() == "FuncCall"
        && matches!(pattern.names("funcname").last(), Some(&("like_escape" | "similar_to_escape")))
        && let Some(first) = pattern.items("args").next()
    {
        pattern = bare(first);
    }
    let Some(value) = (pattern.kind() == "AConst").then(|| pattern.get("val")).flatten() else { return false };
    let text = value.text("sval");
    value.kind() == "String"
        && match operator {
            "^@" => text.is_empty(),
            "~" | "!~" | "~*" | "!~*" if !similar => text != "^$" && text.chars().all(|c| "^$.*+?()|{}".contains(c)),
            _ => !text.is_empty() && text.bytes().all(|byte| byte == b'%'),
        }
}

/// `id IN (SELECT id FROM t)`, `EXISTS (SELECT 1 FROM t x WHERE x.id = t.id)`: every row of the table itself is found there.
fn finds_all(link: At<'_>, target: &Target<'_>) -> bool {
    let Some(query) = link.get("subselect") else { return false };
    match link.int("sub_link_type") {
        EXISTS => {
            let from: Vec<_> = query.items("from_clause").collect();
            let plain = ["limit_count", "limit_offset", "having_clause", "larg"];
            let condition = query.get("where_clause");
            match (from.as_slice(), condition) {
                ([only], Some(condition)) if plain.iter().all(|clause| query.get(clause).is_none()) => {
                    let inside = target.apart().beside(*only, Some(condition));
                    inside.joined && !limits(condition, &inside)
                }
                _ => false,
            }
        }
        ANY => {
            let results: Vec<_> = query.items("target_list").filter_map(|result| result.get("val")).collect();
            let tested = link.get("testexpr").filter(|_| matches!(link.names("oper_name").last(), None | Some(&"=")));
            match (tested, results.as_slice()) {
                (Some(tested), [only]) if tested.kind() == "ColumnRef" && only.kind() == "ColumnRef" => {
                    target.is_whole(query) && tested.names("fields").last() == only.names("fields").last()
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// It says whether something holds: neither a value that may be missing nor, but for missing values, ever unknown.
fn is_truth(at: At<'_>) -> bool {
    let at = bare(at);
    match at.kind() {
        "AExpr" => matches!(at.names("name").last(), Some(&("=" | "<>" | "<" | ">" | "<=" | ">="))),
        kind => matches!(kind, "BoolExpr" | "NullTest" | "BooleanTest"),
    }
}

fn is_null(at: At<'_>) -> bool {
    let at = bare(at);
    at.kind() == "AConst" && at.flag("isnull")
}

fn is_ctid(at: At<'_>) -> bool {
    let at = bare(at);
    at.kind() == "ColumnRef" && at.names("fields").last() == Some(&"ctid")
}

/// The keyword TRUE or FALSE.
fn boolean(at: At<'_>) -> Option<bool> {
    let value = (at.kind() == "AConst").then(|| at.get("val")).flatten()?;
    (value.kind() == "Boolean").then(|| value.flag("boolval"))
}

/// `CASE WHEN true THEN true …`: one result that limits nothing, chosen by nothing the row says, is enough.
fn case(case: At<'_>, target: &Target<'_>, wanted: bool) -> bool {
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
fn column<'t>(at: At<'t>, target: &Target<'_>) -> Vec<&'t str> {
    let fields = at.names("fields");
    match fields.as_slice() {
        [.., qualifier, name] if *qualifier == target.name || target.twin == Some(*qualifier) => vec![name],
        _ => fields,
    }
}

/// Whether two expressions are the same but for casts, literals and the target's qualifier.
fn same(one: At<'_>, two: At<'_>, target: &Target<'_>) -> bool {
    let (one, two) = (bare(one), bare(two));
    // `greatest(id, id)`, `coalesce(id, id)`.
    let chosen = |at: At<'_>| matches!(at.kind(), "MinMaxExpr" | "CoalesceExpr");
    match (chosen(one), chosen(two)) {
        (true, false) => return one.items("args").all(|arg| same(arg, two, target)),
        (false, true) => return two.items("args").all(|arg| same(one, arg, target)),
        (true, true) | (false, false) => {}
    }
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

/// `a IS NULL OR a IS NOT NULL`, `a = 1 OR a <> 1`, `a OR NOT a`, `a <> 1 OR a <> 2`. What is denied (`wanted` is false) says the
/// opposite.
fn is_complementary(alternatives: At<'_>, target: &Target<'_>, wanted: bool) -> bool {
    let mut seen: HashMap<String, bool> = HashMap::new();
    let target = target.apart();
    alternatives.items("args").filter_map(|part| claim(part, &target)).any(|(what, holds)| {
        let (unequal, holds) = (what.starts_with(EQUALITY) && holds != wanted, holds == wanted);
        seen.insert(what, holds).is_some_and(|before| before != holds || unequal)
    })
}

/// How a claim that two things are equal begins.
const EQUALITY: &str = "equal ";

/// What an alternative says of what, and whether it says so or denies it.
fn claim(part: At<'_>, target: &Target<'_>) -> Option<(String, bool)> {
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
            let what = format!("{EQUALITY}{} = {}", form(part.get("lexpr")?, target), form(part.get("rexpr")?, target));
            Some((what, part.names("name").last() == Some(&"=")))
        }
        _ => Some((form(part, target), true)),
    }
}

/// An expression as text, alike for expressions that are the [`same`].
fn form(at: At<'_>, target: &Target<'_>) -> String {
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

/// Whether a column of the target is read: outside subqueries any column that may be the target's, inside them only one
/// that names the target.
fn reads(expression: At<'_>, target: &Target<'_>) -> bool {
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
        if fields.last().is_some_and(|name| SYSTEM_COLUMNS.contains(name)) {
            return false;
        }
        let starred = at.items("fields").any(|field| field.kind() == "AStar");
        let qualifier = if starred { fields.last() } else { fields.len().checked_sub(2).and_then(|at| fields.get(at)) };
        match (qualifier, inside) {
            (Some(qualifier), None) => target.is_called(qualifier),
            (Some(qualifier), Some((_, shadowed))) => target.is_called(qualifier) && !shadowed,
            (None, None) => true,
            (None, Some(_)) => false,
        }
    })
}

/// Whether something inside a subquery goes by the target's name.
fn shadows(subquery: At<'_>, target: &Target<'_>) -> bool {
    subquery.descendants().any(|at| match at.kind() {
        "Alias" => at.text("aliasname") == target.name,
        "RangeVar" => at.get("alias").is_none() && at.text("relname") == target.name,
        _ => false,
    })
}
