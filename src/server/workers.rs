//! Threads that carry sessions: each with a runtime of its own, so that sessions share no lock, and a stack large enough for
//! the parsers' recursion.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use crate::session::lobby;
use crate::session::shared::{Shared, Worker};
use crate::session::stream::{Peer, Socket};

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
    doors: Vec<Door>,
    /// Closed when the last thread has dropped its sender.
    alive: mpsc::Receiver<()>,
}

/// Hands connections to the threads; clones share the same threads.
#[derive(Debug, Clone)]
pub(super) struct Dispatcher {
    doors: Vec<Door>,
}

#[derive(Debug, Clone)]
struct Door {
    sender: mpsc::Sender<Arrival>,
    /// Connections given to the thread and not ended.
    load: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Arrival {
    stream: TcpStream,
    peer: SocketAddr,
    load: Load,
}

/// Its drop says that the connection is over.
#[derive(Debug)]
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts `count` threads, on which together `max_half_open` clients may be at the door.
    pub(super) fn start(
        count: usize,
        max_half_open: usize,
        shared: &Arc<Shared>,
        phase: &watch::Receiver<Phase>,
    ) -> io::Result<Self> {
        let each = max_half_open.div_ceil(count.max(1));
        let (sign_of_life, alive) = mpsc::channel(1);
        let doors = (0..count.max(1))
            .map(|number| start_thread(number, each, Arc::clone(shared), phase.clone(), sign_of_life.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self { doors, alive })
    }

    pub(super) fn dispatcher(&self) -> Dispatcher {
        Dispatcher { doors: self.doors.clone() }
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

impl Dispatcher {
    /// Gives a connection to the thread with the fewest, or the next if that one is behind; waits only while all are.
    pub(super) async fn dispatch(&self, stream: TcpStream, peer: SocketAddr) {
        let mut doors: Vec<&Door> = self.doors.iter().collect();
        doors.sort_by_key(|door| door.load.load(Ordering::Relaxed));
        let room = doors.iter().find(|door| door.sender.capacity() > 0).or(doors.first());
        let Some(door) = room else {
            return;
        };
        door.load.fetch_add(1, Ordering::Relaxed);
        let arrival = Arrival { stream, peer, load: Load(Arc::clone(&door.load)) };
        // Fails when the thread has ended: then the process is ending and the connection is closed.
        let _ = door.sender.send(arrival).await;
    }
}

fn start_thread(
    number: usize,
    max_half_open: usize,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    sign_of_life: mpsc::Sender<()>,
) -> io::Result<Door> {
    let (sender, arrivals) = mpsc::channel(QUEUE);
    let life = move || {
        // Dropped last, also by a panic.
        let _sign_of_life = sign_of_life;
        match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => {
                let worker = Worker::new(shared, max_half_open);
                runtime.block_on(carry(&worker, arrivals, phase));
            }
            Err(error) => tracing::error!("cannot start a session thread: {error}"),
        }
    };
    std::thread::Builder::new().name(format!("sessions-{number}")).stack_size(STACK).spawn(life)?;
    Ok(Door { sender, load: Arc::default() })
}

/// A thread's life.
async fn carry(worker: &Rc<Worker>, mut arrivals: mpsc::Receiver<Arrival>, mut phase: watch::Receiver<Phase>) {
    loop {
        tokio::select! {
            arrival = arrivals.recv() => match arrival {
                Some(arrival) => welcome(arrival, worker),
                None => break,
            },
            _ = phase.wait_for(|phase| *phase > Phase::Serve) => break,
        }
    }
    // Arrivals still in the queue are closed with it.
    drop(arrivals);
    worker.drain();
    tokio::select! {
        () = worker.empty() => return,
        _ = phase.wait_for(|phase| *phase > Phase::Drain) => {}
    }
    worker.quit();
    // Whoever does not listen by then is cut off: dropping the runtime drops the sessions.
    let _ = tokio::time::timeout(LAST_WORDS, worker.empty()).await;
}

fn welcome(arrival: Arrival, worker: &Rc<Worker>) {
    let Arrival { stream, peer, load } = arrival;
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else {
        return;
    };
    // The future as it is: wrapped in another it would take twice the memory for as long as the session lasts.
    tokio::task::spawn_local(lobby::receive(Socket::Tcp(stream), Peer::Tcp(peer), Rc::clone(worker), load));
}
