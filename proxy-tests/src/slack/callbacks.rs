//! Signed HTTP callbacks: what Slack does for apps without Socket Mode.
//!
//! Signature: `v0=` and the hexadecimal HMAC-SHA-256 of `v0:TIMESTAMP:BODY` under the signing secret,
//! <https://docs.slack.dev/authentication/verifying-requests-from-slack>.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use querygate::clock;
use serde_json::Value;
use sha2::Sha256;
use ureq::Agent;

use super::delivery::{Kind, Parcel, Reply};
use super::fault::DeliveryFault;
use super::inner::Callbacks;

/// A request as it goes out, so that it can go out twice.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    url: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// The signature of a body.
pub fn signature(secret: &str, timestamp: &str, body: &str) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    for part in ["v0:", timestamp, ":", body] {
        mac.update(part.as_bytes());
    }
    format!("v0={}", hex::encode(mac.finalize().into_bytes()))
}

/// Signs what is to be told.
pub(super) fn request(callbacks: &Callbacks, secret: &str, parcel: &Parcel) -> Signed {
    let json = parcel.payload.to_string();
    let (url, kind, mut body) = match parcel.kind {
        Kind::Interactive => {
            (&callbacks.interactivity, "application/x-www-form-urlencoded", form(&[("payload", &json)]))
        }
        Kind::Command => (&callbacks.commands, "application/x-www-form-urlencoded", command(&parcel.payload)),
        Kind::Event => (&callbacks.events, "application/json", json),
    };
    if parcel.fault == Some(DeliveryFault::Truncated) {
        body = body.chars().take(body.chars().count() / 2).collect();
    }
    let age = match parcel.fault {
        Some(DeliveryFault::SignedBefore(seconds)) => i64::from(seconds),
        _ => 0,
    };
    let timestamp = clock::wall().as_second().saturating_sub(age).to_string();
    let secret = if parcel.fault == Some(DeliveryFault::WrongSignature) { "another secret" } else { secret };
    let mut headers = vec![
        ("content-type", kind.to_owned()),
        ("user-agent", "Slackbot 1.0 (+https://api.slack.com/robots)".to_owned()),
        ("x-slack-request-timestamp", timestamp.clone()),
    ];
    if parcel.fault != Some(DeliveryFault::NoSignature) {
        headers.push(("x-slack-signature", signature(secret, &timestamp, &body)));
    }
    if parcel.retry > 0 {
        let reason = if parcel.reason == "timeout" { "http_timeout" } else { parcel.reason };
        headers.push(("x-slack-retry-num", parcel.retry.to_string()));
        headers.push(("x-slack-retry-reason", reason.to_owned()));
    }
    Signed { url: url.clone(), headers, body }
}

fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// A command's fields, each a form field of its own.
fn command(payload: &Value) -> String {
    let fields = payload.as_object().into_iter().flatten();
    let pairs: Vec<(&str, &str)> = fields.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect();
    form(&pairs)
}

/// Sends it, and says whether it may be sent again.
pub(super) async fn post(request: Signed, within: Duration) -> (Reply, bool) {
    let task = tokio::task::spawn_blocking(move || post_blocking(&request, within));
    task.await.unwrap_or((Reply::Unreachable, true))
}

fn post_blocking(request: &Signed, within: Duration) -> (Reply, bool) {
    // Slack follows no redirects and calls the app directly.
    let config = Agent::config_builder()
        .timeout_global(Some(within))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build();
    let mut call = Agent::new_with_config(config).post(&request.url);
    for (name, value) in &request.headers {
        call = call.header(*name, value);
    }
    match call.send(&request.body) {
        Ok(mut response) if response.status() == 200 => match response.body_mut().read_to_string() {
            Ok(text) if text.trim().is_empty() => (Reply::Acknowledged(None), true),
            Ok(text) => {
                let json = serde_json::from_str(&text).unwrap_or_else(|_| serde_json::json!({ "text": text }));
                (Reply::Acknowledged(Some(json)), true)
            }
            Err(_) => (Reply::TimedOut, true),
        },
        Ok(response) => {
            let again = response.headers().get("x-slack-no-retry").is_none_or(|value| value != "1");
            (Reply::Refused(response.status().as_u16()), again)
        }
        Err(ureq::Error::Timeout(_)) => (Reply::TimedOut, true),
        Err(_) => (Reply::Unreachable, true),
    }
}
