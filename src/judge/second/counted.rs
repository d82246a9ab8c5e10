//! Whether a statement's command tag counts the rows it writes.

use super::parse;
use crate::judge::on_deep_stack;

/// Whether it does, as far as the text tells: rows that triggers, rules and cascades write are counted by no tag.
///
/// # Errors
///
/// Why it does not, as the end of a sentence.
pub(crate) fn counts_rows(text: &str) -> Result<(), &'static str> {
    // Fail closed.
    const UNREADABLE: &str = "it cannot be read";
    on_deep_stack(|| Some(read(text))).unwrap_or(Err(UNREADABLE))
}

fn read(text: &str) -> Result<(), &'static str> {
    let parsed = parse(text).map_err(|_| "it cannot be read")?;
    let statements = parsed.statements(text.len());
    let [only] = statements.as_slice() else {
        return Err("it is not one statement");
    };
    // `CreateCommandTag` in `utility.c` takes the tag from the outermost statement alone.
    if !writes(only.node.kind()) {
        return Err("its command tag does not count rows it writes");
    }
    if only.node.descendants().skip(1).any(|node| writes(node.kind())) {
        return Err("its WITH clause writes rows that its command tag does not count");
    }
    Ok(())
}

fn writes(kind: &str) -> bool {
    matches!(kind, "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_only_where_the_tag_counts_all_that_the_text_writes() {
        for text in [
            "INSERT INTO t SELECT * FROM u",
            "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2 RETURNING *",
            "/* x */ UPDATE t SET a = 1 WHERE b IN (SELECT 1);",
            "DELETE FROM t USING u",
            "WITH u AS (SELECT 1) DELETE FROM t WHERE a IN (SELECT * FROM u)",
            "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)",
        ] {
            assert_eq!(counts_rows(text), Ok(()), "{text}");
        }
        for text in [
            "",
            "nonsense",
            "SELECT 1",
            "DELETE FROM t; DELETE FROM u",
            "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d",
            "WITH d AS (DELETE FROM t RETURNING *) INSERT INTO u SELECT * FROM d",
            "WITH RECURSIVE d AS (UPDATE t SET a = 1 RETURNING *) UPDATE u SET a = 2",
            "EXPLAIN ANALYZE DELETE FROM t",
            "COPY (DELETE FROM t RETURNING *) TO STDOUT",
            "COPY t FROM STDIN",
            "PREPARE p AS DELETE FROM t",
            "EXECUTE p",
            "TRUNCATE t",
            "DO 'begin end'",
            "CREATE TABLE u AS SELECT 1",
            "SELECT * INTO u FROM t",
        ] {
            assert!(counts_rows(text).is_err(), "{text}");
        }
    }
}
