//! Findings in words: one line for whoever asked, a list for whoever decides.

use super::report::{
    Action, AlterWork, Bound, Cascade, CascadeAction, Dependents, Impact, Known, ObjectImpact, Rows, StatementImpact,
    TableFacts, UndoAction, Undoing, UndoneRows, Waiting,
};
use super::statement::NOT_LOOKED;

/// Longest digest, in characters.
const DIGEST: usize = 400;
/// Longest line of a summary, in characters.
const LINE: usize = 300;
/// Cascades named in a digest.
const DIGEST_CASCADES: usize = 3;

/// One or two lines for the NOTICE that the requester sees. Empty if there is nothing to say. Numbers are left out unless the
/// requester may read the rows themselves: otherwise a held statement would be a way to count what one may not see.
pub fn digest(impact: &Impact) -> String {
    if impact.trouble.is_some() {
        // Why is an operator's affair.
        return "what it would touch is not known".to_owned();
    }
    if !impact.requester_may_see {
        let known = impact.statements.iter().any(|statement| !statement.objects.is_empty());
        let mut parts: Vec<&str> = Vec::new();
        if impact.undo.is_some() || known {
            parts.push("what it would touch is shown to approvers");
        } else if impact.statements.iter().any(is_blank) {
            parts.push(NOT_LOOKED);
        }
        parts.extend(is_uncompared(impact).then_some(UNCOMPARED));
        return parts.join("; ");
    }
    let blank = impact.statements.iter().filter(|statement| is_blank(statement)).map(|_| NOT_LOOKED.to_owned());
    let parts: Vec<String> = impact.statements.iter().filter_map(sentence).chain(blank.take(1)).collect();
    let mut said = cut(&parts.join("; "), DIGEST);
    if is_uncompared(impact) {
        said = format!("{said}{}{UNCOMPARED}", if said.is_empty() { "" } else { "; " });
    }
    said
}

/// What has to be seen in ten seconds, a line each, for approvers: what is touched and how much of it, without the reasons.
pub fn headlines(impact: &Impact) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(trouble) = &impact.trouble {
        lines.push(format!("what it would touch is not fully known: {trouble}"));
    }
    lines.extend(impact.undo.iter().flat_map(undo_lines));
    for statement in &impact.statements {
        lines.extend(statement.objects.iter().map(|object| object_sentence(statement.action, object)));
        lines.extend(statement.cascades.iter().map(|cascade| cascade_sentence(statement.action, cascade)));
        lines.extend(
            statement.alter.iter().map(|step| format!("{} under {}", work(&step.command, step.work), step.lock)),
        );
        if let Some(Known::Known(dependents)) = &statement.dependents
            && !dependents.listed.is_empty()
        {
            lines.extend(dependent_lines(dependents));
        }
        let fires = statement.objects.iter().flat_map(|object| &object.triggers);
        lines.extend(fires.map(|trigger| format!("trigger {} fires", trigger.name)));
        lines.extend(is_blank(statement).then(|| NOT_LOOKED.to_owned()));
    }
    lines.extend(uncompared(impact));
    if let Some(Known::Known(locks)) = &impact.session {
        lines.extend(locks.waiting.iter().map(waits));
    }
    lines.iter().map(|line| cut(line, LINE)).collect()
}

/// Everything, a line each, for approvers.
pub fn summary(impact: &Impact) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(trouble) = &impact.trouble {
        lines.push(format!("what it would touch is not fully known: {trouble}"));
    }
    lines.extend(impact.undo.iter().flat_map(undo_lines));
    for statement in &impact.statements {
        of_statement(statement, &mut lines);
    }
    match &impact.session {
        Some(Known::Known(locks)) => {
            if !locks.held.is_empty() {
                lines.push(format!("its transaction holds {}", locks.held.join(", ")));
            }
            lines.extend(locks.waiting.iter().map(waits));
        }
        Some(Known::Unknown(why)) => lines.push(format!("its locks are not known: {why}")),
        None => (),
    }
    lines.extend(uncompared(impact));
    lines.extend(impact.notes.iter().cloned());
    lines.iter().map(|line| cut(line, LINE)).collect()
}

/// Told to the requester, who is told no reasons.
const UNCOMPARED: &str = "not all of its definitions are compared when it is released";

/// Definitions that may change unnoticed.
fn is_uncompared(impact: &Impact) -> bool {
    // If nothing could be asked, that is said already.
    impact.trouble.is_none() && (impact.fingerprint.known().is_none() || !impact.uncompared.is_empty())
}

fn uncompared(impact: &Impact) -> Vec<String> {
    let all =
        impact.fingerprint.unknown().map(|why| format!("its definitions are not compared when it is released: {why}"));
    let some = impact.uncompared.iter().map(|what| format!("not compared when it is released: {what}"));
    if is_uncompared(impact) { all.into_iter().chain(some).collect() } else { Vec::new() }
}

/// It is of a kind that nobody looks into.
fn is_blank(statement: &StatementImpact) -> bool {
    statement.notes.iter().any(|note| note == NOT_LOOKED)
}

fn waits(waiting: &Waiting) -> String {
    let user = waiting.user.as_deref().unwrap_or("somebody");
    let seconds = waiting.seconds.map_or_else(String::new, |seconds| format!(" for {seconds} s"));
    format!("{user} (pid {}) waits for its transaction{seconds}", waiting.pid)
}

/// `deletes about 1,204 rows of shop.customers; cascades to …`.
fn sentence(statement: &StatementImpact) -> Option<String> {
    let objects: Vec<String> =
        statement.objects.iter().map(|object| object_sentence(statement.action, object)).collect();
    if objects.is_empty() {
        return None;
    }
    let mut text = objects.join(", ");
    for step in &statement.alter {
        text = format!("{text}; {}", work(&step.command, step.work));
    }
    for cascade in statement.cascades.iter().take(DIGEST_CASCADES) {
        text = format!("{text}; {}", cascade_sentence(statement.action, cascade));
    }
    let more = statement.cascades.len().saturating_sub(DIGEST_CASCADES);
    if more > 0 {
        text = format!("{text}; and {more} foreign keys more");
    }
    Some(text)
}

fn of_statement(statement: &StatementImpact, lines: &mut Vec<String>) {
    for object in &statement.objects {
        lines.push(object_sentence(statement.action, object));
        if let Some(rows) = &object.rows
            && let (Some(why), Some(_)) = (rows.exact.unknown(), rows.estimate.known())
        {
            lines.push(why.to_owned());
        }
        match &object.table {
            Some(Known::Known(facts)) => lines.push(table(&whole(object), facts)),
            Some(Known::Unknown(why)) => lines.push(format!("size and use of {} are not known: {why}", whole(object))),
            None => (),
        }
        for trigger in &object.triggers {
            lines.push(format!("trigger {} fires ({}): {}()", trigger.name, trigger.when, trigger.function));
        }
        for rule in &object.rules {
            lines.push(format!("rule {rule}"));
        }
    }
    lines.extend(statement.cascades.iter().map(|cascade| cascade_sentence(statement.action, cascade)));
    for step in &statement.alter {
        lines.push(format!("{} under {}: {}", work(&step.command, step.work), step.lock, step.why));
    }
    if let Some(lock) = &statement.lock {
        lines.push(format!("it locks {lock}"));
    }
    match &statement.dependents {
        Some(Known::Known(dependents)) => lines.extend(dependent_lines(dependents)),
        Some(Known::Unknown(why)) => lines.push(format!("what depends on it is not known: {why}")),
        None => (),
    }
    lines.extend(statement.notes.iter().cloned());
}

fn name(object: &ObjectImpact) -> String {
    object.resolved.known().map_or_else(|| object.written.clone(), super::report::Resolved::qualified)
}

/// What its size is of.
fn whole(object: &ObjectImpact) -> String {
    object.through.clone().unwrap_or_else(|| name(object))
}

/// What is changed where a view is named.
fn behind(action: Action, object: &ObjectImpact) -> String {
    let view = object.resolved.known().is_some_and(|found| found.kind == "view");
    match action {
        Action::Delete | Action::Update | Action::Insert | Action::Merge => match &object.through {
            Some(table) => format!(" (through the view, of {table})"),
            None if view => " (a view: what is changed behind it is not known)".to_owned(),
            None => String::new(),
        },
        Action::Truncate | Action::Drop | Action::Alter | Action::Read | Action::Other => String::new(),
    }
}

fn object_sentence(action: Action, object: &ObjectImpact) -> String {
    let verb = match action {
        Action::Delete => "deletes",
        Action::Update => "updates",
        Action::Insert => "inserts",
        Action::Merge => "merges",
        Action::Truncate => "empties",
        Action::Drop => "drops",
        Action::Alter => "alters",
        Action::Read => "reads",
        Action::Other => "concerns",
    };
    let name = name(object);
    let through = behind(action, object);
    if let Some(why) = object.resolved.unknown() {
        return format!("{verb} {name}, which is not known: {why}");
    }
    let Some(rows) = &object.rows else { return format!("{verb} {name}") };
    let counted = row_count(rows);
    match action {
        Action::Insert => format!("{verb} {counted} into {name}{through}"),
        Action::Truncate | Action::Drop => format!("{verb} {name} with {counted}"),
        Action::Delete | Action::Update | Action::Merge | Action::Alter | Action::Read | Action::Other => {
            format!("{verb} {counted} of {name}{through}")
        }
    }
}

fn cascade_sentence(action: Action, cascade: &Cascade) -> String {
    let rows = row_count(&cascade.rows);
    let round = if cascade.cycle { ", and round again" } else { "" };
    let to = &cascade.to;
    match cascade.action {
        CascadeAction::Delete => format!("cascades to {rows} of {to}{round}"),
        CascadeAction::Update => format!("changes the key of {rows} of {to}{round}"),
        CascadeAction::SetNull => format!("sets null in {rows} of {to}{round}"),
        CascadeAction::SetDefault => format!("sets defaults in {rows} of {to}{round}"),
        // Whatever rows there are (`heap_truncate_check_FKs`).
        CascadeAction::Refuse if action == Action::Truncate => {
            format!("fails without CASCADE, because a foreign key of {to} refers to it")
        }
        CascadeAction::Refuse => format!("fails if rows of {to} refer to it ({rows} do)"),
        CascadeAction::Truncate => format!("empties {to} with {rows}"),
    }
}

/// `3,910 rows (exact)`, `about 1,204 rows`, `an unknown number of rows (calls f())`.
fn row_count(rows: &Rows) -> String {
    let bound = match rows.bound {
        Bound::Exact => "",
        Bound::AtMost => "at most ",
        Bound::AtLeast => "at least ",
        Bound::AtPresent => "at present ",
    };
    match (&rows.exact, &rows.estimate) {
        (Known::Known(count), _) => format!("{bound}{} {} (exact)", grouped(*count), plural(*count)),
        (_, Known::Known(count)) => format!("{bound}about {} {}", grouped(*count), plural(*count)),
        (_, Known::Unknown(why)) => {
            format!("an unknown number of rows ({})", why.strip_prefix("unknown: ").unwrap_or(why))
        }
    }
}

/// What an undo brings back, a line for each table.
fn undo_lines(undo: &Undoing) -> Vec<String> {
    let request = &undo.request;
    match &undo.rows {
        Known::Unknown(why) => vec![format!("what undoing {request} brings back is not known: {why}")],
        Known::Known(tables) if tables.is_empty() => vec![format!("nothing is kept of {request}")],
        Known::Known(tables) => {
            tables.iter().map(|table| format!("undoing {request} {}", undone_rows(table))).collect()
        }
    }
}

/// `brings back 11 rows of public.orders; 2 conflict at present: 2 a row with its key exists`.
fn undone_rows(undone: &UndoneRows) -> String {
    let UndoneRows { table, action, rows, conflicts } = undone;
    let verb = match action {
        UndoAction::BringBack => "brings back",
        UndoAction::SetBack => "sets back",
        UndoAction::Remove => "removes",
    };
    let conflicts = match conflicts {
        Known::Unknown(why) => format!("which conflict is not known: {why}"),
        Known::Known(conflicts) if conflicts.is_empty() => "none conflicts at present".to_owned(),
        Known::Known(conflicts) => {
            let all = conflicts.iter().map(|conflict| conflict.rows).fold(0, u64::saturating_add);
            let each = conflicts.iter().map(|conflict| format!("{} ({})", grouped(conflict.rows), conflict.why));
            format!("CONFLICT at present: {} of them: {}", grouped(all), each.collect::<Vec<_>>().join(", "))
        }
    };
    format!("{verb} {} {} of {table}; {conflicts}", grouped(*rows), plural(*rows))
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "row" } else { "rows" }
}

/// `1234567` → `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && digits.len().saturating_sub(place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn table(name: &str, facts: &TableFacts) -> String {
    let mut text = match &facts.bytes {
        Known::Known(bytes) => format!("{name} has {}", size(*bytes)),
        Known::Unknown(why) => format!("the size of {name} is not known ({why})"),
    };
    if let Some(rows) = facts.reltuples {
        text = format!("{text}, about {rows:.0} rows");
    }
    if facts.children > 0 {
        text = format!("{text}, in {} partitions or children", facts.children);
    }
    if let Some(used) = &facts.last_use {
        text = format!("{text}, last read {used}");
    }
    if facts.row_security {
        text.push_str(", row security is on");
    }
    text
}

pub(super) fn size(bytes: u64) -> String {
    let mut number = bytes;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if number < 10_240 {
            return format!("{} {unit}", grouped(number));
        }
        number /= 1024;
    }
    format!("{} TiB", grouped(number))
}

fn work(command: &str, work: AlterWork) -> String {
    match work {
        AlterWork::Catalogue => format!("{command} changes the catalogue only"),
        AlterWork::Scan => format!("{command} reads every row"),
        AlterWork::Rewrite => format!("{command} rewrites every row"),
        AlterWork::Unknown => format!("{command} may rewrite every row"),
    }
}

fn dependent_lines(dependents: &Dependents) -> Vec<String> {
    if dependents.listed.is_empty() {
        return vec!["nothing else depends on it".to_owned()];
    }
    let more = if dependents.more { ", and more" } else { "" };
    let list = dependents.listed.join(", ");
    vec![if dependents.cascade {
        format!("CASCADE drops as well: {list}{more}")
    } else {
        format!("it fails, because there depends on it: {list}{more}")
    }]
}

fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}
