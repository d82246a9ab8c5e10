//! A raw client: plain HTTP requests and Web sockets, no Slack library.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use proxy_tests::DEADLINE;
use proxy_tests::slack::Workspace;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use ureq::Agent;

/// An answer, whatever it is.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A client with one token.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
    api: String,
    token: Option<String>,
}

impl Client {
    pub(crate) fn new(workspace: &Workspace) -> Client {
        Client::with_token(workspace, Some(&workspace.bot_token()))
    }

    pub(crate) fn with_token(workspace: &Workspace, token: Option<&str>) -> Client {
        Client::within(workspace, token, Duration::from_secs(20))
    }

    pub(crate) fn within(workspace: &Workspace, token: Option<&str>, limit: Duration) -> Client {
        let config =
            Agent::config_builder().timeout_global(Some(limit)).http_status_as_error(false).proxy(None).build();
        let (agent, token) = (Agent::new_with_config(config), token.map(str::to_owned));
        Client { agent, api: workspace.api_url(), token }
    }

    pub(crate) fn url(&self, method: &str) -> String {
        format!("{}/{method}", self.api)
    }

    /// POSTs a body to any address.
    pub(crate) fn post(&self, url: &str, kind: &str, body: &[u8]) -> Result<Answer, ureq::Error> {
        let mut request = self.agent.post(url).header("content-type", kind);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        take(request.send(body)?)
    }

    /// GETs any address.
    pub(crate) fn fetch(&self, url: &str) -> Result<Answer, ureq::Error> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        take(request.call()?)
    }

    /// Calls a method with a JSON body.
    pub(crate) fn call(&self, method: &str, arguments: &Value) -> Value {
        let kind = "application/json; charset=utf-8";
        self.post(&self.url(method), kind, arguments.to_string().as_bytes()).unwrap().json()
    }

    /// Calls a method with a form.
    pub(crate) fn form(&self, method: &str, pairs: &[(&str, &str)]) -> Value {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        self.post(&self.url(method), "application/x-www-form-urlencoded", body.as_bytes()).unwrap().json()
    }

    /// Calls a method with a query.
    pub(crate) fn get(&self, method: &str, pairs: &[(&str, &str)]) -> Value {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        self.fetch(&format!("{}?{query}", self.url(method))).unwrap().json()
    }

    /// Posts a plain message; its `ts`.
    pub(crate) fn say(&self, channel: &str, text: &str) -> String {
        let answer = self.call("chat.postMessage", &json!({ "channel": channel, "text": text }));
        ok(&answer)["ts"].as_str().unwrap().to_owned()
    }

    /// Posts the mock-up of a pending request; its `ts`.
    pub(crate) fn say_pending(&self, channel: &str) -> String {
        let mut message = mock_up("pending.json");
        message["channel"] = json!(channel);
        ok(&self.call("chat.postMessage", &message))["ts"].as_str().unwrap().to_owned()
    }
}

fn take(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer, ureq::Error> {
    let headers = response.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let (status, headers) = (response.status().as_u16(), headers.collect());
    Ok(Answer { status, headers, text: response.body_mut().read_to_string()? })
}

/// The answer must be a success.
pub(crate) fn ok(answer: &Value) -> &Value {
    assert_eq!(answer["ok"], json!(true), "{answer}");
    answer
}

/// The answer must be this error.
pub(crate) fn refused(answer: &Value, error: &str) {
    assert_eq!((&answer["ok"], &answer["error"]), (&json!(false), &json!(error)), "{answer}");
}

/// A mock-up of the corpus.
pub(crate) fn mock_up(file: &str) -> Value {
    serde_json::from_slice(&corpus(file)).unwrap()
}

/// A file of the corpus.
pub(crate) fn corpus(file: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/slack").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One socket, by hand.
#[derive(Debug)]
pub(crate) struct Ear {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Ear {
    /// A new address to connect to.
    pub(crate) fn address(workspace: &Workspace) -> String {
        let app = Client::with_token(workspace, Some(&workspace.app_token()));
        ok(&app.call("apps.connections.open", &json!({})))["url"].as_str().unwrap().to_owned()
    }

    /// Connects; what comes first is not looked at.
    pub(crate) async fn connect(workspace: &Workspace) -> Result<Ear, Error> {
        let (socket, _) = connect_async(Ear::address(workspace)).await?;
        Ok(Ear { socket })
    }

    /// Connects and hears hello.
    pub(crate) async fn open(workspace: &Workspace) -> Ear {
        let mut ear = Ear::connect(workspace).await.unwrap();
        let hello = ear.next().await.unwrap();
        assert_eq!((&hello["type"], &hello["connection_info"]["app_id"]), (&json!("hello"), &json!("A0GATE")));
        ear
    }

    /// The next text; `None` at the end of the connection, whichever way it ended.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            match timeout(DEADLINE, self.socket.next()).await.expect("something within the deadline") {
                Some(Ok(Message::Text(text))) => {
                    return Some(serde_json::from_str(text.as_str()).unwrap_or_else(|_| json!(text.as_str())));
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// The next envelope.
    pub(crate) async fn envelope(&mut self) -> Value {
        let envelope = self.next().await.expect("an envelope");
        assert!(envelope["envelope_id"].is_string(), "{envelope}");
        envelope
    }

    /// Acknowledges an envelope.
    pub(crate) async fn acknowledge(&mut self, envelope: &Value, payload: Option<Value>) {
        let mut answer = json!({ "envelope_id": envelope["envelope_id"] });
        if let Some(payload) = payload {
            answer["payload"] = payload;
        }
        self.say(&answer.to_string()).await;
    }

    /// Says anything.
    pub(crate) async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }
}
