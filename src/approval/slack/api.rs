//! Slack's Web API. Every call has a deadline, is repeated only where that is safe, and its answer is checked. Knows messages and
//! ids, no requests.
//!
//! Start at [`Api`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Request, Uri, request};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use slack_morphism::blocks::SlackView;
use slack_morphism::hyper_tokio::{SlackClientHyperConnector, SlackHyperClient};
use slack_morphism::{SlackApiToken, SlackApiTokenValue, SlackClient};
use tokio::time::Instant;

use super::blocks::Message;
use super::settings::{Secret, SlackSettings};
use super::transport::Transport;
use super::trouble::{ApiError, of_code};

/// Attempts at a call that may be repeated.
const ATTEMPTS: u32 = 4;
/// First pause between them; doubles.
const PAUSE: Duration = Duration::from_millis(400);
/// A longer Retry-After is reported instead of waited for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Largest answer read by our own client.
const MAX_ANSWER: usize = 1 << 20;
/// Conversations whose pace is remembered.
const MAX_PACED: usize = 1_024;

/// The Web API with one workspace's tokens.
pub(super) struct Api {
    client: SlackHyperClient,
    bare: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    bot: SlackApiToken,
    app: Option<SlackApiToken>,
    url: String,
    deadline: Duration,
    pace: Pace,
}

/// Whether a call may be made again when it is not known whether it was carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    /// It changes nothing, or the same thing to the same.
    Harmless,
    /// It would post twice.
    Twice,
}

/// What a call sends.
enum Arguments<'a> {
    /// As a query: methods that read do not take JSON.
    Query(Vec<(&'a str, String)>),
    Json(Value),
}

/// Who the bot token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workspace {
    pub(super) team_id: String,
    pub(super) team: String,
    /// `https://acme.slack.com/`, for links.
    pub(super) url: String,
    /// Granted scopes; `None` where Slack did not say.
    pub(super) scopes: Option<Vec<String>>,
}

impl Api {
    pub(super) fn new(settings: &SlackSettings, transport: &Transport) -> Self {
        let url = settings.api_url.trim_end_matches('/').to_owned();
        let connector = SlackClientHyperConnector::with_connector(transport.connector()).with_slack_api_url(&url);
        Self {
            client: SlackClient::new(connector),
            bare: transport.bare_client(),
            bot: token(&settings.bot_token),
            app: settings.app_token.as_ref().map(token),
            url,
            deadline: settings.call_deadline,
            pace: Pace { interval: settings.post_interval, next: Mutex::default() },
        }
    }

    /// Who we are there. Through our own client, because the granted scopes are in a header.
    pub(super) async fn workspace(&self) -> Result<Workspace, ApiError> {
        self.repeat(Again::Harmless, || self.ask_workspace()).await
    }

    async fn ask_workspace(&self) -> Result<Workspace, ApiError> {
        let request = post(&format!("{}/auth.test", self.url))?
            .header("authorization", format!("Bearer {}", self.bot.token_value.0))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::new()))
            .map_err(|_| unsent("the address cannot be used"))?;
        let (scopes, body) = self.exchange(request).await?;
        let body = checked(serde_json::from_slice(&body).map_err(|_| unanswered("it is not Slack's JSON"))?)?;
        let scopes = scopes.map(|list| list.split(',').map(|scope| scope.trim().to_owned()).collect());
        Ok(Workspace {
            team_id: string(&body, "team_id")?,
            team: string(&body, "team").unwrap_or_default(),
            url: string(&body, "url").unwrap_or_default(),
            scopes,
        })
    }

    /// Posts; returns the conversation (a user's id becomes their direct conversation) and the message's timestamp.
    ///
    /// # Cancellation safety
    /// It may have been posted. [`ApiError::Unanswered`] means the same.
    pub(super) async fn post(
        &self,
        conversation: &str,
        message: &Message,
        thread: Option<&str>,
    ) -> Result<(String, String), ApiError> {
        let mut body = new_message(conversation, message);
        if let Some(thread) = thread {
            insert(&mut body, "thread_ts", thread);
        }
        self.post_body(conversation, body).await
    }

    /// Posts into a thread, and shows it in the channel too.
    ///
    /// # Cancellation safety
    /// As [`Api::post`].
    pub(super) async fn post_aloud(&self, conversation: &str, message: &Message, thread: &str) -> Result<(), ApiError> {
        let mut body = new_message(conversation, message);
        insert(&mut body, "thread_ts", thread);
        insert(&mut body, "reply_broadcast", true);
        self.post_body(conversation, body).await.map(drop)
    }

    async fn post_body(&self, conversation: &str, body: Value) -> Result<(String, String), ApiError> {
        self.pace.wait(conversation).await;
        let answer = self.bot("chat.postMessage", Again::Twice, &Arguments::Json(body)).await?;
        Ok((string(&answer, "channel")?, string(&answer, "ts")?))
    }

    /// Replaces a message. Text and blocks always go together, otherwise Slack keeps the old of the one left out.
    pub(super) async fn update(&self, conversation: &str, ts: &str, message: &Message) -> Result<(), ApiError> {
        let body = json!({"channel": conversation, "ts": ts, "text": message.text, "blocks": message.blocks});
        self.bot("chat.update", Again::Harmless, &Arguments::Json(body)).await.map(drop)
    }

    /// Posts something only one person sees.
    pub(super) async fn whisper(&self, conversation: &str, user: &str, message: &Message) -> Result<(), ApiError> {
        let body = json!({
            "channel": conversation, "user": user, "text": message.text, "blocks": message.blocks,
        });
        self.bot("chat.postEphemeral", Again::Twice, &Arguments::Json(body)).await.map(drop)
    }

    /// Opens a modal for a click.
    pub(super) async fn open_view(&self, trigger: &str, view: &SlackView) -> Result<(), ApiError> {
        let body = json!({"trigger_id": trigger, "view": view});
        self.bot("views.open", Again::Twice, &Arguments::Json(body)).await.map(drop)
    }

    /// Shows somebody's App Home.
    pub(super) async fn publish_home(&self, user: &str, view: &SlackView) -> Result<(), ApiError> {
        let body = json!({"user_id": user, "view": view});
        self.bot("views.publish", Again::Harmless, &Arguments::Json(body)).await.map(drop)
    }

    /// `users.info`: the user.
    pub(super) async fn user(&self, user: &str) -> Result<Value, ApiError> {
        let answer = self.read("users.info", vec![("user", user.to_owned())]).await?;
        answer.get("user").filter(|user| user.is_object()).cloned().ok_or_else(|| unanswered("it names no user"))
    }

    /// `users.lookupByEmail`: the user's id.
    pub(super) async fn user_by_email(&self, email: &str) -> Result<String, ApiError> {
        let answer = self.read("users.lookupByEmail", vec![("email", email.to_owned())]).await?;
        answer.get("user").map_or_else(|| Err(unanswered("it names no user")), |user| string(user, "id"))
    }

    /// `usergroups.users.list`: the ids of a group's members.
    pub(super) async fn group_members(&self, group: &str) -> Result<Vec<String>, ApiError> {
        let answer = self.read("usergroups.users.list", vec![("usergroup", group.to_owned())]).await?;
        let users = answer.get("users").and_then(Value::as_array).ok_or_else(|| unanswered("it lists no users"))?;
        Ok(users.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// `conversations.info`: the conversation.
    pub(super) async fn conversation(&self, conversation: &str) -> Result<Value, ApiError> {
        let answer = self.read("conversations.info", vec![("channel", conversation.to_owned())]).await?;
        answer.get("channel").filter(|it| it.is_object()).cloned().ok_or_else(|| unanswered("it names no channel"))
    }

    /// `apps.connections.open`: the address of a socket. It is a secret for as long as it can be used.
    pub(super) async fn open_socket(&self) -> Result<Secret, ApiError> {
        let token = self.app.as_ref().ok_or_else(|| ApiError::refused("not_authed"))?;
        let arguments = Arguments::Json(json!({}));
        // Repeating is the socket loop's, which knows how often it failed before.
        let answer = self.once(token, "apps.connections.open", &arguments).await?;
        string(&answer, "url").map(Secret::new)
    }

    /// Puts a text as a file into a thread.
    pub(super) async fn upload(
        &self,
        conversation: &str,
        thread: &str,
        name: &str,
        text: String,
    ) -> Result<(), ApiError> {
        let arguments = vec![("filename", name.to_owned()), ("length", text.len().to_string())];
        let answer = self.read("files.getUploadURLExternal", arguments).await?;
        let (url, file) = (string(&answer, "upload_url")?, string(&answer, "file_id")?);
        // Fail closed: a statement does not travel in the clear, unless everything does.
        if !url.starts_with("https://") && !self.url.starts_with("http://") {
            return Err(unanswered("its address for files is not https"));
        }
        let body = Bytes::from(text);
        // Without the token: the address itself is the permission.
        self.repeat(Again::Harmless, || self.put(&url, body.clone())).await?;
        let body = json!({
            "files": [{"id": file, "title": name}], "channel_id": conversation, "thread_ts": thread,
        });
        self.bot("files.completeUploadExternal", Again::Twice, &Arguments::Json(body)).await.map(drop)
    }

    async fn put(&self, url: &str, body: Bytes) -> Result<(), ApiError> {
        let request = post(url)?
            .header("content-type", "application/octet-stream")
            .body(Full::new(body))
            .map_err(|_| unsent("the address cannot be used"))?;
        self.exchange(request).await.map(drop)
    }

    async fn read(&self, method: &str, arguments: Vec<(&str, String)>) -> Result<Value, ApiError> {
        self.bot(method, Again::Harmless, &Arguments::Query(arguments)).await
    }

    async fn bot(&self, method: &str, again: Again, arguments: &Arguments<'_>) -> Result<Value, ApiError> {
        self.repeat(again, || self.once(&self.bot, method, arguments)).await
    }

    async fn once(&self, token: &SlackApiToken, method: &str, arguments: &Arguments<'_>) -> Result<Value, ApiError> {
        let session = self.client.open_session(token);
        let api = &session.http_session_api;
        let answer = async {
            match arguments {
                Arguments::Json(body) => api.http_post::<Value, Value>(method, body, None).await,
                Arguments::Query(pairs) => {
                    let pairs: Vec<(&str, Option<&String>)> =
                        pairs.iter().map(|(key, value)| (*key, Some(value))).collect();
                    api.http_get::<Value, _, _>(method, &pairs, None).await
                }
            }
        };
        let answer = tokio::time::timeout(self.deadline, answer).await;
        let answer = answer.map_err(|_| unanswered("it took too long"))?;
        checked(answer?)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(Option<String>, Bytes), ApiError> {
        let exchange = async {
            let response = self.bare.request(request).await.map_err(|error| {
                if error.is_connect() { unsent("no connection") } else { unanswered("the connection broke") }
            })?;
            let status = response.status();
            let header =
                |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            if status.as_u16() == 429 {
                let seconds = header("retry-after").and_then(|value| value.trim().parse().ok());
                return Err(ApiError::Limited { retry_after: seconds.map(Duration::from_secs) });
            }
            let scopes = header("x-oauth-scopes");
            if !status.is_success() {
                return Err(unanswered(&format!("HTTP status {status}")));
            }
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|_| unanswered("it broke off or is too long"))?;
            Ok((scopes, body.to_bytes()))
        };
        tokio::time::timeout(self.deadline, exchange).await.map_err(|_| unanswered("it took too long"))?
    }

    async fn repeat<T, F>(&self, again: Again, call: impl Fn() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let mut attempt = 1;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let may = error.is_surely_undone() || (again == Again::Harmless && error.is_passing());
            if !may || attempt >= ATTEMPTS {
                return Err(error);
            }
            let pause = match &error {
                ApiError::Limited { retry_after: Some(after) } if *after > LONGEST_RETRY_AFTER => return Err(error),
                ApiError::Limited { retry_after: Some(after) } => after.saturating_add(jitter(PAUSE)),
                ApiError::Limited { retry_after: None }
                | ApiError::Refused { .. }
                | ApiError::Unsent(_)
                | ApiError::Unanswered(_) => back_off(attempt, PAUSE, LONGEST_RETRY_AFTER),
            };
            tokio::time::sleep(pause).await;
            attempt = attempt.saturating_add(1);
        }
    }
}

fn post(url: &str) -> Result<request::Builder, ApiError> {
    let uri: Uri = url.parse().map_err(|_| unsent("the address cannot be used"))?;
    Ok(Request::post(uri))
}

/// An answer counts only when it says `ok: true`: slack-morphism takes an HTML page for an empty success.
fn checked(answer: Value) -> Result<Value, ApiError> {
    match answer.get("ok") {
        Some(Value::Bool(true)) => Ok(answer),
        Some(_) => {
            let code = answer.get("error").and_then(Value::as_str).unwrap_or("unknown_error").to_owned();
            Err(of_code(&code, Some(&answer.to_string())))
        }
        None => Err(unanswered("it is not Slack's JSON")),
    }
}

fn string(answer: &Value, key: &str) -> Result<String, ApiError> {
    let value = answer.get(key).and_then(Value::as_str).filter(|value| !value.is_empty());
    value.map(str::to_owned).ok_or_else(|| unanswered(&format!("it lacks `{key}`")))
}

fn new_message(conversation: &str, message: &Message) -> Value {
    json!({
        "channel": conversation, "text": message.text, "blocks": message.blocks,
        "unfurl_links": false, "unfurl_media": false,
    })
}

fn insert(body: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(object) = body.as_object_mut() {
        object.insert(key.to_owned(), value.into());
    }
}

fn token(secret: &Secret) -> SlackApiToken {
    SlackApiToken::new(SlackApiTokenValue(secret.reveal().to_owned()))
}

fn unsent(why: &str) -> ApiError {
    ApiError::Unsent(why.to_owned())
}

fn unanswered(why: &str) -> ApiError {
    ApiError::Unanswered(why.to_owned())
}

/// A pause that doubles with every attempt (from 1), half of it random so that many gates do not come back together.
pub(super) fn back_off(attempt: u32, first: Duration, longest: Duration) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1).min(20))).min(longest);
    let half = doubled.checked_div(2).unwrap_or(doubled);
    half.saturating_add(jitter(half))
}

/// Anything up to `most`.
fn jitter(most: Duration) -> Duration {
    let mut random = [0; 2];
    // Without random numbers the pause is only less random.
    let _less_random = getrandom::fill(&mut random);
    let share = f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
    most.mul_f64(share)
}

/// Slack takes about one post per second and conversation.
struct Pace {
    interval: Duration,
    next: Mutex<HashMap<String, Instant>>,
}

impl Pace {
    async fn wait(&self, conversation: &str) {
        let now = Instant::from_std(crate::clock::now());
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            if next.len() >= MAX_PACED {
                next.retain(|_, at| *at > now);
            }
            let turn = next.get(conversation).copied().filter(|at| *at > now).unwrap_or(now);
            next.insert(conversation.to_owned(), turn.checked_add(self.interval).unwrap_or(turn));
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}
