//! Pre-approval: statements that cannot wait when they run are asked for beforehand, announced and decided like a hold, and then
//! pass once each, in any session of the database user they were asked for.
//!
//! What is compared is decided by safety alone. The statements come in the order they were shown in, each after all those before it
//! have taken effect: outside of a transaction, or in its own session, in which nothing has failed or was rolled back since. Of transaction control only a plain BEGIN and COMMIT may be among them,
//! because it is not compared. The statement's exact bytes, as cut out of the message that carries it; no values;
//! the same database user and database; a rule of the same approval profile. And its session must be one in which the bytes mean what
//! approvers were shown: begun plainly (no role, path or option in the startup packet, text in UTF-8) and in which nothing has run
//! but statements of this very pre-approval, because any other might have changed role, `search_path` or names
//! ([`crate::hold::Standing`]). Statements that are there to change their session cannot be asked for beforehand at all: whether
//! they ran before the others nobody could say.
//!
//! A use is on record before the session wakes, so that a crash between loses the use, never the limit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use approved::Approved;

use super::{ApprovalDesk, Change, SETTLE, tidy_reason};
use crate::approval::case::{Case, Denied, OVER};
use crate::approval::channel::RequestView;
use crate::approval::people::Person;
use crate::clock;
use crate::hold::{
    Beforehand, Cause, Decision, Execution, HoldId, HoldRequest, Origin, Outcome, Phase, Refused, SessionId, Standing,
    StatementText, Ticket,
};
use crate::judge::{EffectKind, Limits, Piece, Risk, analyse, is_plain_control, lex};
use crate::store::Event;

/// Statements in one pre-approval.
const MAX_STATEMENTS: usize = 500;
/// The longest window.
const MAX_WINDOW: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The rule's name where none is stated; it resolves to the profile of `[approval]` itself.
pub(in crate::approval) const NO_RULE: &str = "beforehand";
/// Not sessions of clients, whose numbers count up from 1.
static NEXT: AtomicU64 = AtomicU64::new(1 << 63);

/// What somebody asks for beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// The statements.
    pub sql: String,
    /// Why.
    pub reason: Option<String>,
    /// Database user that will run them; `None`: the only one the person works as.
    pub user: Option<String>,
    /// In this database.
    pub database: String,
    /// The rule whose approvers are asked; only statements held by rules of the same profile pass.
    pub rule: Option<String>,
    /// From now on, for so long.
    pub window: Duration,
}

/// The statements of a text by digest, transaction control left out; or why they cannot be asked for beforehand.
fn statements(sql: &str) -> Result<Vec<String>, Denied> {
    let found = kept_in(sql)?;
    if found.is_empty() || found.len() > MAX_STATEMENTS {
        let why = format!("it has to have 1 to {MAX_STATEMENTS} statements besides transaction control");
        return Err(Denied::NotBeforehand(why));
    }
    Ok(found.into_iter().map(|(_, text)| hex::encode(Sha256::digest(text.as_bytes()))).collect())
}

/// The statements of a text, each with its place in it (0: first), transaction control left out.
fn kept_in(sql: &str) -> Result<Vec<(usize, &str)>, Denied> {
    let no = |why: String| Denied::NotBeforehand(why);
    let tokens = lex(sql.as_bytes(), true).map_err(|error| no(error.to_string()))?;
    if tokens.plain_backslash {
        // Where such a string ends depends on a setting of the session.
        return Err(no("a plain string in it holds a backslash; write E'…' instead".to_owned()));
    }
    let mut found = Vec::new();
    for (place, piece) in tokens.pieces.iter().enumerate() {
        let text = sql.get(piece.range.clone()).unwrap_or_default();
        match kept(text) {
            Ok(true) => found.push((place, text)),
            Ok(false) => {}
            Err(why) => return Err(no(format!("statement {} {why}", place.saturating_add(1)))),
        }
    }
    Ok(found)
}

/// Whether a statement is one to be approved; `Ok(false)`: transaction control.
fn kept(text: &str) -> Result<bool, &'static str> {
    let analysis = analyse(text.as_bytes(), &Limits::default());
    let [piece] = analysis.pieces.as_slice() else { return Err("cannot be read as one statement") };
    if piece.effects.iter().all(|effect| effect.kind == EffectKind::Transaction) {
        return if is_plain_control(text.as_bytes()) {
            Ok(false)
        } else {
            Err(
                "decides what becomes of the others, which is not compared; only a plain BEGIN and COMMIT can be asked for",
            )
        };
    }
    let first = text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_ascii_uppercase();
    if !piece.acts.is_empty() {
        return Err("depends on the session it runs in, or reads data from it");
    }
    if analysis.opaque && !installs_function(text, piece) {
        return Err("runs code that cannot be seen through, which may change the session for the others");
    }
    for effect in &piece.effects {
        match effect.kind {
            EffectKind::Read
            | EffectKind::Insert
            | EffectKind::Update
            | EffectKind::Delete
            | EffectKind::Merge
            | EffectKind::Truncate
            | EffectKind::Drop
            | EffectKind::Alter
            | EffectKind::Create
            | EffectKind::Code
            | EffectKind::LargeObject
            | EffectKind::Admin => {}
            // SET ROLE is of this kind, too.
            EffectKind::Privilege
                if matches!(first.as_str(), "GRANT" | "REVOKE" | "CREATE" | "ALTER" | "DROP" | "REASSIGN") => {}
            EffectKind::Privilege
            | EffectKind::CopyServerFile
            | EffectKind::ReadingSetting
            | EffectKind::SensitiveSetting
            | EffectKind::Session
            | EffectKind::Transaction
            | EffectKind::Execute => return Err("changes its session or depends on it; ask for it when it runs"),
            EffectKind::Unparsed | EffectKind::Disagreement | EffectKind::Unknown => {
                return Err("cannot be read with certainty");
            }
        }
    }
    Ok(true)
}

/// CREATE FUNCTION and CREATE PROCEDURE install code and run none. Fail closed: whatever else cannot be seen through (`CREATE TABLE … AS
/// SELECT f()`, an extension's script) may change its session.
fn installs_function(text: &str, piece: &Piece) -> bool {
    let words: Vec<String> = text.split_ascii_whitespace().take(4).map(str::to_ascii_uppercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    piece.effects.iter().all(|effect| effect.kind == EffectKind::Code)
        && matches!(
            words.as_slice(),
            ["CREATE", "FUNCTION" | "PROCEDURE", ..] | ["CREATE", "OR", "REPLACE", "FUNCTION" | "PROCEDURE"]
        )
}

impl ApprovalDesk {
    /// A known person asks beforehand. The request is on the board when this returns; people are asked like about a hold.
    ///
    /// # Errors
    /// Why it cannot be asked for.
    pub fn ask_beforehand(self: &Arc<Self>, person: &Person, wish: Wish, now: Timestamp) -> Result<HoldId, Denied> {
        let request = self.beforehand(person, wish, now)?;
        let ticket = self.board.open(request).map_err(|limit| Denied::NotBeforehand(limit.to_string()))?;
        let id = ticket.id().clone();
        tokio::spawn(keep(ticket));
        Ok(id)
    }

    fn beforehand(&self, person: &Person, wish: Wish, now: Timestamp) -> Result<HoldRequest, Denied> {
        let no = |why: &str| Denied::NotBeforehand(why.to_owned());
        let statements = statements(&wish.sql)?;
        let reason = tidy_reason(wish.reason)?.ok_or(Denied::ReasonNeeded)?;
        let user = match (wish.user, person.database_users.as_slice()) {
            (Some(user), _) => user,
            (None, [only]) => only.clone(),
            (None, _) => return Err(no("say which database user will run it")),
        };
        if user.is_empty() || wish.database.is_empty() {
            return Err(no("say the database user and the database"));
        }
        if wish.window.is_zero() || wish.window > MAX_WINDOW {
            return Err(no("the window has to be longer than nothing and at most seven days"));
        }
        let settings = self.settings.load();
        let rule = match wish.rule {
            Some(rule) if settings.by_rule.contains_key(&rule) => rule,
            Some(_) => return Err(no("no rule of that name has an approval profile of its own; leave it out")),
            None => NO_RULE.to_owned(),
        };
        let window = SignedDuration::try_from(wish.window).map_err(|_| no("the window is too long"))?;
        let analysis = analyse(wish.sql.as_bytes(), &Limits::default());
        let redact = settings.policy.as_ref().map(|policy| policy.may_redact(&analysis, &user, &wish.database));
        let owners = settings.policy.as_ref().map(|policy| policy.may_be_owned_by(&analysis)).unwrap_or_default();
        // Fail closed: no risks known is a risk.
        let risks = analysis.all_risks().unwrap_or_else(|| vec![Risk::unread()]);
        let effects = analysis.pieces.into_iter().flat_map(|piece| piece.effects);
        let count = statements.len();
        Ok(HoldRequest {
            id: HoldId::generate().map_err(|error| no(&error.to_string()))?,
            origin: Origin {
                session: SessionId(NEXT.fetch_add(1, Ordering::Relaxed)),
                user,
                database: wish.database,
                application_name: String::new(),
                certificate_name: None,
                client: format!("asked for beforehand by {}", person.name),
                backend_pid: None,
            },
            statement: StatementText {
                sha256: hex::encode(Sha256::digest(wish.sql.as_bytes())),
                text: Arc::from(wish.sql),
                lossy: false,
            },
            parameters: Vec::new(),
            effects: effects.collect(),
            risks,
            rule: Arc::from(rule),
            also: Vec::new(),
            owners,
            why: format!("{} asks beforehand; each of its {count} statements may run once", person.name),
            policy_version: Arc::from(""),
            in_transaction: false,
            redact: redact.unwrap_or_default(),
            reason: Some(reason),
            opened_at: now,
            deadline: now.checked_add(window).map_err(|_| no("the window is too long"))?,
            time_to_live: wish.window,
            standing: Standing::default(),
            setting: None,
            guard: None,
            beforehand: Some(Beforehand { by: person.name.clone(), statements }),
            undoes: None,
            message: None,
            advice: None,
        })
    }

    /// Asks again what was asked in an earlier process, which put everything on record that is needed. `false`: it cannot be, and
    /// is over.
    pub(in crate::approval) fn ask_again(
        self: &Arc<Self>,
        request: &HoldRequest,
        decision: Option<&Decision>,
        now: Timestamp,
        case: impl FnOnce(&Arc<HoldRequest>) -> (Case, HashMap<String, String>),
    ) -> bool {
        let Some(own) = &request.beforehand else { return false };
        let settings = self.settings.load();
        // Fail closed: what was taken out of the record nobody can be shown any more, and what does not fit together nobody asked for.
        let is_whole = request.redact.is_none()
            && !request.statement.lossy
            && request.statement.sha256 == hex::encode(Sha256::digest(request.statement.text.as_bytes()))
            && statements(&request.statement.text).is_ok_and(|found| found == own.statements);
        // Fail closed: another configuration may mean other approvers.
        let is_known = settings.people.named(&own.by).is_some()
            && (&*request.rule == NO_RULE || settings.by_rule.contains_key(&*request.rule));
        let left = request.deadline.duration_since(now);
        let Ok(time_to_live) = Duration::try_from(left) else { return false };
        if !is_whole || !is_known || time_to_live.is_zero() {
            return false;
        }
        let session = SessionId(NEXT.fetch_add(1, Ordering::Relaxed));
        let origin = Origin { session, ..request.origin.clone() };
        let Ok(ticket) = self.board.open(HoldRequest { origin, time_to_live, ..request.clone() }) else { return false };
        let (case, references) = case(ticket.request());
        self.put(case, references);
        if let Some(decision) = decision {
            // It is on record, and nothing has been done about it: it is carried out now.
            let _late = self.board.decide(&request.id, decision.clone());
        }
        tokio::spawn(keep(ticket));
        true
    }

    /// It was approved, now or in an earlier process, where `used` of its statements have passed.
    pub(in crate::approval) async fn begin_beforehand(
        &self,
        request: &Arc<HoldRequest>,
        decision: &Decision,
        used: BTreeSet<usize>,
        evident: BTreeSet<usize>,
    ) {
        if request.beforehand.is_none() {
            return;
        }
        let profile = self.settings.load().profile_of_rules(request).name.clone();
        let approved = Approved::new(request, profile, decision.by(), used, evident);
        self.beforehand.lock().await.insert(request.id.clone(), approved);
    }

    /// The pre-approval a held request is for; `None`: there is none.
    pub(super) async fn fits_beforehand(&self, request: &HoldRequest, now: Timestamp) -> Option<HoldId> {
        let profile = self.settings.load().profile_of_rules(request).name.clone();
        let all = self.beforehand.lock().await;
        all.iter().find_map(|(id, one)| one.matching(request, &profile, now).map(|_| id.clone()))
    }

    /// Releases a held request by the pre-approval `id`. `false`: it is not for it, and people are asked.
    pub(super) async fn pass_beforehand(&self, id: &HoldId, request: &Arc<HoldRequest>, now: Timestamp) -> bool {
        // Held while a use is put on record, so that two sessions never use one statement.
        let mut all = self.beforehand.lock().await;
        let profile = self.settings.load().profile_of_rules(request).name.clone();
        let Some(approved) = all.get_mut(id) else { return false };
        let Some(statements) = approved.matching(request, &profile, now) else { return false };
        // Whatever becomes of the record: a use that was tried is used.
        approved.used.extend(statements.iter().copied());
        if request.in_transaction {
            approved.inside.insert(request.origin.session);
        }
        if stands_alone(request) {
            approved.running.insert(request.id.clone(), statements.clone());
        }
        let decision = Decision::Approve { by: approved.by.clone(), reason: None, at: now, under: Some(id.clone()) };
        let used = Event::Used { id: id.clone(), request: request.id.clone(), statements: statements.clone() };
        if !self.release_under(request, &decision, id, vec![used]).await {
            return true;
        }
        let numbers: Vec<_> = statements.iter().map(|index| index.saturating_add(1).to_string()).collect();
        let of = approved.request.beforehand.as_ref().map_or(0, |own| own.statements.len());
        let words = format!("statement {} of {of} passed as request {}", numbers.join(", "), request.id);
        self.change(id, |case| case.passed(&statements, words, now));
        let _ = self.board.decide(&request.id, decision);
        true
    }

    /// What the database said to a use: done outside of a transaction, its statements have taken effect for those behind them.
    pub(in crate::approval) async fn used_beforehand(&self, request: &HoldId, execution: &Execution) {
        for approved in self.beforehand.lock().await.values_mut() {
            if let Some(statements) = approved.running.remove(request)
                && matches!(execution, Execution::Completed { committed: true, .. })
            {
                approved.evident.extend(statements);
            }
        }
    }

    /// Whoever asked takes a pre-approval back, decided or not.
    ///
    /// # Errors
    /// Why not.
    pub async fn withdraw(self: &Arc<Self>, person: &Person, id: &HoldId, at: Timestamp) -> Result<(), Denied> {
        let hold = self.find(person, id).ok_or(Refused::Unknown)?;
        if hold.request.beforehand.as_ref().is_none_or(|own| own.by != person.name) {
            return Err(Denied::NotBeforehand("only whoever asked beforehand may withdraw it".to_owned()));
        }
        if hold.phase == Phase::Pending && self.board.fail(id, Cause::CancelRequest, at) {
            return Ok(());
        }
        self.begun(id).await;
        let (desk, by, id) = (Arc::clone(self), person.name.clone(), id.clone());
        // A task of its own: what was taken away is also put on record, whoever hangs up meanwhile.
        let taken = tokio::spawn(async move {
            let event = Event::Revoked { id: id.clone(), channel: "api".to_owned(), by: by.clone() };
            desk.close_beforehand(&id, event, &format!("withdrawn by {by}"), at).await
        });
        taken.await.unwrap_or_else(|error| Err(Denied::NotRecorded(format!("the desk failed: {error}"))))
    }

    /// Waits a moment for what was just approved to begin, so that it can be taken back as soon as anybody reads of it.
    pub(super) async fn begun(&self, id: &HoldId) {
        let mut changes = self.changes();
        let begins = |view: RequestView| {
            let over = view.window.is_none_or(|window| window.over.is_some());
            !over && matches!(view.decision, Some(Decision::Approve { .. }))
        };
        let begun = async {
            while self.view_of(id).is_some_and(begins) && !self.beforehand.lock().await.contains_key(id) {
                let _ = changes.recv().await;
            }
        };
        let _ = tokio::time::timeout(SETTLE, begun).await;
    }

    pub(super) async fn close_beforehand(
        &self,
        id: &HoldId,
        event: Event,
        words: &str,
        at: Timestamp,
    ) -> Result<(), Denied> {
        if self.beforehand.lock().await.remove(id).is_none() {
            return Err(Denied::NothingToRevoke);
        }
        self.change(id, |case| case.end_window(words, at));
        self.forget(id);
        self.record.record(vec![event]).await.map_err(Denied::NotRecorded)
    }

    /// Ends those whose window is over.
    pub(in crate::approval) async fn lapse_beforehand(&self, now: Timestamp) {
        let over: Vec<HoldId> = {
            let all = self.beforehand.lock().await;
            all.iter().filter(|(_, one)| now >= one.request.deadline).map(|(id, _)| id.clone()).collect()
        };
        for id in over {
            let event = Event::Lapsed { id: id.clone(), why: None };
            if let Err(error) = self.close_beforehand(&id, event, OVER, now).await {
                tracing::error!(request = %id, "cannot record the end of a pre-approval: {error}");
            }
        }
    }

    fn change(&self, id: &HoldId, change: impl FnOnce(&mut Case)) {
        let Some(place) = self.place(id) else { return };
        let view = {
            let mut case = place.case();
            change(&mut case);
            case.view.clone()
        };
        self.tell(Change::Changed(Box::new(view)));
    }
}

/// What it does is committed when the database says that it is done.
pub(in crate::approval) fn stands_alone(request: &HoldRequest) -> bool {
    !request.in_transaction && request.effects.iter().all(|effect| effect.kind != EffectKind::Transaction)
}

/// It was approved beforehand and its window is not over.
pub(super) fn may_pass(view: &RequestView) -> bool {
    let released = view.ended.as_ref().is_some_and(|ended| ended.outcome == Outcome::Released);
    view.request.beforehand.is_some() && released && clock::wall() < view.request.deadline
}

/// The approved ones, by request.
pub(super) type All = tokio::sync::Mutex<BTreeMap<HoldId, Approved>>;

/// Stands where the session of a hold would: waits for the decision, until the window is over.
async fn keep(mut ticket: Ticket) {
    let life = ticket.request().time_to_live;
    let decided = poll_fn(|cx| match ticket.poll_decision(cx) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending if ticket.failure().is_some() => Poll::Ready(false),
        Poll::Pending => Poll::Pending,
    });
    match tokio::time::timeout(life, decided).await {
        Ok(true) => drop(ticket.finish(clock::wall())),
        // Withdrawn: it is over already.
        Ok(false) => {}
        Err(_) => {
            if ticket.expire(clock::wall()).is_err() {
                let _: Outcome = ticket.finish(clock::wall());
            }
        }
    }
}

mod approved;
#[cfg(test)]
mod tests;
