//! Requests laid out for a terminal. Knows no I/O; whatever came from a client is spelled out so that it cannot fool or
//! command the terminal.

use std::collections::HashMap;
use std::fmt::Write as _;

use jiff::Timestamp;

use crate::approval::http::view::{DecisionView, EffectView, ListView, OwnerView, ParameterView, RequestView, State};
use crate::approval::{is_deceptive, one_line, spell_out, statement_line};
use crate::hold::Execution;

/// Characters of a statement in a one-line summary.
const SUMMARY_CHARS: usize = 100;

/// Distinct unusual characters named in a remark.
const NAMED_CHARS: usize = 6;

/// A whole request, for `show`.
#[must_use]
pub fn request(request: &RequestView, now: Timestamp) -> String {
    let mut out = format!("{}  {}\n\n", request.id, standing(request, now));
    for (label, value) in facts(request) {
        line(&mut out, format_args!("  {label:<12} {value}"));
    }
    out.push('\n');
    for text in statement(request) {
        line(&mut out, format_args!("  {text}"));
    }
    out.push('\n');
    for parameter in &request.parameters {
        line(&mut out, format_args!("  {}", parameter_line(parameter)));
    }
    if !request.parameters.is_empty() {
        out.push('\n');
    }
    for remark in remarks(request) {
        line(&mut out, format_args!("  {remark}"));
    }
    if request.may_review {
        line(&mut out, format_args!("\n  querygate requests review {}", request.id));
    }
    if request.may_decide {
        let id = &request.id;
        line(
            &mut out,
            format_args!("\n  querygate requests approve {id}\n  querygate requests reject {id} --reason \"…\""),
        );
    }
    out
}

/// A list: two lines each; `none` is what an empty one says.
#[must_use]
pub fn list(list: &ListView, none: &str) -> String {
    if list.requests.is_empty() {
        return format!("{none}\n");
    }
    let mut out = String::new();
    for request in &list.requests {
        let standing = standing(request, list.now);
        line(&mut out, format_args!("{}  {standing}  {}", request.id, who(request)));
        line(&mut out, format_args!("    {}", summary(request)));
        line(&mut out, format_args!("    {}", effects(request)));
        for headline in request.impact.iter().flat_map(|impact| impact.headlines.iter().take(HEADLINES)) {
            line(&mut out, format_args!("    impact: {}", one_line(headline)));
        }
        for words in [again(request), review(request)].into_iter().flatten() {
            line(&mut out, format_args!("    {words}"));
        }
    }
    out
}

/// Lines about what a request would touch, in a list.
const HEADLINES: usize = 3;

/// How a standing approval stands, or whose it was.
fn again(request: &RequestView) -> Option<String> {
    let progress = request.progress.as_ref()?;
    if let Some(under) = &progress.under {
        return Some(format!("released under the standing approval of {}", one_line(under)));
    }
    let again = progress.again.as_ref()?;
    Some(match &again.ended_because {
        Some(why) => format!("ran again {} times; no more: {}", again.uses, one_line(why)),
        None => format!("may run again in its session until {:.0}; did {} times", again.until, again.uses),
    })
}

/// How the review of an emergency release stands.
fn review(request: &RequestView) -> Option<String> {
    let review = request.progress.as_ref()?.review.as_ref()?;
    let said = |words: Option<&String>| words.map_or_else(String::new, |words| format!(": “{}”", one_line(words)));
    Some(match &review.acknowledged_by {
        Some(by) => format!("reviewed by {}{}", one_line(by), said(review.comment.as_ref())),
        None => format!("REVIEW OPEN, released alone by {}{}", one_line(&review.broken_by), said(review.why.as_ref())),
    })
}

/// What `approve` and `reject` print.
#[must_use]
pub fn decided(request: &RequestView) -> String {
    let words = match request.state {
        State::Approved => "approved; recorded and being carried out",
        State::Released if is_beforehand(request) => "approved; each of its statements may pass once",
        State::Released => "approved and released to the database",
        State::Rejected => "rejected; its client is told",
        State::Pending => match &request.progress {
            Some(progress) => {
                let (have, need) = (progress.approved_by.len(), progress.approvals_needed);
                return format!("{}  counted; {have} of {need} approvals, it still waits", request.id);
            }
            None => "still waits",
        },
        State::Expired => "expired",
        State::Withdrawn => "withdrawn: decided, but its client no longer waited, so it never ran",
    };
    format!("{}  {words}", request.id)
}

fn is_beforehand(request: &RequestView) -> bool {
    request.progress.as_ref().is_some_and(|progress| progress.asked_beforehand_by.is_some())
}

/// Who asks, in one line: user, person, database, certificate, application, address.
#[must_use]
pub fn who(request: &RequestView) -> String {
    let origin = &request.origin;
    let mut who = one_line(&origin.user);
    if !origin.people.is_empty() {
        let _infallible = write!(who, " ({})", one_line(&origin.people.join(", ")));
    }
    let _infallible = write!(who, " on {}", one_line(&origin.database));
    if let Some(name) = &origin.certificate_name {
        let _infallible = write!(who, " · certificate {}", one_line(name));
    }
    for part in [&origin.application_name, &origin.client] {
        if !part.is_empty() {
            let _infallible = write!(who, " · {}", one_line(part));
        }
    }
    who
}

/// How far it has come, in a few words.
#[must_use]
pub fn standing(request: &RequestView, now: Timestamp) -> String {
    let by = |decision: Option<&DecisionView>| {
        let name = decision.map(|decision| one_line(&decision.by));
        name.map_or_else(String::new, |name| format!(" by {name}"))
    };
    let decision = request.decision.as_ref();
    match request.state {
        State::Pending => format!("PENDING {}", left(request.deadline, now)),
        State::Approved => format!("APPROVED{}, about to run", by(decision)),
        State::Released if is_beforehand(request) => format!("APPROVED beforehand{}", by(decision)),
        State::Released => format!("RELEASED, approved{}", by(decision)),
        State::Rejected => format!("REJECTED{}", by(decision)),
        State::Expired => "EXPIRED".to_owned(),
        State::Withdrawn => {
            let cause = request.cause.as_deref().unwrap_or("for an unknown reason");
            let unknown = matches!(execution(request), Some(Execution::Unknown));
            let never = decision.map_or_else(String::new, |decision| {
                let answer = if decision.approve { "approved" } else { "rejected" };
                let ran = if unknown { "whether it ran is not known" } else { "never ran" };
                format!(" ({answer} by {}, {ran})", one_line(&decision.by))
            });
            format!("WITHDRAWN, {}{never}", one_line(cause))
        }
    }
}

fn execution(request: &RequestView) -> Option<&Execution> {
    request.progress.as_ref()?.execution.as_ref()
}

/// `4m 12s left`, or that the time is up.
#[must_use]
pub fn left(deadline: Timestamp, now: Timestamp) -> String {
    let seconds = deadline.duration_since(now).as_secs();
    if seconds <= 0 {
        return "time is up".to_owned();
    }
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s left"),
        (0, _) => format!("{minutes}m {rest:02}s left"),
        _ => format!("{hours}h {minutes:02}m left"),
    }
}

fn owner_line(owner: &OwnerView) -> String {
    let objects = if owner.objects.is_empty() { "what it may touch".to_owned() } else { owner.objects.join(", ") };
    let more = if owner.more { " and more" } else { "" };
    let lines: Vec<String> = owner.lines.iter().map(ToString::to_string).collect();
    one_line(&format!("{}, of {objects}{more} (line {})", owner.owner, lines.join(", ")))
}

/// Label and value of what an approver has to know besides the statement.
#[must_use]
pub fn facts(request: &RequestView) -> Vec<(&'static str, String)> {
    let origin = &request.origin;
    let mut facts = vec![("who", who(request))];
    for effect in &request.effects {
        facts.push(("does", effect_line(effect)));
    }
    facts.extend(impact(request));
    for risk in &request.risks {
        facts.push(("⚠", format!("{} ({})", one_line(&risk.text), one_line(&risk.kind))));
    }
    let changed = request.progress.iter().flat_map(|progress| &progress.changed);
    facts.extend(changed.map(|line| ("changed", one_line(line))));
    let why = format!("{} (rule {})", one_line(&request.why), one_line(&request.rule));
    facts.push(("held because", why));
    facts.extend(rule_says(request));
    if let Some(reason) = &request.reason {
        facts.push(("reason", format!("“{}”", one_line(reason))));
    }
    let transaction = if request.in_transaction { "open: its locks stay while this waits" } else { "none open" };
    facts.push(("transaction", transaction.to_owned()));
    facts.extend(request.undoes.as_deref().map(|undoes| ("undoes", one_line(undoes))));
    facts.extend(request.guard.as_deref().map(|guard| ("guard", one_line(guard))));
    if !is_beforehand(request) {
        // What could not be asked must not look like what is usual.
        match &request.role {
            Some(role) if *role == origin.user => {}
            Some(role) => facts.push(("acts as", format!("role {}", one_line(role)))),
            None => facts.push(("acts as", "not known".to_owned())),
        }
        let path = request.search_path.as_ref().map_or_else(|| "not known".to_owned(), |path| one_line(path));
        facts.push(("search_path", path));
    }
    let backend = origin.backend_pid.map(|pid| format!(", backend {pid}"));
    let session = format!("{}{}", origin.session, backend.unwrap_or_default());
    facts.push(("session", session));
    facts.push(("deadline", request.deadline.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()));
    if let Some(progress) = request.progress.as_ref().filter(|progress| progress.approvals_needed > 1) {
        let by = one_line(&progress.approved_by.join(", "));
        let (have, need) = (progress.approved_by.len(), progress.approvals_needed);
        let by = if by.is_empty() { by } else { format!(" ({by})") };
        facts.push(("approvals", format!("{have} of {need}{by}")));
    }
    for owner in &request.owners {
        facts.push(("owners", owner_line(owner)));
    }
    let missing = request.progress.iter().flat_map(|progress| &progress.owners_missing);
    for missing in missing.filter(|_| request.state == State::Pending) {
        facts.push(("to agree", one_line(missing)));
    }
    if let Some(progress) = request.progress.as_ref().filter(|progress| progress.escalated > 0) {
        facts.push(("escalated", format!("{} time(s)", progress.escalated)));
    }
    facts.extend(outcome(request));
    facts
}

/// What the rules tell the requester, in as many lines as they do.
fn rule_says(request: &RequestView) -> Vec<(&'static str, String)> {
    let said = [("rule says", &request.message), ("advice", &request.advice)];
    let lines = |(label, words): (&'static str, &Option<String>)| {
        words.iter().flat_map(|words| words.lines()).map(move |line| (label, one_line(line))).collect::<Vec<_>>()
    };
    said.into_iter().flat_map(lines).collect()
}

/// What became of it.
fn outcome(request: &RequestView) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(decision) = &request.decision {
        let alone = request.progress.as_ref().is_some_and(|progress| progress.break_glass);
        let answer = match (decision.approve, alone) {
            (true, true) => "released in an emergency",
            (true, false) => "approved",
            (false, _) => "rejected",
        };
        let reason = decision.reason.as_deref().map(one_line);
        let reason = reason.map_or_else(String::new, |reason| format!(": “{reason}”"));
        facts.push(("decision", format!("{answer} by {}{reason}", one_line(&decision.by))));
    }
    if let Some(again) = again(request) {
        facts.push(("again", again));
    }
    if let Some(review) = review(request) {
        facts.push(("review", review));
    }
    match execution(request) {
        Some(Execution::Completed { tag, duration_ms, kept, .. }) => {
            facts.push(("result", format!("{} after {duration_ms} ms", one_line(tag))));
            facts.extend(kept.as_deref().map(|kept| ("undo", one_line(kept))));
        }
        Some(Execution::Failed { sqlstate, message, .. }) => {
            facts.push(("result", format!("failed, {}: {}", one_line(sqlstate), one_line(message))));
        }
        Some(Execution::Unknown) => facts.push(("result", "not known: the connection ended first".to_owned())),
        None => {}
    }
    for undone in request.progress.iter().flat_map(|progress| &progress.undone) {
        facts.push(("undone", format!("{} ({:.0})", one_line(&undone.text), undone.at)));
    }
    facts
}

/// What it would touch: everything where that is known, else what matters most.
fn impact(request: &RequestView) -> Vec<(&'static str, String)> {
    let Some(impact) = &request.impact else { return Vec::new() };
    let lines = if impact.summary.is_empty() { &impact.headlines } else { &impact.summary };
    lines.iter().map(|line| ("impact", one_line(line))).collect()
}

/// The statement line by line, tabs as spaces, nothing hidden.
#[must_use]
pub fn statement(request: &RequestView) -> Vec<String> {
    let text = spell_out(&request.statement.text);
    text.split('\n').map(|line| line.replace('\t', "    ")).collect()
}

/// `$1 integer = 42`.
#[must_use]
pub fn parameter_line(parameter: &ParameterView) -> String {
    let mut line = format!("${}", parameter.position);
    if let Some(type_name) = &parameter.type_name {
        let _infallible = write!(line, " {}", one_line(type_name));
    }
    match &parameter.value {
        None => line.push_str(" = NULL"),
        Some(value) if parameter.raw => {
            let _infallible = write!(line, " = bytes {}", spell_out(value));
        }
        Some(value) => {
            let quoted = spell_out(value).replace('\n', "⟨U+000A⟩").replace('\t', "⟨U+0009⟩");
            let _infallible = write!(line, " = '{quoted}'");
        }
    }
    if !parameter.complete {
        line.push_str(" … (cut)");
    }
    line
}

/// What an approver should know about the text itself, last its size and digest.
#[must_use]
pub fn remarks(request: &RequestView) -> Vec<String> {
    let statement = &request.statement;
    let mut remarks = Vec::new();
    if statement.lossy {
        remarks.push(
            "! the statement is not UTF-8 text, or not taken for it: what would run differs from what is shown"
                .to_owned(),
        );
    }
    let values = request.parameters.iter().filter_map(|p| p.value.as_deref());
    let texts = || std::iter::once(statement.text.as_str()).chain(values.clone());
    let hidden = texts().flat_map(str::chars).filter(|c| *c != '\r' && is_deceptive(*c)).count();
    if hidden > 0 {
        remarks.push(format!("! {hidden} invisible or misleading characters, spelled out as ⟨U+…⟩"));
    }
    if let Some(unusual) = unusual(texts().flat_map(str::chars)) {
        remarks.push(format!("! not ASCII: {unusual}"));
    }
    let lines = statement.text.lines().count();
    let s = if lines == 1 { "" } else { "s" };
    let size = format!("{} bytes, {lines} line{s}, sha256 {}", statement.bytes, one_line(&statement.sha256));
    if statement.complete {
        remarks.push(format!("shown in full: {size}"));
    } else {
        remarks.push(format!("! NOT shown in full: {size}"));
    }
    remarks
}

/// The first few distinct characters that look-alikes could hide among.
fn unusual(characters: impl Iterator<Item = char>) -> Option<String> {
    let mut seen = Vec::new();
    for c in characters.filter(|c| !c.is_ascii() && !is_deceptive(*c)) {
        if !seen.contains(&c) {
            seen.push(c);
        }
        if seen.len() > NAMED_CHARS {
            break;
        }
    }
    if seen.is_empty() {
        return None;
    }
    let more = if seen.len() > NAMED_CHARS { " …" } else { "" };
    let named = seen.iter().take(NAMED_CHARS);
    let named: Vec<_> = named.map(|c| format!("{c} U+{:04X}", u32::from(*c))).collect();
    Some(format!("{}{more}", named.join(", ")))
}

/// Everything of the statement and the parameters is there.
#[must_use]
pub fn is_complete(request: &RequestView) -> bool {
    request.statement.complete && request.parameters.iter().all(|parameter| parameter.complete)
}

/// The statement on one line, cut with a mark.
#[must_use]
pub fn summary(request: &RequestView) -> String {
    // Only the beginning is looked at: the text may be megabytes.
    let start: String = request.statement.text.chars().take(SUMMARY_CHARS * 4).collect();
    let words = statement_line(&start);
    let cut: String = words.chars().take(SUMMARY_CHARS).collect();
    if cut.len() < words.len() || start.len() < request.statement.text.len() { format!("{cut}…") } else { cut }
}

/// All effects on one line: `delete public.customers (no WHERE), drop t`.
#[must_use]
pub fn effects(request: &RequestView) -> String {
    let effects: Vec<_> = request.effects.iter().map(effect_words).collect();
    let transaction = if request.in_transaction { " · in a transaction" } else { "" };
    let mut kinds: Vec<String> = request.risks.iter().map(|risk| one_line(&risk.kind)).collect();
    kinds.dedup();
    let risks = if kinds.is_empty() { String::new() } else { format!(" · ⚠ {}", kinds.join(", ")) };
    format!("{}{transaction}{risks}", effects.join(", "))
}

fn effect_words(effect: &EffectView) -> String {
    let objects = one_line(&effect.objects.join(", "));
    let unlimited = match effect.has_where {
        Some(false) => " (no WHERE: every row)",
        Some(true) | None => "",
    };
    let space = if objects.is_empty() { "" } else { " " };
    format!("{}{space}{objects}{unlimited}", one_line(&effect.kind))
}

fn effect_line(effect: &EffectView) -> String {
    format!("{} — {}", effect_words(effect), one_line(&effect.why))
}

/// What a line-by-line watcher has been told.
#[derive(Debug, Default)]
pub struct Known {
    states: HashMap<String, State>,
}

/// Requests remembered by a line-by-line watcher before it forgets and starts over.
const KNOWN: usize = 10_000;

impl Known {
    /// A line, if this is news.
    pub fn news(&mut self, request: &RequestView, now: Timestamp) -> Option<String> {
        if self.states.len() > KNOWN {
            self.states.clear();
        }
        let before = self.states.insert(request.id.clone(), request.state);
        if before == Some(request.state) {
            return None;
        }
        let standing = standing(request, now);
        Some(match request.state {
            State::Pending => {
                format!("{}  {standing}  {}  {}  [{}]", request.id, who(request), summary(request), effects(request))
            }
            State::Approved | State::Released | State::Rejected | State::Expired | State::Withdrawn => {
                format!("{}  {standing}", request.id)
            }
        })
    }
}

fn line(out: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _infallible = out.write_fmt(words);
    out.push('\n');
}
