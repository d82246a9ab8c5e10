//! `POST /v1/decisions`: what integrations hand in. Judges who sent it; who may decide is the desk's question.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequestParts, State as FromState};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::approval::channel::Receipt;
use crate::approval::integration::{Integration, Suspect, Told};
use crate::hold::HoldId;

use super::App;
use super::auth::{self, Guest};
use super::handlers::whole_body;
use super::problem::{Problem, ProblemBody};

/// When the message was signed, in Unix seconds.
const TIMESTAMP: &str = "x-querygate-timestamp";
/// `v1=` and the HMAC-SHA256 of `v1:` + timestamp + `:` + body, in lower-case hex.
const SIGNATURE: &str = "x-querygate-signature";

/// The integration whose token came with the request.
pub(super) struct Caller {
    integration: Integration,
    guest: Guest,
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let guest = Guest::of(parts)?;
        let settings = app.desk.settings();
        let integration = auth::bearer(parts).and_then(|token| Integration::by_token(&settings.integrations, token));
        match integration {
            Some(integration) => Ok(Self { integration: integration.clone(), guest }),
            None => Err(guest.turn_away(app, parts.uri.path())),
        }
    }
}

/// A person's decision, handed in by an integration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionBody {
    /// The request's name.
    pub request: String,
    /// Digest of the statement the person was shown.
    pub statement_sha256: String,
    /// `progress.round` of the request they were shown. An approval of an earlier round does not count.
    #[serde(default)]
    pub round: Option<u32>,
    /// `approve` or `reject`.
    pub decision: Choice,
    /// Who decided: a name or an e-mail address of the configuration, among those the integration may speak for.
    pub person: String,
    /// Why; told to the client. At most 1,000 characters.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What the person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// Run it.
    Approve,
    /// Do not.
    Reject,
}

/// A decision that counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptBody {
    /// The request's name.
    pub request: String,
    /// The person, as the configuration names them.
    pub person: String,
    /// The request is decided; otherwise more people have to approve.
    pub decided: bool,
    /// Approvals so far, where more are needed.
    pub have: Option<usize>,
    /// Approvals needed, where more are needed.
    pub need: Option<usize>,
}

/// Takes a person's decision from an integration. Besides the token it needs a fresh signature in the headers
/// `X-Querygate-Timestamp` and `X-Querygate-Signature`.
#[utoipa::path(post, path = "/v1/decisions", tag = "integrations", request_body = DecisionBody, responses(
    (status = 200, body = ReceiptBody), (status = 400, body = ProblemBody),
    (status = 401, body = ProblemBody, description = "No token of an integration, or no good and fresh signature"),
    (status = 403, body = ProblemBody, description = "Not a person it may speak for, or one who may not decide"),
    (status = 404, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "Came before, decided before, over, or another statement than shown"),
    (status = 413, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(super) async fn decide(
    FromState(app): FromState<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ReceiptBody>, Problem> {
    let body = whole_body(body)?;
    let now = crate::clock::wall();
    let integration = &caller.integration;
    if let Err(suspect) = proved(&app, integration, &headers, &body, now) {
        tracing::warn!(integration = %integration.name, address = %caller.guest.address, "a decision was not taken: {suspect}");
        return Err(match suspect {
            // Somebody has the token and not the secret, and may be guessing.
            Suspect::Forged => caller.guest.fail(&app).err().unwrap_or_else(|| suspect.into()),
            Suspect::Stale | Suspect::Replayed | Suspect::TooMany => suspect.into(),
        });
    }
    caller.guest.prove(&integration.name);
    let body: DecisionBody = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("the body is not as described: {error}")))?;
    let settings = app.desk.settings();
    let Some(person) = integration.person(&settings.people, &body.person) else {
        tracing::warn!(integration = %integration.name, "it handed in a decision of somebody it may not speak for");
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "not-its-person",
            "the integration may not speak for such a person",
        )
        .hint("`people` of its [[integration]] in the configuration names for whom it may"));
    };
    let told = Told {
        id: HoldId::parse(&body.request),
        statement_sha256: body.statement_sha256,
        round: body.round,
        approve: body.decision == Choice::Approve,
        reason: body.reason,
    };
    let request = told.id.to_string();
    let (decided, have, need) = match app.desk.answer_through(integration, person, told, now).await? {
        Receipt::Decided => (true, None, None),
        Receipt::Counted { have, need } => (false, Some(have), Some(need)),
    };
    Ok(Json(ReceiptBody { request, person: person.name.clone(), decided, have, need }))
}

/// The message is the integration's own, fresh, and came for the first time.
fn proved(
    app: &App,
    integration: &Integration,
    headers: &HeaderMap,
    body: &[u8],
    now: jiff::Timestamp,
) -> Result<(), Suspect> {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().and_then(|value| value.to_str().ok());
        value.filter(|_| values.next().is_none()).ok_or(Suspect::Forged)
    };
    let (timestamp, signature) = (one(TIMESTAMP)?, one(SIGNATURE)?);
    let body = std::str::from_utf8(body).map_err(|_| Suspect::Forged)?;
    let signed_at = integration.signed(timestamp, signature, body, now)?;
    app.replays.note(&integration.name, signature, signed_at, now)
}

impl From<Suspect> for Problem {
    fn from(suspect: Suspect) -> Self {
        let detail = suspect.to_string();
        match suspect {
            Suspect::Forged => Self::new(StatusCode::UNAUTHORIZED, "bad-signature", detail).hint(
                "X-Querygate-Signature is v1= and the HMAC-SHA256 (hex) of v1: + X-Querygate-Timestamp + : + body",
            ),
            Suspect::Stale => Self::new(StatusCode::UNAUTHORIZED, "stale", detail).hint("sign it when it is sent"),
            Suspect::Replayed => Self::new(StatusCode::CONFLICT, "replayed", detail),
            Suspect::TooMany => Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", detail),
        }
    }
}
