//! `policy replay`: what a changed policy would have done with what is on record.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::{load, word};
use crate::approval::Person;
use crate::hold::{Origin, StatementText};
use crate::judge::{Facts, Judge, NothingPrepared, Redact, Somebody, Verdict};
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
}

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
        let Some(recorded) = recorded(&stored.event) else { continue };
        replay(&recorded, &stored, &settings, &judge, &mut tally);
    }
    let Tally { same, changed, unknown, unreadable } = tally;
    println!("{same} as before, {changed} changed, {unknown} not on record with their whole text");
    if unreadable > 0 {
        return Err(format!("{}: {unreadable} lines are no events", audit.display()));
    }
    Ok(changed > 0)
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
        | Event::Announced { .. }
        | Event::NotAnnounced { .. }
        | Event::Answered(_)
        | Event::Decided { .. }
        | Event::Escalated { .. }
        | Event::Examined { .. }
        | Event::Reminded { .. }
        | Event::Ended { .. }
        | Event::Executed { .. }
        | Event::Granted { .. }
        | Event::Revoked { .. }
        | Event::Used { .. }
        | Event::Lapsed { .. }
        | Event::Reviewed { .. } => None,
    }
}

fn replay(recorded: &Recorded<'_>, stored: &StoredEvent, settings: &Settings, judge: &Judge, tally: &mut Tally) {
    let address = match recorded.origin.client.as_str() {
        "unix" => Some(None),
        text => text.parse::<SocketAddr>().map(|socket| socket.ip()).or_else(|_| text.parse::<IpAddr>()).ok().map(Some),
    };
    // Fail closed: what is not known as it was is not said to be as before.
    let Some(address) = address.filter(|_| recorded.whole && !recorded.statement.lossy) else {
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
    if judgement.verdict == recorded.verdict {
        tally.same = tally.same.saturating_add(1);
        return;
    }
    tally.changed = tally.changed.saturating_add(1);
    let line: String = recorded.statement.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let beginning: String = line.chars().take(100).collect();
    let (seq, at, user) = (stored.seq, stored.at, &recorded.origin.user);
    println!("{seq} {at:.0} {user}: {}", beginning.escape_debug());
    println!("- {} by {}", word(recorded.verdict), recorded.rule);
    println!("+ {} by {}", word(judgement.verdict), judgement.rule);
}
