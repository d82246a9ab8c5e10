//! Tells Slack of statements that passed and that a rule wants told (`action = "notify"`). Knows no requests: there is nothing to decide.
//!
//! Nothing waits for it, and no flood of statements becomes one of messages: a conversation has at most one new message a minute, which
//! is posted with the first statement and then kept up to date with counts and the newest statements. What there is no room for, or what
//! Slack does not take, is counted and logged; everything is on record anyway. Start at [`Slack::tell_of_what_passes`].

use std::collections::{BTreeMap, VecDeque};
// Writing into a string cannot fail.
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use slack_morphism::blocks::SlackBlock;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::blocks::{Message, size};
use super::kit::{self, limit};
use super::text::{clip, code, literal, moment, words};
use super::trouble::ApiError;
use super::{Inner, Slack, stopped};
use crate::approval::audience::Audience;
use crate::clock;
use crate::hold::{Dropped, Notice};

/// Notices that wait to be taken in.
pub const ROOM: usize = 1024;
/// A message is about what passes from its first statement on for so long; then a new one begins.
const WINDOW: Duration = Duration::from_secs(60);
/// Between two updates of a message.
const UPDATE: Duration = Duration::from_secs(5);
/// How often it is looked at what is due.
const TICK: Duration = Duration::from_millis(500);
/// Conversations told at the same time.
const MAX_DIGESTS: usize = 50;
/// Rules, and users of each, told in a message; statements shown.
const LISTED: usize = 10;
const USERS: usize = 4;
const SHOWN: usize = 3;
/// Longest statement shown, in Slack's units.
const STATEMENT: usize = 900;
/// Attempts in a row that fail before what is not told is given up.
const ATTEMPTS: u32 = 5;
/// Time for the last messages.
const LAST: Duration = Duration::from_secs(4);
/// Between two lines in the log about what was not told.
const COMPLAIN: Duration = Duration::from_secs(10);

/// Who is told of what a rule lets pass.
pub type Audiences = Box<dyn Fn(&str) -> Audience + Send + Sync>;

/// What a conversation is told.
struct Digest {
    began: Instant,
    began_at: Timestamp,
    /// The message, once it is posted.
    ts: Option<String>,
    rules: BTreeMap<String, OfRule>,
    count: u64,
    /// How many of them its message does not tell of yet.
    untold: u64,
    newest: VecDeque<Box<Notice>>,
    /// Not before.
    due: Instant,
    attempts: u32,
    busy: bool,
    /// What came after its minute.
    next: Option<Box<Digest>>,
}

#[derive(Default)]
struct OfRule {
    count: u64,
    message: Option<String>,
    users: BTreeMap<String, u64>,
    more_users: bool,
}

/// What became of telling a conversation.
struct Told {
    conversation: String,
    count: u64,
    result: Result<Option<String>, ApiError>,
}

/// All of them.
struct Digests {
    inner: Arc<Inner>,
    audiences: Audiences,
    all: BTreeMap<String, Digest>,
    telling: JoinSet<Told>,
    lost: Dropped,
}

impl Slack {
    /// Tells of what comes through `passed` until `stop` says `true`, each where `audiences` says; what cannot be told is added to
    /// `lost`.
    pub async fn tell_of_what_passes(
        self,
        mut passed: mpsc::Receiver<Box<Notice>>,
        audiences: Audiences,
        lost: Dropped,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut digests = Digests {
            inner: Arc::clone(&self.inner),
            audiences,
            all: BTreeMap::new(),
            telling: JoinSet::new(),
            lost: lost.clone(),
        };
        let (mut tick, mut complain) = (interval(TICK), interval(COMPLAIN));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        complain.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = 0;
        loop {
            tokio::select! {
                notice = passed.recv() => match notice {
                    Some(notice) => digests.take(&notice),
                    None => break,
                },
                Some(Ok(told)) = digests.telling.join_next() => digests.settle(told),
                _ = tick.tick() => {}
                _ = complain.tick() => known = say(known, &lost),
                () = stopped(&mut stop) => break,
            }
            digests.tell_what_is_due();
        }
        passed.close();
        while let Ok(notice) = passed.try_recv() {
            digests.take(&notice);
        }
        let _late = timeout(LAST, digests.finish()).await;
        let left = digests.all.values().map(Digest::left).fold(0, u64::saturating_add);
        lost.add(usize::try_from(left).unwrap_or(usize::MAX));
        say(known, &lost);
    }
}

impl Digests {
    fn take(&mut self, notice: &Notice) {
        let directory = self.inner.directory.load();
        let audience = (self.audiences)(&notice.rule);
        if !audience.includes(&directory.name) {
            return;
        }
        for conversation in directory.wanted(&audience) {
            if self.all.len() >= MAX_DIGESTS && !self.all.contains_key(&conversation) {
                self.lost.add(1);
                continue;
            }
            self.all.entry(conversation).or_insert_with(Digest::new).take(Box::new(notice.clone()));
        }
    }

    fn tell_what_is_due(&mut self) {
        let now = now();
        for digest in self.all.values_mut().filter(|digest| digest.is_done(now)) {
            if let Some(next) = digest.next.take() {
                *digest = *next;
            }
        }
        self.all.retain(|_, digest| !digest.is_done(now) || digest.next.is_some());
        for (conversation, digest) in &mut self.all {
            if digest.untold > 0 && !digest.busy && digest.due <= now {
                digest.busy = true;
                let (inner, conversation, ts) = (Arc::clone(&self.inner), conversation.clone(), digest.ts.clone());
                let (message, count) = (digest.message(), digest.untold);
                self.telling.spawn(async move {
                    let result = match ts {
                        None => inner.api.post(&conversation, &message, None).await.map(|(_, ts)| Some(ts)),
                        Some(ts) => inner.api.update(&conversation, &ts, &message).await.map(|()| None),
                    };
                    inner.report_in(&conversation, &result);
                    Told { conversation, count, result }
                });
            }
        }
    }

    fn settle(&mut self, told: Told) {
        let Some(digest) = self.all.get_mut(&told.conversation) else { return };
        digest.busy = false;
        let now = now();
        match told.result {
            Ok(ts) => {
                digest.ts = ts.or(digest.ts.take());
                digest.untold = digest.untold.saturating_sub(told.count);
                digest.attempts = 0;
                digest.due = after(now, UPDATE);
            }
            Err(error) => {
                digest.attempts = digest.attempts.saturating_add(1);
                let pause = UPDATE.saturating_mul(digest.attempts);
                digest.due = after(now, pause);
                if !error.is_passing() || digest.attempts >= ATTEMPTS {
                    let why = error.explain(&told.conversation);
                    tracing::warn!(conversation = told.conversation, "cannot tell of statements that passed: {why}");
                    self.lost.add(usize::try_from(digest.left()).unwrap_or(usize::MAX));
                    self.all.remove(&told.conversation);
                }
            }
        }
    }

    /// Everything that is still to be told, once.
    async fn finish(&mut self) {
        for digest in self.all.values_mut() {
            digest.due = digest.began;
        }
        self.tell_what_is_due();
        while let Some(told) = self.telling.join_next().await {
            if let Ok(told) = told {
                self.settle(told);
            }
            for digest in self.all.values_mut().filter(|digest| digest.attempts == 0) {
                digest.due = digest.began;
            }
            self.tell_what_is_due();
        }
    }
}

impl Digest {
    fn new() -> Self {
        let now = now();
        Self {
            began: now,
            began_at: clock::wall(),
            ts: None,
            rules: BTreeMap::new(),
            count: 0,
            untold: 0,
            newest: VecDeque::new(),
            due: now,
            attempts: 0,
            busy: false,
            next: None,
        }
    }

    /// How many it, and what comes after it, have not told of.
    fn left(&self) -> u64 {
        self.untold.saturating_add(self.next.as_ref().map_or(0, |next| next.left()))
    }

    /// It has had its minute and told everything.
    fn is_done(&self, now: Instant) -> bool {
        !self.busy && self.untold == 0 && self.is_over(now)
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= after(self.began, WINDOW)
    }

    fn take(&mut self, notice: Box<Notice>) {
        if self.is_over(now()) {
            self.next.get_or_insert_with(|| Box::new(Self::new())).take(notice);
            return;
        }
        self.count = self.count.saturating_add(1);
        self.untold = self.untold.saturating_add(1);
        let name = if self.rules.len() < LISTED || self.rules.contains_key(&notice.rule) { &notice.rule } else { "" };
        let of = self.rules.entry(name.to_owned()).or_default();
        of.count = of.count.saturating_add(1);
        of.message.clone_from(&notice.message);
        if of.users.len() < USERS || of.users.contains_key(&notice.origin.user) {
            let count = of.users.entry(notice.origin.user.clone()).or_default();
            *count = count.saturating_add(1);
        } else {
            of.more_users = true;
        }
        if self.newest.len() >= SHOWN {
            self.newest.pop_front();
        }
        self.newest.push_back(notice);
    }

    fn message(&self) -> Message {
        let statements = if self.count == 1 { "1 statement".to_owned() } else { format!("{} statements", self.count) };
        let title = format!("Passed, to be known: {statements}");
        let mut blocks = Vec::new();
        for room in [STATEMENT, STATEMENT / 3, 60] {
            blocks = self.blocks(&title, room);
            if size(&blocks) <= limit::MESSAGE {
                break;
            }
        }
        Message { text: title, blocks, whole: true }
    }

    fn blocks(&self, title: &str, room: usize) -> Vec<SlackBlock> {
        let mut text = format!(":information_source: *{}* since {}", words(title, 100), moment(self.began_at));
        for (name, of) in &self.rules {
            let rule = if name.is_empty() { "further rules".to_owned() } else { format!("rule {}", code(name, 60)) };
            let users: Vec<String> =
                of.users.iter().map(|(user, count)| format!("{} {count}", code(user, 60))).collect();
            let _infallible = write!(text, "\n• {rule}: {} ({}", of.count, users.join(", "));
            text.push_str(if of.more_users { " and others)" } else { ")" });
            if let Some(message) = of.message.as_ref().filter(|_| !name.is_empty()) {
                let _infallible = write!(text, " – {}", words(message, 150));
            }
        }
        let mut blocks = vec![kit::section(clip(&text, limit::SECTION))];
        for notice in self.newest.iter().rev() {
            let origin = &notice.origin;
            let application = Some(&origin.application_name).filter(|name| !name.is_empty());
            let application = application.map(|name| format!(" with {}", code(name, 60))).unwrap_or_default();
            blocks.push(kit::context(format!(
                "{} in {}{application} from {}: {}",
                code(&origin.user, 60),
                code(&origin.database, 60),
                code(&origin.client, 60),
                words(&notice.why, 150),
            )));
            blocks.push(kit::literal(&clip(&literal(&clip(&notice.statement.text, room)), room.saturating_mul(2))));
        }
        let shown = u64::try_from(self.newest.len()).unwrap_or(u64::MAX);
        let more = self.count.saturating_sub(shown);
        let more = if more > 0 {
            format!("the newest {shown} are shown, {more} more are on record · ")
        } else {
            String::new()
        };
        blocks.push(kit::context(format!("{more}nothing waits for a decision")));
        blocks
    }
}

fn now() -> Instant {
    Instant::from_std(clock::now())
}

fn after(now: Instant, pause: Duration) -> Instant {
    now.checked_add(pause).unwrap_or(now)
}

/// Says what was not told since the last time, and returns how much it is by now.
fn say(known: u64, lost: &Dropped) -> u64 {
    let now = lost.count();
    if now > known {
        let more = now.saturating_sub(known);
        tracing::warn!(lost = now, "{more} statements that passed were not told in Slack; they are on record");
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approval::testing::request;
    use crate::judge::Redact;

    fn notice(rule: &str, user: &str, text: &str) -> Box<Notice> {
        let request = request(user, text);
        Box::new(Notice {
            origin: request.origin.clone(),
            statement: request.statement.clone(),
            cut: false,
            parameters: Vec::new(),
            effects: Vec::new(),
            rule: rule.to_owned(),
            why: "delete of t: DELETE removes rows".to_owned(),
            message: Some("tell <!channel>".to_owned()),
            redact: Redact::None,
            policy_version: String::new(),
            in_transaction: false,
            reason: None,
        })
    }

    fn json(digest: &Digest) -> String {
        serde_json::to_string(&digest.message().blocks).unwrap()
    }

    #[test]
    fn many_statements_are_one_message_with_counts_and_the_newest() {
        let mut digest = Digest::new();
        for number in 0..5_000 {
            digest.take(notice("night", &format!("user_{}", number % 7), &format!("DELETE FROM t WHERE x = {number}")));
        }
        let text = json(&digest);
        assert!(
            text.contains("5000 statements") && text.contains("rule `night`: 5000 (") && text.contains("and others)")
        );
        assert!(text.contains("x = 4999") && text.contains("x = 4997") && !text.contains("x = 4996"), "{text}");
        assert!(text.contains("4997 more are on record"));
        assert_eq!(digest.untold, 5_000);
    }

    #[test]
    fn what_comes_after_its_minute_is_for_the_next_message() {
        let mut digest = Digest::new();
        digest.take(notice("night", "app", "DELETE FROM t"));
        // The clock of this process does not stand still for tests, so the digest is older instead.
        digest.began = digest.began.checked_sub(WINDOW).unwrap();
        digest.take(notice("night", "app", "DELETE FROM u"));
        digest.take(notice("night", "app", "DELETE FROM v"));
        assert_eq!((digest.count, digest.left()), (1, 3));
        assert!(!digest.is_done(now()));
        digest.untold = 0;
        assert!(digest.is_done(now()));
        assert_eq!(digest.next.map(|next| next.count), Some(2));
    }

    #[test]
    fn whatever_is_told_fits_and_means_nothing_to_slack() {
        let mut digest = Digest::new();
        for number in 0..40 {
            let long = "<!channel> ``` \u{202e}".repeat(2_000);
            digest.take(notice(&format!("rule {number} {}", "<!here>".repeat(100)), &"u<@U0>".repeat(50), &long));
        }
        let message = digest.message();
        assert!(size(&message.blocks) <= limit::MESSAGE, "{}", size(&message.blocks));
        for block in &message.blocks {
            let block = serde_json::to_value(block).unwrap();
            if block["type"] != "rich_text" {
                assert!(!block.to_string().contains("<!channel>") && !block.to_string().contains("<!here>"), "{block}");
            }
        }
        assert!(json(&digest).contains("further rules"));
    }
}
