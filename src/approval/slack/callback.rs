//! The signed HTTP endpoint, for workspaces without Socket Mode: one address for interactions, commands and events. Knows bytes
//! and signatures, no requests.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::{Value, json};
use slack_morphism::SlackSigningSecret;
use slack_morphism::signature_verifier::SlackEventSignatureVerifier;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::approval::AdminSettings;
use crate::approval::http::listener::{Door, Peer};

use super::inbox::{Inbox, Taken};
use super::{Inner, interaction};

/// Where Slack posts everything to.
const PATH: &str = "/slack";
/// Largest body.
const MAX_BODY: usize = 128 << 10;
/// Slack gives up after three seconds.
const BODY_DEADLINE: Duration = Duration::from_secs(2);

struct Endpoint {
    verifier: Option<SlackEventSignatureVerifier>,
    inbox: Inbox,
}

/// Serves the endpoint until `stop` says `true` (or its sender is gone).
pub(super) async fn serve(listener: TcpListener, inner: Arc<Inner>, inbox: Inbox, mut stop: watch::Receiver<bool>) {
    // The same watch over connections as the admin API's: who does not sign is not listened to for long.
    let limits = AdminSettings { max_body_bytes: MAX_BODY, ..AdminSettings::default() };
    let secret = inner.settings.signing_secret.as_ref().map(|secret| SlackSigningSecret(secret.reveal().to_owned()));
    let verifier = secret.as_ref().map(SlackEventSignatureVerifier::new);
    let door = Door::new(listener, &limits);
    let served = axum::serve(door, router(verifier, inbox).into_make_service_with_connect_info::<Peer>())
        .with_graceful_shutdown(async move {
            // An error means that the sender is gone, which is a stop too.
            let _gone = stop.wait_for(|stop| *stop).await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!("the endpoint for Slack ended: {error}");
    }
}

fn router(verifier: Option<SlackEventSignatureVerifier>, inbox: Inbox) -> Router {
    Router::new().route(PATH, post(receive)).with_state(Arc::new(Endpoint { verifier, inbox }))
}

async fn receive(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY_DEADLINE, read(body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(refused)) => return refused.into_response(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let Some(signature) = verified(&endpoint, &parts.headers, &body) else {
        return (StatusCode::UNAUTHORIZED, "not signed by Slack, or too long ago").into_response();
    };
    if let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<Peer>>() {
        peer.prove();
    }
    let (kind, payload) = payload(&body);
    if payload.get("type").and_then(Value::as_str) == Some("url_verification") {
        let challenge = payload.get("challenge").and_then(Value::as_str).unwrap_or_default();
        return axum::Json(json!({ "challenge": challenge })).into_response();
    }
    // Where the act has no name, the signature is one: the same again is a replay.
    let key = interaction::key(&payload, &signature);
    match endpoint.inbox.take(&key, interaction::read(kind, &payload)).await {
        Taken::Accepted | Taken::Again => StatusCode::OK.into_response(),
        // Fail closed: what cannot be worked on is not acknowledged, so Slack tells whoever clicked.
        Taken::Refused => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn read(body: Body) -> Result<String, StatusCode> {
    let bytes = to_bytes(body, MAX_BODY).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    String::from_utf8(bytes.into()).map_err(|_| StatusCode::BAD_REQUEST)
}

/// The signature, if it is right and its time within five minutes of ours.
fn verified(endpoint: &Endpoint, headers: &HeaderMap, body: &str) -> Option<String> {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        // Fail closed: of two headers it is not clear which one counts.
        values.next().is_none().then_some(value)
    };
    let signature = one(SlackEventSignatureVerifier::SLACK_SIGNED_HASH_HEADER)?;
    let at = one(SlackEventSignatureVerifier::SLACK_SIGNED_TIMESTAMP)?;
    // Fail closed: without a secret nothing is signed rightly.
    endpoint.verifier.as_ref()?.verify(signature, body, at).ok()?;
    Some(signature.to_owned())
}

/// What kind of payload a body is, in the words of Socket Mode, and the payload.
fn payload(body: &str) -> (&'static str, Value) {
    if body.trim_start().starts_with('{') {
        return ("events_api", serde_json::from_str(body).unwrap_or_default());
    }
    let mut fields = serde_json::Map::new();
    for (key, value) in form_urlencoded::parse(body.as_bytes()) {
        if key == "payload" {
            return ("interactive", serde_json::from_str(&value).unwrap_or_default());
        }
        fields.insert(key.into_owned(), Value::String(value.into_owned()));
    }
    ("slash_commands", Value::Object(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_told_apart_by_their_shape() {
        assert_eq!(payload(r#"{"type":"event_callback"}"#).0, "events_api");
        let (kind, value) = payload("payload=%7B%22type%22%3A%22block_actions%22%7D");
        assert_eq!((kind, &value["type"]), ("interactive", &json!("block_actions")));
        let (kind, value) = payload("command=%2Fquerygate&text=show+qg-1&user_id=U01");
        assert_eq!((kind, &value["text"]), ("slash_commands", &json!("show qg-1")));
        assert_eq!(payload("payload=nonsense"), ("interactive", Value::Null));
    }
}
