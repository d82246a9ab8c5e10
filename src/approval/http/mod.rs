//! The admin HTTP API: list, show, decide, and a stream of changes, for people with a token. Knows the desk, and nothing
//! of sessions.
//!
//! Start at [`serve`]; the paths are in `handlers`, what they say in [`view`].

mod auth;
mod failures;
mod handlers;
mod health;
mod integrations;
pub(in crate::approval) mod listener;
mod problem;
mod seats;
mod stream;
pub mod view;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::integration::Replays;
use super::{AdminSettings, ApprovalDesk};
use failures::Failures;
use listener::{Door, Peer};

pub use health::{
    Condition, Configuration, FunctionsView, HealthView, PartView, SlackView, Troubles, Vitals, WebhookView,
};
pub use integrations::{Choice, DecisionBody, ReceiptBody};
pub use problem::ProblemBody;

/// What every handler works with.
struct App {
    desk: Arc<ApprovalDesk>,
    failures: Failures,
    replays: Replays,
    settings: AdminSettings,
    vitals: Vitals,
    stop: watch::Receiver<bool>,
}

/// Serves the API on a bound listener until `stop` says `true` (or its sender is gone): then no new connections, event
/// streams end, and requests under way are answered.
pub async fn serve(
    listener: TcpListener,
    desk: Arc<ApprovalDesk>,
    settings: AdminSettings,
    vitals: Vitals,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    warn_if_exposed(listener.local_addr()?);
    let door = Door::new(listener, &settings);
    let app = router(Arc::new(App {
        desk,
        failures: Failures::new(settings.failure_burst, settings.failure_refill),
        replays: Replays::default(),
        settings,
        vitals,
        stop: stop.clone(),
    }));
    let mut stop = stop;
    axum::serve(door, app.into_make_service_with_connect_info::<Peer>())
        .with_graceful_shutdown(async move {
            // An error means that the sender is gone, which is a stop too.
            let _gone = stop.wait_for(|stop| *stop).await;
        })
        .await
}

/// The OpenAPI description, as `GET /openapi.json` serves it.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "querygate admin API",
        description = "Lists and decides held statements."
    ),
    paths(
        health::health,
        handlers::me,
        handlers::list,
        handlers::show,
        handlers::approve,
        handlers::reject,
        handlers::review,
        handlers::revoke,
        handlers::create,
        handlers::withdraw,
        handlers::events,
        integrations::decide
    ),
    components(schemas(view::ChangeView)),
    modifiers(&BearerTokens),
    security(("token" = []))
)]
struct Description;

struct BearerTokens;

impl Modify for BearerTokens {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        openapi.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

fn router(app: Arc<App>) -> Router {
    let limit = DefaultBodyLimit::max(app.settings.max_body_bytes);
    Router::new()
        .route("/health", get(health::health))
        .route("/openapi.json", get(async || Json(openapi())))
        .route("/v1/me", get(handlers::me))
        .route("/v1/requests", get(handlers::list).post(handlers::create))
        .route("/v1/requests/{id}", get(handlers::show))
        .route("/v1/requests/{id}/approve", post(handlers::approve))
        .route("/v1/requests/{id}/reject", post(handlers::reject))
        .route("/v1/requests/{id}/review", post(handlers::review))
        .route("/v1/requests/{id}/revoke", post(handlers::revoke))
        .route("/v1/requests/{id}/withdraw", post(handlers::withdraw))
        .route("/v1/decisions", post(integrations::decide))
        .route("/v1/events", get(handlers::events))
        .fallback(handlers::no_such_path)
        .method_not_allowed_fallback(handlers::no_such_method)
        .layer(limit)
        .layer(axum::middleware::map_response(careful))
        .with_state(app)
}

/// Statements and their values are nobody's to keep.
async fn careful(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn warn_if_exposed(address: SocketAddr) {
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "the admin API is reachable from other machines without TLS: put a TLS proxy in front");
    }
}
