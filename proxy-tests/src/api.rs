//! A client of the admin HTTP API: lists, shows and decides requests as one person.
//!
//! HTTP/1.1 by hand, one connection per call, so that tests can also send what no client library would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::DEADLINE;
use crate::raw::eventually;

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body as JSON; `Null` when it is not.
    pub json: Value,
    /// The whole answer as text.
    pub text: String,
}

/// The API as one person sees it.
#[derive(Debug, Clone)]
pub struct Api {
    address: SocketAddr,
    token: String,
}

impl Api {
    /// The API at `address`, called with this bearer token.
    pub fn new(address: SocketAddr, token: &str) -> Api {
        Api { address, token: token.to_owned() }
    }

    /// The same API as somebody else.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Api {
        Api::new(self.address, token)
    }

    /// Calls it.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let authorization =
            if self.token.is_empty() { String::new() } else { format!("Authorization: Bearer {}\r\n", self.token) };
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        ))
    }

    /// Sends a whole request as given and reads to the end of the connection.
    pub fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).expect("the API accepts connections");
        stream.set_read_timeout(Some(DEADLINE)).expect("a read deadline can be set");
        stream.write_all(request.as_bytes()).expect("the API reads requests");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer within the deadline");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("not HTTP: {text:?}"));
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Answer { status, json: serde_json::from_str(body).unwrap_or(Value::Null), text }
    }

    /// `GET path`, which must succeed.
    pub fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, None);
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json
    }

    /// The open requests.
    pub fn pending(&self) -> Vec<Value> {
        let list = self.get("/v1/requests?state=pending");
        let items = list.get("requests").unwrap_or(&list);
        items.as_array().unwrap_or_else(|| panic!("not a list: {list}")).clone()
    }

    /// Waits for an open request whose statement contains `part`; its id.
    pub fn wait_held(&self, part: &str) -> String {
        eventually(&format!("a held statement with {part:?}"), || {
            self.pending()
                .iter()
                .find(|request| request.to_string().contains(part))
                .and_then(|request| Some(request.get("id")?.as_str()?.to_owned()))
        })
    }

    /// Decides a request: `approve` or `reject`.
    pub fn decide(&self, id: &str, decision: &str, reason: &str) -> Answer {
        self.call("POST", &format!("/v1/requests/{id}/{decision}"), Some(&serde_json::json!({ "reason": reason })))
    }

    /// Approves; it must be accepted.
    pub fn approve(&self, id: &str) {
        let answer = self.decide(id, "approve", "fine");
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// Rejects; it must be accepted.
    pub fn reject(&self, id: &str, reason: &str) {
        let answer = self.decide(id, "reject", reason);
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

/// Approves whatever waits, until it is dropped.
pub struct Approver {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Approver {
    /// Decides through `api`.
    pub fn of(api: Api) -> Approver {
        let ends = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                for request in api.pending() {
                    // It may have been withdrawn meanwhile.
                    let _ = api.decide(request["id"].as_str().expect("a request has an id"), "approve", "go");
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        Approver { ends, thread: Some(thread) }
    }
}

impl Drop for Approver {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
