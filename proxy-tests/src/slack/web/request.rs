//! A call as it came in: its arguments, whichever way they were sent, and its token.

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};
use serde_json::{Map, Value};

/// Largest body that is read, bytes.
const BODY_LIMIT: usize = 4 << 20;

/// Arguments that are JSON even in a form.
const STRUCTURED: &[&str] = &["blocks", "view", "files", "metadata", "attachments"];

/// How the body was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Nothing in the body, all in the query.
    Query,
    Form,
    Json,
    /// JSON without `charset=utf-8`, which Slack warns of.
    JsonWithoutCharset,
}

/// A call.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) verb: Method,
    pub(super) arguments: Map<String, Value>,
    /// From the header.
    pub(super) bearer: Option<String>,
    /// From the form or the query.
    pub(super) token_argument: Option<String>,
    pub(super) encoding: Encoding,
    /// The body could not be read as what it claims to be.
    pub(super) malformed: Option<&'static str>,
}

/// The whole body and what matters of the head.
pub(super) async fn take(request: Request) -> (Method, String, HeaderMap, Bytes) {
    let (head, body) = request.into_parts();
    let bytes = to_bytes(body, BODY_LIMIT).await.unwrap_or_default();
    (head.method, head.uri.query().unwrap_or_default().to_owned(), head.headers, bytes)
}

/// Reads a call.
pub(super) async fn read(request: Request) -> Incoming {
    let (verb, query, headers, body) = take(request).await;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    let mut call = Incoming {
        verb,
        arguments: Map::new(),
        bearer,
        token_argument: None,
        encoding: Encoding::Query,
        malformed: None,
    };
    call.pairs(query.as_bytes());
    if !body.is_empty() {
        let kind = text(header::CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        call.body(&kind, &body);
    }
    call
}

impl Incoming {
    fn body(&mut self, kind: &str, body: &[u8]) {
        let (media, rest) = kind.split_once(';').unwrap_or((kind, ""));
        if rest.contains("charset=") && !rest.contains("utf-8") {
            self.malformed = Some("invalid_charset");
        }
        match media.trim() {
            "application/x-www-form-urlencoded" => {
                self.encoding = Encoding::Form;
                self.pairs(body);
            }
            "application/json" => {
                let charset = rest.contains("charset=utf-8");
                self.encoding = if charset { Encoding::Json } else { Encoding::JsonWithoutCharset };
                match serde_json::from_slice(body) {
                    Ok(Value::Object(object)) => self.arguments.extend(object),
                    Ok(_) => self.malformed = Some("json_not_object"),
                    Err(_) => self.malformed = Some("invalid_json"),
                }
            }
            _ => self.malformed = Some("invalid_post_type"),
        }
    }

    fn pairs(&mut self, encoded: &[u8]) {
        for (name, value) in form_urlencoded::parse(encoded) {
            if name == "token" {
                self.token_argument = Some(value.into_owned());
                continue;
            }
            // What is no JSON stays a string, and is refused where JSON is needed.
            let structured = STRUCTURED.contains(&name.as_ref()).then(|| serde_json::from_str(&value).ok()).flatten();
            let value = structured.unwrap_or_else(|| Value::String(value.into_owned()));
            self.arguments.insert(name.into_owned(), value);
        }
    }
}
