//! Who calls: a bearer token, or nobody gets in. Knows no requests.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use crate::approval::people::Person;

use super::App;
use super::listener::Peer;
use super::problem::Problem;
use super::seats::Pass;

/// The person whose token came with the request.
pub(super) struct Caller(pub(super) Person);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let guest = Guest::of(parts)?;
        let settings = app.desk.settings();
        let person = bearer(parts).and_then(|token| settings.people.by_token(token));
        if let Some(person) = person {
            guest.prove(&person.name);
            return Ok(Self(person.clone()));
        }
        Err(guest.turn_away(app, parts.uri.path()))
    }
}

/// Whoever is at the other end of a connection, before they have proved anything.
pub(super) struct Guest {
    pub(super) address: IpAddr,
    pass: Pass,
}

impl Guest {
    pub(super) fn of(parts: &Parts) -> Result<Self, Problem> {
        // Fail closed: a request that came from nowhere cannot be counted, so it is not let in.
        let Some(ConnectInfo(Peer { address, pass })) = parts.extensions.get::<ConnectInfo<Peer>>() else {
            return Err(Problem::unauthenticated());
        };
        Ok(Self { address: *address, pass: pass.clone() })
    }

    /// They have proved to be known: their connection keeps its place.
    pub(super) fn prove(&self, who: &str) {
        self.pass.prove(Some(who));
    }

    /// Counts a failed authentication.
    ///
    /// # Errors
    /// There were too many.
    pub(super) fn fail(&self, app: &App) -> Result<(), Problem> {
        // Only failures are slowed down: a valid token passes whoever shares its address, behind a proxy or NAT. Tokens
        // are too long to be guessed at any speed; this keeps the log and the work of looking bounded.
        let now = crate::clock::now();
        let throttled = |wait: Duration| Problem::throttled(wait.as_secs().saturating_add(1));
        app.failures.may_try(self.address, now).map_err(throttled)?;
        app.failures.failed(self.address, now);
        Ok(())
    }

    /// No token, or nobody's.
    pub(super) fn turn_away(&self, app: &App, path: &str) -> Problem {
        if let Err(throttled) = self.fail(app) {
            return throttled;
        }
        tracing::warn!(address = %self.address, path, "admin API: unauthenticated request");
        Problem::unauthenticated()
    }
}

/// The token of the one `Authorization: Bearer` header (RFC 6750, section 2.1).
pub(super) fn bearer(parts: &Parts) -> Option<&str> {
    let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
    let header = headers.next()?.to_str().ok()?;
    if headers.next().is_some() {
        return None;
    }
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
