//! What takes its time off the session threads, so that it slows nobody else: analysis of large texts, and whatever a policy has to be
//! asked that no session should wait for.
//!
//! The threads have large stacks: trees of hostile statements are deep.

use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use crate::judge::{Analysis, Judge, Measure, Policy, SessionClass};

/// Stack of a thread that analyses, in bytes. Only pages touched take memory.
pub const ANALYSIS_STACK: usize = 256 << 20;

/// Texts that may wait. Each session has at most one.
const QUEUE: usize = 65_536;

enum Job {
    /// Of the whole message, so that it can be judged; and then asked about as this class will ask.
    Analyse { text: Vec<u8>, ask: Option<(SessionClass, bool)>, answer: oneshot::Sender<Arc<Analysis>> },
    /// It was looked into what it would touch: asked about again.
    Ask { ask: Asking, measure: Measure, done: oneshot::Sender<Measure> },
}

/// What a policy is to be asked about.
pub(super) struct Asking {
    class: SessionClass,
    analysis: Arc<Analysis>,
    in_transaction: bool,
}

impl Asking {
    /// This message, as this class asks.
    pub(super) fn new(class: &SessionClass, analysis: &Arc<Analysis>, in_transaction: bool) -> Self {
        Self { class: class.clone(), analysis: Arc::clone(analysis), in_transaction }
    }
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
        self.read(text, None)
    }

    /// The same, and what its verdict depends on is found out: the verdict then takes no time.
    pub(super) fn ask_ahead(&self, text: Vec<u8>, class: SessionClass, in_transaction: bool) -> Answer {
        self.read(text, Some((class, in_transaction)))
    }

    fn read(&self, text: Vec<u8>, ask: Option<(SessionClass, bool)>) -> Answer {
        let (answer, receiver) = oneshot::channel();
        // A full letter box drops the job, and with it the sender: the answer is then "unknown".
        let _ = self.0.try_send(Job::Analyse { text, ask, answer });
        Answer { receiver, first: None }
    }

    /// What the verdict of something depends on of which it is known what it would touch. The measure comes back when it is found out,
    /// and not at all if that is impossible.
    pub(super) fn ask_measured(&self, ask: Asking, measure: Measure) -> oneshot::Receiver<Measure> {
        let (done, receiver) = oneshot::channel();
        let _ = self.0.try_send(Job::Ask { ask, measure, done });
        receiver
    }
}

fn work(inbox: &Mutex<Receiver<Job>>) {
    // What a text can do does not depend on the policy, so any judge can read it.
    let judge = Judge::new(Arc::new(Policy::shipped()));
    loop {
        let job = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        // A client that left in the meantime does not want it any more.
        match job {
            Err(_) => return,
            Ok(Job::Analyse { text, ask, answer }) if !answer.is_closed() => {
                let analysis = Arc::new(judge.analyse(&text));
                if let Some((class, in_transaction)) = ask {
                    class.ask_ahead(&analysis, in_transaction, None);
                }
                let _ = answer.send(analysis);
            }
            Ok(Job::Ask { ask: Asking { class, analysis, in_transaction }, measure, done }) if !done.is_closed() => {
                class.ask_ahead(&analysis, in_transaction, Some(&measure));
                let _ = done.send(measure);
            }
            Ok(Job::Analyse { .. } | Job::Ask { .. }) => {}
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
