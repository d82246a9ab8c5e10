//! Socket Mode: keeps a WebSocket to Slack up and puts what comes over it into the inbox. Knows envelopes, no requests.
//!
//! An envelope is acknowledged as soon as it is in the inbox, before any work on it. Every step has a deadline. When Slack
//! announces that it will close a socket, the next one is opened while the old one is still read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::api::back_off;
use super::inbox::{Inbox, Taken};
use super::trouble::ApiError;
use super::{Inner, interaction, stopped};

/// First pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// A socket that lived shorter counts as a failure, so that a Slack that closes at once is not stormed.
const LIVED: Duration = Duration::from_secs(30);
/// How long a socket that Slack will close is still read.
const DRAIN: Duration = Duration::from_secs(60);
/// Largest message; Slack's payloads are far smaller.
const MAX_MESSAGE: usize = 4 << 20;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A socket that said hello.
struct Socket {
    stream: WebSocketStream<Box<dyn Stream>>,
    _up: Up,
}

/// Counts the socket as up while it exists.
struct Up(Arc<Inner>);

impl Drop for Up {
    /// Counts it as down.
    fn drop(&mut self) {
        self.0.pulse.socket_down(crate::clock::wall());
    }
}

/// Why a socket is no longer attended.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// The gate stops.
    Stop,
    /// Slack will close it soon.
    Refresh,
    /// It is gone.
    Lost(&'static str),
    /// Slack says that Socket Mode is switched off.
    Disabled,
}

/// Keeps one socket up until `stop` says `true` (or its sender is gone).
pub(super) async fn keep(inner: Arc<Inner>, inbox: Inbox, mut stop: watch::Receiver<bool>) {
    let mut failures: u32 = 0;
    loop {
        let opened = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            opened = open(&inner) => opened,
        };
        let mut wanted = None;
        match opened {
            Ok(mut socket) => {
                let since = crate::clock::now();
                let ending = attend(&inner, &inbox, &mut socket, &mut stop).await;
                if lived(since) {
                    failures = 0;
                }
                match ending {
                    Ending::Stop => return,
                    Ending::Refresh => {
                        drain(Arc::clone(&inner), inbox.clone(), socket, stop.clone());
                        if lived(since) {
                            continue;
                        }
                    }
                    Ending::Lost(why) => {
                        tracing::info!("Slack: a socket is gone: {why}");
                        inner
                            .pulse
                            .socket_trouble(format!("the sockets to Slack are gone: {why}"), crate::clock::wall());
                    }
                    Ending::Disabled => {
                        let why = "Socket Mode is switched off in the app's settings".to_owned();
                        inner.pulse.socket_trouble(why, crate::clock::wall());
                    }
                }
            }
            Err(error) => {
                wanted = retry_after(&error);
                let why = error.explain(&inner.settings.channel);
                tracing::info!("Slack: no socket: {why}");
                inner.pulse.socket_trouble(format!("no socket to Slack: {why}"), crate::clock::wall());
            }
        }
        failures = failures.saturating_add(1);
        let pause = back_off(failures, PAUSE, inner.settings.longest_pause).max(wanted.unwrap_or_default());
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn lived(since: Instant) -> bool {
    crate::clock::now().saturating_duration_since(since) >= LIVED
}

fn retry_after(error: &ApiError) -> Option<Duration> {
    match error {
        ApiError::Limited { retry_after } => *retry_after,
        ApiError::Refused { .. } | ApiError::Unsent(_) | ApiError::Unanswered(_) => None,
    }
}

/// Reads the old socket to its end, while the next one is opened.
fn drain(inner: Arc<Inner>, inbox: Inbox, mut socket: Socket, mut stop: watch::Receiver<bool>) {
    tokio::spawn(async move {
        let attend = async { while attend(&inner, &inbox, &mut socket, &mut stop).await == Ending::Refresh {} };
        // Out of time or at its end: either way the next socket has taken over.
        let _over = timeout(DRAIN, attend).await;
    });
}

/// Asks for an address, connects, and waits for Slack's hello.
async fn open(inner: &Arc<Inner>) -> Result<Socket, ApiError> {
    let deadline = inner.settings.open_deadline;
    let late = |what: &str| ApiError::Unanswered(format!("{what} took too long"));
    let url = timeout(deadline, inner.api.open_socket()).await.map_err(|_| late("the address of a socket"))??;
    let stream = timeout(deadline, connect(inner, url.reveal())).await.map_err(|_| late("connecting a socket"))??;
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let broken = |_| ApiError::Unanswered("the socket's handshake failed".to_owned());
    let request = url.reveal().into_client_request().map_err(broken)?;
    let handshake = client_async_with_config(request, stream, Some(config));
    let (mut stream, _) =
        timeout(deadline, handshake).await.map_err(|_| late("a socket's handshake"))?.map_err(broken)?;
    timeout(deadline, hello(&mut stream)).await.map_err(|_| late("a socket's hello"))??;
    inner.pulse.socket_up(crate::clock::wall());
    Ok(Socket { stream, _up: Up(Arc::clone(inner)) })
}

async fn connect(inner: &Inner, url: &str) -> Result<Box<dyn Stream>, ApiError> {
    let unusable = || ApiError::Unanswered("the address of the socket cannot be used".to_owned());
    let uri: axum::http::Uri = url.parse().map_err(|_| unusable())?;
    let host = uri.host().ok_or_else(unusable)?;
    // Fail closed: clicks do not travel in the clear, unless everything does.
    let secure = uri.scheme_str() == Some("wss");
    let all_in_the_clear = uri.scheme_str() == Some("ws") && inner.settings.api_url.starts_with("http://");
    if !(secure || all_in_the_clear) {
        return Err(unusable());
    }
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let unsent = |what: &str| ApiError::Unsent(format!("{what} of the socket's address fails"));
    let stream = TcpStream::connect((bare, port)).await.map_err(|_| unsent("connecting to the host"))?;
    // Small messages; failing to set it only makes them slower.
    let _slower = stream.set_nodelay(true);
    if !secure {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| unusable())?;
    let stream = TlsConnector::from(inner.transport.tls()).connect(name, stream).await;
    Ok(Box::new(stream.map_err(|_| unsent("TLS with the host"))?))
}

async fn hello(stream: &mut WebSocketStream<Box<dyn Stream>>) -> Result<(), ApiError> {
    while let Some(Ok(message)) = stream.next().await {
        let Message::Text(text) = message else { continue };
        let message = serde_json::from_str::<Value>(&text).unwrap_or_default();
        return match kind(&message) {
            "hello" => Ok(()),
            "disconnect" => Err(ApiError::refused("too_many_websockets_or_disabled")),
            _ => continue,
        };
    }
    Err(ApiError::Unanswered("the socket closed before it said hello".to_owned()))
}

/// Takes what comes until the socket has nothing more to say.
async fn attend(inner: &Inner, inbox: &Inbox, socket: &mut Socket, stop: &mut watch::Receiver<bool>) -> Ending {
    let idle = inner.settings.idle_deadline;
    let mut pings = tokio::time::interval(idle.checked_div(3).unwrap_or(idle).max(Duration::from_millis(10)));
    let mut heard = crate::clock::now();
    loop {
        tokio::select! {
            biased;
            () = stopped(stop) => return Ending::Stop,
            message = socket.stream.next() => {
                let message = match message {
                    Some(Ok(message)) => message,
                    Some(Err(_)) => return Ending::Lost("it broke"),
                    None => return Ending::Lost("Slack closed it"),
                };
                heard = crate::clock::now();
                let Message::Text(text) = message else { continue };
                if let Some(ending) = take(inner, inbox, socket, &text).await {
                    return ending;
                }
            }
            _ = pings.tick() => {
                if crate::clock::now().saturating_duration_since(heard) >= idle {
                    return Ending::Lost("nothing was heard for too long");
                }
                if !send(inner, socket, Message::Ping(bytes::Bytes::new())).await {
                    return Ending::Lost("it takes nothing any more");
                }
            }
        }
    }
}

async fn take(inner: &Inner, inbox: &Inbox, socket: &mut Socket, text: &str) -> Option<Ending> {
    let message = serde_json::from_str::<Value>(text).unwrap_or_default();
    match kind(&message) {
        "disconnect" => {
            let reason = message.get("reason").and_then(Value::as_str).unwrap_or_default();
            return Some(if reason == "link_disabled" { Ending::Disabled } else { Ending::Refresh });
        }
        "hello" => return None,
        _ => {}
    }
    let envelope = message.get("envelope_id").and_then(Value::as_str)?;
    let payload = message.get("payload").unwrap_or(&Value::Null);
    let interaction = interaction::read(kind(&message), payload);
    match inbox.take(&interaction::key(payload, envelope), interaction).await {
        Taken::Accepted | Taken::Again => {
            let acknowledgement = Message::text(json!({ "envelope_id": envelope }).to_string());
            if !send(inner, socket, acknowledgement).await {
                return Some(Ending::Lost("it takes nothing any more"));
            }
        }
        // Fail closed: what cannot be worked on is not acknowledged, so Slack tells whoever clicked.
        Taken::Refused => tracing::warn!("Slack: an interaction was not taken"),
    }
    None
}

async fn send(inner: &Inner, socket: &mut Socket, message: Message) -> bool {
    matches!(timeout(inner.settings.open_deadline, socket.stream.send(message)).await, Ok(Ok(())))
}

fn kind(message: &Value) -> &str {
    message.get("type").and_then(Value::as_str).unwrap_or_default()
}
