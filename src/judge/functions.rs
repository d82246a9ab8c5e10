//! Which functions do more than read. Knows names only: what an overload or a user's function of the same name does cannot
//! be told from a text, so a dangerous name is dangerous in every schema.
//!
//! Rests on PostgreSQL's catalogue of volatile functions (contrib included) and on the extensions that run text.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::EffectKind;

/// Run a text as SQL, call out of the server, or are entry points of languages.
const CODE: &str = "
    query_to_xml query_to_xml_and_xmlschema query_to_xmlschema table_to_xml table_to_xml_and_xmlschema
    schema_to_xml schema_to_xmlschema schema_to_xml_and_xmlschema
    database_to_xml database_to_xmlschema database_to_xml_and_xmlschema
    cursor_to_xml ts_rewrite ts_stat xpath_table xslt_process
    plpgsql_call_handler plpgsql_inline_handler plpgsql_validator
    schedule schedule_in_database unschedule alter_job job_run
    http http_get http_post http_put http_patch http_delete http_head http_set_curlopt http_reset_curlopt
    run_command_on_workers run_command_on_shards run_command_on_placements run_command_on_all_nodes
    run_command_on_coordinator run_command_on_colocated_placements
    query_export_to_s3 table_import_from_s3 aws_lambda_invoke
    exec_sql execute_sql exec_ddl pg_background_launch pg_background_result
    plpy_execute sys_eval sys_exec plv8_reset
    pg_extension_config_dump lo_manage cypher add_job delete_job run_job
";

/// Change the server, other sessions, replication, statistics, or read its files.
const ADMIN: &str = "
    brin_desummarize_range brin_summarize_new_values brin_summarize_range gin_clean_pending_list
    pg_backup_start pg_backup_stop pg_start_backup pg_stop_backup pg_create_restore_point pg_promote
    pg_cancel_backend pg_terminate_backend pg_reload_conf pg_rotate_logfile pg_rotate_logfile_old pg_logfile_rotate
    pg_copy_logical_replication_slot pg_copy_physical_replication_slot
    pg_create_logical_replication_slot pg_create_physical_replication_slot
    pg_drop_replication_slot pg_replication_slot_advance pg_sync_replication_slots
    pg_logical_emit_message pg_logical_slot_get_binary_changes pg_logical_slot_get_changes
    pg_logical_slot_peek_binary_changes pg_logical_slot_peek_changes
    pg_current_logfile pg_hba_file_rules pg_import_system_collations pg_log_backend_memory_contexts
    pg_log_standby_snapshot pg_nextoid pg_read_binary_file pg_read_file pg_read_file_old pg_read_server_files
    pg_stat_file pg_stop_making_pinned_objects pg_switch_wal pg_switch_xlog pg_wal_replay_pause pg_wal_replay_resume
    pg_xlog_replay_pause pg_xlog_replay_resume pg_prewarm autoprewarm_start_worker autoprewarm_dump_now
    pg_stat_statements_reset heap_force_freeze heap_force_kill pg_truncate_visibility_map
    pg_buffercache_evict pg_buffercache_evict_relation pg_buffercache_evict_all
    pg_restore_relation_stats pg_restore_attribute_stats pg_clear_relation_stats pg_clear_attribute_stats
    pg_set_relation_stats pg_set_attribute_stats pg_logdir_ls
    pgstat_reset pg_repack pg_advance_wal remote_backend_pid pg_drop_stale_slots
    create_distributed_table create_reference_table undistribute_table alter_distributed_table truncate_local_data_after_distributing_table
    citus_add_node citus_remove_node citus_drop_all_shards master_drop_all_shards rebalance_table_shards
    pg_show_all_file_settings pg_ident_file_mappings
    citus_drain_node citus_disable_node citus_activate_node master_add_node master_remove_node master_drain_node
    pgpool_recovery pgpool_remote_start pgpool_pgctl pgpool_switch_xlog
    pg_stat_kcache_reset pg_qualstats_reset pg_stat_monitor_reset pg_wait_sampling_reset_profile
";

/// Remove what DROP or DELETE would remove.
const DROP: &str = "
    lo_unlink drop_chunks dropgeometrytable dropgeometrycolumn droptopology droptopogeometrycolumn
    drop_partition_id drop_partition_time undo_partition run_maintenance run_maintenance_proc detach_tablespace
    drop_graph drop_label drop_queue purge_queue anonymize_database anonymize_table anonymize_column
";

/// Change what ALTER would change.
const ALTER: &str = "
    setval addgeometrycolumn addtopogeometrycolumn updategeometrysrid populate_geometry_columns addrasterconstraints droprasterconstraints
    create_hypertable add_retention_policy remove_retention_policy add_compression_policy compress_chunk decompress_chunk
    set_chunk_time_interval attach_tablespace create_parent
";

/// Read or write files of the server.
const FILE: &str =
    "lo_export lo_import pg_file_write pg_file_rename pg_file_unlink pg_file_sync pg_file_read pg_file_length";

/// Write large objects.
const LARGE_OBJECT: &str = "lo_creat lo_create lo_from_bytea lo_open lo_put lo_truncate lo_truncate64 lowrite";

/// Families too numerous or too open to list; a name that starts so is of this kind.
const PREFIXES: &[(&str, EffectKind)] = &[
    ("dblink", EffectKind::Code),
    ("crosstab", EffectKind::Code),
    ("connectby", EffectKind::Code),
    ("binary_upgrade_", EffectKind::Admin),
    ("pg_replication_origin_", EffectKind::Admin),
    ("pg_stat_reset", EffectKind::Admin),
    ("pg_ls_", EffectKind::Admin),
    ("pg_file_", EffectKind::CopyServerFile),
];

/// Schemas of extensions whose functions act, and whose tables hold what they will do: `cron.schedule`, `partman.undo_partition` …
const SCHEMAS: &[(&str, EffectKind)] = &[
    ("cron", EffectKind::Code),
    ("dblink", EffectKind::Code),
    ("net", EffectKind::Code),
    ("aws_s3", EffectKind::Code),
    ("aws_lambda", EffectKind::Code),
    ("aws_commons", EffectKind::Code),
    ("pgagent", EffectKind::Code),
    ("pg_cron", EffectKind::Code),
    ("partman", EffectKind::Alter),
    ("repack", EffectKind::Admin),
    ("pglogical", EffectKind::Admin),
    ("bdr", EffectKind::Admin),
    ("spock", EffectKind::Admin),
    ("graphql", EffectKind::Code),
    ("sqlj", EffectKind::Code),
    ("pgtle", EffectKind::Code),
    ("dbms_sql", EffectKind::Code),
    ("dbms_job", EffectKind::Code),
    ("utl_file", EffectKind::CopyServerFile),
    ("anon", EffectKind::Code),
    ("pgq", EffectKind::Code),
    ("squeeze", EffectKind::Admin),
    // The gate's own: whatever somebody does there is for people to decide.
    ("querygate_undo", EffectKind::Admin),
    ("_timescaledb_config", EffectKind::Code),
    ("_timescaledb_catalog", EffectKind::Code),
];

/// The server's own dangerous functions, and those of its contrib modules, that are volatile, so that the planner never calls
/// them (`evaluate_function` in clauses.c). The others may be stable or immutable, and for those EXPLAIN is enough.
const VOLATILE: &str = "
    query_to_xml query_to_xml_and_xmlschema cursor_to_xml ts_stat ts_rewrite
    lo_unlink lo_manage lo_export lo_import lo_creat lo_create lo_from_bytea lo_open lo_put lo_truncate lo_truncate64 lowrite
    setval heap_force_freeze heap_force_kill
";
/// Families of them.
const VOLATILE_PREFIXES: &[&str] = &["pg_", "dblink", "binary_upgrade_", "brin_", "gin_", "autoprewarm_"];

/// Dangerous functions of no argument, of several, or of users' own making: behind a dot their names are columns.
const NO_ATTRIBUTES: &str = "
    schedule schedule_in_database http alter_job job_run run_job add_job delete_job exec_sql execute_sql exec_ddl
    create_parent cypher drop_graph drop_label drop_queue purge_queue run_maintenance
";

/// Functions of one argument in the families of [`PREFIXES`].
const FAMILY_ATTRIBUTES: &str = "
    dblink dblink_exec dblink_connect dblink_connect_u dblink_disconnect dblink_open dblink_close dblink_fetch
    dblink_send_query dblink_get_result dblink_cancel_query crosstab crosstab2 crosstab3 crosstab4 connectby
    pg_replication_origin_create pg_replication_origin_drop pg_replication_origin_session_setup
    pg_stat_reset_shared pg_stat_reset_slru pg_stat_reset_single_table_counters pg_stat_reset_single_function_counters
    pg_stat_reset_replication_slot pg_stat_reset_subscription_stats pg_stat_reset_backend_stats
    pg_ls_dir pg_ls_tmpdir pg_ls_replslotdir pg_file_unlink pg_file_sync pg_file_read pg_file_length
";

static DANGEROUS: LazyLock<HashMap<&'static str, EffectKind>> = LazyLock::new(|| {
    [
        (CODE, EffectKind::Code),
        (ADMIN, EffectKind::Admin),
        (DROP, EffectKind::Drop),
        (ALTER, EffectKind::Alter),
        (FILE, EffectKind::CopyServerFile),
        (LARGE_OBJECT, EffectKind::LargeObject),
    ]
    .into_iter()
    .flat_map(|(names, kind)| names.split_whitespace().map(move |name| (name, kind)))
    .collect()
});

static BUILTIN: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("functions/builtin.txt").split_whitespace().collect());

/// Whether rows of this schema's tables are run as commands, so that writing them is (`INSERT INTO cron.job`).
pub(super) fn schema_danger(schema: &str) -> Option<EffectKind> {
    SCHEMAS.iter().find(|(owner, _)| *owner == schema).map(|(_, kind)| *kind)
}

/// What calling a function of this name does beyond reading, if anything. `name` as Postgres folds it (a quoted name keeps
/// its case, and the listed functions are all lower case); `schema` as written.
pub(crate) fn danger(schema: Option<&str>, name: &str) -> Option<EffectKind> {
    if let Some(kind) = DANGEROUS.get(name) {
        // `schedule`, `http` and the like are common words: without a schema they are still dangerous, in the user's own
        // schema as much as in the extension's.
        return Some(*kind);
    }
    if let Some((_, kind)) = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        return Some(*kind);
    }
    schema.map(last_part).and_then(schema_danger)
}

/// A schema may be written behind the database's name (`shop.cron.schedule`).
fn last_part(schema: &str) -> &str {
    schema.rsplit('.').next().unwrap_or(schema)
}

/// Whether planning a query may call this dangerous function already. Fail closed: one that is not known to be volatile, or
/// is somebody's own of the same name, may be.
pub(super) fn runs_when_planned(schema: Option<&str>, name: &str) -> bool {
    let own = schema.is_none_or(|schema| matches!(last_part(schema), "pg_catalog" | "public"));
    let volatile = lists(VOLATILE, name) || VOLATILE_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    !(own && volatile)
}

fn lists(list: &str, name: &str) -> bool {
    list.split_whitespace().any(|entry| entry == name)
}

/// [`danger`] of a call with so many arguments: `ts_rewrite(query, text)` runs the text, with three it only rewrites.
pub(super) fn call_danger(schema: Option<&str>, name: &str, arguments: usize) -> Option<EffectKind> {
    if name == "ts_rewrite" && arguments == 3 { None } else { danger(schema, name) }
}

/// Whether `x.name` may be the call `name(x)`: Postgres reads it so when `x` has no column of that name. A few listed names
/// are common column names and take more than one argument, so there the column is meant.
pub(crate) fn attribute_danger(name: &str) -> Option<EffectKind> {
    let family = PREFIXES.iter().any(|(prefix, _)| name.starts_with(prefix)) && !DANGEROUS.contains_key(name);
    let callable = if family {
        lists(FAMILY_ATTRIBUTES, name) || name.starts_with("binary_upgrade_")
    } else {
        !lists(NO_ATTRIBUTES, name)
    };
    danger(None, name).filter(|_| callable)
}

/// Whether the server's own function of this name is known to leave the session's settings alone.
pub(crate) fn is_builtin(schema: Option<&str>, name: &str) -> bool {
    schema.is_none_or(|schema| last_part(schema) == "pg_catalog") && BUILTIN.contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_function_is_both_dangerous_and_harmless() {
        for name in BUILTIN.iter() {
            assert_eq!(danger(None, name), None, "{name}");
        }
    }

    #[test]
    fn names_and_families_are_known() {
        for (schema, name, kind) in [
            (None, "lo_unlink", EffectKind::Drop),
            (Some("pg_catalog"), "lo_unlink", EffectKind::Drop),
            (Some("elsewhere"), "setval", EffectKind::Alter),
            (None, "dblink_exec", EffectKind::Code),
            (Some("cron"), "anything", EffectKind::Code),
            (None, "pg_stat_reset_whatever", EffectKind::Admin),
            (None, "pg_ls_dir", EffectKind::Admin),
            (None, "pg_file_write", EffectKind::CopyServerFile),
            (None, "lowrite", EffectKind::LargeObject),
        ] {
            assert_eq!(danger(schema, name), Some(kind), "{name}");
        }
        assert_eq!(danger(Some("shop.partman"), "kill"), Some(EffectKind::Alter));
        assert_eq!(attribute_danger("dblink_exec"), Some(EffectKind::Code));
        assert_eq!(attribute_danger("dblink_id"), None);
        assert_eq!(attribute_danger("lo_unlink"), Some(EffectKind::Drop));
        assert_eq!(attribute_danger("job_run"), None);
        assert_eq!(danger(None, "lower"), None);
        assert_eq!(danger(Some("app"), "charge_customer"), None);
        assert!(is_builtin(None, "lower") && is_builtin(Some("pg_catalog"), "lower"));
        assert!(!is_builtin(Some("app"), "lower") && !is_builtin(None, "charge_customer"));
    }
}
