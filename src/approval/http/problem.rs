//! Errors of the admin API: a status and `{error, detail, hint}`. Carries no SQL and no token.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::approval::{Denied, Ineligible};
use crate::hold::{Outcome, Refused};

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemBody {
    /// One word for programs, such as `already-decided`.
    pub error: String,
    /// One sentence for people.
    pub detail: String,
    /// What to do.
    pub hint: Option<String>,
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    error: &'static str,
    detail: String,
    hint: Option<&'static str>,
    header: Option<(axum::http::HeaderName, String)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, error: &'static str, detail: impl Into<String>) -> Self {
        Self { status, error, detail: detail.into(), hint: None, header: None }
    }

    pub(super) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// No token, or one that proves nobody.
    pub(super) fn unauthenticated() -> Self {
        let mut problem =
            Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "this needs a token that the configuration knows")
                .hint("send the header `Authorization: Bearer TOKEN`");
        problem.header = Some((WWW_AUTHENTICATE, "Bearer".to_owned()));
        problem
    }

    /// Too many failed authentications.
    pub(super) fn throttled(seconds: u64) -> Self {
        let mut problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-failures",
            "too many failed authentications came from this address",
        )
        .hint("wait, then send a valid token");
        problem.header = Some((RETRY_AFTER, seconds.to_string()));
        problem
    }

    pub(super) fn no_such_request() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-request", "no such request")
            .hint("requests that ended long ago are forgotten")
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-path", "no such path").hint("GET /openapi.json describes this API")
    }

    pub(super) fn no_such_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "this path does not answer that method")
            .hint("GET /openapi.json describes this API")
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let detail = denied.to_string();
        match denied {
            Denied::Ineligible(why) => why.into(),
            Denied::Refused(refused) => refused.into(),
            Denied::OtherStatement => Self::new(StatusCode::CONFLICT, "other-statement", detail)
                .hint("show the request again before deciding"),
            Denied::ReasonTooLong | Denied::NotBeforehand(_) => Self::bad_request(detail),
            Denied::ReasonNeeded => Self::bad_request(detail).hint("say why it cannot wait: `reason`"),
            Denied::AlreadyApproved { .. } => {
                Self::new(StatusCode::CONFLICT, "already-approved", detail).hint("another approver has to answer")
            }
            Denied::Changed(_) => Self::new(StatusCode::CONFLICT, "changed", detail)
                .hint("show the request again: approvals so far count no more"),
            Denied::OnlyOnce => Self::bad_request(detail).hint("approve it without `again`"),
            Denied::AgainTooLong { .. } => {
                Self::bad_request(detail).hint("`again` in the section [approval] of the configuration says how long")
            }
            Denied::NothingToRevoke => Self::new(StatusCode::CONFLICT, "nothing-to-revoke", detail),
            Denied::NothingToReview => Self::new(StatusCode::CONFLICT, "nothing-to-review", detail),
            Denied::AlreadyReviewed { .. } => Self::new(StatusCode::CONFLICT, "already-reviewed", detail),
            Denied::NotRecorded(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "not-recorded", detail)
                .hint("the gate's operator has to look after its store"),
        }
    }
}

impl From<Ineligible> for Problem {
    fn from(why: Ineligible) -> Self {
        let (error, hint) = match why {
            Ineligible::NotApprover => {
                ("not-an-approver", "approvers are named in the section [approval] of the configuration")
            }
            Ineligible::NotBreakGlass => {
                ("not-break-glass", "`break_glass` in the section [approval] of the configuration names who may")
            }
            Ineligible::BrokeGlass => ("broke-glass", "another approver has to look at it"),
            Ineligible::OwnRequest => ("own-request", "ask another approver"),
            Ineligible::MayBeOwn => {
                ("may-be-own-request", "link whoever asked to Slack in [[people]], or ask another approver")
            }
            Ineligible::UnknownRequester => {
                ("unknown-requester", "list the database user in `database_users` of the person who uses it")
            }
        };
        Self::new(StatusCode::FORBIDDEN, error, why.to_string()).hint(hint)
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let conflict = |error| Self::new(StatusCode::CONFLICT, error, refused.to_string());
        match &refused {
            Refused::Unknown => Self::no_such_request(),
            Refused::Decided(_) => conflict("already-decided"),
            Refused::Late { .. } => conflict("expired"),
            Refused::Ended(ended) => match ended.outcome {
                Outcome::Released | Outcome::Rejected => conflict("already-decided"),
                Outcome::Expired => conflict("expired").hint("the client has to ask again"),
                Outcome::Withdrawn { .. } => conflict("withdrawn").hint("the client no longer waits for it"),
            },
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body =
            ProblemBody { error: self.error.to_owned(), detail: self.detail, hint: self.hint.map(str::to_owned) };
        let mut response = (self.status, Json(body)).into_response();
        if let Some((name, value)) = self.header
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
