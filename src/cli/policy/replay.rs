//! `policy replay`: what a changed policy would have done with what is on record: statements with their text, and counts of those that
//! passed, which are judged by the effects they had.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{AddrParseError, IpAddr, SocketAddr};
use std::path::Path;

use super::{load, word};
use crate::approval::Person;
use crate::cli::say;
use crate::hold::{Origin, PassedBatch, PassedOrigin, StatementText};
use crate::judge::{
    Analysis, Calls, Facts, Judge, NothingPrepared, Piece, Redact, Risk, RiskKind, Somebody, Tags, Verdict,
};
use crate::server::settings::Settings;
use crate::store::{Event, StoredEvent};

/// A statement on record.
struct Recorded<'a> {
    origin: &'a Origin,
    statement: &'a StatementText,
    /// The text is all of it, as it was.
    whole: bool,
    in_transaction: bool,
    verdict: Verdict,
    rule: &'a str,
}

#[derive(Default)]
struct Tally {
    same: usize,
    changed: usize,
    unknown: usize,
    unreadable: usize,
    passed: Passed,
}

/// What became of the counts of statements that passed.
#[derive(Default)]
struct Passed {
    /// There were any.
    any: bool,
    same: u64,
    held: u64,
    rejected: u64,
    unknown: u64,
    dropped: u64,
    /// Kinds of them that would not have passed.
    changed: HashMap<Kind, (u64, Option<String>)>,
}

/// Digest, origin, the rule that let it pass, and what would become of it by which rule.
type Kind = (String, PassedOrigin, String, Verdict, String);

/// Whether something changes.
pub(super) fn run(audit: &Path, against: &Path) -> Result<bool, String> {
    let settings = load(against)?.settings;
    let judge = Judge::new(settings.policy.clone());
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", audit.display());
    let mut tally = Tally::default();
    for line in BufReader::new(File::open(audit).map_err(cannot)?).split(b'\n') {
        let line = line.map_err(cannot)?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Ok(stored) = serde_json::from_slice::<StoredEvent>(&line) else {
            tally.unreadable = tally.unreadable.saturating_add(1);
            continue;
        };
        if let Event::Passed { batch } = &stored.event {
            replay_passed(batch, &settings, &judge, &mut tally.passed);
        }
        let Some(recorded) = recorded(&stored.event) else { continue };
        replay(&recorded, &stored, &settings, &judge, &mut tally);
    }
    let Tally { same, changed, unknown, unreadable, passed } = tally;
    say!("{same} as before, {changed} changed, {unknown} not on record with their whole text");
    let changed = changed > 0 || passed.held > 0 || passed.rejected > 0;
    if passed.any {
        passed.print(settings.policy.rules().any(|rule| rule.tags.is_some()));
    }
    if unreadable > 0 {
        return Err(format!("{}: {unreadable} lines are no events", audit.display()));
    }
    Ok(changed)
}

fn recorded(event: &Event) -> Option<Recorded<'_>> {
    match event {
        Event::Held { request } => Some(Recorded {
            origin: &request.origin,
            statement: &request.statement,
            whole: request.redact == Redact::None && request.beforehand.is_none(),
            in_transaction: request.in_transaction,
            verdict: Verdict::Hold,
            rule: &request.rule,
        }),
        Event::Noticed { notice } | Event::WouldHaveHeld { notice } | Event::WouldHaveRejected { notice } => {
            Some(Recorded {
                origin: &notice.origin,
                statement: &notice.statement,
                whole: notice.redact == Redact::None && !notice.cut,
                in_transaction: notice.in_transaction,
                verdict: Verdict::Allow,
                rule: &notice.rule,
            })
        }
        Event::Started { .. }
        | Event::Stopped
        | Event::PolicyChanged { .. }
        | Event::Passed { .. }
        | Event::Announced { .. }
        | Event::NotAnnounced { .. }
        | Event::Answered(_)
        | Event::Decided { .. }
        | Event::Escalated { .. }
        | Event::Examined { .. }
        | Event::Reminded { .. }
        | Event::Ended { .. }
        | Event::Executed { .. }
        | Event::Undone { .. }
        | Event::Granted { .. }
        | Event::Revoked { .. }
        | Event::Used { .. }
        | Event::Lapsed { .. }
        | Event::Reviewed { .. } => None,
    }
}

/// `None`: a Unix socket.
fn address(client: &str) -> Result<Option<IpAddr>, AddrParseError> {
    match client {
        "unix" => Ok(None),
        text => text.parse::<SocketAddr>().map(|socket| socket.ip()).or_else(|_| text.parse::<IpAddr>()).map(Some),
    }
}

fn replay_passed(batch: &PassedBatch, settings: &Settings, judge: &Judge, tally: &mut Passed) {
    tally.any = true;
    tally.dropped = tally.dropped.saturating_add(batch.dropped);
    for row in &batch.rows {
        // Fail closed: what is not known as it was is not said to be as before.
        let (Ok(address), false) = (address(&row.origin.client), row.opaque) else {
            tally.unknown = tally.unknown.saturating_add(row.count);
            continue;
        };
        let PassedOrigin { user, database, application_name, certificate_name, .. } = &row.origin;
        let everybody = &settings.approval.people;
        let people: Vec<Somebody> =
            everybody.working_as(certificate_name.as_deref(), user).map(Person::to_judge).collect();
        let class = judge.class(&Facts {
            user,
            database,
            application_name,
            client_addr: address,
            people: &people,
            now: batch.from,
        });
        let risk = |kind: &RiskKind| Risk { kind: *kind, text: String::new() };
        let risks = row.risks.as_ref().map(|kinds| kinds.iter().map(risk).collect());
        let piece = Piece {
            range: 0..0,
            effects: row.effects.clone(),
            acts: Vec::new(),
            risks: Vec::new(),
            calls: Calls::default(),
        };
        let pieces = if row.effects.is_empty() { Vec::new() } else { vec![piece] };
        let analysis =
            Analysis { pieces, literal_independent: false, opaque: false, reason: None, tags: Tags::default(), risks };
        let judgement = class.decide(&analysis, row.in_transaction, &NothingPrepared);
        if judgement.examine {
            // What it would have touched then nobody knows.
            tally.unknown = tally.unknown.saturating_add(row.count);
            continue;
        }
        let counted = match judgement.verdict {
            Verdict::Allow => {
                tally.same = tally.same.saturating_add(row.count);
                continue;
            }
            Verdict::Hold => &mut tally.held,
            Verdict::Reject => &mut tally.rejected,
        };
        *counted = counted.saturating_add(row.count);
        let key =
            (row.digest.clone(), row.origin.clone(), row.rule.clone(), judgement.verdict, judgement.rule.to_string());
        let (count, text) = tally.changed.entry(key).or_default();
        *count = count.saturating_add(row.count);
        *text = text.take().or_else(|| row.text.clone());
    }
}

impl Passed {
    fn print(self, asks_for_tags: bool) {
        let mut changed: Vec<_> = self.changed.into_iter().collect();
        changed.sort_by(|(one, (few, _)), (two, (many, _))| many.cmp(few).then_with(|| one.cmp(two)));
        for ((digest, origin, was, verdict, rule), (count, text)) in changed {
            let text = text.unwrap_or_else(|| format!("(text not on record, digest {digest})"));
            let beginning: String = text.chars().take(100).collect();
            say!(
                "{count} × {}@{}: {}",
                origin.user.escape_debug(),
                origin.database.escape_debug(),
                beginning.escape_debug()
            );
            say!("- allow by {was}");
            say!("+ {} by {rule}", word(verdict));
        }
        let Self { same, held, rejected, unknown, dropped, .. } = self;
        say!(
            "of what passed: {same} as before, {held} would be held, {rejected} rejected, {unknown} cannot be judged again, {dropped} were not kept"
        );
        if asks_for_tags {
            say!("of what passed, tags are not on record: rules that ask for tags matched none of it");
        }
    }
}

fn replay(recorded: &Recorded<'_>, stored: &StoredEvent, settings: &Settings, judge: &Judge, tally: &mut Tally) {
    let address = address(&recorded.origin.client);
    // Fail closed: what is not known as it was is not said to be as before.
    let (Ok(address), true, false) = (address, recorded.whole, recorded.statement.lossy) else {
        tally.unknown = tally.unknown.saturating_add(1);
        return;
    };
    let people: Vec<Somebody> = settings.approval.people.behind(recorded.origin).map(Person::to_judge).collect();
    let class = judge.class(&Facts {
        user: &recorded.origin.user,
        database: &recorded.origin.database,
        application_name: &recorded.origin.application_name,
        client_addr: address,
        people: &people,
        now: stored.at,
    });
    let analysis = judge.analyse(recorded.statement.text.as_bytes());
    let judgement = class.decide(&analysis, recorded.in_transaction, &NothingPrepared);
    if judgement.examine {
        // What it would have touched then nobody knows.
        tally.unknown = tally.unknown.saturating_add(1);
        return;
    }
    if judgement.verdict == recorded.verdict {
        tally.same = tally.same.saturating_add(1);
        return;
    }
    tally.changed = tally.changed.saturating_add(1);
    let line: String = recorded.statement.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let beginning: String = line.chars().take(100).collect();
    let (seq, at, user) = (stored.seq, stored.at, &recorded.origin.user);
    say!("{seq} {at:.0} {user}: {}", beginning.escape_debug());
    say!("- {} by {}", word(recorded.verdict), recorded.rule);
    say!("+ {} by {}", word(judgement.verdict), judgement.rule);
}
