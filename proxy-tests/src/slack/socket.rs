//! Socket Mode: WebSocket connections that payloads are sent over and acknowledged on.
//!
//! <https://docs.slack.dev/apis/events-api/using-socket-mode>: hello first; each payload to one of the open sockets, at most
//! ten of them; the acknowledgement on the same socket; `disconnect` before Slack closes one.

use std::sync::{Arc, PoisonError};

use futures_util::{SinkExt, StreamExt};
use querygate::clock;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Interval, interval_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;

use super::delivery::Reply;
use super::fault::SocketFault;
use super::inner::Inner;
use super::state::{Socket, State};

/// Most sockets of one app.
pub const SOCKETS: usize = 10;
/// Payloads that wait for one socket.
const QUEUE: usize = 64;

/// What an open socket is told to do.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// Send this text.
    Say(String),
    /// Warn, and after a while say `refresh_requested` and close.
    Warn,
    /// Say `refresh_requested` and close.
    Refresh,
    /// Close in an orderly way.
    Close,
    /// RST.
    Reset,
    /// Neither read nor write any more, but stay connected.
    Freeze,
}

/// Accepts sockets for good.
pub(super) async fn serve(listener: TcpListener, inner: Arc<Inner>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection(stream, Arc::clone(&inner)));
    }
}

impl Inner {
    /// `wanted` random open sockets, as soon as there are that many.
    pub(super) async fn sockets(&self, wanted: usize) -> Vec<(usize, mpsc::Sender<Order>)> {
        self.wait(|state| (state.sockets().len() >= wanted).then_some(())).await;
        let mut open = self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.change(|state| state.random.shuffle(&mut open));
        open.truncate(wanted);
        open
    }

    /// Tells every open socket to do something.
    pub(super) async fn order(&self, order: Order) {
        let open = self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (_, orders) in open {
            let _ = orders.send(order.clone()).await;
        }
    }
}

async fn connection(mut stream: TcpStream, inner: Arc<Inner>) {
    let fault = inner.change(|state| state.faults.sockets.pop_front());
    if fault == Some(SocketFault::NeverAnswer) {
        let mut bytes = [0; 1024];
        while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        return;
    }
    let Some(socket) = handshake(stream, &inner, fault).await else { return };
    let number = inner.change(|state| {
        let number = state.sockets.len().saturating_add(1);
        state.sockets.push(Socket { number, open: false });
        number
    });
    let line = Line { socket, inner, number };
    line.greet(fault).await;
}

#[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
async fn handshake(stream: TcpStream, inner: &Inner, fault: Option<SocketFault>) -> Option<WebSocketStream<TcpStream>> {
    let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let ticket = request.uri().query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("ticket="));
        let status = match (fault, ticket) {
            (Some(SocketFault::Refuse(status)), _) => status,
            (_, Some(ticket)) if inner.change(|state| redeem(state, ticket)) => return Ok(response),
            _ => 403,
        };
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        Err(refusal)
    };
    tokio_tungstenite::accept_hdr_async(stream, check).await.ok()
}

/// Takes a ticket: once.
fn redeem(state: &mut State, ticket: &str) -> bool {
    match state.tickets.get_mut(ticket) {
        Some(used) if !*used => {
            *used = true;
            true
        }
        Some(_) | None => false,
    }
}

/// One socket.
struct Line {
    socket: WebSocketStream<TcpStream>,
    inner: Arc<Inner>,
    number: usize,
}

impl Line {
    async fn greet(mut self, fault: Option<SocketFault>) {
        let open = self.inner.look(|state| state.sockets().len());
        if open >= SOCKETS || fault == Some(SocketFault::TooMany) {
            self.disconnect("too_many_websockets").await;
            let _ = self.socket.close(None).await;
            return;
        }
        let (sender, orders) = mpsc::channel(QUEUE);
        let (number, inner) = (self.number, Arc::clone(&self.inner));
        let mut alive = true;
        if fault != Some(SocketFault::NoHello) {
            // Before hello: who heard it may already be told something.
            self.inner.orders.lock().unwrap_or_else(PoisonError::into_inner).push((self.number, sender.clone()));
            self.inner.change(|state| mark(state, self.number, true));
            alive = self.hello(open.saturating_add(1)).await.is_ok();
        }
        // Kept, so that a socket without a hello does not end for want of orders.
        let _kept = sender;
        if alive && fault == Some(SocketFault::Frozen) {
            self.frozen(orders).await;
        } else if alive {
            self.talk(orders).await;
        }
        gone(&inner, number);
    }

    async fn hello(&mut self, count: usize) -> Result<(), ()> {
        let app = self.inner.look(|state| state.app.id.clone());
        let hello = json!({
            "type": "hello", "num_connections": count, "connection_info": { "app_id": app },
            "debug_info": { "host": self.host(), "started": "2026-01-01 00:00:00.000", "build_number": 1,
                "approximate_connection_time": 18060 },
        });
        self.say(&hello).await
    }

    async fn talk(mut self, mut orders: mpsc::Receiver<Order>) {
        let every = self.inner.timing.ping;
        let mut pings = interval_at(tokio::time::Instant::now() + every, every);
        let mut answered = true;
        let mut close_at: Option<Interval> = None;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Say(text)) => if self.socket.send(Message::text(text)).await.is_err() { return },
                    Some(Order::Warn) => {
                        self.disconnect("warning").await;
                        let wait = self.inner.timing.refresh;
                        close_at = Some(interval_at(tokio::time::Instant::now() + wait, wait.max(std::time::Duration::from_secs(1))));
                    }
                    Some(Order::Refresh) => return self.refresh().await,
                    Some(Order::Reset) => return drop(self.socket.get_ref().set_zero_linger()),
                    Some(Order::Freeze) => return self.frozen(orders).await,
                    Some(Order::Close) | None => return drop(self.socket.close(None).await),
                },
                () = due(&mut close_at) => return self.refresh().await,
                _ = pings.tick() => {
                    let ping = format!("Ping from {}", self.host());
                    if !answered || self.socket.send(Message::Ping(ping.into())).await.is_err() { return }
                    answered = false;
                }
                message = self.socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.heard(text.as_str()),
                    Some(Ok(Message::Pong(_))) => answered = true,
                    Some(Ok(Message::Ping(_) | Message::Frame(_))) => {}
                    Some(Ok(Message::Binary(_))) => self.inner.violation("a binary message on a socket".to_owned()),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                },
            }
        }
    }

    /// Holds the connection and does nothing with it, until it is told to reset it.
    async fn frozen(self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Reset => return drop(self.socket.get_ref().set_zero_linger()),
                Order::Close => return,
                Order::Say(_) | Order::Warn | Order::Refresh | Order::Freeze => {}
            }
        }
    }

    async fn refresh(&mut self) {
        self.disconnect("refresh_requested").await;
        let _ = self.socket.close(None).await;
    }

    async fn disconnect(&mut self, reason: &str) {
        let _ =
            self.say(&json!({ "type": "disconnect", "reason": reason, "debug_info": { "host": self.host() } })).await;
    }

    async fn say(&mut self, value: &Value) -> Result<(), ()> {
        self.socket.send(Message::text(value.to_string())).await.map_err(drop)
    }

    fn host(&self) -> String {
        format!("applink-{}", self.number)
    }

    /// An acknowledgement.
    fn heard(&self, text: &str) {
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            return self.inner.violation(format!("not JSON on a socket: {text}"));
        };
        let Some(id) = message.get("envelope_id").and_then(Value::as_str) else {
            return self.inner.violation(format!("not an acknowledgement on a socket: {text}"));
        };
        let payload = message.get("payload").filter(|payload| !payload.is_null()).cloned();
        let fault = self.inner.change(|state| acknowledge(state, self.number, id, payload).err());
        if let Some(what) = fault {
            self.inner.violation(what);
        }
    }
}

/// Waits for the first tick, for ever when there is none.
async fn due(at: &mut Option<Interval>) {
    match at {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn mark(state: &mut State, number: usize, open: bool) {
    if let Some(socket) = state.sockets.iter_mut().find(|socket| socket.number == number) {
        socket.open = open;
    }
}

/// A socket is over: what was sent over it and not acknowledged will not be.
fn gone(inner: &Inner, number: usize) {
    inner.orders.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| *other != number);
    inner.change(|state| {
        mark(state, number, false);
        let attempts = state.deliveries.iter_mut().flat_map(|record| &mut record.attempts);
        for attempt in attempts.filter(|attempt| attempt.via == super::delivery::Via::Socket(number)) {
            let took = clock::now().saturating_duration_since(attempt.at);
            attempt.reply.get_or_insert((Reply::Unreachable, took));
        }
    });
}

fn acknowledge(state: &mut State, number: usize, id: &str, payload: Option<Value>) -> Result<(), String> {
    let attempts = || state.deliveries.iter().flat_map(|record| &record.attempts);
    if !attempts().any(|attempt| attempt.envelope_id == id) {
        return Err(format!("acknowledged the unknown envelope {id:?}"));
    }
    let here = super::delivery::Via::Socket(number);
    if !attempts().any(|attempt| attempt.envelope_id == id && attempt.via == here) {
        return Err(format!("acknowledged envelope {id:?} on socket {number}, which did not bring it"));
    }
    let mut open = state.deliveries.iter_mut().flat_map(|record| &mut record.attempts);
    match open.find(|attempt| attempt.envelope_id == id && attempt.via == here && attempt.reply.is_none()) {
        Some(attempt) => {
            let took = clock::now().saturating_duration_since(attempt.at);
            attempt.reply = Some((Reply::Acknowledged(payload), took));
            Ok(())
        }
        None => Err(format!("acknowledged envelope {id:?} late or twice")),
    }
}
