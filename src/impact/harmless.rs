//! Which expressions and queries the prober may hand back to Postgres, and under which names. Knows no connection: it walks
//! Postgres's own parse tree, lets through only the kinds of node it knows, and collects every name by which code could be
//! reached, for the catalogue to be asked about. Start at [`Walker`].
//!
//! The prober runs what passes here with a `search_path` of `pg_catalog` alone, so an unqualified function, operator or type
//! can only be the server's own whatever anyone creates meanwhile; tables are written with the schema they were found in.

#![expect(clippy::wildcard_enum_match_arm, reason = "of a syntax tree the rest is what is refused or not known")]

use std::collections::{BTreeSet, HashMap};

use pg_query::NodeEnum;
use pg_query::protobuf::{
    self, AConst, AExpr, AExprKind, Alias, FuncCall, Node, RangeVar, SelectStmt, SubLink, TypeCast, TypeName,
    WithClause,
};

/// A name with the schema that was written before it.
pub(super) type Written = (Option<String>, String);

/// Everything a text names that could lead to somebody's code or rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Tables and views.
    pub(super) relations: BTreeSet<Written>,
    /// Functions without a schema: the session could mean another than the server's own.
    pub(super) functions: BTreeSet<String>,
    /// Functions and operators written with `pg_catalog`.
    pub(super) own_functions: BTreeSet<String>,
    /// Operators without a schema.
    pub(super) operators: BTreeSet<String>,
    /// Types without a schema.
    pub(super) types: BTreeSet<String>,
    /// Types written with `pg_catalog`; the grammar writes SQL's own (`integer`) so.
    pub(super) own_types: BTreeSet<String>,
    /// Last words of column references.
    pub(super) columns: BTreeSet<String>,
    /// Those with a name before them: `row.name` may be the call `name(row)`, which is written nowhere else.
    pub(super) dotted: BTreeSet<String>,
    /// What tables are called here: a column of that name may be the whole row.
    pub(super) aliases: BTreeSet<String>,
    /// Whole rows are compared or selected, or columns have other names here.
    pub(super) stars: bool,
    /// Tables and views that are named more than once.
    pub(super) again: BTreeSet<Written>,
    /// Something is added up or averaged: of floating point numbers the outcome depends on the order, which is the planner's choice.
    pub(super) sums: bool,
    /// Which rows are found depends on more than the rows: on the clock, the plan, or settings of which Postgres reports nothing
    /// (`bytea_output`, `extra_float_digits`, `array_nulls`, `lc_monetary`). The prober's answer may not be the session's.
    pub(super) shifting: bool,
}

impl Names {
    /// The columns they may refer to: their names, whether all may be meant, and names behind a dot.
    pub(super) fn columns_meant(&self) -> (Vec<&str>, bool, Vec<&str>) {
        let all = self.stars || self.columns.intersection(&self.aliases).next().is_some();
        let columns = self.columns.iter().map(String::as_str).collect();
        (columns, all, self.dotted.iter().map(String::as_str).collect())
    }
}

/// A bound value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its type as the catalogue names it (`int4`, `_text`); `None`: as an untyped literal.
    pub type_name: Option<String>,
    /// As text; `None` for NULL.
    pub text: Option<String>,
    /// The text is not the value (it could not be decoded).
    pub undecodable: bool,
}

/// Walks, collects, and where it was told what names mean, writes that in.
pub(super) struct Walker<'a> {
    pub(super) names: Names,
    /// What relations resolved to; `None` while collecting.
    found: Option<&'a HashMap<Written, (String, String)>>,
    values: &'a [Value],
    /// Names of WITH queries that are in scope.
    ctes: Vec<String>,
}

/// Why not; a clause for people.
pub(super) type Refusal = String;
type Walked = Result<(), Refusal>;

impl<'a> Walker<'a> {
    /// Collects only.
    pub(super) fn collecting(values: &'a [Value]) -> Self {
        Self { names: Names::default(), found: None, values, ctes: Vec::new() }
    }

    /// Writes in what names mean.
    pub(super) fn rewriting(values: &'a [Value], found: &'a HashMap<Written, (String, String)>) -> Self {
        Self { found: Some(found), ..Self::collecting(values) }
    }

    pub(super) fn nodes(&mut self, nodes: &mut [Node]) -> Walked {
        nodes.iter_mut().try_for_each(|node| self.node(node))
    }

    pub(super) fn maybe(&mut self, node: Option<&mut Box<Node>>) -> Walked {
        node.map_or(Ok(()), |node| self.node(node))
    }

    fn node(&mut self, node: &mut Node) -> Walked {
        if let Some(NodeEnum::ParamRef(parameter)) = &node.node {
            node.node = Some(literal(self.values, parameter.number)?);
        }
        node.node.as_mut().map_or(Ok(()), |kind| self.kind(kind))
    }

    fn kind(&mut self, kind: &mut NodeEnum) -> Walked {
        match kind {
            NodeEnum::AConst(constant) => {
                if let Some(protobuf::a_const::Val::Sval(text)) = &constant.val {
                    self.names.shifting |= shifts(&text.sval);
                }
                Ok(())
            }
            NodeEnum::Integer(_) | NodeEnum::Float(_) | NodeEnum::Boolean(_) | NodeEnum::SetToDefault(_) => Ok(()),
            NodeEnum::ColumnRef(column) => {
                self.column(&column.fields);
                Ok(())
            }
            NodeEnum::AExpr(expression) => self.operator(expression),
            NodeEnum::BoolExpr(expression) => self.nodes(&mut expression.args),
            NodeEnum::NullTest(test) => self.maybe(test.arg.as_mut()),
            NodeEnum::BooleanTest(test) => self.maybe(test.arg.as_mut()),
            NodeEnum::FuncCall(call) => self.call(call),
            NodeEnum::TypeCast(cast) => {
                self.names.shifting |= !is_steady(cast);
                self.maybe(cast.arg.as_mut())?;
                self.type_name(cast.type_name.as_mut())
            }
            NodeEnum::CoalesceExpr(coalesce) => self.nodes(&mut coalesce.args),
            NodeEnum::MinMaxExpr(extreme) => self.nodes(&mut extreme.args),
            NodeEnum::RowExpr(row) => self.nodes(&mut row.args),
            NodeEnum::AArrayExpr(array) => self.nodes(&mut array.elements),
            NodeEnum::List(list) => self.nodes(&mut list.items),
            NodeEnum::CaseExpr(case) => {
                if case.arg.is_some() {
                    self.names.operators.insert("=".to_owned());
                }
                self.maybe(case.arg.as_mut())?;
                self.nodes(&mut case.args)?;
                self.maybe(case.defresult.as_mut())
            }
            NodeEnum::CaseWhen(when) => {
                self.maybe(when.expr.as_mut())?;
                self.maybe(when.result.as_mut())
            }
            NodeEnum::SqlvalueFunction(function) => {
                self.names.shifting = true;
                sql_value(function.op)
            }
            NodeEnum::AIndirection(indirection) => {
                self.maybe(indirection.arg.as_mut())?;
                self.nodes(&mut indirection.indirection)
            }
            NodeEnum::AIndices(indices) => {
                self.maybe(indices.lidx.as_mut())?;
                self.maybe(indices.uidx.as_mut())
            }
            NodeEnum::SubLink(link) => self.sub_link(link),
            NodeEnum::SelectStmt(_)
            | NodeEnum::ResTarget(_)
            | NodeEnum::RangeVar(_)
            | NodeEnum::RangeSubselect(_)
            | NodeEnum::RangeFunction(_)
            | NodeEnum::JoinExpr(_)
            | NodeEnum::SortBy(_) => self.query_part(kind),
            // Fail closed: `(row).name` may be the call `name(row)`, and of other kinds nobody thought.
            other => Err(format!("it has a part that is not looked into ({})", kind_name(other))),
        }
    }

    fn query_part(&mut self, kind: &mut NodeEnum) -> Walked {
        match kind {
            NodeEnum::SelectStmt(select) => self.select(select),
            NodeEnum::ResTarget(target) => self.maybe(target.val.as_mut()),
            NodeEnum::RangeVar(relation) => self.relation(relation),
            NodeEnum::RangeSubselect(range) => {
                self.alias(range.alias.as_ref());
                self.maybe(range.subquery.as_mut())
            }
            NodeEnum::RangeFunction(range) if range.coldeflist.is_empty() => {
                self.alias(range.alias.as_ref());
                self.nodes(&mut range.functions)
            }
            NodeEnum::JoinExpr(join) => {
                self.alias(join.alias.as_ref());
                self.alias(join.join_using_alias.as_ref());
                let renamed = join.alias.as_ref().is_some_and(|alias| !alias.colnames.is_empty());
                if renamed || join.is_natural || !join.using_clause.is_empty() {
                    self.names.operators.insert("=".to_owned());
                    self.names.stars = true;
                }
                self.maybe(join.larg.as_mut())?;
                self.maybe(join.rarg.as_mut())?;
                self.maybe(join.quals.as_mut())
            }
            NodeEnum::SortBy(sort) if sort.use_op.is_empty() => self.maybe(sort.node.as_mut()),
            other => Err(format!("it has a part that is not looked into ({})", kind_name(other))),
        }
    }

    /// A query and all below it.
    pub(super) fn select(&mut self, select: &mut SelectStmt) -> Walked {
        if select.into_clause.is_some() || !select.locking_clause.is_empty() || !select.window_clause.is_empty() {
            return Err("a query in it does more than read, or has windows".to_owned());
        }
        // Which rows come first is the planner's choice, even where they are sorted: some may be equal.
        self.names.shifting |= select.limit_count.is_some() || select.limit_offset.is_some();
        self.names.shifting |= select.distinct_clause.iter().any(|node| node.node.is_some());
        let outer = self.ctes.len();
        self.with(select.with_clause.as_mut())?;
        for side in [&mut select.larg, &mut select.rarg].into_iter().flatten() {
            self.select(side)?;
        }
        self.nodes(&mut select.from_clause)?;
        // `DISTINCT` without ON is a list of one empty node.
        self.nodes(&mut select.distinct_clause)?;
        self.nodes(&mut select.target_list)?;
        self.maybe(select.where_clause.as_mut())?;
        self.nodes(&mut select.group_clause)?;
        self.maybe(select.having_clause.as_mut())?;
        self.nodes(&mut select.values_lists)?;
        self.nodes(&mut select.sort_clause)?;
        self.maybe(select.limit_offset.as_mut())?;
        self.maybe(select.limit_count.as_mut())?;
        self.ctes.truncate(outer);
        Ok(())
    }

    /// The queries of a WITH; their names stay in scope until the caller's query ends.
    pub(super) fn with(&mut self, with: Option<&mut WithClause>) -> Walked {
        let Some(with) = with else { return Ok(()) };
        if with.recursive {
            return Err("it has a WITH RECURSIVE".to_owned());
        }
        for node in &mut with.ctes {
            let Some(NodeEnum::CommonTableExpr(cte)) = &mut node.node else {
                return Err("its WITH has a part that is not looked into".to_owned());
            };
            let query = cte.ctequery.as_mut().and_then(|query| query.node.as_mut());
            let Some(NodeEnum::SelectStmt(select)) = query else {
                return Err(format!("the WITH query {} changes rows", cte.ctename));
            };
            self.select(select)?;
            self.ctes.push(cte.ctename.clone());
        }
        Ok(())
    }

    /// A name that may stand for a whole row.
    fn alias(&mut self, alias: Option<&Alias>) {
        self.names.aliases.extend(alias.map(|alias| alias.aliasname.clone()));
    }

    pub(super) fn relation(&mut self, relation: &mut RangeVar) -> Walked {
        if relation.schemaname.is_empty() && self.ctes.contains(&relation.relname) {
            // Its columns are named where its own query names them.
            return Ok(());
        }
        if !relation.catalogname.is_empty() {
            return Err("it writes the database before a table's name".to_owned());
        }
        self.alias(relation.alias.as_ref());
        self.names.stars |= relation.alias.as_ref().is_some_and(|alias| !alias.colnames.is_empty());
        let written = written(relation);
        if let Some(found) = self.found {
            let Some((schema, name)) = found.get(&written) else {
                return Err(format!("{} is not known", display(&written)));
            };
            // Without an alias the last word is how columns refer to it; it stays the same word.
            relation.catalogname.clear();
            relation.schemaname.clone_from(schema);
            relation.relname.clone_from(name);
        }
        if !self.names.relations.insert(written.clone()) {
            self.names.again.insert(written);
        }
        Ok(())
    }

    fn column(&mut self, fields: &[Node]) {
        match fields.last().and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::String(name)) => {
                self.names.columns.insert(name.sval.clone());
                if fields.len() > 1 {
                    self.names.dotted.insert(name.sval.clone());
                }
            }
            _ => self.names.stars = true,
        }
    }

    fn operator(&mut self, expression: &mut AExpr) -> Walked {
        self.operator_name(&expression.name)?;
        match AExprKind::try_from(expression.kind) {
            Ok(
                AExprKind::AexprBetween
                | AExprKind::AexprNotBetween
                | AExprKind::AexprBetweenSym
                | AExprKind::AexprNotBetweenSym,
            ) => {
                self.names.operators.remove("BETWEEN");
                self.names.operators.extend(["<", ">", "<=", ">="].map(str::to_owned));
            }
            Ok(AExprKind::Undefined) | Err(_) => return Err("it has an operator of a kind not known".to_owned()),
            Ok(_) => (),
        }
        self.maybe(expression.lexpr.as_mut())?;
        self.maybe(expression.rexpr.as_mut())
    }

    fn operator_name(&mut self, name: &[Node]) -> Walked {
        match strings(name).as_slice() {
            [operator] if operator.ends_with("BETWEEN") || operator.ends_with("BETWEEN SYMMETRIC") => Ok(()),
            [operator] => {
                // They make text of anything; they read text by a setting.
                self.names.shifting |= matches!(*operator, "||" | "@@" | "@@@");
                self.names.operators.insert((*operator).to_owned());
                Ok(())
            }
            ["pg_catalog", _] => {
                self.names.shifting = true;
                Ok(())
            }
            other => Err(format!("it uses the operator {}", other.join("."))),
        }
    }

    fn call(&mut self, call: &mut FuncCall) -> Walked {
        if call.over.is_some() {
            return Err("it has window functions".to_owned());
        }
        let name = strings(&call.funcname);
        if let Some(name) = name.last() {
            self.names.shifting |= is_by_order(name);
            self.names.sums |= SUMS.iter().any(|sums| name.starts_with(sums));
        }
        match name.as_slice() {
            [function] => self.names.functions.insert((*function).to_owned()),
            ["pg_catalog", function] => self.names.own_functions.insert((*function).to_owned()),
            other => return Err(format!("it calls {}()", other.join("."))),
        };
        self.nodes(&mut call.args)?;
        self.nodes(&mut call.agg_order)?;
        self.maybe(call.agg_filter.as_mut())
    }

    pub(super) fn type_name(&mut self, name: Option<&mut TypeName>) -> Walked {
        let Some(name) = name else { return Ok(()) };
        if name.setof || name.pct_type {
            return Err("it casts to a type that is not looked into".to_owned());
        }
        match strings(&name.names).as_slice() {
            [one] => self.names.types.insert((*one).to_owned()),
            ["pg_catalog", one] => self.names.own_types.insert((*one).to_owned()),
            other => return Err(format!("it casts to {}", other.join("."))),
        };
        self.nodes(&mut name.typmods)
    }

    fn sub_link(&mut self, link: &mut SubLink) -> Walked {
        if link.oper_name.is_empty() {
            self.names.operators.insert("=".to_owned());
        } else {
            self.operator_name(&link.oper_name)?;
        }
        self.maybe(link.testexpr.as_mut())?;
        self.maybe(link.subselect.as_mut())
    }
}

/// Types that mean the same in every session, whatever they are made of.
const STEADY: [&str; 8] = ["int2", "int4", "int8", "numeric", "float4", "float8", "bool", "uuid"];

/// Beginnings of the names of aggregates that add up; those over whole numbers and `numeric` are exact.
const SUMS: [&str; 4] = ["sum", "avg", "var", "stddev"];

/// Whether a function's value depends on the order in which rows come, which is the planner's choice: it takes them in that order, is
/// always of floating point numbers, or tells values apart (`1.0` and `1.00`) of which `min`, `max` and GROUP BY keep any.
fn is_by_order(name: &str) -> bool {
    name.ends_with("agg")
        || name.starts_with("covar_")
        || name.starts_with("regr_")
        || name.ends_with("_send")
        || matches!(name, "corr" | "any_value" | "scale")
}

/// Whether a cast means the same in every session: of something that is no constant only to a few types, as text is made by settings, and
/// may be `now`.
fn is_steady(cast: &TypeCast) -> bool {
    let constant = matches!(cast.arg.as_ref().and_then(|arg| arg.node.as_ref()), Some(NodeEnum::AConst(_)));
    let Some(to) = &cast.type_name else { return false };
    match strings(&to.names).last() {
        Some(name) if constant => !matches!(name.trim_start_matches('_'), "money" | "xml"),
        Some(name) => to.array_bounds.is_empty() && STEADY.contains(name),
        None => false,
    }
}

/// Whether a literal can mean another thing at another time (`datetktbl` in datetime.c), or in another session (`array_nulls`).
fn shifts(text: &str) -> bool {
    let is = |word: &str, other: &str| word.eq_ignore_ascii_case(other);
    let mut words = text.split(|c: char| !c.is_ascii_alphabetic());
    words.any(|word| {
        ["now", "today", "tomorrow", "yesterday"].iter().any(|clock| is(word, clock))
            || (is(word, "null") && text.contains('{'))
    })
}

/// `CURRENT_USER` and its like are the prober's, not the session's.
fn sql_value(op: i32) -> Walked {
    use protobuf::SqlValueFunctionOp as Op;
    match Op::try_from(op) {
        Ok(
            Op::SvfopCurrentDate
            | Op::SvfopCurrentTime
            | Op::SvfopCurrentTimeN
            | Op::SvfopCurrentTimestamp
            | Op::SvfopCurrentTimestampN
            | Op::SvfopLocaltime
            | Op::SvfopLocaltimeN
            | Op::SvfopLocaltimestamp
            | Op::SvfopLocaltimestampN
            | Op::SvfopCurrentCatalog,
        ) => Ok(()),
        Ok(_) | Err(_) => Err("it asks who the session's user is, or for its schema".to_owned()),
    }
}

/// The bound value as a literal; the deparser quotes it.
fn literal(values: &[Value], number: i32) -> Result<NodeEnum, Refusal> {
    let value = usize::try_from(number).ok().and_then(|number| values.get(number.checked_sub(1)?));
    let value = value.ok_or_else(|| format!("the value of ${number} is not known"))?;
    if value.undecodable {
        return Err(format!("the value of ${number} could not be decoded"));
    }
    let val = value.text.as_ref().map(|text| protobuf::a_const::Val::Sval(protobuf::String { sval: text.clone() }));
    let constant = NodeEnum::AConst(AConst { isnull: val.is_none(), location: -1, val });
    let Some(type_name) = &value.type_name else { return Ok(constant) };
    let names = ["pg_catalog", type_name].map(string).to_vec();
    Ok(NodeEnum::TypeCast(Box::new(TypeCast {
        arg: Some(Box::new(Node { node: Some(constant) })),
        type_name: Some(TypeName { names, typemod: -1, location: -1, ..TypeName::default() }),
        location: -1,
    })))
}

/// A `String` node.
pub(super) fn string(text: &str) -> Node {
    Node { node: Some(NodeEnum::String(protobuf::String { sval: text.to_owned() })) }
}

/// The texts of `String` nodes.
pub(super) fn strings(nodes: &[Node]) -> Vec<&str> {
    nodes
        .iter()
        .map(|node| match &node.node {
            Some(NodeEnum::String(text)) => text.sval.as_str(),
            // No name has this text, so it matches nothing.
            _ => "\0",
        })
        .collect()
}

/// A relation's name as written.
pub(super) fn written(relation: &RangeVar) -> Written {
    let schema = (!relation.schemaname.is_empty()).then(|| relation.schemaname.clone());
    (schema, relation.relname.clone())
}

/// For people.
pub(super) fn display(written: &Written) -> String {
    match written {
        (Some(schema), name) => format!("{schema}.{name}"),
        (None, name) => name.clone(),
    }
}

fn kind_name(kind: &NodeEnum) -> String {
    // Debug begins with the variant's name; the rest is the text's, and long.
    format!("{kind:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}
