//! Which settings are harmless, which change how later text is read, which change what a session may do. Knows names and
//! values only; SET, RESET and `set_config` come here alike.

use super::{EffectKind, functions};

/// Settings any session may change without anyone asking: where names are looked up, how long things may take, how plans
/// are made, how values are shown, what transactions are like. Everything else is `sensitive-setting`.
///
/// Left out on purpose: `transform_null_equals` (changes what conditions mean), `gin_fuzzy_search_limit` (they find a random part), `synchronous_commit` (loses commits in a
/// crash), `session_replication_role`, `local_preload_libraries`,
/// `password_encryption`, `debug_*`, `log_*`, everything only superusers may set.
///
/// `pg_dump` and `pg_restore` send `row_security = off` on every connection: it shows no more rows, it turns rows that a
/// policy would hide into an error. Nor does `check_function_bodies` run or permit anything: CREATE FUNCTION is held anyway.
const HARMLESS: &str = "
    row_security check_function_bodies
    search_path application_name client_min_messages
    statement_timeout lock_timeout idle_in_transaction_session_timeout idle_session_timeout transaction_timeout
    datestyle intervalstyle timezone timezone_abbreviations extra_float_digits bytea_output
    lc_messages lc_monetary lc_numeric lc_time xmlbinary xmloption array_nulls escape_string_warning quote_all_identifiers
    default_text_search_config
    transaction_isolation transaction_read_only transaction_deferrable
    default_transaction_isolation default_transaction_read_only default_transaction_deferrable
    work_mem maintenance_work_mem logical_decoding_work_mem hash_mem_multiplier temp_buffers
    effective_cache_size effective_io_concurrency maintenance_io_concurrency backend_flush_after io_combine_limit
    enable_async_append enable_bitmapscan enable_distinct_reordering enable_gathermerge enable_group_by_reordering
    enable_hashagg enable_hashjoin enable_incremental_sort enable_indexonlyscan enable_indexscan enable_material
    enable_memoize enable_mergejoin enable_nestloop enable_parallel_append enable_parallel_hash enable_partition_pruning
    enable_partitionwise_aggregate enable_partitionwise_join enable_presorted_aggregate enable_self_join_elimination
    enable_seqscan enable_sort enable_tidscan
    seq_page_cost random_page_cost cpu_tuple_cost cpu_index_tuple_cost cpu_operator_cost
    parallel_setup_cost parallel_tuple_cost min_parallel_table_scan_size min_parallel_index_scan_size
    max_parallel_workers max_parallel_workers_per_gather max_parallel_maintenance_workers parallel_leader_participation
    force_parallel_mode debug_parallel_query
    from_collapse_limit join_collapse_limit constraint_exclusion cursor_tuple_fraction default_statistics_target
    plan_cache_mode recursive_worktable_factor
    geqo geqo_effort geqo_generations geqo_pool_size geqo_seed geqo_selection_bias geqo_threshold
    gin_pending_list_limit
    jit jit_above_cost jit_expressions jit_inline_above_cost jit_optimize_above_cost jit_tuple_deforming
    stats_fetch_consistency synchronize_seqscans restrict_nonsystem_relation_kind
    default_tablespace temp_tablespaces default_table_access_method default_toast_compression
    vacuum_cost_delay vacuum_cost_limit vacuum_cost_page_dirty vacuum_cost_page_hit vacuum_cost_page_miss
    tcp_keepalives_count tcp_keepalives_idle tcp_keepalives_interval tcp_user_timeout client_connection_check_interval
    seed
";

/// Prefixes of extensions whose settings run code, switch off auditing or change what a session may do. Other dotted names
/// are an application's own (`app.tenant`), or only tune (`hnsw.ef_search`).
const ACTING_PREFIXES: &str = "
    plpgsql plperl plperlu plpython plpython3u plpythonu pltcl pltclu plv8 plrust pljava plr
    auto_explain pg_stat_statements pg_stat_monitor pgaudit pgauditlogtofile anon cron pg_cron timescaledb citus
    pg_hint_plan postgres_fdw dblink pglogical bdr rds azure cloudsql alloydb supautils pgtle set_user pgsodium vault
    pg_net pg_prewarm pg_partman_bgw passwordcheck credcheck auth_delay sepgsql session_preload powa pg_qualstats
    pg_tle orafce ddl_historization shared_ispell file_fdw basic_archive pg_failover_slots neon
";

/// Settings that every session may change and that change what literals and conditions mean, in the order in which sessions are asked.
pub const READING: [&str; 6] =
    ["TimeZone", "DateStyle", "IntervalStyle", "timezone_abbreviations", "quote_all_identifiers", "array_nulls"];

/// What is done to a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// Set to this value; `None` when the text does not say (not a literal, several values).
    To(Option<&'a str>),
    /// Back to what it was (RESET, SET … TO DEFAULT).
    Reset,
    /// `SET … FROM CURRENT`.
    Current,
}

/// The kind of effect a change of the setting `name` (in any case) has.
pub(super) fn judge(name: &str, change: Change<'_>) -> EffectKind {
    // Postgres compares setting names without case (`guc_name_compare`), so `set "ROLE"` is SET ROLE.
    let name = name.to_ascii_lowercase();
    let value = match change {
        Change::To(value) => value,
        Change::Reset | Change::Current => None,
    };
    match name.as_str() {
        "role" | "session_authorization" => EffectKind::Privilege,
        "standard_conforming_strings" => reading(value.is_some_and(is_on)),
        "client_encoding" | "names" => reading(value.is_some_and(is_utf8)),
        "backslash_quote" => reading(value.is_some_and(|value| value.eq_ignore_ascii_case("safe_encoding"))),
        // Found without their schema, the commands of cron and its like would look like anyone's functions and tables.
        // Fail closed: so they may be by a path the text does not tell.
        "search_path" => {
            session(matches!(change, Change::Reset) || value.is_some_and(|path| !finds_acting_schema(path)))
        }
        name => match name.split_once('.') {
            Some((prefix, _)) => session(!lists(ACTING_PREFIXES, prefix)),
            None => session(lists(HARMLESS, name)),
        },
    }
}

/// The text that `SET search_path = a, 'B'` makes of its names (`flatten_set_variable_args` in `guc_funcs.c`): each is taken
/// as it is, nothing inside is folded or split.
pub(super) fn path_of<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let quoted: Vec<_> = names.into_iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
    quoted.join(",")
}

fn finds_acting_schema(path: &str) -> bool {
    // Fail closed: the server refuses what is no list of names.
    names(path).is_none_or(|names| names.iter().any(|name| functions::schema_danger(name).is_some()))
}

/// The names in a path, as `SplitIdentifierString` (varlena.c) folds them. `None` if it is no list of names.
fn names(path: &str) -> Option<Vec<String>> {
    // The last of these is a space to newer servers only; around a name it makes no other name of it here.
    let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{C}' | '\u{B}');
    let mut found = Vec::new();
    let mut rest = path.trim_start_matches(space);
    if rest.is_empty() {
        return Some(found);
    }
    loop {
        let name;
        (name, rest) =
            if let Some(quoted) = rest.strip_prefix('"') { until_quote(quoted)? } else { bare(rest, space)? };
        found.push(name);
        rest = rest.trim_start_matches(space);
        if rest.is_empty() {
            return Some(found);
        }
        rest = rest.strip_prefix(',')?.trim_start_matches(space);
    }
}

/// A name without quotes, in lower case. Servers with a Turkish single-byte encoding fold `İ` to `i`, and in a startup packet
/// that letter may have come as a byte that is no UTF-8.
fn bare(text: &str, space: impl Fn(char) -> bool) -> Option<(String, &str)> {
    let (name, rest) = text.split_at_checked(text.find(|c| c == ',' || space(c)).unwrap_or(text.len()))?;
    (!name.is_empty()).then(|| (name.replace(['İ', '\u{FFFD}'], "i").to_ascii_lowercase(), rest))
}

/// A name up to its closing quote; `""` inside stands for one.
fn until_quote(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (part, behind) = rest.split_once('"')?;
        name.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, behind)),
        }
    }
}

fn lists(list: &str, name: &str) -> bool {
    list.split_whitespace().any(|entry| entry == name)
}

fn reading(harmless: bool) -> EffectKind {
    if harmless { EffectKind::Session } else { EffectKind::ReadingSetting }
}

fn session(harmless: bool) -> EffectKind {
    if harmless { EffectKind::Session } else { EffectKind::SensitiveSetting }
}

/// `parse_bool` (src/backend/utils/adt/bool.c): any unambiguous beginning of a word for true.
fn is_on(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    matches!(value.as_str(), "on" | "1")
        || (!value.is_empty() && ("true".starts_with(&value) || "yes".starts_with(&value)))
}

/// `pg_char_to_encoding` (src/common/encnames.c): only letters and digits count.
fn is_utf8(value: &str) -> bool {
    let value: String = value.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    matches!(value.as_str(), "utf8" | "unicode")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_sorted_into_kinds() {
        use EffectKind::{Privilege, ReadingSetting, SensitiveSetting, Session};
        for (name, value, kind) in [
            ("search_path", Some("app"), Session),
            ("Search_Path", None, SensitiveSetting),
            ("search_path", Some(""), Session),
            ("search_path", Some(" \"$user\" , public "), Session),
            ("search_path", Some("\"CRON\", \"a,cron\", \"cron\"\"\""), Session),
            ("search_path", Some("app, \"cron\""), SensitiveSetting),
            ("search_path", Some("CRON"), SensitiveSetting),
            ("search_path", Some("app,\n Cron\t"), SensitiveSetting),
            ("search_path", Some("\u{B}cron"), SensitiveSetting),
            ("search_path", Some("utl_f\u{130}le"), SensitiveSetting),
            ("search_path", Some("utl_f\u{FFFD}le"), SensitiveSetting),
            ("search_path", Some("a b"), SensitiveSetting),
            ("search_path", Some("a,"), SensitiveSetting),
            ("search_path", Some("\"a"), SensitiveSetting),
            ("app.tenant", Some("1"), Session),
            ("hnsw.ef_search", Some("1"), Session),
            ("plperl.on_init", Some("1"), SensitiveSetting),
            ("session_replication_role", Some("replica"), SensitiveSetting),
            ("row_security", Some("on"), Session),
            ("row_security", Some("off"), Session),
            ("ROLE", Some("dba"), Privilege),
            ("session_authorization", None, Privilege),
            ("standard_conforming_strings", Some("on"), Session),
            ("standard_conforming_strings", Some("TR"), Session),
            ("standard_conforming_strings", Some("off"), ReadingSetting),
            ("standard_conforming_strings", Some(""), ReadingSetting),
            ("standard_conforming_strings", None, ReadingSetting),
            ("client_encoding", Some("utf-8"), Session),
            ("client_encoding", Some("UNICODE"), Session),
            ("client_encoding", Some("SJIS"), ReadingSetting),
            ("backslash_quote", Some("on"), ReadingSetting),
            ("no_such_setting", Some("on"), SensitiveSetting),
        ] {
            assert_eq!(judge(name, Change::To(value)), kind, "{name} {value:?}");
        }
        assert_eq!(judge("search_path", Change::Reset), Session);
        assert_eq!(judge("search_path", Change::To(Some(&path_of(["CRON", "a, cron", "\"cron"])))), Session);
        assert_eq!(judge("search_path", Change::To(Some(&path_of(["a", "cron"])))), SensitiveSetting);
        assert_eq!(judge("statement_timeout", Change::Reset), Session);
        assert_eq!(judge("client_encoding", Change::Reset), ReadingSetting);
        assert_eq!(judge("role", Change::Reset), Privilege);
    }
}
