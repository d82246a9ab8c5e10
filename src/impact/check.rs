//! What the prober's role lacks, in plain words. Reads the catalogue only.

use super::catalogue::{self, QUICK};
use super::connection::Asking;
use super::lookup::cell;

/// Tables named as examples.
const EXAMPLES: i64 = 5;

/// What is missing in this database; empty if nothing is.
pub(super) async fn missing(asking: &Asking, user: &str) -> Result<Vec<String>, String> {
    let mut missing = Vec::new();
    let rows = asking.ask(QUICK, "SELECT pg_has_role('pg_read_all_stats', 'USAGE')", &[]).await?;
    if !rows.first().map_or(Ok(false), |row| cell(row, 0))? {
        missing.push(format!(
            "role {user} is not a member of pg_read_all_stats: who waits for a held transaction cannot be told"
        ));
    }
    let tables = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') \
                  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";
    let unreadable = format!(
        "SELECT n.nspname || '.' || c.relname {tables} AND NOT (has_schema_privilege(n.oid, 'USAGE') \
         AND has_table_privilege(c.oid, 'SELECT')) ORDER BY 1 LIMIT $1"
    );
    let hidden = format!(
        "SELECT n.nspname || '.' || c.relname {tables} AND c.relrowsecurity AND row_security_active(c.oid) ORDER BY 1 LIMIT $1"
    );
    let examples = catalogue::texts(asking, &unreadable, &[&EXAMPLES]).await?;
    if !examples.is_empty() {
        missing.push(format!(
            "role {user} may not read every table (for example {}): their rows are not counted",
            examples.join(", ")
        ));
    }
    let examples = catalogue::texts(asking, &hidden, &[&EXAMPLES]).await?;
    if !examples.is_empty() {
        missing.push(format!(
            "role {user} has no BYPASSRLS, and row security is on for {}: their rows are not counted",
            examples.join(", ")
        ));
    }
    Ok(missing)
}
