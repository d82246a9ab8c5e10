//! One function per path of the admin API. Knows the desk; every rule about who may do what is the desk's.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query, State as FromState};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::sse::Sse;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::approval::people::Person;
use crate::approval::{Answer, ApprovalDesk, Wish};
use crate::hold::{Hold, HoldId};

use super::App;
use super::auth::Caller;
use super::problem::{Problem, ProblemBody};
use super::stream::{self, Events};
use super::view::{AnswerBody, CreateBody, Detail, ListView, MeView, RequestView, ReviewBody};

/// Most requests in one list.
const MAX_LIST: usize = 1_000;

/// Which requests to list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// `pending` (default), `recent` (ended), `all` (both), or `reviews` (emergency releases that nobody else
    /// has looked at), or `grants` (approvals that stand).
    #[serde(default)]
    state: Which,
    /// Most requests to list; at most 1000.
    #[serde(default)]
    limit: Option<usize>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Which {
    #[default]
    Pending,
    Recent,
    All,
    Reviews,
    Grants,
}

/// The request a path names.
pub(super) struct Id(HoldId);

impl FromRequestParts<Arc<App>> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Path(id) = Path::<String>::from_request_parts(parts, app).await.map_err(|_| Problem::no_such_request())?;
        Ok(Self(HoldId::parse(&id)))
    }
}

/// Who the token proves the caller to be.
#[utoipa::path(get, path = "/v1/me", tag = "requests", responses(
    (status = 200, body = MeView), (status = 401, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(super) async fn me(FromState(app): FromState<Arc<App>>, caller: Caller) -> Json<MeView> {
    let Caller(person) = caller;
    Json(MeView { approver: app.desk.settings().is_approver(&person), name: person.name, groups: person.groups })
}

/// Requests the caller may see: approvers all of them, others those of the database users they work as.
#[utoipa::path(get, path = "/v1/requests", tag = "requests", params(ListQuery), responses(
    (status = 200, body = ListView, description = "Oldest first; after them ended ones, newest first"),
    (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(super) async fn list(
    FromState(app): FromState<Arc<App>>,
    Caller(person): Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<ListView>, Problem> {
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let limit = query.limit.unwrap_or(MAX_LIST).min(MAX_LIST);
    app.desk.settle(|_| true).await;
    let mut holds = match query.state {
        Which::Pending | Which::All => app.desk.list(&person),
        Which::Recent => Vec::new(),
        Which::Reviews => app.desk.reviews(&person),
        Which::Grants => app.desk.grants(&person),
    };
    holds.truncate(limit);
    let room = limit.saturating_sub(holds.len());
    match query.state {
        Which::Pending | Which::Reviews | Which::Grants => {}
        Which::Recent | Which::All => holds.extend(app.desk.recent(&person, room)),
    }
    Ok(Json(list_view(&app.desk, &person, &holds)))
}

/// One request with its whole text and parameters.
#[utoipa::path(get, path = "/v1/requests/{id}", tag = "requests",
    params(("id" = String, Path, description = "The request's name")), responses(
    (status = 200, body = RequestView), (status = 401, body = ProblemBody), (status = 404, body = ProblemBody),
    (status = 429, body = ProblemBody)))]
pub(super) async fn show(
    FromState(app): FromState<Arc<App>>,
    Caller(person): Caller,
    Id(id): Id,
) -> Result<Json<RequestView>, Problem> {
    app.desk.settle(|hold| hold.request.id == id).await;
    shown(&app.desk, &person, &id)
}

/// Approves a request: its statement runs.
#[utoipa::path(post, path = "/v1/requests/{id}/approve", tag = "requests",
    params(("id" = String, Path, description = "The request's name")), request_body = inline(Option<AnswerBody>), responses(
    (status = 200, body = RequestView), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody),
    (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "Decided before, over, or another statement than shown"),
    (status = 413, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(super) async fn approve(
    FromState(app): FromState<Arc<App>>,
    Caller(person): Caller,
    Id(id): Id,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RequestView>, Problem> {
    decide(&app.desk, &person, &id, true, body).await
}

/// Rejects a request: its client gets an error with the reason.
#[utoipa::path(post, path = "/v1/requests/{id}/reject", tag = "requests",
    params(("id" = String, Path, description = "The request's name")), request_body = inline(Option<AnswerBody>), responses(
    (status = 200, body = RequestView), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody),
    (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "Decided before, over, or another statement than shown"),
    (status = 413, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(super) async fn reject(
    FromState(app): FromState<Arc<App>>,
    Caller(person): Caller,
    Id(id): Id,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RequestView>, Problem> {
    decide(&app.desk, &person, &id, false, body).await
}

/// Says that the caller has looked at what one person released alone; the review is closed then.
#[utoipa::path(post, path = "/v1/requests/{id}/review", tag = "requests",
    params(("id" = String, Path, description = "The request's name")), request_body = inline(Option<ReviewBody>), responses(
    (status = 200, body = RequestView), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody),
    (status = 403, body = ProblemBody, description = "No approver, the requester, or whoever released it"),
    (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "Reviewed before, or no emergency release"),
    (status = 413, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(super) async fn review(
    FromState(app): FromState<Arc<App>>,
    Caller(person): Caller,
    Id(id): Id,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RequestView>, Problem> {
    let ReviewBody { comment } = json_body(body)?;
    app.desk.review(&person, &id, comment, crate::clock::wall()).await?;
    shown(&app.desk, &person, &id)
}

/// Asks for statements before they run. People are asked like about a held statement; once they approved, each of the statements
/// passes once, by the same database user in the same database, until the window is over.
#[utoipa::path(post, path = "/v1/requests", tag = "requests", request_body = CreateBody, responses(
    (status = 200, body = RequestView), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody),
    (status = 413, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(super) async fn create(
    FromState(app): FromState<Arc<App>>,
    Caller(person): Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RequestView>, Problem> {
    let CreateBody { sql, reason, user, database, rule, window_minutes } = json_body(body)?;
    let window = Duration::from_secs(u64::from(window_minutes).saturating_mul(60));
    let wish = Wish { sql, reason: Some(reason), user, database, rule, window };
    let id = app.desk.ask_beforehand(&person, wish, crate::clock::wall())?;
    app.desk.settle(|hold| hold.request.id == id).await;
    shown(&app.desk, &person, &id)
}

/// Takes back what the caller asked for before it runs, decided or not.
#[utoipa::path(post, path = "/v1/requests/{id}/withdraw", tag = "requests",
    params(("id" = String, Path, description = "The request's name")), responses(
    (status = 200, body = RequestView), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody),
    (status = 404, body = ProblemBody), (status = 409, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(super) async fn withdraw(
    FromState(app): FromState<Arc<App>>,
    Caller(person): Caller,
    Id(id): Id,
) -> Result<Json<RequestView>, Problem> {
    app.desk.withdraw(&person, &id, crate::clock::wall()).await?;
    shown(&app.desk, &person, &id)
}

/// Ends a standing approval: the statement is asked about again. For those who may see the request.
#[utoipa::path(post, path = "/v1/requests/{id}/revoke", tag = "requests",
    params(("id" = String, Path, description = "The request's name")), responses(
    (status = 200, body = RequestView), (status = 401, body = ProblemBody), (status = 404, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "Its approval does not stand"), (status = 429, body = ProblemBody)))]
pub(super) async fn revoke(
    FromState(app): FromState<Arc<App>>,
    Caller(person): Caller,
    Id(id): Id,
) -> Result<Json<RequestView>, Problem> {
    app.desk.revoke(&person, &id, crate::clock::wall()).await?;
    shown(&app.desk, &person, &id)
}

/// Changes as they happen: server-sent events named `snapshot` (data: `ListView`, first and whenever changes were
/// missed), `opened`, `changed`, `decided`, `ended`, `executed`, `reviewed` (data: `ChangeView`).
#[utoipa::path(get, path = "/v1/events", tag = "requests", responses(
    (status = 200, content_type = "text/event-stream", body = String), (status = 401, body = ProblemBody),
    (status = 429, body = ProblemBody)))]
pub(super) async fn events(FromState(app): FromState<Arc<App>>, Caller(person): Caller) -> Sse<Events> {
    let desk = Arc::clone(&app.desk);
    Sse::new(stream::start(desk, person, &app.settings, app.stop.clone()))
}

pub(super) async fn no_such_path() -> Problem {
    Problem::no_such_path()
}

pub(super) async fn no_such_method() -> Problem {
    Problem::no_such_method()
}

async fn decide(
    desk: &Arc<ApprovalDesk>,
    person: &Person,
    id: &HoldId,
    approve: bool,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RequestView>, Problem> {
    let body: AnswerBody = json_body(body)?;
    let again = body.again_minutes.map(|minutes| Duration::from_secs(u64::from(minutes).saturating_mul(60)));
    let AnswerBody { reason, break_glass, statement_sha256, round, .. } = body;
    let answer = Answer { approve, break_glass, again, reason, statement_sha256, round };
    desk.answer(person, id, answer, crate::clock::wall()).await?;
    shown(desk, person, id)
}

/// An empty body is one without words.
fn json_body<T: Default + DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let body = whole_body(body)?;
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("the body is not as described: {error}")))
}

/// All of the request's body.
pub(super) fn whole_body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the request body is too large")
        }
        _ => Problem::bad_request("the request body did not arrive"),
    })
}

fn shown(desk: &ApprovalDesk, person: &Person, id: &HoldId) -> Result<Json<RequestView>, Problem> {
    let hold = desk.find(person, id).ok_or_else(Problem::no_such_request)?;
    Ok(Json(view(desk, person, &hold, Detail::Full)))
}

pub(super) fn list_view(desk: &ApprovalDesk, person: &Person, holds: &[Hold]) -> ListView {
    ListView {
        now: crate::clock::wall(),
        requests: holds.iter().map(|hold| view(desk, person, hold, Detail::List)).collect(),
    }
}

pub(super) fn view(desk: &ApprovalDesk, person: &Person, hold: &Hold, detail: Detail) -> RequestView {
    let settings = desk.settings();
    let people = settings.people.behind(&hold.request.origin).map(|person| person.name.clone()).collect();
    let may_decide = desk.person_may_decide(person, &hold.request).map_err(|why| why.to_string());
    let progress = desk.view_of(&hold.request.id);
    let may_review = desk.person_may_review(person, &hold.request.id);
    let is_approver = desk.may_ever_decide(person, &hold.request);
    RequestView { may_review, ..RequestView::new(hold, progress.as_ref(), people, may_decide, is_approver, detail) }
}
