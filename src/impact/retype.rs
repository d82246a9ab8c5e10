//! Whether ALTER COLUMN TYPE leaves the rows as they are (`ATColumnChangeRequiresRewrite` in tablecmds.c). Reads the catalogue only;
//! what is not surely left as it is, is rewritten.

use super::alter::Retyped;
use super::catalogue::{QUICK, TREE};
use super::connection::Asking;
use super::lookup::cell;
use super::report::AlterWork;

/// A column's present type, where a change may leave it as it is, and what would have to be made anew with it.
struct Present {
    from: String,
    modifier: i32,
    /// A cast to the new type leaves every value as it is.
    same_bytes: bool,
    /// Indexes with expressions or conditions, constraints that are checked again.
    checked_again: bool,
    indexed: bool,
}

/// What the change does to the rows of table `oid`, and why; `None`: it rewrites them.
pub(super) async fn work(
    asking: &Asking,
    oid: u32,
    retyped: &Retyped,
) -> Result<Option<(AlterWork, &'static str)>, String> {
    let Some(present) = present(asking, oid, retyped).await? else { return Ok(None) };
    let same = present.from == retyped.to;
    let stays = if same {
        keeps_values(&retyped.to, present.modifier, &retyped.modifiers)
    } else {
        present.same_bytes && retyped.modifiers.is_empty()
    };
    // An index goes on if its operators are the same (`CheckIndexCompatible` in indexcmds.c).
    let same_order =
        same || [&present.from, &retyped.to].into_iter().all(|name| matches!(name.as_str(), "text" | "varchar"));
    Ok(match (stays, present.checked_again || (present.indexed && !same_order)) {
        (false, _) => None,
        (true, false) => Some((AlterWork::Catalogue, "every value stays as it is")),
        (true, true) => {
            Some((AlterWork::Scan, "every value stays as it is, but constraints are checked again, or indexes built"))
        }
    })
}

async fn present(asking: &Asking, oid: u32, retyped: &Retyped) -> Result<Option<Present>, String> {
    // `pg_catalog` is searched first, but for types of a temporary schema (`TypenameGetTypidExtended`).
    let sql = format!(
        "{TREE}, col AS (SELECT a.* FROM tree JOIN pg_attribute a ON a.attrelid = tree.oid WHERE a.attname = $3 AND NOT a.attisdropped), \
         made AS (SELECT t.oid, t.typcollation FROM pg_type t WHERE t.typname = $4 AND t.typnamespace = 'pg_catalog'::regnamespace \
           AND t.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type o JOIN pg_namespace n ON n.oid = o.typnamespace \
             WHERE o.typname = $4 AND n.nspname LIKE 'pg\\_temp\\_%')), \
         hanging AS (SELECT d.classid, d.objid FROM pg_depend d JOIN col ON d.refclassid = 'pg_class'::regclass \
           AND d.refobjid = col.attrelid AND d.refobjsubid = col.attnum) \
         SELECT t.typname::text, c.atttypmod, \
           EXISTS (SELECT FROM pg_cast k WHERE k.castsource = t.oid AND k.casttarget = made.oid AND k.castmethod = 'b' AND k.castcontext <> 'e'), \
           t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND c.attcollation = made.typcollation \
             AND NOT EXISTS (SELECT FROM col o WHERE (o.atttypid, o.atttypmod, o.attcollation) <> (c.atttypid, c.atttypmod, c.attcollation)), \
           EXISTS (SELECT FROM pg_constraint k JOIN col o ON (k.conrelid = o.attrelid AND o.attnum = ANY(k.conkey)) \
               OR (k.confrelid = o.attrelid AND o.attnum = ANY(k.confkey)) WHERE k.contype NOT IN ('p', 'u', 'n')) \
             OR EXISTS (SELECT FROM hanging h WHERE h.classid = 'pg_constraint'::regclass \
               AND h.objid NOT IN (SELECT oid FROM pg_constraint WHERE contype IN ('p', 'u', 'n'))) \
             OR EXISTS (SELECT FROM hanging h JOIN pg_index i ON h.classid = 'pg_class'::regclass AND i.indexrelid = h.objid \
               WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL), \
           EXISTS (SELECT FROM pg_index i JOIN col o ON i.indrelid = o.attrelid AND o.attnum = ANY(i.indkey)) \
         FROM col c JOIN pg_type t ON t.oid = c.atttypid CROSS JOIN made WHERE c.attrelid = $1"
    );
    let rows = asking.ask(QUICK, &sql, &[&oid, &true, &retyped.column, &retyped.to]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    // Both types are the server's own, children have the same, and the new one sorts as the column does.
    if !cell::<bool>(row, 3)? {
        return Ok(None);
    }
    Ok(Some(Present {
        from: cell(row, 0)?,
        modifier: cell(row, 1)?,
        same_bytes: cell(row, 2)?,
        checked_again: cell(row, 4)?,
        indexed: cell(row, 5)?,
    }))
}

/// Whether every value of a type with the modifier `from` (`atttypmod`; -1: none) is one with those in `to`: what the planner makes of the
/// cast between them (`varchar_support`, `numeric_support`, `varbit_support`, `TemporalSimplify`).
fn keeps_values(name: &str, from: i32, to: &[i32]) -> bool {
    // Modifiers of lengths are kept with the length of a header (VARHDRSZ) added.
    let length = from.checked_sub(4).filter(|_| from >= 4);
    match (name, to) {
        ("char", _) => false,
        (_, []) => true,
        ("varchar", [most]) => length.is_some_and(|length| *most >= length),
        ("bpchar", [exactly]) => length == Some(*exactly),
        ("varbit", [most]) => from >= 0 && *most >= from,
        ("numeric", [precision, scale @ ..]) => length.is_some_and(|packed| {
            // Eleven bits of scale below the precision (`make_numeric_typmod`).
            let wanted = match scale {
                [] => Some(0),
                [scale] => Some(*scale),
                _ => None,
            };
            wanted == Some(packed & 0x7ff) && *precision >= (packed >> 16)
        }),
        ("timestamp" | "timestamptz" | "time" | "timetz", [precision]) => {
            *precision >= 6 || (from >= 0 && *precision >= from)
        }
        _ => false,
    }
}
