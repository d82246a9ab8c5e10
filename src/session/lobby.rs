//! A connection from accept to session: who it is, whether it may come in, and the backend connection for it. Everything
//! here happens before anybody is authenticated, so everything is bounded: time, bytes and the number of clients who have
//! not said yet who they are. When there are too many of those the one that has waited longest is dropped: clients that
//! mean it are through in milliseconds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{timeout, timeout_at};

use super::cancel;
use super::driver::{self, Opened};
use super::parameters;
use super::shared::{Seat, SessionGuard, Worker};
use super::startup::{Negotiated, negotiate};
use super::stream::{Peer, Socket, Stream};
use crate::wire::reply::{ClientFacing, Report};
use crate::wire::startup::{CancelRequest, StartupPacket};

/// How long a refused client may take to read its error.
const FAREWELL: Duration = Duration::from_secs(1);
/// How much of what a refused client still sends is read, so that closing does not destroy the error on its way.
const FAREWELL_BYTES: usize = 64 << 10;

/// Serves one accepted connection until it ends, and drops `held_until_the_end` then.
///
/// # Cancellation safety
/// A dropped future closes its connections and frees what they hold.
pub async fn receive<T>(socket: Socket, peer: Peer, worker: Rc<Worker>, held_until_the_end: T) {
    // Boxed: what this phase needs is given back before the session begins, which may idle for days.
    let admitted = Box::pin(admit(socket, peer, Rc::clone(&worker))).await;
    if let Some(Admitted { opened, backend, _seat, _guard }) = admitted {
        driver::run(opened, backend, &worker).await;
    }
    drop(held_until_the_end);
}

/// A client whose session can begin.
struct Admitted {
    opened: Box<Opened>,
    backend: Stream,
    _seat: Seat,
    _guard: SessionGuard,
}

async fn admit(socket: Socket, peer: Peer, worker: Rc<Worker>) -> Option<Admitted> {
    let settings = &worker.shared.settings;
    let deadline = crate::clock::now().checked_add(settings.startup_deadline)?;
    // Fails only when the peer is gone already.
    socket.tune(settings.tcp_keepalive).ok()?;
    let negotiation = negotiate(socket, &worker.shared.tls, settings.max_startup_packet);
    match worker.lobby.admit(timeout_at(deadline.into(), negotiation)).await?.ok()? {
        Negotiated::Session { client, startup, leftover } => {
            let knock = Knock { client, startup, leftover, peer, deadline };
            match knock.open(&worker).await {
                Ok(admitted) => return Some(admitted),
                Err((client, report)) => {
                    tracing::info!(%peer, sqlstate = report.sqlstate, "refused: {}", report.message);
                    worker.lobby.admit(farewell(client, &report.to_bytes())).await;
                }
            }
        }
        Negotiated::Cancel { client, request } => {
            let answer = async {
                cancel(&request, &worker).await;
                farewell(client, &[]).await;
            };
            worker.lobby.admit(timeout_at(deadline.into(), answer)).await;
        }
        Negotiated::Refused { client, reply } => {
            worker.lobby.admit(farewell(client, &reply)).await;
        }
        Negotiated::Gone => {}
    }
    None
}

/// A client at the door of its session.
struct Knock {
    client: Stream,
    startup: StartupPacket,
    leftover: Vec<u8>,
    peer: Peer,
    deadline: Instant,
}

impl Knock {
    async fn open(self, worker: &Rc<Worker>) -> Result<Admitted, (Stream, Report)> {
        let shared = &worker.shared;
        if let Err(refusal) = parameters::check(&self.startup, &shared.settings) {
            return Err((self.client, refusal.report()));
        }
        if worker.is_draining() {
            let report = Report::fatal("57P03", "the gate is shutting down");
            return Err((self.client, report));
        }
        let Some(seat) = shared.seats.take() else {
            return Err((self.client, too_many()));
        };
        let backend = match timeout_at(self.deadline.into(), shared.upstream.connect()).await {
            Ok(Ok(backend)) => backend,
            Ok(Err(error)) => {
                tracing::error!(peer = %self.peer, "{error}");
                return Err((self.client, error.report()));
            }
            Err(_) => return Err((self.client, super::upstream::ConnectError::Timeout.report())),
        };
        let session = shared.name_session();
        let guard = worker.enter(session);
        let opened = Box::new(Opened {
            session,
            client_tls: self.client.is_tls(),
            certificate_name: self.client.certificate_name(),
            client: self.client,
            leftover: self.leftover,
            startup: self.startup,
            peer: self.peer,
            deadline: self.deadline,
            signal: std::sync::Arc::clone(&guard.signal),
        });
        Ok(Admitted { opened, backend, _seat: seat, _guard: guard })
    }
}

/// In the server's words (`canAcceptConnections` in `postmaster.c`), with our own hint: two limits look alike otherwise.
fn too_many() -> Report {
    Report::fatal("53300", "sorry, too many clients already")
        .with_detail("The gate's limit of connections is reached.")
        .with_hint("Close idle connections, or ask the gate's operator to raise [limits] connections.")
}

/// Withdraws the hold the request names, or passes the request on.
async fn cancel(request: &CancelRequest, worker: &Rc<Worker>) {
    if !worker.shared.cancel.withdraw(request)
        && let Ok(_permit) = worker.lobby.cancels.acquire().await
    {
        cancel::forward(&worker.shared.upstream, request).await;
    }
}

/// Sends the last bytes and closes so that they arrive: closing with unread input would reset the connection.
async fn farewell(client: Stream, reply: &[u8]) {
    let mut client = pin!(client);
    let talk = async {
        if !reply.is_empty() {
            client.write_all(reply).await?;
            client.flush().await?;
        }
        client.shutdown().await?;
        let mut rest = client.take(FAREWELL_BYTES as u64);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // Whatever goes wrong, the connection is closed.
    let _: Result<_, _> = timeout(FAREWELL, talk).await;
}

/// Cancel requests passed on at the same time, per thread; the others wait their turn.
const MAX_CANCELS: usize = 64;

/// The clients of one thread that nobody has vouched for.
#[derive(Debug)]
pub(super) struct Lobby {
    limit: usize,
    next: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, oneshot::Sender<()>>>,
    cancels: Semaphore,
}

impl Lobby {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            next: Cell::new(0),
            waiting: RefCell::default(),
            cancels: Semaphore::new(MAX_CANCELS),
        }
    }

    /// Runs `visit`, which counts as one waiting client; `None` if it had to make room for another.
    async fn admit<F: Future>(&self, visit: F) -> Option<F::Output> {
        let mut waiting = self.enter();
        tokio::select! {
            biased;
            output = visit => Some(output),
            _ = &mut waiting.evicted => None,
        }
    }

    fn enter(&self) -> Waiting<'_> {
        let mut waiting = self.waiting.borrow_mut();
        while waiting.len() >= self.limit {
            if let Some((_, oldest)) = waiting.pop_first() {
                // Nobody listens any more: then it is leaving anyway.
                let _ = oldest.send(());
            }
        }
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let (sender, evicted) = oneshot::channel();
        waiting.insert(number, sender);
        Waiting { lobby: self, number, evicted }
    }
}

/// Its drop frees the place in the lobby.
struct Waiting<'a> {
    lobby: &'a Lobby,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.lobby.waiting.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::JoinSet;

    use super::*;

    #[test]
    fn what_an_idle_session_keeps_is_small() {
        fn size_of_output<F: Future>(_: impl Fn(Socket, Peer, Rc<Worker>, ()) -> F) -> usize {
            size_of::<F>()
        }
        let size = size_of_output(receive::<()>);
        assert!(size <= 400, "{size} bytes");
    }

    #[tokio::test]
    async fn a_full_lobby_drops_whoever_waited_longest() {
        let lobby = Rc::new(Lobby::new(2));
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let mut visits = JoinSet::new();
                for name in ["first", "second", "third"] {
                    let lobby = Rc::clone(&lobby);
                    visits.spawn_local(async move { (name, lobby.admit(pending::<()>()).await) });
                }
                assert_eq!(visits.join_next().await.unwrap().unwrap(), ("first", None));
                assert_eq!(lobby.waiting.borrow().len(), 2);
                assert_eq!(lobby.admit(async { 7 }).await, Some(7));
                assert_eq!(visits.join_next().await.unwrap().unwrap(), ("second", None));
                assert_eq!(lobby.waiting.borrow().len(), 1);
            })
            .await;
    }
}
