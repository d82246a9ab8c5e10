//! Threads that carry sessions: each with a runtime of its own, so that sessions share no lock, and a stack large enough for
//! the parsers' recursion. The first of them also accepts: a connection it keeps for itself, which with one thread is
//! every connection, costs no hand-over.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use super::listen::{Entrance, Listener};
use crate::session::shared::{Shared, Worker};
use crate::session::stream::{Peer, Socket};
use crate::session::{lobby, passing};

/// Parsing recurses; the limits of the judge are chosen for this stack. Only pages that are touched cost memory.
const STACK: usize = 256 << 20;
/// Accepted connections on their way to a thread.
const QUEUE: usize = 256;
/// How long sessions may take to say good-bye when they are told to end now.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How far the process is on its way out. Only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Serving.
    Serve,
    /// No new sessions; those that run end when they are idle.
    Drain,
    /// Everything ends now.
    Quit,
}

/// The session threads.
#[derive(Debug)]
pub(super) struct Workers {
    /// Closed when the last thread has dropped its sender.
    alive: mpsc::Receiver<()>,
}

/// Another thread, as the accepting one sees it.
#[derive(Debug)]
struct Door {
    sender: mpsc::Sender<Arrival>,
    /// Connections given to the thread and not ended.
    load: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Arrival {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    load: Load,
}

/// Counts one connection until its drop.
#[derive(Debug)]
struct Load(Arc<AtomicUsize>);

impl Load {
    fn on(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What each thread is started with.
#[derive(Clone)]
struct Common {
    shared: Arc<Shared>,
    max_half_open: usize,
    phase: watch::Receiver<Phase>,
    sign_of_life: mpsc::Sender<()>,
}

impl Workers {
    /// Starts `count` threads, on which together `max_half_open` clients may be at the door, to serve what comes in at
    /// `listener`. They stop listening at [`Phase::Drain`].
    pub(super) fn start(
        count: usize,
        max_half_open: usize,
        listener: Listener,
        shared: &Arc<Shared>,
        phase: &watch::Receiver<Phase>,
    ) -> io::Result<Self> {
        let (sign_of_life, alive) = mpsc::channel(1);
        let common = Common {
            shared: Arc::clone(shared),
            max_half_open: max_half_open.div_ceil(count.max(1)),
            phase: phase.clone(),
            sign_of_life,
        };
        let mut doors = Vec::new();
        for number in 1..count {
            let (sender, arrivals) = mpsc::channel(QUEUE);
            start_thread(number, common.clone(), move || Ok(Source::Door(arrivals)))?;
            doors.push(Door { sender, load: Arc::default() });
        }
        start_thread(0, common, move || Ok(Source::Entrance(listener.open()?, Others { doors, own: Arc::default() })))?;
        Ok(Self { alive })
    }

    /// Waits until all threads have ended, which they do after [`Phase::Drain`] or [`Phase::Quit`].
    ///
    /// # Cancellation safety
    /// May be called again.
    pub(super) async fn ended(&mut self) {
        // Nobody ever sends: this is `None`, once all senders are dropped.
        while self.alive.recv().await.is_some() {}
    }
}

/// Where a thread's connections come from.
#[derive(Debug)]
enum Source {
    Entrance(Entrance, Others),
    Door(mpsc::Receiver<Arrival>),
}

impl Source {
    /// The next connection for this thread.
    ///
    /// # Cancellation safety
    /// No connection is lost.
    async fn next(&mut self) -> (TcpStream, SocketAddr, Load) {
        loop {
            match self {
                Self::Entrance(entrance, others) => {
                    let (stream, peer) = entrance.next().await;
                    if let Some((stream, load)) = others.offer(stream, peer) {
                        return (stream, peer, load);
                    }
                }
                Self::Door(arrivals) => {
                    let Some(Arrival { stream, peer, load }) = arrivals.recv().await else {
                        // The accepting thread is gone; the process is ending.
                        return pending().await;
                    };
                    // Fails only without memory or descriptors; the connection is closed then.
                    if let Ok(stream) = TcpStream::from_std(stream) {
                        return (stream, peer, load);
                    }
                }
            }
        }
    }
}

/// The other threads, and how busy this one is.
#[derive(Debug)]
struct Others {
    doors: Vec<Door>,
    own: Arc<AtomicUsize>,
}

impl Others {
    /// Gives the connection to the thread with the fewest, or gives it back if that is this one or the other is behind.
    fn offer(&self, stream: TcpStream, peer: SocketAddr) -> Option<(TcpStream, Load)> {
        let idlest = self.doors.iter().min_by_key(|door| door.load.load(Ordering::Relaxed));
        let own = self.own.load(Ordering::Relaxed);
        let permit = idlest
            .filter(|door| door.load.load(Ordering::Relaxed) < own)
            .and_then(|door| Some((door, door.sender.try_reserve().ok()?)));
        let Some((door, permit)) = permit else {
            return Some((stream, Load::on(&self.own)));
        };
        // Leaves this runtime; the session's thread registers it with its own. An error loses a connection that is broken.
        if let Ok(stream) = stream.into_std() {
            permit.send(Arrival { stream, peer, load: Load::on(&door.load) });
        }
        None
    }
}

fn start_thread(
    number: usize,
    common: Common,
    source: impl FnOnce() -> io::Result<Source> + Send + 'static,
) -> io::Result<()> {
    let life = move || {
        let Common { shared, max_half_open, phase, sign_of_life } = common;
        // Dropped last, also by a panic.
        let _sign_of_life = sign_of_life;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default());
        let ended = runtime.and_then(|runtime| {
            let worker = Worker::new(shared, max_half_open);
            runtime.block_on(async {
                carry(&worker, source()?, phase).await;
                Ok(())
            })
        });
        if let Err(error) = ended {
            tracing::error!("cannot start a session thread: {error}");
        }
    };
    std::thread::Builder::new().name(format!("sessions-{number}")).stack_size(STACK).spawn(life)?;
    Ok(())
}

/// A thread's life.
async fn carry(worker: &Rc<Worker>, source: Source, phase: watch::Receiver<Phase>) {
    if worker.counts_what_passes() {
        tokio::task::spawn_local(passing::hand_over(Rc::clone(worker)));
    }
    serve(worker, source, phase).await;
    worker.hand_over_passed();
}

async fn serve(worker: &Rc<Worker>, mut source: Source, mut phase: watch::Receiver<Phase>) {
    loop {
        tokio::select! {
            (stream, peer, load) = source.next() => {
                // The future as it is: wrapped in another it would take twice the memory for as long as the session lasts.
                tokio::task::spawn_local(lobby::receive(Socket::Tcp(stream), Peer::Tcp(peer), Rc::clone(worker), load));
            }
            _ = phase.wait_for(|phase| *phase > Phase::Serve) => break,
        }
    }
    // Nothing more comes in; arrivals still in the queue are closed with it.
    drop(source);
    worker.drain();
    tokio::select! {
        () = worker.empty() => return,
        _ = phase.wait_for(|phase| *phase > Phase::Drain) => {}
    }
    worker.quit();
    // Whoever does not listen by then is cut off: dropping the runtime drops the sessions.
    let _ = tokio::time::timeout(LAST_WORDS, worker.empty()).await;
}
