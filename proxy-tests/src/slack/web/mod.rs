//! The Web API over HTTP/1.1: routes, recording of every call, injected faults. What a method does is in `methods` and
//! below it; it must not know HTTP.

mod chat;
mod directory;
mod files;
mod line;
mod methods;
mod request;
mod response_url;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State as Shared};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use querygate::clock;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use self::line::{Lines, Reset};
use super::fault::Fault;
use super::inner::Inner;
use super::state::{Call, State, Token};

pub(crate) use self::response_url::apply as apply_response;
pub(crate) use self::views::{open_view, replace};

/// Serves the Web API for good.
pub(crate) async fn serve(listener: TcpListener, inner: Arc<Inner>, more: Router) {
    let app = Router::new()
        .route("/api/{method}", any(api))
        .route("/upload/{ticket}", any(upload))
        .route("/response/{ticket}", post(respond))
        .with_state(inner)
        .merge(more)
        .into_make_service_with_connect_info::<Reset>();
    let _ = axum::serve(Lines(listener), app).await;
}

/// What a call is answered with.
#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    /// What is recorded.
    record: Value,
    body: String,
    json: bool,
}

impl Answer {
    fn json(body: Value) -> Answer {
        Answer { status: 200, headers: Vec::new(), body: body.to_string(), record: body, json: true }
    }

    /// A text, recorded as `ok` or not by the status.
    fn text(status: u16, body: &str) -> Answer {
        let record = json!({ "ok": status == 200, "text": body });
        Answer { status, headers: Vec::new(), record, body: body.to_owned(), json: false }
    }

    fn html(status: u16) -> Answer {
        let body = "<!DOCTYPE html><html><head><title>Something went wrong</title></head><body><p>We are on it.</p></body></html>";
        Answer { record: json!({ "ok": false, "html": status }), ..Answer::text(status, body) }
    }

    fn rate_limited(seconds: u64) -> Answer {
        let mut answer = Answer::json(json!({ "ok": false, "error": "ratelimited" }));
        answer.status = 429;
        answer.headers.push(("retry-after", seconds.to_string()));
        answer
    }

    fn into_response(self) -> Response {
        let kind = if self.json {
            "application/json; charset=utf-8"
        } else if self.body.starts_with('<') {
            "text/html; charset=utf-8"
        } else {
            "text/plain; charset=utf-8"
        };
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// `/api/METHOD`.
async fn api(
    Shared(inner): Shared<Arc<Inner>>,
    ConnectInfo(reset): ConnectInfo<Reset>,
    Path(method): Path<String>,
    request: Request,
) -> Response {
    let call = request::read(request).await;
    let token = inner.look(|state| methods::token_of(state, &method, &call));
    let arguments = call.arguments.clone();
    let shared = Arc::clone(&inner);
    let name = method.clone();
    let run = move |state: &mut State| methods::run(&shared, state, &name, &call, token);
    carry_out(&inner, &reset, &method, arguments, token, run).await
}

/// The URL a file is uploaded to.
async fn upload(
    Shared(inner): Shared<Arc<Inner>>,
    ConnectInfo(reset): ConnectInfo<Reset>,
    Path(ticket): Path<String>,
    request: Request,
) -> Response {
    let (verb, _, headers, body) = request::take(request).await;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let arguments = Map::from_iter([("bytes".to_owned(), json!(body.len())), ("content_type".to_owned(), json!(kind))]);
    let run = move |state: &mut State| files::upload(state, &ticket, &verb, &kind, &body);
    carry_out(&inner, &reset, "upload", arguments, Token::Missing, run).await
}

/// A response URL.
async fn respond(
    Shared(inner): Shared<Arc<Inner>>,
    ConnectInfo(reset): ConnectInfo<Reset>,
    Path(ticket): Path<String>,
    request: Request,
) -> Response {
    let call = request::read(request).await;
    let arguments = call.arguments.clone();
    let run = move |state: &mut State| response_url::respond(state, &ticket, &call);
    carry_out(&inner, &reset, "response_url", arguments, Token::Missing, run).await
}

/// Records a call, lets it meet its fault, and answers it.
async fn carry_out(
    inner: &Inner,
    reset: &Reset,
    method: &str,
    arguments: Map<String, Value>,
    token: Token,
    run: impl FnOnce(&mut State) -> Answer,
) -> Response {
    // Together: who sees the call on record may release it at once.
    let (number, fault, releases) = inner.change(|state| {
        let fault = state.faults.next(method);
        state.calls.push(Call {
            method: method.to_owned(),
            arguments,
            token,
            at: clock::now(),
            processed: false,
            answer: None,
            fault: fault.as_ref().map(|fault| format!("{fault:?}")),
        });
        (state.calls.len().saturating_sub(1), fault, state.faults.releases(method))
    });
    let process = || {
        inner.change(|state| {
            let answer = run(state);
            note(state, number, true, &answer);
            answer
        })
    };
    let instead = |answer: Answer| {
        inner.change(|state| note(state, number, false, &answer));
        answer
    };
    let Some(fault) = fault else { return process().into_response() };
    match fault {
        Fault::Status(status) => instead(Answer::html(status)),
        Fault::StatusAfter(status) => {
            process();
            Answer::html(status)
        }
        Fault::RateLimited(seconds) => instead(Answer::rate_limited(seconds)),
        Fault::ResetBefore => {
            reset.reset();
            instead(Answer::text(500, ""))
        }
        Fault::ResetAfter => {
            let answer = process();
            reset.reset();
            answer
        }
        Fault::Hang => {
            inner.released(method, releases).await;
            process()
        }
        Fault::HangAfter => {
            let answer = process();
            inner.released(method, releases).await;
            answer
        }
        Fault::Slow(time) => {
            let answer = process();
            tokio::time::sleep(time).await;
            answer
        }
        Fault::Html => instead(Answer::html(200)),
        Fault::Truncated => {
            let mut answer = process();
            answer.body = answer.body.chars().take(answer.body.chars().count() / 2).collect();
            answer
        }
        Fault::Error(error) => instead(Answer::json(json!({ "ok": false, "error": error }))),
        Fault::Json(json) => instead(Answer::json(json)),
    }
    .into_response()
}

fn note(state: &mut State, number: usize, processed: bool, answer: &Answer) {
    if let Some(call) = state.calls.get_mut(number) {
        call.processed = processed;
        call.answer = Some(answer.record.clone());
    }
}

impl Inner {
    /// Waits until `method` was released more often than `before`.
    async fn released(&self, method: &str, before: usize) {
        self.wait(|state| (state.faults.releases(method) > before).then_some(())).await;
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        Answer::into_response(self)
    }
}
