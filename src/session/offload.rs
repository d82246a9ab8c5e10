//! Analysis of large texts off the session threads, so that one huge statement slows nobody else.
//!
//! The threads have large stacks: trees of hostile statements are deep.

use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use crate::judge::{Analysis, Judge, Policy};

/// Stack of a thread that analyses, in bytes. Only pages touched take memory.
pub const ANALYSIS_STACK: usize = 256 << 20;

/// Texts that may wait. Each session has at most one.
const QUEUE: usize = 65_536;

struct Job {
    text: Vec<u8>,
    answer: oneshot::Sender<Arc<Analysis>>,
}

/// The threads' letter box. They end when it is dropped.
#[derive(Debug)]
pub struct Offload(SyncSender<Job>);

impl Offload {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let (jobs, inbox) = sync_channel(QUEUE);
        let inbox = Arc::new(Mutex::new(inbox));
        for index in 0..threads.max(1) {
            let inbox = Arc::clone(&inbox);
            std::thread::Builder::new()
                .name(format!("analysis-{index}"))
                .stack_size(ANALYSIS_STACK)
                .spawn(move || work(&inbox))?;
        }
        Ok(Self(jobs))
    }

    /// Has a text analysed. If that is impossible the answer says that the text is unknown.
    pub(super) fn analyse(&self, text: Vec<u8>) -> Answer {
        let (answer, receiver) = oneshot::channel();
        // A full letter box drops the job, and with it the sender: the answer is then "unknown".
        let _ = self.0.try_send(Job { text, answer });
        Answer { receiver, first: None }
    }
}

fn work(inbox: &Mutex<Receiver<Job>>) {
    // What a text can do does not depend on the policy, so any judge can read it.
    let judge = Judge::new(Arc::new(Policy::shipped()));
    loop {
        let job = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { text, answer }) = job else {
            return;
        };
        // A client that left in the meantime does not want it any more.
        if !answer.is_closed() {
            let _ = answer.send(Arc::new(judge.analyse(&text)));
        }
    }
}

/// An analysis to come.
pub(super) struct Answer {
    receiver: oneshot::Receiver<Arc<Analysis>>,
    /// What is waited for before that.
    first: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Answer {
    /// The same, after something else.
    pub(super) fn after(self, first: impl Future<Output = ()> + 'static) -> Self {
        Self { first: Some(Box::pin(first)), ..self }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Arc<Analysis>> {
        if let Some(first) = &mut self.first {
            ready!(first.as_mut().poll(cx));
            self.first = None;
        }
        Pin::new(&mut self.receiver).poll(cx).map(|answer| {
            // Fail closed: no answer is "unknown".
            answer.unwrap_or_else(|_| Arc::new(super::machine::unreadable("it could not be analysed")))
        })
    }
}
