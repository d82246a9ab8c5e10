//! Who calls: a bearer token, or nobody gets in. Knows no requests.

use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use crate::approval::people::Person;

use super::App;
use super::listener::Peer;
use super::problem::Problem;

/// The person whose token came with the request.
pub(super) struct Caller(pub(super) Person);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        // Fail closed: a request that came from nowhere cannot be counted, so it is not let in.
        let Some(ConnectInfo(Peer { address, pass })) = parts.extensions.get::<ConnectInfo<Peer>>() else {
            return Err(Problem::unauthenticated());
        };
        let settings = app.desk.settings();
        let person = bearer(parts).and_then(|token| settings.people.by_token(token));
        if let Some(person) = person {
            pass.prove();
            return Ok(Self(person.clone()));
        }
        // Only failures are slowed down: a valid token passes whoever shares its address, behind a proxy or NAT. Tokens
        // are too long to be guessed at any speed; this keeps the log and the work of looking bounded.
        app.failures
            .may_try(*address, crate::clock::now())
            .map_err(|wait| Problem::throttled(wait.as_secs().saturating_add(1)))?;
        app.failures.failed(*address, crate::clock::now());
        tracing::warn!(%address, path = parts.uri.path(), "admin API: unauthenticated request");
        Err(Problem::unauthenticated())
    }
}

/// The token of the one `Authorization: Bearer` header (RFC 6750, section 2.1).
fn bearer(parts: &Parts) -> Option<&str> {
    let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
    let header = headers.next()?.to_str().ok()?;
    if headers.next().is_some() {
        return None;
    }
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
