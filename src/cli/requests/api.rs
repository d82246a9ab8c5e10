//! The admin API as seen from the command line. Knows HTTP and the API's types; prints nothing.
//!
//! Start at [`Api`].

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use crate::approval::http::ProblemBody;
use crate::approval::http::view::{
    AnswerBody, ChangeView, CreateBody, ListView, MeView, RequestView, ReviewBody, State,
};

/// A request's name is this long at most; longer is a mistake that needs no question.
const MAX_ID_CHARS: usize = 32;

/// Largest answer read, in bytes.
const MAX_ANSWER: u64 = 1 << 30;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Without a byte; event streams send something every ten seconds.
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// First and longest wait before connecting again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// How long to wait for a decision to be carried out; it takes milliseconds unless the gate is busy.
const OUTCOME_DEADLINE: Duration = Duration::from_secs(2);

/// First wait before looking for the outcome; each further one is twice as long.
const OUTCOME_PAUSE: Duration = Duration::from_millis(10);

/// Why the API did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The address or the token is wrong before anything was sent.
    #[error("{0}")]
    Usage(String),
    /// Nobody answered, or not as HTTP.
    #[error(
        "cannot reach the gate at {base}: {why} (is it running, and is `--api` or QUERYGATE_API its [admin] address?)"
    )]
    Unreachable {
        /// The address.
        base: String,
        /// What happened.
        why: String,
    },
    /// The gate said no.
    #[error("{}", refusal(.body))]
    Refused {
        /// HTTP status.
        status: u16,
        /// The gate's words.
        body: ProblemBody,
    },
    /// The answer is not one of a querygate.
    #[error("{base} answered something that is not querygate's: {why}")]
    Strange {
        /// The address.
        base: String,
        /// What was wrong with it.
        why: String,
    },
}

fn refusal(body: &ProblemBody) -> String {
    let hint = body.hint.as_deref().map(|hint| format!(" ({hint})"));
    let words = format!("{}{}", body.detail, hint.unwrap_or_default());
    crate::approval::one_line(&words)
}

impl ApiError {
    /// As documented in the command's help.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => super::super::USAGE,
            Self::Unreachable { .. } | Self::Strange { .. } => 1,
            Self::Refused { status, .. } => match status {
                401 | 403 | 429 => 3,
                404 => 4,
                409 => 5,
                _ => 1,
            },
        }
    }

    /// Trying again might help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Usage(_) => false,
            Self::Unreachable { .. } | Self::Strange { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
        }
    }
}

/// The token from a file or from `QUERYGATE_TOKEN`.
pub fn token(file: Option<&Path>) -> Result<String, ApiError> {
    let usage = |words: String| ApiError::Usage(words);
    let token = match file {
        Some(file) => {
            std::fs::read_to_string(file).map_err(|error| usage(format!("cannot read {}: {error}", file.display())))?
        }
        None => std::env::var("QUERYGATE_TOKEN")
            .map_err(|_| usage("a token is needed: set QUERYGATE_TOKEN or use --token-file".to_owned()))?,
    };
    let token = token.trim().to_owned();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(usage("the token is empty or has characters no token has".to_owned()));
    }
    Ok(token)
}

/// Which requests to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Waiting ones.
    Pending,
    /// Those, and ended ones.
    All,
    /// Emergency releases that nobody else has looked at.
    Reviews,
    /// Approvals that stand.
    Grants,
}

/// Something the event stream said.
#[derive(Debug)]
pub enum Change {
    /// Everything, anew.
    Snapshot(ListView),
    /// `opened`, `decided` or `ended`.
    One(String, Box<ChangeView>),
    /// It is still there.
    Alive,
    /// The stream was lost, or cannot be had; another attempt follows.
    Trouble(ApiError),
}

/// A gate's admin API, and who asks.
#[derive(Clone)]
pub struct Api {
    agent: Agent,
    base: String,
    authorization: String,
}

impl Api {
    /// An API at `http://host:port` or `https://…`.
    pub fn new(base: &str, token: &str) -> Result<Self, ApiError> {
        let wrong = |why: &str| ApiError::Usage(format!("--api {base}: {why}"));
        let uri: Uri = base.parse().map_err(|_| wrong("not a URL"))?;
        let host = uri.host().ok_or_else(|| wrong("a URL needs a host"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("a URL starts with http:// or https://"));
        }
        Ok(Self {
            agent: agent(is_loopback(host)),
            base: base.trim_end_matches('/').to_owned(),
            authorization: format!("Bearer {token}"),
        })
    }

    /// Who the token proves to be.
    pub fn me(&self) -> Result<MeView, ApiError> {
        self.read(self.get("/v1/me")?)
    }

    /// A list, in which long texts are cut.
    pub fn list(&self, which: Which, limit: usize) -> Result<ListView, ApiError> {
        let state = match which {
            Which::Pending => "pending",
            Which::All => "all",
            Which::Reviews => "reviews",
            Which::Grants => "grants",
        };
        self.read(self.get(&format!("/v1/requests?state={state}&limit={limit}"))?)
    }

    /// One request, whole.
    pub fn show(&self, id: &str) -> Result<RequestView, ApiError> {
        self.read(self.get(&format!("/v1/requests/{}", name(id)?))?)
    }

    /// Approves or rejects.
    pub fn decide(&self, id: &str, approve: bool, body: &AnswerBody) -> Result<RequestView, ApiError> {
        let verb = if approve { "approve" } else { "reject" };
        let url = format!("{}/v1/requests/{}/{verb}", self.base, name(id)?);
        let sent = self.agent.post(url).header("Authorization", &self.authorization).send_json(body);
        self.read(self.answered(sent)?)
    }

    /// Says that the caller has looked at an emergency release.
    pub fn review(&self, id: &str, comment: Option<&str>) -> Result<RequestView, ApiError> {
        let url = format!("{}/v1/requests/{}/review", self.base, name(id)?);
        let body = ReviewBody { comment: comment.map(str::to_owned) };
        let sent = self.agent.post(url).header("Authorization", &self.authorization).send_json(body);
        self.read(self.answered(sent)?)
    }

    /// Asks for statements before they run.
    pub fn create(&self, body: &CreateBody) -> Result<RequestView, ApiError> {
        let url = format!("{}/v1/requests", self.base);
        let sent = self.agent.post(url).header("Authorization", &self.authorization).send_json(body);
        self.read(self.answered(sent)?)
    }

    /// Takes back what the caller asked for.
    pub fn withdraw(&self, id: &str) -> Result<RequestView, ApiError> {
        let url = format!("{}/v1/requests/{}/withdraw", self.base, name(id)?);
        let sent = self.agent.post(url).header("Authorization", &self.authorization).send_empty();
        self.read(self.answered(sent)?)
    }

    /// Ends a standing approval.
    pub fn revoke(&self, id: &str) -> Result<RequestView, ApiError> {
        let url = format!("{}/v1/requests/{}/revoke", self.base, name(id)?);
        let sent = self.agent.post(url).header("Authorization", &self.authorization).send_empty();
        self.read(self.answered(sent)?)
    }

    /// Waits a little for a decided request to end, and returns it as it is then.
    pub fn outcome(&self, decided: RequestView) -> Result<RequestView, ApiError> {
        let mut request = decided;
        let mut pause = OUTCOME_PAUSE;
        let mut left = OUTCOME_DEADLINE;
        while request.ended_at.is_none() && request.state != State::Pending && !left.is_zero() {
            let wait = pause.min(left);
            #[expect(clippy::disallowed_methods, reason = "a command line that asks again has no runtime to await on")]
            std::thread::sleep(wait);
            left = left.saturating_sub(wait);
            pause = pause.saturating_mul(2);
            request = self.show(&request.id)?;
        }
        Ok(request)
    }

    /// Passes on changes until `act` fails, over lost connections too.
    ///
    /// # Errors
    ///
    /// What `act` fails with, or an error that trying again cannot mend.
    pub fn follow<E: From<ApiError>>(&self, mut act: impl FnMut(Change) -> Result<(), E>) -> Result<(), E> {
        let mut pause = PAUSES.0;
        loop {
            let trouble = match self.events() {
                Err(error) => error,
                Ok(mut events) => loop {
                    match events.next() {
                        Ok(change) => {
                            pause = PAUSES.0;
                            act(change)?;
                        }
                        Err(error) => break error,
                    }
                },
            };
            if !trouble.is_passing() {
                return Err(trouble.into());
            }
            act(Change::Trouble(trouble))?;
            // Nobody sends: this waits, and nothing else.
            std::thread::park_timeout(pause);
            pause = pause.saturating_mul(2).min(PAUSES.1);
        }
    }

    fn events(&self) -> Result<Events, ApiError> {
        let answer = self.get("/v1/events")?;
        let reader = answer.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(Events { lines: BufReader::new(Box::new(reader)), base: self.base.clone() })
    }

    fn get(&self, path: &str) -> Result<Response<Body>, ApiError> {
        let sent = self.agent.get(format!("{}{path}", self.base)).header("Authorization", &self.authorization).call();
        self.answered(sent)
    }

    /// Success, or the gate's own words.
    fn answered(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, ApiError> {
        let mut answer = sent.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        match answer.body_mut().read_json() {
            Ok(body) => Err(ApiError::Refused { status: status.as_u16(), body }),
            Err(_) => Err(self.strange(format!("status {status} without querygate's words"))),
        }
    }

    fn read<T: DeserializeOwned>(&self, mut answer: Response<Body>) -> Result<T, ApiError> {
        let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
        let body = body.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body).map_err(|error| self.strange(error.to_string()))
    }

    fn unreachable(&self, error: &ureq::Error) -> ApiError {
        ApiError::Unreachable { base: self.base.clone(), why: error.to_string() }
    }

    fn strange(&self, why: String) -> ApiError {
        let base = self.base.clone();
        ApiError::Strange { base, why }
    }
}

/// An open event stream.
struct Events {
    lines: BufReader<Box<dyn Read>>,
    base: String,
}

impl Events {
    /// The next event (HTML standard, "Server-sent events", as far as the gate uses it).
    fn next(&mut self) -> Result<Change, ApiError> {
        let mut kind = String::new();
        loop {
            let line = self.line()?;
            if let Some(name) = line.strip_prefix("event:") {
                name.trim().clone_into(&mut kind);
            } else if let Some(data) = line.strip_prefix("data:") {
                let strange =
                    |error: serde_json::Error| ApiError::Strange { base: self.base.clone(), why: error.to_string() };
                return if kind == "snapshot" {
                    Ok(Change::Snapshot(serde_json::from_str(data).map_err(strange)?))
                } else {
                    let change = serde_json::from_str(data).map_err(strange)?;
                    Ok(Change::One(kind, Box::new(change)))
                };
            } else if line.starts_with(':') {
                return Ok(Change::Alive);
            }
        }
    }

    fn line(&mut self) -> Result<String, ApiError> {
        let lost = |why: String| ApiError::Unreachable { base: self.base.clone(), why };
        let mut line = Vec::new();
        let read = (&mut self.lines).take(MAX_ANSWER).read_until(b'\n', &mut line);
        let read = read.map_err(|error| lost(error.to_string()))?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Err(lost("the connection was closed".to_owned()));
        }
        let line = String::from_utf8(line).map_err(|_| lost("the stream is not UTF-8".to_owned()))?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// A request's name, safe in a path.
fn name(id: &str) -> Result<&str, ApiError> {
    let id = id.trim();
    let fits = !id.is_empty() && id.len() <= MAX_ID_CHARS;
    if fits && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        Ok(id)
    } else {
        Err(ApiError::Usage("a request's name looks like qg-7k2m9x4c1d".to_owned()))
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn agent(loopback: bool) -> Agent {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ureq::tls::TlsConfig::builder().unversioned_rustls_crypto_provider(provider).build();
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // A token is for the address it was meant for.
        .max_redirects(0)
        .tls_config(tls)
        .timeout_connect(Some(CONNECT_DEADLINE))
        .timeout_per_read(Some(READ_DEADLINE));
    let config = if loopback { config.proxy(None) } else { config };
    config.build().new_agent()
}
