//! Puts on record what passes, as counts of statements without their literals. Knows no sessions: it takes what their threads counted.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval_at};

use crate::clock;
use crate::hold::{PassedBatch, PassedOrigin, PassedRow};
use crate::judge::{Effect, NothingPrepared, Redact, SessionAct};
use crate::session::passing::{Passing, ROOM, Sample, Samples};
use crate::store::redact::without_literals;
use crate::store::{Event, Store};

/// Rows in one line of the record.
const ROWS_AT_ONCE: usize = 50;
/// Longest text kept, in bytes; of longer ones only the digest.
const MAX_TEXT: usize = 2 << 10;
/// Effects kept of a statement, and objects and columns of an effect. One with more cannot be judged again.
const MAX_EFFECTS: usize = 50;

/// What is put on record of statements that pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassingSettings {
    /// Whether anything is.
    pub record: bool,
    /// A span of time that is counted together.
    pub every: Duration,
    /// Rows of one span; further statements are only counted.
    pub rows: usize,
}

impl Default for PassingSettings {
    fn default() -> Self {
        Self { record: false, every: Duration::from_secs(300), rows: 500 }
    }
}

/// Where sessions put what passes, if it is wanted, and where to take it.
pub(super) fn channel(settings: &PassingSettings) -> (Option<Passing>, mpsc::Receiver<Samples>) {
    let (passing, counted) = mpsc::channel(ROOM);
    (settings.record.then_some(passing), counted)
}

/// Works until `stop` says true; what was counted by then is still put on record.
pub(super) async fn keep(
    store: Store,
    mut counted: mpsc::Receiver<Samples>,
    settings: PassingSettings,
    mut stop: watch::Receiver<bool>,
) {
    let mut span = Span::new(settings.rows);
    let start = tokio::time::Instant::from_std(clock::now());
    let mut ends = interval_at(start.checked_add(settings.every).unwrap_or(start), settings.every);
    ends.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let samples = tokio::select! {
            samples = counted.recv() => Some(samples),
            _ = ends.tick() => None,
            // An error means that the sender is gone, which is a stop too.
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match samples {
            Some(Some(samples)) => span.take(samples),
            Some(None) => break,
            None => record(&store, &mut span).await,
        }
    }
    counted.close();
    while let Some(samples) = counted.recv().await {
        span.take(samples);
    }
    record(&store, &mut span).await;
}

async fn record(store: &Store, span: &mut Span) {
    let rows = span.most;
    let batches = std::mem::replace(span, Span::new(rows)).batches(clock::wall());
    if batches.is_empty() {
        return;
    }
    let dropped = batches.iter().map(|batch| batch.dropped).fold(0, u64::saturating_add);
    if dropped > 0 {
        tracing::warn!(
            dropped,
            "statements that passed are not on record: more kinds of them than [audit] record_passing_rows"
        );
    }
    let events = batches.into_iter().map(|batch| Event::Passed { batch: Box::new(batch) }).collect();
    if let Err(error) = store.record_all(events).await {
        tracing::error!("what passed could not be put on record: {error}");
    }
}

/// What passed in a span of time.
struct Span {
    from: Timestamp,
    rows: HashMap<Key, PassedRow>,
    most: usize,
    dropped: u64,
}

/// What rows are told apart by.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    digest: [u8; 32],
    origin: PassedOrigin,
    in_transaction: bool,
    rule: String,
    policy_version: String,
}

impl Span {
    fn new(most: usize) -> Self {
        Self { from: clock::wall(), rows: HashMap::new(), most, dropped: 0 }
    }

    fn take(&mut self, Samples { samples, dropped }: Samples) {
        self.dropped = self.dropped.saturating_add(dropped);
        for sample in samples {
            let (key, row) = row(sample);
            let count = row.count;
            if let Some(known) = self.rows.get_mut(&key) {
                known.count = known.count.saturating_add(count);
            } else if self.rows.len() < self.most {
                self.rows.insert(key, row);
            } else {
                self.dropped = self.dropped.saturating_add(count);
            }
        }
    }

    fn batches(self, until: Timestamp) -> Vec<PassedBatch> {
        let (from, mut dropped) = (self.from, self.dropped);
        let mut rows: Vec<PassedRow> = self.rows.into_values().collect();
        rows.sort_by(|one, two| two.count.cmp(&one.count).then_with(|| one.digest.cmp(&two.digest)));
        let mut batches = Vec::new();
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() || dropped > 0 {
            let some = rows.by_ref().take(ROWS_AT_ONCE).collect();
            batches.push(PassedBatch { from, until, rows: some, dropped: std::mem::take(&mut dropped) });
        }
        batches
    }
}

fn row(sample: Sample) -> (Key, PassedRow) {
    let Sample { passer, analysis, in_transaction, text, count } = sample;
    let judgement = passer.class.decide(&analysis, in_transaction, &NothingPrepared);
    let executes =
        analysis.pieces.iter().flat_map(|piece| &piece.acts).any(|act| matches!(act, SessionAct::Execute { .. }));
    let all = || analysis.pieces.iter().flat_map(|piece| &piece.effects);
    let long = |effect: &Effect| effect.objects.len().max(effect.columns.len()) > MAX_EFFECTS;
    let opaque = executes || all().count() > MAX_EFFECTS || all().any(long);
    let risks: Option<Vec<_>> = analysis.pieces.iter().map(|piece| analysis.risk_kinds(piece)).collect();
    let risks = risks.map(|kinds| kinds.into_iter().flatten().collect::<BTreeSet<_>>().into_iter().collect());
    let mut effects: Vec<Effect> = all().take(MAX_EFFECTS).cloned().collect();
    for effect in &mut effects {
        // It may quote the text.
        effect.why.clear();
        effect.objects.truncate(MAX_EFFECTS);
        effect.columns.truncate(MAX_EFFECTS);
    }
    let bare = text.and_then(|text| without_literals(std::str::from_utf8(&text).ok()?)).map(|text| one_space(&text));
    let digest: [u8; 32] = match &bare {
        Some(bare) => Sha256::digest(bare.as_bytes()).into(),
        None => Sha256::digest(serde_json::to_vec(&effects).unwrap_or_default()).into(),
    };
    let text = bare.filter(|bare| bare.len() <= MAX_TEXT && judgement.redact < Redact::All);
    // Without the session's prepared statements, or what it would have touched, it is not known which rule let it pass.
    let rule = if executes || judgement.examine { String::new() } else { judgement.rule.to_string() };
    let policy_version = passer.class.policy_version().to_string();
    let origin = passer.origin.clone();
    let row = PassedRow {
        count,
        digest: hex::encode(digest),
        text,
        origin: origin.clone(),
        in_transaction,
        effects,
        risks,
        opaque,
        rule: rule.clone(),
        policy_version: policy_version.clone(),
    };
    (Key { digest, origin, in_transaction, rule, policy_version }, row)
}

/// Layout does not tell statements apart. (Within quoted names it might; they are then counted together.)
fn one_space(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hold::{Origin, SessionId};
    use crate::judge::{Facts, Limits, Policy, analyse};
    use crate::session::passing::Passer;

    fn sample(sql: &str, count: u64) -> Sample {
        let origin = Origin {
            session: SessionId(1),
            user: "app".to_owned(),
            database: "shop".to_owned(),
            application_name: "web".to_owned(),
            certificate_name: None,
            client: "unix".to_owned(),
            backend_pid: None,
        };
        let class = Policy::shipped().class(&Facts { user: "app", database: "shop", ..Facts::default() });
        Sample {
            passer: Passer::new(&origin, None, &class),
            analysis: Arc::new(analyse(sql.as_bytes(), &Limits::default())),
            in_transaction: false,
            text: Some(Box::from(sql.as_bytes())),
            count,
        }
    }

    #[test]
    fn texts_that_differ_in_literals_and_layout_are_one_row_without_them() {
        let mut span = Span::new(10);
        let samples = vec![
            sample("SELECT 'secret-1' FROM t  WHERE x = 1 -- secret-2", 2),
            sample("SELECT E'secret-3'\nFROM t WHERE x = 22 -- x", 3),
            sample("UPDATE t SET x = $$secret-4$$ WHERE y = 5", 9),
        ];
        span.take(Samples { samples, dropped: 0 });
        let batches = span.batches(Timestamp::UNIX_EPOCH);
        let json = serde_json::to_string(&batches).unwrap();
        assert!(!json.contains("secret"), "{json}");
        let rows: Vec<_> = batches[0].rows.iter().map(|row| (row.count, row.rule.as_str())).collect();
        assert_eq!(rows, [(9, "limited-updates"), (5, "reads")]);
        assert_eq!(batches[0].rows[1].text.as_deref(), Some("SELECT ? FROM t WHERE x = ? -- ?"));
    }

    #[test]
    fn what_there_are_too_many_kinds_of_is_only_counted_and_said() {
        let mut span = Span::new(120);
        let samples = (0..200).map(|number| sample(&format!("SELECT c{number} FROM t"), 2)).collect();
        span.take(Samples { samples, dropped: 7 });
        let batches = span.batches(Timestamp::UNIX_EPOCH);
        assert_eq!(batches.iter().map(|batch| batch.rows.len()).collect::<Vec<_>>(), [50, 50, 20]);
        assert_eq!(batches.iter().map(|batch| batch.dropped).sum::<u64>(), 80 * 2 + 7);
        assert!(Span::new(1).batches(Timestamp::UNIX_EPOCH).is_empty());
    }

    #[test]
    fn what_cannot_be_told_from_effects_says_so() {
        let (_, executes) = row(sample("EXECUTE p (1)", 1));
        assert!(executes.opaque && executes.rule.is_empty());
        let many = format!("SELECT * FROM {}", (0..60).map(|n| format!("t{n}")).collect::<Vec<_>>().join(", "));
        assert!(row(sample(&many, 1)).1.opaque);
        assert!(!row(sample("SELECT 1", 1)).1.opaque);
    }
}
