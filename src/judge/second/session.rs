//! Statements about the session: settings, transactions, cursors, messages, locks; and the small ones of maintenance.

use pg_query::protobuf::{DiscardMode, TransactionStmtKind, VariableSetKind};

use super::super::settings::{self, Change};
use super::super::tree::At;
use super::data::is_on;
use super::names;
use super::reader::Reader;
use super::{EffectKind, SessionAct};

const SET: i64 = VariableSetKind::VarSetValue as i64;
const SET_CURRENT: i64 = VariableSetKind::VarSetCurrent as i64;
const SET_MULTI: i64 = VariableSetKind::VarSetMulti as i64;
const RESET_ALL: i64 = VariableSetKind::VarResetAll as i64;

/// The setting that carries the requester's reason; custom settings with a dot are accepted by every server.
const REASON: &str = "querygate.reason";

/// `AccessShareLock`: what a SELECT takes anyway.
const ACCESS_SHARE: i64 = pg_query::LockMode::AccessShareLock as i64;

/// Reads the statement if it is one of these.
pub(super) fn statement<'t>(reader: &mut Reader<'t>, at: At<'t>) -> bool {
    match at.kind() {
        "VariableSetStmt" => variable_set(reader, at),
        "VariableShowStmt" => reader.reads(),
        "TransactionStmt" => transaction(reader, at),
        "ConstraintsSetStmt" => reader.add(EffectKind::Transaction, Vec::new(), "it times constraint checks"),
        "DeallocateStmt" => {
            let name = (!at.flag("isall")).then(|| at.text("name").to_owned());
            reader.add(EffectKind::Session, Vec::new(), "it forgets prepared statements");
            reader.opinion.acts.push(SessionAct::Deallocate { name });
        }
        "DiscardStmt" => {
            reader.add(EffectKind::Session, Vec::new(), "it discards session state");
            if at.int("target") == DiscardMode::DiscardAll as i64 {
                reader.opinion.acts.push(SessionAct::Deallocate { name: None });
                reader.opinion.acts.push(SessionAct::SetReason { reason: String::new() });
            }
        }
        "FetchStmt" | "ClosePortalStmt" => {
            reader.add(EffectKind::Session, vec![names::plain(at.text("portalname"))], "it uses a cursor");
        }
        "ListenStmt" | "UnlistenStmt" | "NotifyStmt" => {
            let channel = at.text("conditionname");
            let channel = if channel.is_empty() { Vec::new() } else { vec![names::plain(channel)] };
            reader.add(EffectKind::Session, channel, "it sends or awaits notifications");
        }
        "LockStmt" => lock(reader, at),
        "VacuumStmt" => vacuum(reader, at),
        _ => return false,
    }
    true
}

fn variable_set<'t>(reader: &mut Reader<'t>, at: At<'t>) {
    let name = at.text("name");
    match at.int("kind") {
        RESET_ALL => {
            reader.add(EffectKind::Session, Vec::new(), "it resets all settings");
            reader.opinion.acts.push(SessionAct::SetReason { reason: String::new() });
        }
        // SET TRANSACTION, SET SESSION CHARACTERISTICS, SET TRANSACTION SNAPSHOT.
        SET_MULTI if name == "SESSION CHARACTERISTICS" => {
            reader.add(EffectKind::Session, Vec::new(), "it sets how transactions of this session start");
        }
        SET_MULTI => reader.add(EffectKind::Transaction, Vec::new(), "it sets what this transaction is like"),
        SET => {
            let args: Vec<_> = at.items("args").collect();
            let value = match args.as_slice() {
                names if name.eq_ignore_ascii_case("search_path") => {
                    let plain = |arg: &At<'_>| constant(*arg).filter(|name| is_plain(name));
                    let names = names.iter().map(plain).collect::<Option<Vec<_>>>();
                    names.map(|names| settings::path_of(names.iter().map(String::as_str)))
                }
                [only] => constant(*only),
                _ => None,
            };
            reader.setting(at, name, Change::To(value.as_deref()));
            if name.eq_ignore_ascii_case(REASON) {
                reader.opinion.acts.push(SessionAct::SetReason { reason: value.unwrap_or_default() });
            }
        }
        SET_CURRENT => reader.setting(at, name, Change::Current),
        // RESET, SET … TO DEFAULT.
        _ => {
            reader.setting(at, name, Change::Reset);
            if name.eq_ignore_ascii_case(REASON) {
                reader.opinion.acts.push(SessionAct::SetReason { reason: String::new() });
            }
        }
    }
}

/// The text of an argument that is nothing but a text. A cast may change it: `'role.x'::varchar(4)` is `role`, and so may
/// `'role.x'::text` be, where a domain `pg_temp.text` stands before the server's type.
fn literal(at: At<'_>) -> Option<String> {
    match at.kind() {
        "TypeCast" => {
            let target = at.get("type_name")?;
            let text = target.names("names") == ["pg_catalog", "text"]
                && target.items("array_bounds").next().is_none()
                && target.items("typmods").next().is_none();
            at.get("arg").filter(|_| text).and_then(literal)
        }
        "AConst" if at.get("val").is_some_and(|value| value.kind() == "String") => {
            constant(at).filter(|text| is_plain(text))
        }
        _ => None,
    }
}

/// Should `standard_conforming_strings` be off after all, `'r\ole'` is `role`.
fn is_plain(text: &str) -> bool {
    !text.contains('\\')
}

/// The value of a literal, as SET writes it.
fn constant(at: At<'_>) -> Option<String> {
    match at.kind() {
        "AConst" => {
            let value = at.get("val");
            match value.map(At::kind) {
                Some("String") => value.map(|value| value.text("sval").to_owned()),
                Some("Integer") => value.map(|value| value.int("ival").to_string()),
                Some("Float") => value.map(|value| value.text("fval").to_owned()),
                Some("Boolean") => value.map(|value| value.flag("boolval").to_string()),
                _ => None,
            }
        }
        _ => None,
    }
}

/// `set_config(name, value, local)` is SET as a function.
pub(super) fn set_config<'t>(reader: &mut Reader<'t>, at: At<'t>) {
    if reader.is_quiet(at) {
        return;
    }
    let args: Vec<_> = at.items("args").collect();
    let positional = args.iter().all(|arg| arg.kind() != "NamedArgExpr") && !at.flag("func_variadic");
    let name = args
        .first()
        .filter(|_| positional && args.len() == 3)
        .and_then(|arg| setting_name(reader.root(), at, &args, *arg));
    let Some(name) = name else {
        // Fail closed: whichever setting it is, it may be the worst.
        reader.opinion.opaque = true;
        reader.add(EffectKind::SensitiveSetting, Vec::new(), "set_config() of a setting the text does not name");
        return;
    };
    let value = args.get(1).and_then(|arg| literal(*arg));
    reader.setting(at, &name, Change::To(value.as_deref()));
    if name.eq_ignore_ascii_case(REASON)
        && let Some(reason) = value
    {
        reader.opinion.acts.push(SessionAct::SetReason { reason });
    }
}

/// The setting that `pg_dump` sets only where the server knows it, and its value.
const DUMP_SETTING: (&str, &str) = ("restrict_nonsystem_relation_kind", "view, foreign-table");

/// The setting's name: a literal, or the column `name` in the one query that `pg_dump` sends,
/// `SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_…'`. Nothing else
/// computed is believed: `pg_settings` may be a view of the session's own making.
fn setting_name(root: At<'_>, call: At<'_>, args: &[At<'_>], arg: At<'_>) -> Option<String> {
    if let Some(name) = literal(arg) {
        return Some(name);
    }
    let from: Vec<_> = root.items("from_clause").collect();
    let where_clause = root.get("where_clause")?;
    let [table] = from.as_slice() else { return None };
    let targets: Vec<_> = root.items("target_list").collect();
    let [only] = targets.as_slice() else { return None };
    let direct = only.get("val").is_some_and(|val| val.index() == call.index())
        && args.get(1).and_then(|value| literal(*value)).is_some_and(|value| value == DUMP_SETTING.1);
    let plain = root.kind() == "SelectStmt"
        && root.get("with_clause").is_none()
        && direct
        && arg.kind() == "ColumnRef"
        && arg.names("fields") == ["name"]
        && table.kind() == "RangeVar"
        && table.text("relname") == "pg_settings"
        && matches!(table.text("schemaname"), "" | "pg_catalog")
        && where_clause.kind() == "AExpr"
        && where_clause.int("kind") == pg_query::protobuf::AExprKind::AexprOp as i64
        && where_clause.names("name") == ["="]
        && where_clause.get("lexpr").is_some_and(|left| left.kind() == "ColumnRef" && left.names("fields") == ["name"]);
    let wanted = where_clause.get("rexpr").and_then(literal);
    wanted.filter(|name| plain && name == DUMP_SETTING.0)
}

fn transaction<'t>(reader: &mut Reader<'t>, at: At<'t>) {
    use TransactionStmtKind as Kind;
    let kind = Kind::try_from(i32::try_from(at.int("kind")).unwrap_or_default()).unwrap_or_default();
    match kind {
        Kind::TransStmtBegin
        | Kind::TransStmtStart
        | Kind::TransStmtSavepoint
        | Kind::TransStmtRelease
        | Kind::TransStmtRollbackTo => reader.add(EffectKind::Transaction, Vec::new(), "it controls the transaction"),
        Kind::TransStmtCommit | Kind::TransStmtRollback => {
            reader.add(EffectKind::Transaction, Vec::new(), "it ends the transaction");
            reader.opinion.acts.push(SessionAct::EndTransaction);
        }
        Kind::TransStmtPrepare => {
            reader.add(EffectKind::Admin, Vec::new(), "it leaves a prepared transaction behind");
            reader.opinion.acts.push(SessionAct::EndTransaction);
        }
        Kind::TransStmtCommitPrepared | Kind::TransStmtRollbackPrepared => {
            reader.add(EffectKind::Admin, Vec::new(), "it ends a prepared transaction");
        }
        // Fail closed.
        Kind::Undefined => reader.add(EffectKind::Unknown, Vec::new(), "a transaction statement of no known kind"),
    }
}

fn lock<'t>(reader: &mut Reader<'t>, at: At<'t>) {
    // pg_dump locks every table so, before it reads them.
    if at.int("mode") == ACCESS_SHARE {
        reader.reads();
    } else {
        let tables = reader.claim_all(at, "relations");
        reader.add(EffectKind::Admin, tables, "it locks tables against others");
    }
}

/// ANALYZE and plain VACUUM are what autovacuum does anyway; FULL rewrites tables under an exclusive lock, and the rare
/// options can be as heavy.
fn vacuum<'t>(reader: &mut Reader<'t>, at: At<'t>) {
    let tables: Vec<_> = at.items("rels").flat_map(|rel| reader.claim(rel, "relation")).collect();
    let heavy = at.items("options").any(|option| {
        let light =
            ["analyze", "verbose", "skip_locked", "buffer_usage_limit", "parallel", "process_toast", "process_main"];
        !light.contains(&option.text("defname")) && is_on(option)
    });
    if heavy {
        reader.add(EffectKind::Admin, tables, "VACUUM with heavy options");
    } else {
        reader.add(EffectKind::Session, tables, "it gathers statistics or free space, as autovacuum does");
    }
}
