//! What the admin API says, as JSON; the command line reads the same types. Knows no HTTP.
//!
//! Statement text and parameter values are the very text, escaped as JSON escapes it; making it safe for a terminal or
//! a page is the reader's business ([`crate::approval::spell_out`]).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::approval::channel;
use crate::hold::{Decision, Ended, Hold, HoldRequest, Outcome, Parameter, Phase};
use crate::impact::{self, Impact};
use crate::judge::{Effect, Ownership, Risk};
pub use progress::{AgainView, MilestoneView, ProgressView, ReviewView, UndoneView};

mod progress;

/// Bytes of statement text, and of all parameter values together, sent in lists and event streams. A single request is shown whole.
pub const LIST_TEXT_BYTES: usize = 64 << 10;

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for a decision.
    Pending,
    /// Approval is on record and being carried out: becomes released, or withdrawn if the client goes first.
    Approved,
    /// Approved and handed to the database.
    Released,
    /// Refused by a person.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// Ended without a decision being carried out; see `cause`.
    Withdrawn,
}

/// One approval request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestView {
    /// Its name, `qg-` and ten characters.
    pub id: String,
    /// How far it has come.
    pub state: State,
    /// Who asks, and from where.
    pub origin: OriginView,
    /// What would run.
    pub statement: StatementView,
    /// Bound parameter values.
    pub parameters: Vec<ParameterView>,
    /// What it can do.
    pub effects: Vec<EffectView>,
    /// What of its text nobody should overlook.
    #[serde(default)]
    pub risks: Vec<RiskView>,
    /// The rule that held it.
    pub rule: String,
    /// Owners of what it touches: each has to agree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<OwnerView>,
    /// Why it was held, in a sentence.
    pub why: String,
    /// What the rules that hold it say to the requester (`message`), a line each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What they advise to do instead (`advice`), likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Hash of the policy that held it.
    pub policy_version: String,
    /// Its session is inside a transaction, whose locks stay while it waits.
    pub in_transaction: bool,
    /// The role it acts as in its session, where the session could be asked.
    #[serde(default)]
    pub role: Option<String>,
    /// `search_path` of its session, as SHOW spells it, where the session could be asked.
    #[serde(default)]
    pub search_path: Option<String>,
    /// What it would touch, as far as the caller may know; absent where nobody looks into it, or that is not done yet.
    #[serde(default)]
    pub impact: Option<ImpactView>,
    /// What it runs under once it is released, in a sentence, where a rule gives it a `guard`.
    #[serde(default)]
    pub guard: Option<String>,
    /// The request that it undoes, where its text says so plainly.
    #[serde(default)]
    pub undoes: Option<String>,
    /// The requester's own words.
    pub reason: Option<String>,
    /// When it was held (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: Timestamp,
    /// When it expires if nobody decides (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub deadline: Timestamp,
    /// The decision on record. A withdrawn request may have one that was never carried out.
    pub decision: Option<DecisionView>,
    /// What a decision that is on record but not yet carried out waits for, in words.
    #[serde(default)]
    pub note: Option<String>,
    /// When it ended (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// Why it was withdrawn, in words.
    pub cause: Option<String>,
    /// How many approve, and what has happened so far; absent for requests the gate remembers only in outline.
    #[serde(default)]
    pub progress: Option<ProgressView>,
    /// The caller may decide it now.
    pub may_decide: bool,
    /// Why the caller may not, if it is still open.
    pub may_not_decide_because: Option<String>,
    /// It was released in an emergency, and the caller may say that they have looked at it.
    #[serde(default)]
    pub may_review: bool,
}

/// An owner of what a request touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnerView {
    /// Who may speak for the owner, in words.
    pub owner: String,
    /// What they own of what it touches; none: it does not say what it touches.
    pub objects: Vec<String>,
    /// There are more objects.
    #[serde(default)]
    pub more: bool,
    /// Lines of the owners file that say so.
    pub lines: Vec<usize>,
}

impl From<&Ownership> for OwnerView {
    fn from(own: &Ownership) -> Self {
        Self { owner: own.owner_in_words(), objects: own.of.clone(), more: own.more, lines: own.lines.clone() }
    }
}

/// What a statement would touch, asked of the database before people were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImpactView {
    /// What matters most, a line each.
    pub headlines: Vec<String>,
    /// Everything, a line each; empty in lists.
    #[serde(default)]
    pub summary: Vec<String>,
    /// The same as data; absent in lists. Its fields are those of the record's event `examined`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub facts: Option<serde_json::Value>,
}

impl ImpactView {
    fn new(impact: &Impact, detail: Detail) -> Self {
        let headlines = impact::headlines(impact);
        match detail {
            Detail::List => Self { headlines, ..Self::default() },
            Detail::Full => {
                Self { headlines, summary: impact::summary(impact), facts: serde_json::to_value(impact).ok() }
            }
        }
    }

    /// Shown to whoever asked and may not read the rows themselves.
    fn kept_from_requester() -> Self {
        Self { headlines: vec!["shown to approvers".to_owned()], ..Self::default() }
    }
}

/// What somebody says who has looked at an emergency release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewBody {
    /// Their words. At most 1,000 characters.
    #[serde(default)]
    pub comment: Option<String>,
}

/// Where a request comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OriginView {
    /// Database user.
    pub user: String,
    /// Database.
    pub database: String,
    /// `application_name`, possibly empty.
    pub application_name: String,
    /// Common name of the certificate by which the client proved itself to the gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_name: Option<String>,
    /// Address and port, or `unix`.
    pub client: String,
    /// The gate's number of the session.
    pub session: u64,
    /// Process id of the backend.
    pub backend_pid: Option<i32>,
    /// Known people whom the certificate names, or who work as this database user.
    pub people: Vec<String>,
}

/// What would run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatementView {
    /// The text; its beginning if not `complete`.
    pub text: String,
    /// The text is whole.
    pub complete: bool,
    /// Bytes of the whole text.
    pub bytes: usize,
    /// The bytes were not UTF-8, so the text is not exactly what would run.
    pub lossy: bool,
    /// SHA-256 of the exact bytes, in hex. Send it with a decision to bind the decision to it.
    pub sha256: String,
}

/// A bound parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParameterView {
    /// Position, from 1.
    pub position: usize,
    /// Type as Postgres spells it, when known.
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    /// The value; null for NULL; its beginning if not `complete`.
    pub value: Option<String>,
    /// The value could not be decoded and stands in hex.
    pub raw: bool,
    /// The value is whole.
    pub complete: bool,
}

/// One thing a statement can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectView {
    /// Kind, as rules name it.
    pub kind: String,
    /// To which objects.
    pub objects: Vec<String>,
    /// Whether a condition limits the rows, where that means something.
    pub has_where: Option<bool>,
    /// Why the text has this effect.
    pub why: String,
}

/// What of a text nobody should overlook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RiskView {
    /// A code, as rules name it: `always-true`, `no-where`, `look-alike` …
    pub kind: String,
    /// In words. Invisible characters are spelled out.
    pub text: String,
}

/// A decision on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionView {
    /// To run it.
    pub approve: bool,
    /// Whose.
    pub by: String,
    /// Their words.
    pub reason: Option<String>,
    /// When (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// A list of requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListView {
    /// The gate's time, for countdowns (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub now: Timestamp,
    /// The requests.
    pub requests: Vec<RequestView>,
}

/// A change, in the event stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// The gate's time, for countdowns (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub now: Timestamp,
    /// The request after the change.
    pub request: RequestView,
}

/// A caller's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerBody {
    /// Why; told to the client. At most 1,000 characters.
    #[serde(default)]
    pub reason: Option<String>,
    /// Release it alone, in an emergency. Only for people named in `break_glass`, and needs a reason.
    #[serde(default)]
    pub break_glass: bool,
    /// With an approval: the same statement may run again in its session for so many minutes. As far as `again` in the configuration
    /// permits; of several approvers all have to say so.
    #[serde(default)]
    pub again_minutes: Option<u32>,
    /// Digest of the statement that was shown; if given, the answer counts only for it.
    #[serde(default)]
    pub statement_sha256: Option<String>,
    /// `progress.round` of the request that was shown. An approval of an earlier round does not count.
    #[serde(default)]
    pub round: Option<u32>,
}

/// What somebody asks for before it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    /// The statements; each may run once.
    pub sql: String,
    /// Why. At most 1,000 characters.
    pub reason: String,
    /// Database user that will run them; may be left out by people who work as one only.
    #[serde(default)]
    pub user: Option<String>,
    /// In this database.
    pub database: String,
    /// The rule whose approvers are asked. Statements pass where they are held by rules of the same approval profile.
    #[serde(default)]
    pub rule: Option<String>,
    /// For so many minutes from now, the time until the approval included.
    pub window_minutes: u32,
}

/// Who the caller is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeView {
    /// Name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Is an approver.
    pub approver: bool,
}

/// How much text a view carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Statement and parameters each cut at [`LIST_TEXT_BYTES`].
    List,
    /// Everything.
    Full,
}

/// What may still be said.
struct Room {
    bytes: usize,
}

impl Room {
    fn new(detail: Detail) -> Self {
        let bytes = match detail {
            Detail::List => LIST_TEXT_BYTES,
            Detail::Full => usize::MAX,
        };
        Self { bytes }
    }

    /// As much of a text as there is room for, and whether that is all of it.
    fn fit(&mut self, text: &str) -> (String, bool) {
        let most = self.bytes.min(text.len());
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.bytes = self.bytes.saturating_sub(end);
        (text.get(..end).unwrap_or_default().to_owned(), end == text.len())
    }
}

impl RequestView {
    /// A hold as JSON. `people` work as its database user; `may_decide` leaves the state aside.
    pub(super) fn new(
        hold: &Hold,
        progress: Option<&channel::RequestView>,
        people: Vec<String>,
        may_decide: Result<(), String>,
        is_approver: bool,
        detail: Detail,
    ) -> Self {
        let request: &HoldRequest = &hold.request;
        let state = state(&hold.phase);
        let ended = ended(&hold.phase);
        let open = state == State::Pending;
        Self {
            id: request.id.0.clone(),
            state,
            origin: origin(request, people),
            statement: statement(request, detail),
            parameters: parameters(request, detail),
            effects: request.effects.iter().map(EffectView::from).collect(),
            risks: request.risks.iter().map(RiskView::from).collect(),
            rule: request.rule.as_ref().to_owned(),
            owners: request.owners.iter().map(OwnerView::from).collect(),
            why: request.why.clone(),
            message: request.message.clone(),
            advice: request.advice.clone(),
            policy_version: request.policy_version.as_ref().to_owned(),
            in_transaction: request.in_transaction,
            role: request.setting.as_ref().and_then(|setting| setting.role.clone()),
            search_path: request.setting.as_ref().and_then(|setting| setting.search_path.clone()),
            impact: progress.and_then(|view| view.impact.as_deref()).map(|impact| {
                // Fail closed: otherwise a held statement would be a way to count rows that one may not read.
                if is_approver || impact.requester_may_see {
                    ImpactView::new(impact, detail)
                } else {
                    ImpactView::kept_from_requester()
                }
            }),
            guard: request.guard.clone(),
            undoes: request.undoes.as_ref().map(|id| id.0.clone()),
            reason: request.reason.clone(),
            opened_at: request.opened_at,
            deadline: request.deadline,
            decision: decision(&hold.phase).map(DecisionView::from),
            note: note(&hold.phase).map(str::to_owned),
            ended_at: ended.map(|ended| ended.at),
            cause: ended.and_then(cause),
            progress: progress.map(|view| {
                let may_know = is_approver || view.impact.as_ref().is_none_or(|impact| impact.requester_may_see);
                let progress = ProgressView::from(view);
                if may_know { progress } else { ProgressView { changed: Vec::new(), ..progress } }
            }),
            may_decide: open && may_decide.is_ok(),
            may_not_decide_because: may_decide.err().filter(|_| open),
            may_review: false,
        }
    }
}

fn state(phase: &Phase) -> State {
    match phase {
        Phase::Pending => State::Pending,
        Phase::Decided(Decision::Approve { .. }) => State::Approved,
        Phase::Decided(Decision::Reject { .. }) => State::Rejected,
        Phase::Ended(ended) => match ended.outcome {
            Outcome::Released => State::Released,
            Outcome::Rejected => State::Rejected,
            Outcome::Expired => State::Expired,
            Outcome::Withdrawn { .. } => State::Withdrawn,
        },
    }
}

/// A decision counts once it is recorded; whether the client still waits only its session can tell.
fn note(phase: &Phase) -> Option<&'static str> {
    match phase {
        Phase::Decided(Decision::Approve { .. }) => Some(
            "the approval is recorded and being carried out; the state becomes released, or withdrawn if the client no longer waits",
        ),
        Phase::Decided(Decision::Reject { .. }) => Some("the rejection is recorded and its client is being told"),
        Phase::Pending | Phase::Ended(_) => None,
    }
}

fn ended(phase: &Phase) -> Option<&Ended> {
    match phase {
        Phase::Ended(ended) => Some(ended),
        Phase::Pending | Phase::Decided(_) => None,
    }
}

fn decision(phase: &Phase) -> Option<&Decision> {
    match phase {
        Phase::Pending => None,
        Phase::Decided(decision) => Some(decision),
        Phase::Ended(ended) => ended.decision.as_ref(),
    }
}

fn cause(ended: &Ended) -> Option<String> {
    match ended.outcome {
        Outcome::Withdrawn { cause } => Some(cause.to_string()),
        Outcome::Released | Outcome::Rejected | Outcome::Expired => None,
    }
}

fn origin(request: &HoldRequest, people: Vec<String>) -> OriginView {
    let origin = &request.origin;
    OriginView {
        user: origin.user.clone(),
        database: origin.database.clone(),
        application_name: origin.application_name.clone(),
        certificate_name: origin.certificate_name.clone(),
        client: origin.client.clone(),
        session: origin.session.0,
        backend_pid: origin.backend_pid,
        people,
    }
}

fn statement(request: &HoldRequest, detail: Detail) -> StatementView {
    let statement = &request.statement;
    let (text, complete) = Room::new(detail).fit(&statement.text);
    StatementView {
        text,
        complete,
        bytes: statement.text.len(),
        lossy: statement.lossy,
        sha256: statement.sha256.clone(),
    }
}

/// All parameters; their values share one limit, or a client could make lists as large as it likes.
fn parameters(request: &HoldRequest, detail: Detail) -> Vec<ParameterView> {
    let mut room = Room::new(detail);
    request.parameters.iter().map(|parameter| ParameterView::new(parameter, &mut room)).collect()
}

impl ParameterView {
    fn new(parameter: &Parameter, room: &mut Room) -> Self {
        let fitting = parameter.value.as_ref().map(|value| room.fit(value));
        let complete = fitting.as_ref().is_none_or(|(_, complete)| *complete);
        Self {
            position: parameter.position,
            type_name: parameter.type_name.clone(),
            value: fitting.map(|(value, _)| value),
            raw: parameter.raw,
            complete,
        }
    }
}

impl From<&Effect> for EffectView {
    fn from(effect: &Effect) -> Self {
        // The one list of names is the rules' vocabulary, which serde knows.
        let kind = match serde_json::to_value(effect.kind) {
            Ok(serde_json::Value::String(kind)) => kind,
            Ok(_) | Err(_) => format!("{:?}", effect.kind),
        };
        Self {
            kind,
            objects: effect.objects.iter().map(ToString::to_string).collect(),
            has_where: effect.has_where,
            why: effect.why.clone(),
        }
    }
}

impl From<&Risk> for RiskView {
    fn from(risk: &Risk) -> Self {
        Self { kind: risk.kind.to_string(), text: risk.text.clone() }
    }
}

impl From<&Decision> for DecisionView {
    fn from(decision: &Decision) -> Self {
        Self {
            approve: matches!(decision, Decision::Approve { .. }),
            by: decision.by().to_owned(),
            reason: decision.reason().map(str::to_owned),
            at: decision.at(),
        }
    }
}
