//! Whether a function's body can write, by its text. Knows no connection, and fails closed: a body that is not surely a reader is
//! not known. What operators, casts, views and `row.name` call is not looked at.

use super::report::Known;
use crate::judge::{
    Analysis, EffectKind, Limits, TokenKind, analyse, function_danger, function_is_builtin, lex_bounded,
};

/// Longest body that is looked into, in bytes.
pub(super) const BODY: usize = 64 << 10;
/// Tokens of a body that are looked at.
pub(super) const TOKENS: usize = 20_000;

/// Words with which a PL/pgSQL statement, or the SQL in it, writes.
pub(super) const WRITES: &[&str] = &[
    "insert", "update", "delete", "merge", "truncate", "drop", "alter", "create", "grant", "revoke", "copy", "refresh",
    "reindex", "cluster", "vacuum", "comment", "import", "reassign",
];
/// Words with which it does something else than reading.
pub(super) const ACTS: &[&str] = &[
    "execute",
    "call",
    "lock",
    "notify",
    "listen",
    "unlisten",
    "set",
    "reset",
    "do",
    "prepare",
    "deallocate",
    "discard",
    "load",
    "checkpoint",
    "commit",
    "rollback",
];
/// Words that stand before a parenthesis and call nothing.
pub(super) const SYNTAX: &[&str] = &[
    "if",
    "elsif",
    "while",
    "when",
    "then",
    "else",
    "in",
    "values",
    "and",
    "or",
    "not",
    "exists",
    "any",
    "all",
    "some",
    "array",
    "over",
    "filter",
    "row",
    "return",
    "until",
    "on",
    "using",
    "from",
    "select",
    "where",
    "limit",
    "offset",
    "by",
    "having",
    "distinct",
    "between",
    "like",
    "ilike",
    "to",
    "raise",
    "loop",
    "for",
    "foreach",
    "perform",
    "exit",
    "into",
    "cursor",
    "strict",
    "as",
    "with",
    "union",
    "except",
    "intersect",
    "join",
    "lateral",
    "case",
    "is",
    "query",
    "next",
    "materialized",
    "varchar",
    "char",
    "character",
    "varying",
    "bit",
    "numeric",
    "decimal",
    "dec",
    "float",
    "time",
    "timestamp",
    "interval",
    "coalesce",
    "nullif",
    "greatest",
    "least",
    "cast",
    "extract",
    "exception",
    "begin",
    "assert",
    "open",
    "isnull",
    "notnull",
    "slice",
    "within",
    "group",
    "grouping",
    "only",
    "constant",
    "default",
    "reverse",
];

/// A body in SQL: the judge reads it.
pub(super) fn sql(text: &str) -> Known<Option<String>> {
    of_analysis(&analyse(text.as_bytes(), &Limits::default()))
}

/// A body in SQL as `pg_get_function_sqlbody` prints it.
pub(super) fn standard_sql(text: &str) -> Known<Option<String>> {
    let text = text.trim();
    if let Some(expression) = text.strip_prefix("RETURN ") {
        return sql(&format!("SELECT {expression}"));
    }
    let statements = text.strip_prefix("BEGIN ATOMIC").and_then(|text| text.strip_suffix("END"));
    statements.map_or_else(|| Known::Unknown("its body could not be read".to_owned()), sql)
}

fn of_analysis(analysis: &Analysis) -> Known<Option<String>> {
    let mut doubt = None;
    for effect in analysis.pieces.iter().flat_map(|piece| &piece.effects) {
        match effect.kind {
            EffectKind::Read | EffectKind::Session | EffectKind::Transaction => (),
            EffectKind::Unparsed | EffectKind::Disagreement | EffectKind::Unknown | EffectKind::Execute => {
                doubt = Some(format!("its body could not be read ({})", effect.why));
            }
            EffectKind::Insert
            | EffectKind::Update
            | EffectKind::Delete
            | EffectKind::Merge
            | EffectKind::Truncate
            | EffectKind::Drop
            | EffectKind::Alter
            | EffectKind::Create
            | EffectKind::Privilege
            | EffectKind::Code
            | EffectKind::CopyServerFile
            | EffectKind::LargeObject
            | EffectKind::Admin
            | EffectKind::ReadingSetting
            | EffectKind::SensitiveSetting => return Known::Known(Some(format!("{}: {}", effect.kind, effect.why))),
        }
    }
    match doubt {
        Some(doubt) => Known::Unknown(doubt),
        None if analysis.opaque => Known::Unknown("it calls functions that are not the server's own".to_owned()),
        None => Known::Known(None),
    }
}

/// A body in PL/pgSQL, by its tokens: the words that write, and the names before a parenthesis.
pub(super) fn plpgsql(text: &str) -> Known<Option<String>> {
    let Ok(tokens) = lex_bounded(text.as_bytes(), true, TOKENS) else {
        return Known::Unknown("its body could not be read".to_owned());
    };
    let comment = |kind: TokenKind| matches!(kind, TokenKind::LineComment | TokenKind::BlockComment);
    let tokens: Vec<_> = tokens.tokens.iter().filter(|token| !comment(token.kind)).collect();
    let mut doubt = None;
    for (at, token) in tokens.iter().enumerate() {
        let written = text.get(token.range()).unwrap_or_default();
        let word = token.kind == TokenKind::Word;
        // Fail closed: a name that is spelled so is hiding.
        if token.kind == TokenKind::UnicodeName {
            return Known::Unknown(format!("it has the name {written}"));
        }
        if !word && token.kind != TokenKind::QuotedName {
            continue;
        }
        let name = if word { written.to_ascii_lowercase() } else { written.trim_matches('"').to_owned() };
        if word && WRITES.contains(&name.as_str()) {
            return Known::Known(Some(format!("it has {}", name.to_ascii_uppercase())));
        }
        if word && ACTS.contains(&name.as_str()) {
            doubt = Some(format!("it has {}", name.to_ascii_uppercase()));
        }
        let called =
            at.checked_add(1).and_then(|next| tokens.get(next)).is_some_and(|next| next.kind == TokenKind::OpenParen);
        if !called || (word && SYNTAX.contains(&name.as_str())) {
            continue;
        }
        let qualified =
            at.checked_sub(1).and_then(|before| tokens.get(before)).is_some_and(|before| before.kind == TokenKind::Dot);
        if function_danger(None, &name).is_some() {
            return Known::Known(Some(format!("it calls {name}()")));
        }
        if qualified || !function_is_builtin(None, &name) {
            doubt = Some(format!("it calls {name}()"));
        }
    }
    doubt.map_or(Known::Known(None), Known::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_write_are_never_said_to_read() {
        for body in [
            "BEGIN DELETE FROM t; END",
            "BEGIN execute 'x'; END",
            "BEGIN EXECUTE format('DROP TABLE %I', t); END",
            "DECLARE c CURSOR FOR SELECT 1; BEGIN PERFORM other(1); END",
            "BEGIN PERFORM \"Other\"(1); END",
            "BEGIN PERFORM app.lower('x'); END",
            "BEGIN PERFORM U&\"\\006fther\"(1); END",
            "BEGIN PERFORM lo_unlink(1); END",
            "BEGIN PERFORM set_config('a', 'b', false); END",
            "BEGIN CALL p(); END",
            "BEGIN WITH x AS (DELETE FROM t RETURNING 1) SELECT 1 INTO y FROM x; END",
            "BEGIN RETURN QUERY EXECUTE 'x'; END",
            "BEGIN OPEN c FOR EXECUTE 'x'; END",
            "BEGIN PERFORM other/* */(1); END",
            "BEGIN PERFORM other -- x\n (1); END",
            "BEGIN 'unterminated; END",
        ] {
            assert_ne!(plpgsql(body), Known::Known(None), "{body}");
        }
        for body in [
            "INSERT INTO t VALUES (1)",
            "SELECT other(1)",
            "SELECT 1; DROP TABLE t",
            "SELECT lo_unlink(1)",
            "WITH x AS (DELETE FROM t RETURNING 1) SELECT * FROM x",
            "SELCT",
        ] {
            assert_ne!(sql(body), Known::Known(None), "{body}");
            assert_ne!(standard_sql(&format!("BEGIN ATOMIC\n {body};\nEND")), Known::Known(None), "{body}");
        }
        assert_ne!(standard_sql("RETURN other(1)"), Known::Known(None));
    }

    #[test]
    fn plain_readers_are_known_as_such() {
        for body in [
            "BEGIN RETURN x + 1; END",
            "DECLARE n int := 0; BEGIN IF (x > 1) THEN n := length(lower(y)); END IF; RETURN n; END",
            "BEGIN RETURN QUERY SELECT id, count(*) FROM t WHERE name IN ('delete', 'drop') GROUP BY id; END",
            "BEGIN SELECT max(id) INTO STRICT n FROM t; RAISE NOTICE 'update %', n; RETURN n; END",
        ] {
            assert_eq!(plpgsql(body), Known::Known(None), "{body}");
        }
        assert_eq!(sql("SELECT id FROM t WHERE id = $1"), Known::Known(None));
        assert_eq!(standard_sql("RETURN (x + 1)"), Known::Known(None));
    }
}
