//! What the prober's role lacks, in plain words. Reads the catalogue only.

use super::catalogue::{self, QUICK};
use super::connection::Asking;
use super::lookup::cell;

/// Tables named as examples.
const EXAMPLES: i64 = 5;

/// Roles of the server's whose members may write, or run programs.
const MIGHTY: &str = "'pg_write_all_data', 'pg_write_server_files', 'pg_execute_server_program', 'pg_maintain', 'pg_create_subscription', \
                      'pg_signal_backend', 'pg_checkpoint'";

/// What the role may do besides looking; empty if nothing. The gate only ever reads with it, but whoever has its password may do more.
pub(super) async fn excess(asking: &Asking, user: &str) -> Result<Vec<String>, String> {
    let attributes = "SELECT unnest(array_remove(ARRAY[CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreaterole THEN \
                      'CREATEROLE' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolreplication THEN 'REPLICATION' END], NULL)) \
                      FROM pg_roles WHERE rolname = current_user";
    let attributes = catalogue::texts(asking, attributes, &[]).await?;
    if attributes.iter().any(|attribute| attribute == "SUPERUSER") {
        return Ok(vec![format!("role {user} is a superuser: it may do anything, and should only be able to read")]);
    }
    let mut excess: Vec<String> =
        attributes.iter().map(|attribute| format!("role {user} has {attribute}, which it does not need")).collect();
    let mighty = format!(
        "SELECT rolname::text FROM pg_roles WHERE (rolsuper OR rolname IN ({MIGHTY})) AND pg_has_role(oid, 'MEMBER') ORDER BY 1 LIMIT $1"
    );
    for role in catalogue::texts(asking, &mighty, &[&EXAMPLES]).await? {
        excess.push(format!("role {user} is a member of {role}, and may do more than read"));
    }
    let writable = "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
                    AND (pg_has_role(c.relowner, 'MEMBER') OR (has_schema_privilege(n.oid, 'USAGE') \
                    AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))) ORDER BY 1 LIMIT $1";
    let examples = catalogue::texts(asking, writable, &[&EXAMPLES]).await?;
    if !examples.is_empty() {
        excess
            .push(format!("role {user} may write tables (for example {}), and should only read", examples.join(", ")));
    }
    Ok(excess)
}

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
