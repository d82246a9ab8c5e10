//! Whether what a condition computes is the same in every session: not by settings of which Postgres reports nothing, nor by the
//! plan. Reads the catalogue only; what can be told from the text alone is [`super::harmless`]'s.

use super::catalogue::QUICK;
use super::connection::Asking;
use super::harmless::Names;
use super::lookup::{NAMED, cell};

/// Types of which sums are the same in any order, and that nothing else here makes floating point numbers of.
const EXACT: &[&str] = &[
    "int2",
    "int4",
    "int8",
    "numeric",
    "bool",
    "text",
    "varchar",
    "bpchar",
    "char",
    "name",
    "uuid",
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
];

/// Functions that make no floating point numbers of [`EXACT`] types.
const EXACT_FUNCTIONS: &[&str] = &[
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "abs",
    "mod",
    "lower",
    "upper",
    "length",
    "char_length",
    "btrim",
    "ltrim",
    "rtrim",
    "substring",
    "date_trunc",
    "bool_and",
    "bool_or",
    "every",
    "variance",
    "var_pop",
    "var_samp",
    "stddev",
    "stddev_pop",
    "stddev_samp",
];

/// Operators that make none.
const EXACT_OPERATORS: &[&str] =
    &["=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "%", "~~", "!~~", "~~*", "!~~*", "~", "!~", "||"];

/// Whether a column that may be meant is of a type that is read by `lc_monetary`, or floating point numbers may be summed.
pub(super) async fn shifts(asking: &Asking, names: &Names, tables: &[u32]) -> Result<bool, String> {
    // Fail closed: what is not known to be exact is not.
    if names.sums && !is_exact(names) {
        return Ok(true);
    }
    let (columns, all, dotted) = names.columns_meant();
    // Of a domain its base type counts, and enums are compared only.
    let sql = format!(
        "SELECT coalesce(bool_or(b.typname IN ('money', '_money') OR ($5 AND t.typtype <> 'e' AND b.typname <> ALL($6))), false) \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_class c ON c.oid = a.attrelid \
         JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
         WHERE a.attrelid = ANY($1) AND NOT a.attisdropped AND a.attnum > 0 AND {NAMED}"
    );
    let rows = asking.ask(QUICK, &sql, &[&tables, &columns, &all, &dotted, &names.sums, &EXACT]).await?;
    rows.first().map_or(Ok(true), |row| cell(row, 0))
}

fn is_exact(names: &Names) -> bool {
    let among = |all: &std::collections::BTreeSet<String>, known: &[&str]| {
        all.iter().all(|name| known.contains(&name.as_str()))
    };
    among(&names.functions, EXACT_FUNCTIONS)
        && among(&names.own_functions, EXACT_FUNCTIONS)
        && among(&names.operators, EXACT_OPERATORS)
        && among(&names.types, EXACT)
        && among(&names.own_types, EXACT)
}
