//! Whether what was shown is still so: definitions, and numbers of rows. Pure.

use super::own::Own;
use super::report::{Impact, Known, Rows, UndoneRows};

/// Differences told one by one; of more only how many.
const TOLD: usize = 6;

/// How `now` differs from `before`, which people were shown, in sentences; empty if what they were shown still holds. More rows
/// than before count when they are more by over `tolerance`, a share (0.1: a tenth); fewer never do.
///
/// What was not known before cannot have changed, and people have seen that it was not. What was known and is not any more has.
pub fn changes(before: &Impact, now: &Impact, tolerance: f64) -> Vec<String> {
    changes_beside(before, now, tolerance, &Own::default())
}

/// The same, where some of the statements have run by now: what they may have done themselves does not count.
pub fn changes_beside(before: &Impact, now: &Impact, tolerance: f64, own: &Own) -> Vec<String> {
    let mut changed = Vec::new();
    others(before, now, own, &mut changed);
    match (&before.fingerprint, &now.fingerprint) {
        (Known::Known(one), Known::Known(two)) if one == two => {}
        (Known::Known(_), Known::Known(_)) => definitions(before, now, own, &mut changed),
        (Known::Known(_), Known::Unknown(_)) if own.unseen => {}
        // Fail closed: it may be anything by now.
        (Known::Known(_), Known::Unknown(why)) => {
            changed.push(format!(
                "whether definitions have changed cannot be told: {}",
                now.trouble.as_ref().unwrap_or(why)
            ));
        }
        (Known::Unknown(_), _) => {}
    }
    rows(before, now, tolerance, own, &mut changed);
    undone(before, now, &mut changed);
    changed
}

/// Names that mean another object by now: what is then told to be gone of the first one need not be.
fn others(before: &Impact, now: &Impact, own: &Own, changed: &mut Vec<String>) {
    for (shown, found) in before.statements.iter().zip(&now.statements) {
        for (shown, found) in shown.objects.iter().zip(&found.objects) {
            let (Some(was), Some(is)) = (shown.resolved.known(), found.resolved.known()) else { continue };
            if shown.written == found.written && was.qualified() != is.qualified() && !own.defines(&was.name) {
                let line = format!("{} means {} now, {} before", shown.written, is.qualified(), was.qualified());
                if !changed.contains(&line) {
                    changed.push(line);
                }
            }
        }
    }
}

/// Rows that an undo leaves as they are are what people decide by, so one more is a change.
fn undone(before: &Impact, now: &Impact, changed: &mut Vec<String>) {
    let Some(Known::Known(shown)) = before.undo.as_ref().map(|undo| &undo.rows) else { return };
    let found = match now.undo.as_ref().map(|undo| &undo.rows) {
        Some(Known::Known(found)) => found,
        // Fail closed.
        Some(Known::Unknown(why)) => return changed.push(format!("what it brings back is not known any more: {why}")),
        None => return changed.push("what it brings back is not known any more".to_owned()),
    };
    for found in found {
        let same = |shown: &&UndoneRows| shown.table == found.table && shown.action == found.action;
        let Some(shown) = shown.iter().find(same) else {
            changed.push(format!("it writes {} rows of {} as well", found.rows, found.table));
            continue;
        };
        let (Some(before), now) = (conflicting(shown), conflicting(found)) else { continue };
        match now {
            Some(now) if now <= before => {}
            Some(now) => changed.push(format!("{now} rows of {} conflict now, {before} before", found.table)),
            // Fail closed.
            None => changed.push(format!("which rows of {} conflict is not known any more", found.table)),
        }
    }
}

fn conflicting(undone: &UndoneRows) -> Option<u64> {
    undone.conflicts.known().map(|all| all.iter().map(|conflict| conflict.rows).fold(0, u64::saturating_add))
}

fn definitions(before: &Impact, now: &Impact, own: &Own, changed: &mut Vec<String>) {
    let (one, two) = (&before.definitions, &now.definitions);
    if one.is_empty() {
        // They are not on record: all that is known of an earlier process is their hash.
        changed.push("definitions have changed".to_owned());
        return;
    }
    let gone = one.iter().filter(|(label, _)| !two.contains_key(*label)).map(|of| (of, "is gone"));
    let new = two.iter().filter(|(label, _)| !one.contains_key(*label)).map(|of| (of, "is new"));
    let other = one.iter().filter(|(label, was)| two.get(*label).is_some_and(|now| now != *was));
    let all: Vec<_> = new.chain(gone).chain(other.map(|of| (of, "was redefined"))).collect();
    let others: Vec<String> = all
        .iter()
        .filter(|((_, definition), _)| !own.defines(&definition.subject))
        .map(|((label, _), what)| format!("{label} {what}"))
        .collect();
    changed.extend(others.iter().take(TOLD).cloned());
    match others.len().saturating_sub(TOLD) {
        // Fail closed: the hash says so, whatever the list does.
        0 if all.is_empty() => changed.push("definitions have changed".to_owned()),
        0 => {}
        more => changed.push(format!("and {more} changes of definitions more")),
    }
}

/// A number of rows, and what it counts.
struct Counted<'a> {
    of: String,
    /// The table, without its schema.
    table: &'a str,
    /// Which statement's, from 0.
    statement: usize,
    rows: &'a Rows,
}

fn rows(before: &Impact, now: &Impact, tolerance: f64, own: &Own, changed: &mut Vec<String>) {
    let (one, two) = (counted(before), counted(now));
    // What those that ran took along by foreign keys is theirs as well.
    let along: Vec<&str> = one.iter().filter(|all| own.ran.contains(&all.statement)).map(|all| all.table).collect();
    let is_own = |all: &Counted<'_>| own.rows_of(all.table) || along.contains(&all.table);
    for counted in one.iter().filter(|all| !own.ran.contains(&all.statement) && !is_own(all)) {
        let Some(shown) = best(counted.rows) else { continue };
        let found = two.iter().find(|other| other.of == counted.of);
        match found.map(|other| best(other.rows)) {
            Some(Some(found)) if !is_more(shown, found, tolerance) => {}
            Some(Some(found)) => changed.push(format!("{found} rows of {} now, {shown} before", counted.of)),
            Some(None) if own.unseen => {}
            // Fail closed: how many there are by now is not known.
            Some(None) => changed.push(format!("how many rows of {} is not known any more", counted.of)),
            // Something else stands in its place, or it was followed no further: definitions tell that.
            None => {}
        }
    }
}

fn counted(impact: &Impact) -> Vec<Counted<'_>> {
    let mut all = Vec::new();
    let several =
        impact.statements.last().and_then(|last| last.place).map_or(impact.statements.len() > 1, |last| last > 0);
    for (index, statement) in impact.statements.iter().enumerate() {
        let index = statement.place.unwrap_or(index);
        let place = if several { format!(" (statement {})", index.saturating_add(1)) } else { String::new() };
        for object in &statement.objects {
            if let (Some(resolved), Some(rows)) = (object.resolved.known(), &object.rows) {
                let of = format!("{}{place}", resolved.qualified());
                all.push(Counted { of, table: &resolved.name, statement: index, rows });
            }
        }
        for cascade in &statement.cascades {
            let of = format!("{} by {}{place}", cascade.to, cascade.constraint);
            // Of one read from the record only the words for people are left: then nothing is its own doing.
            let table = cascade.child.as_ref().map_or("", |child| child.name.as_str());
            all.push(Counted { of, table, statement: index, rows: &cascade.rows });
        }
    }
    all
}

fn best(rows: &Rows) -> Option<u64> {
    rows.exact.known().or(rows.estimate.known()).copied()
}

/// Rows are counted in whole numbers, so of a few one more is more by a lot.
fn is_more(before: u64, now: u64, tolerance: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "a share of so many rows need not be exact")]
    let most = before as f64 * (1.0 + tolerance.max(0.0));
    #[expect(clippy::cast_precision_loss, reason = "as before")]
    let now_is_more = now as f64 > most;
    now > before && now_is_more
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::report::{Action, Bound, Definition, ObjectImpact, Resolved, StatementImpact};
    use super::*;

    fn impact(fingerprint: &str, definitions: &[(&str, &str)], rows: Known<u64>) -> Impact {
        let object = ObjectImpact {
            written: "t".to_owned(),
            resolved: Known::Known(Resolved {
                oid: 1,
                schema: "s".to_owned(),
                name: "t".to_owned(),
                kind: "table".to_owned(),
            }),
            rows: Some(Rows { estimate: Known::Unknown(String::new()), exact: rows, bound: Bound::Exact }),
            table: None,
            triggers: Vec::new(),
            rules: Vec::new(),
            through: None,
        };
        let statement = StatementImpact {
            action: Action::Delete,
            lock: None,
            objects: vec![object],
            cascades: Vec::new(),
            alter: Vec::new(),
            dependents: None,
            place: None,
            part: false,
            consequences: true,
            unfollowed: false,
            notes: Vec::new(),
        };
        Impact {
            statements: vec![statement],
            fingerprint: Known::Known(fingerprint.to_owned()),
            definitions: definitions
                .iter()
                .map(|(label, hash)| ((*label).to_owned(), definition(label, hash)))
                .collect(),
            trouble: None,
            ..Impact::unknown("")
        }
    }

    /// It belongs to the last word of its label.
    fn definition(label: &str, hash: &str) -> Definition {
        let subject = label.rsplit(' ').next().unwrap_or_default().to_owned();
        Definition { subject, hash: hash.to_owned() }
    }

    fn unseen() -> Impact {
        Impact {
            fingerprint: Known::Unknown("no time".to_owned()),
            ..impact("", &[], Known::Unknown("no time".to_owned()))
        }
    }

    #[test]
    fn what_is_the_same_has_not_changed_and_what_was_never_known_cannot_have() {
        let shown = impact("a", &[("column s.t.x", "1")], Known::Known(3));
        assert_eq!(changes(&shown, &shown, 0.0), [""; 0]);
        assert_eq!(changes(&unseen(), &shown, 0.0), [""; 0]);
        assert_eq!(changes(&unseen(), &unseen(), 0.0), [""; 0]);
    }

    #[test]
    fn what_was_known_and_is_not_any_more_has_changed() {
        let shown = impact("a", &[], Known::Known(3));
        let told = changes(&shown, &unseen(), 0.5);
        assert_eq!(
            told,
            ["whether definitions have changed cannot be told: no time", "how many rows of s.t is not known any more"]
        );
        let nothing = Impact::unknown("gone");
        assert_eq!(changes(&shown, &nothing, 0.5), ["whether definitions have changed cannot be told: gone"]);
    }

    #[test]
    fn definitions_are_told_by_name_and_their_number_is_bounded() {
        let shown = impact("a", &[("a", "1"), ("b", "1"), ("c", "1")], Known::Known(3));
        let now = impact("b", &[("b", "2"), ("c", "1"), ("d", "1")], Known::Known(3));
        assert_eq!(changes(&shown, &now, 0.0), ["d is new", "a is gone", "b was redefined"]);
        let names: Vec<String> = (0..20).map(|n| format!("n{n:02}")).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let told = changes(&impact("x", &[("n00", "1")], Known::Known(3)), &impact("y", &many, Known::Known(3)), 0.0);
        assert_eq!((told.len(), told.last().map(String::as_str)), (7, Some("and 13 changes of definitions more")));
        let other_hash = impact("z", &[("a", "1"), ("b", "1"), ("c", "1")], Known::Known(3));
        assert_eq!(changes(&shown, &other_hash, 0.0), ["definitions have changed"]);
    }

    #[test]
    fn more_rows_count_beyond_the_tolerance_and_fewer_never_do() {
        let of = |rows| impact("a", &[], Known::Known(rows));
        for (before, now, tolerance, differs) in [
            (100, 110, 0.1, false),
            (100, 111, 0.1, true),
            (3, 4, 0.1, true),
            (3, 4, 0.34, false),
            (0, 1, 10.0, true),
            (100, 1, 0.0, false),
            (100, 100, 0.0, false),
            (u64::MAX, u64::MAX, 0.0, false),
            (100, 101, -5.0, true),
        ] {
            assert_eq!(!changes(&of(before), &of(now), tolerance).is_empty(), differs, "{before} {now} {tolerance}");
        }
        assert_eq!(changes(&of(3), &of(9), 0.1), ["9 rows of s.t now, 3 before"]);
    }

    #[test]
    fn what_its_own_statements_have_done_does_not_count_and_nothing_else_is_forgiven() {
        // The two statements name two tables.
        let both = |fingerprint, definitions: &[(&str, &str)], first, second| {
            let mut all = impact(fingerprint, definitions, Known::Known(first));
            let mut other = impact("", &[], Known::Known(second)).statements;
            if let Some(Known::Known(resolved)) =
                other.first_mut().and_then(|one| one.objects.first_mut()).map(|object| &mut object.resolved)
            {
                "u".clone_into(&mut resolved.name);
            }
            all.statements.extend(other);
            all
        };
        let own = |text| Own::of(text, &BTreeSet::from([0]));
        let deletes = own("DELETE FROM t; DELETE FROM u");
        let alters = own("ALTER TABLE t ADD x int; DELETE FROM u");
        let shown = both("a", &[("relation t", "1"), ("relation u", "1")], 3, 3);
        let told = |now: &Impact, own: &Own| changes_beside(&shown, now, 0.0, own);
        // Rows: its own, somebody's.
        assert_eq!(told(&both("a", &[], 9, 3), &deletes), [""; 0]);
        assert_eq!(told(&both("a", &[], 9, 3), &Own::default()), ["9 rows of s.t (statement 1) now, 3 before"]);
        assert_eq!(told(&both("a", &[], 3, 9), &deletes), ["9 rows of s.u (statement 2) now, 3 before"]);
        // Definitions: its own if it defines, somebody's whatever ran.
        let first = both("b", &[("relation t", "2"), ("column x of t", "1"), ("relation u", "1")], 3, 3);
        assert_eq!(told(&first, &alters), [""; 0]);
        assert_eq!(told(&first, &deletes), ["column x of t is new", "relation t was redefined"]);
        let second = both("b", &[("relation t", "2"), ("relation u", "2")], 3, 3);
        assert_eq!(told(&second, &alters), ["relation u was redefined"]);
        // Of an earlier process only the hash is left.
        let restored = both("a", &[], 3, 3);
        assert_eq!(changes_beside(&restored, &first, 0.0, &alters), ["definitions have changed"]);
        // Its own locks may keep from looking: what is seen counts all the same.
        let inside = alters.unseen(true);
        assert_eq!(told(&unseen(), &inside), [""; 0]);
        assert_eq!(told(&second, &inside), ["relation u was redefined"]);
    }
}
