//! From findings to what rules compare: totals, and the names of all that is touched. Pure. What may be more than was found is not
//! known, and rules take that as large.

use std::collections::BTreeSet;

use super::report::{
    Action, AlterWork, Bound, Cascade, CascadeAction, Impact, ObjectImpact, Resolved, Rows, StatementImpact,
};
use super::statement::NOT_LOOKED;
use super::text::digest;
use crate::judge::{Effect, EffectKind, Measure, ObjectName, Reached};

/// What `impact` comes to. `effects` are what the judge read from the same text. `unseen` says why rows may be others than those
/// that were counted, if they may.
pub fn measure(impact: &Impact, effects: &[Effect], unseen: Option<&str>) -> Measure {
    let reached = reached(impact, unseen.is_none()).filter(|_| !names_more(impact, effects));
    let rows = if unseen.is_none() { rows(impact, effects) } else { None };
    let mut said = digest(impact);
    if let Some(why) = unseen.filter(|_| impact.trouble.is_none()) {
        said.push_str(if said.is_empty() { "" } else { "; " });
        said.push_str(why);
    }
    Measure {
        rows,
        bytes: bytes(impact),
        rewrites: rewrites(impact),
        triggers: triggers(impact),
        complete: reached.is_some(),
        reached: reached.unwrap_or_else(|| names(impact, false)),
        said,
    }
}

/// Rows of the one statement that writes, and of all its cascades.
fn rows(impact: &Impact, effects: &[Effect]) -> Option<u64> {
    if impact.trouble.is_some() {
        return None;
    }
    // A second one would meet what the first has changed; and all that the judge saw has to have been counted.
    let mut writing = impact.statements.iter().filter(|statement| statement.action != Action::Read);
    let (Some(statement), None) = (writing.next(), writing.next()) else { return None };
    if statement.part {
        // Fail closed: no guard counts the rows of a part, or of what is only prepared.
        return None;
    }
    let counted: Vec<&ObjectImpact> = statement.objects.iter().filter(|object| object.rows.is_some()).collect();
    let mut wanted = 0_usize;
    for effect in effects {
        match effect.kind {
            EffectKind::Read => {}
            EffectKind::Insert | EffectKind::Update | EffectKind::Delete | EffectKind::Truncate | EffectKind::Drop => {
                wanted = wanted.saturating_add(effect.objects.len().max(1));
            }
            // Fail closed: what these do is not counted in rows.
            EffectKind::Merge
            | EffectKind::Alter
            | EffectKind::Create
            | EffectKind::Privilege
            | EffectKind::Code
            | EffectKind::CopyServerFile
            | EffectKind::LargeObject
            | EffectKind::Admin
            | EffectKind::ReadingSetting
            | EffectKind::SensitiveSetting
            | EffectKind::Session
            | EffectKind::Transaction
            | EffectKind::Execute
            | EffectKind::Unparsed
            | EffectKind::Disagreement
            | EffectKind::Unknown => return None,
        }
    }
    // What a view leads to is not followed.
    let tables = statement.objects.iter().all(|object| object.resolved.known().is_some_and(Resolved::is_table));
    if wanted == 0 || wanted != counted.len() || counted.len() != statement.objects.len() || !tables {
        return None;
    }
    let objects = counted.iter().map(|object| object.rows.as_ref().filter(|_| object.rules.is_empty()).and_then(most));
    let cascades = statement.cascades.iter().map(|cascade| match cascade.action {
        CascadeAction::Refuse => Some(0),
        CascadeAction::Delete
        | CascadeAction::Update
        | CascadeAction::SetNull
        | CascadeAction::SetDefault
        | CascadeAction::Truncate => most(&cascade.rows),
    });
    objects.chain(cascades).try_fold(0_u64, |sum, rows| sum.checked_add(rows?))
}

/// Surely no more than this.
fn most(rows: &Rows) -> Option<u64> {
    match rows.bound {
        Bound::Exact | Bound::AtMost => rows.exact.known().copied(),
        // Fail closed: there may be more.
        Bound::AtLeast | Bound::AtPresent => None,
    }
}

fn bytes(impact: &Impact) -> Option<u64> {
    let objects = impact.statements.iter().filter(|statement| statement.action != Action::Read);
    let mut sizes = objects.flat_map(|statement| &statement.objects).peekable();
    // Fail closed: what nobody looks into may touch anything.
    let blank = impact.statements.iter().any(|statement| statement.notes.iter().any(|note| note == NOT_LOOKED));
    if impact.trouble.is_some() || blank || sizes.peek().is_none() {
        return None;
    }
    sizes.try_fold(0_u64, |sum, object| sum.checked_add(*object.table.as_ref()?.known()?.bytes.known()?))
}

fn rewrites(impact: &Impact) -> Option<bool> {
    if impact.trouble.is_some() || impact.statements.is_empty() {
        return None;
    }
    let of = |statement: &StatementImpact| match statement.action {
        Action::Alter if statement.alter.is_empty() => None,
        Action::Alter => statement.alter.iter().try_fold(false, |any, step| match step.work {
            // It reads no row, and every row loses a value.
            AlterWork::Catalogue if step.command == "DROP COLUMN" => Some(true),
            // Whoever names it finds it no more.
            AlterWork::Catalogue if step.command == "SET SCHEMA" => None,
            AlterWork::Catalogue => Some(any),
            AlterWork::Scan | AlterWork::Rewrite => Some(true),
            AlterWork::Unknown => None,
        }),
        Action::Delete
        | Action::Update
        | Action::Insert
        | Action::Merge
        | Action::Truncate
        | Action::Drop
        | Action::Read => Some(false),
        // CLUSTER, VACUUM FULL, CREATE INDEX … are among these.
        Action::Other => None,
    };
    let all: Vec<Option<bool>> = impact.statements.iter().map(of).collect();
    if all.contains(&Some(true)) { Some(true) } else { all.into_iter().try_fold(false, |_, one| one) }
}

fn triggers(impact: &Impact) -> Option<bool> {
    let objects = || impact.statements.iter().flat_map(|statement| &statement.objects);
    if objects().any(|object| !object.triggers.is_empty() || !object.rules.is_empty()) {
        return Some(true);
    }
    let looked = impact.trouble.is_none()
        && impact.looked
        && impact.statements.iter().all(|statement| {
            // Of tables that foreign keys lead to it is known whether there are any, and not which would fire.
            let none = |cascade: &Cascade| cascade.triggers == Some(false) && cascade.rules == Some(false);
            let acting = statement.cascades.iter().filter(|cascade| cascade.action != CascadeAction::Refuse);
            statement.consequences && !statement.unfollowed && acting.into_iter().all(none)
        });
    looked.then_some(false)
}

fn none(rows: &Rows) -> bool {
    most(rows) == Some(0)
}

/// All that is touched, by names of the catalogue; `None`: there may be more. `counted`: numbers of rows can be relied on.
fn reached(impact: &Impact, counted: bool) -> Option<Vec<Reached>> {
    let unlisted = |statement: &StatementImpact| {
        let dependents = statement.dependents.as_ref();
        let drops_more = dependents.is_some_and(|found| {
            found.known().is_none_or(|found| found.cascade && (found.more || !found.listed.is_empty()))
        });
        let unclear = |object: &ObjectImpact| object.resolved.known().is_none_or(|resolved| !resolved.is_itself());
        drops_more
            || (statement.objects.is_empty() && statement.action != Action::Read)
            || statement.objects.iter().any(unclear)
            || statement.unfollowed
            // A rewrite rule replaces what the key does, or adds to it, whether or not a row refers.
            || statement.cascades.iter().any(|cascade| cascade.child.is_none() || cascade.rules != Some(false))
    };
    let whole =
        impact.trouble.is_none() && impact.looked && impact.kin.is_some() && !impact.statements.iter().any(unlisted);
    whole.then(|| names(impact, counted))
}

/// Whether the judge read more names of what is changed than were looked into: the parent in INHERIT, the partition in ATTACH PARTITION,
/// the table that a new foreign key refers to. Counted, not compared: a name without a schema may be any of them.
fn names_more(impact: &Impact, effects: &[Effect]) -> bool {
    let mut named: Vec<&ObjectName> = Vec::new();
    for object in effects.iter().filter(|effect| effect.kind != EffectKind::Read).flat_map(|effect| &effect.objects) {
        if !named.contains(&object) {
            named.push(object);
        }
    }
    let objects = impact.statements.iter().flat_map(|statement| &statement.objects);
    let found: BTreeSet<u32> = objects.filter_map(|object| object.resolved.known().map(|found| found.oid)).collect();
    named.len() > found.len()
}

fn names(impact: &Impact, counted: bool) -> Vec<Reached> {
    let mut all = Vec::new();
    let mut add = |schema: &str, name: &str, by_cascade: bool| {
        let schema = Some(schema.to_owned()).filter(|schema| !schema.is_empty());
        let reached = Reached { object: ObjectName { schema, name: name.to_owned() }, by_cascade };
        if !all.contains(&reached) {
            all.push(reached);
        }
    };
    let kin = |oid: u32| impact.kin.iter().flatten().filter(move |kin| kin.of == oid);
    let counts = |cascade: &&Cascade| cascade.action != CascadeAction::Refuse && !(counted && none(&cascade.rows));
    for statement in impact.statements.iter().filter(|statement| statement.action != Action::Read) {
        for object in &statement.objects {
            if let Some(resolved) = object.resolved.known() {
                add(&resolved.schema, &resolved.name, false);
                kin(resolved.oid).for_each(|kin| add(&kin.schema, &kin.name, false));
            }
        }
        for child in statement.cascades.iter().filter(counts).filter_map(|cascade| cascade.child.as_ref()) {
            add(&child.schema, &child.name, true);
            kin(child.oid).for_each(|kin| add(&kin.schema, &kin.name, true));
        }
    }
    all
}
