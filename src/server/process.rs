//! The whole process: everything `querygate serve` starts, and how it ends. The demo starts it here too.

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::channels::Channels;
use super::functions;
use super::listen::Listener;
use super::notices;
use super::passing;
use super::settings::Settings;
use super::workers::{Phase, Workers};
use crate::approval::clerk::{Interrupted, Unreviewed, recover, recover_beforehand, recover_reviews};
use crate::approval::examiner::measure_of;
use crate::approval::http::Configuration;
use crate::approval::slack::SlackError;
use crate::approval::{self, AdminSettings, ApprovalDesk, ApprovalSettings, Person, Profile};
use crate::hold::{Board, Notices};
use crate::impact::{Dial, Prober};
use crate::judge::Judge;
use crate::session::functions::Books;
use crate::session::offload::Offload;
use crate::session::passing::Passing;
use crate::session::shared::{Gate, HoldTerms, Measurer, Shared, Terms, Who};
use crate::session::tls::{ListenTls, TlsError};
use crate::session::upstream::Upstream;
use crate::session::{Told, cancel};
use crate::store::{Event, Recovered, Store, StoreError, StoreSettings};

/// Threads for texts too large to be read between other sessions' messages. One hostile text must not stop the others.
const ANALYSIS_THREADS: usize = 2;
/// Threads that wait for a policy in Rego. Each question is a process's work.
const QUESTION_THREADS: usize = 4;

/// Time for the last events to be put on record.
const LAST_RECORDS: Duration = Duration::from_secs(5);

/// Cancel requests on their way at the same time.
const CANCELS: usize = 32;

/// A running gate. Its drop ends everything at once; call [`Server::drain`] first to end in good order.
pub struct Server {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    shared: Arc<Shared>,
    desk: Arc<ApprovalDesk>,
    workers: Workers,
    phase: watch::Sender<Phase>,
    admin_stop: watch::Sender<bool>,
    admin: Option<JoinHandle<()>>,
    clerk: JoinHandle<()>,
    noticing: JoinHandle<()>,
    counting: JoinHandle<()>,
    configuration: Configuration,
    channels: Channels,
    store: Store,
    policy_version: Mutex<String>,
}

/// Why the gate cannot start. Says what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The clients' address.
    #[error("cannot listen for clients on {address} ([listen] address): {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The admin API's address.
    #[error("cannot listen for the admin API on {address} ([admin] address): {source}")]
    Admin {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS for clients.
    #[error("TLS for clients ([listen.tls]): {0}")]
    ListenTls(TlsError),
    /// TLS towards the server.
    #[error("TLS towards the server ([upstream]): {0}")]
    UpstreamTls(TlsError),
    /// No threads.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    /// The channel to Slack.
    #[error("{0}")]
    Slack(SlackError),
    /// The store or the audit file.
    #[error("the record ([store], [audit]): {0}")]
    Store(StoreError),
    /// The store took no events.
    #[error("the record ([store], [audit]) cannot be written: {0}")]
    Record(String),
    /// The system's random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

impl Server {
    /// Starts everything. Must be called on a tokio runtime, which then carries the admin API;
    /// sessions have threads of their own.
    ///
    /// # Errors
    /// [`StartError`]; nothing keeps running then.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let limits = &settings.limits;
        raise_descriptor_limit(limits.connections);
        let tls = ListenTls::load(&settings.listen.tls).map_err(StartError::ListenTls)?;
        let upstream =
            Upstream::new(&settings.upstream, settings.session.tcp_keepalive).map_err(StartError::UpstreamTls)?;
        let listener = Listener::bind(settings.listen.address)
            .map_err(|source| StartError::Listen { address: settings.listen.address, source })?;
        let admin_listener = bind_admin(&settings.admin).await?;
        let board = Board::new(settings.hold.clone());
        let (store, recovered) = open_store(settings.store.clone()).await?;
        let (notices, told) = Notices::new(notices::ROOM);
        let (passing, counted) = passing::channel(&settings.passing);
        let books = functions::books(&settings);
        let gate = gate(&settings, board.clone(), notices.clone(), passing, books.clone())?;
        let shared = Arc::new(Shared::new(settings.session.clone(), tls, upstream, limits.connections, gate));
        let desk = ApprovalDesk::new(board.clone(), settings.approval.clone(), Arc::new(store.clone()));
        let prober = prober(&settings, &shared);
        let desk = Arc::new(examined(desk, &shared, prober.clone()));
        begin(&store, &desk, &settings, recovered).await.map_err(StartError::Record)?;
        let (admin_stop, stop) = watch::channel(false);
        keep_house(&board, &settings, &shared, (&desk, &store), &stop);
        functions::start(&shared, prober, books.as_ref(), &stop);
        let channels = Channels::start(&desk, &store, &settings).await.map_err(StartError::Slack)?;
        let clerk = tokio::spawn(approval::clerk::run(Arc::clone(&desk), stop.clone()));
        let configuration = Configuration::default();
        configuration.judge_by(Arc::clone(&settings.policy));
        let dropped = notices.dropped().clone();
        let noticing =
            tokio::spawn(notices::keep(store.clone(), told, channels.passed(), dropped.clone(), stop.clone()));
        let counting = tokio::spawn(passing::keep(store.clone(), counted, settings.passing.clone(), stop.clone()));
        let address = listener.address();

        let policy_version = Mutex::new(settings.policy.version().to_string());
        let (phase, phases) = watch::channel(Phase::Serve);
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let workers = Workers::start(limits.workers(cores), half_open(limits.connections), listener, &shared, &phases)
            .map_err(StartError::Threads)?;
        let admin_address = admin_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let admin = admin_listener.map(|listener| {
            let serve = approval::http::serve(
                listener,
                Arc::clone(&desk),
                settings.admin,
                channels.vitals(&store, dropped, configuration.clone()).with_functions(functions::troubles(books)),
                stop,
            );
            tokio::spawn(async move {
                if let Err(error) = serve.await {
                    tracing::error!("the admin API ended: {error}");
                }
            })
        });
        Ok(Self {
            address,
            admin_address,
            shared,
            desk,
            workers,
            phase,
            admin_stop,
            admin,
            clerk,
            noticing,
            counting,
            configuration,
            channels,
            store,
            policy_version,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin API listens, if it does.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// What sessions share: counts for operators.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes over what can change while running: certificates, the policy, people and who
    /// approves. What cannot be used is reported and
    /// the old stays.
    pub fn reload(&self, settings: Settings) -> Vec<StartError> {
        self.configuration.note(true, crate::clock::wall());
        let mut errors = Vec::new();
        if let Err(error) = self.shared.tls.reload() {
            errors.push(StartError::ListenTls(error));
        }
        if let Err(error) = self.shared.upstream.reload() {
            errors.push(StartError::UpstreamTls(error));
        }
        let (who, terms) = (who(&settings.approval), terms(&settings.approval));
        self.channels.reload(&settings);
        self.desk.reload(settings.approval);
        self.note_policy(settings.policy.version().to_string());
        self.configuration.judge_by(Arc::clone(&settings.policy));
        self.shared.replace_policy(Judge::new(settings.policy), who, terms);
        errors
    }

    /// The configuration's files cannot be loaded: what is in force stays, and `/health` says so.
    pub fn not_loaded(&self) {
        self.configuration.note(false, crate::clock::wall());
    }

    /// Puts another policy on record.
    fn note_policy(&self, policy_version: String) {
        let mut known = self.policy_version.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == policy_version {
            return;
        }
        known.clone_from(&policy_version);
        drop(known);
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.record(Event::PolicyChanged { policy_version }).await {
                tracing::error!("the new policy could not be recorded: {error}");
            }
        });
    }

    /// Stops accepting and asks sessions to end: idle ones at once, running ones when they are done.
    pub fn drain(&self) {
        self.phase.send_if_modified(|phase| advance(phase, Phase::Drain));
    }

    /// Cancels what still runs in the server, which would go on there when its session is closed. Sessions that are
    /// draining then end by themselves.
    ///
    /// # Cancellation safety
    /// Requests that were not sent yet are not sent.
    pub async fn cancel_running(&self) {
        let mut requests = self.shared.cancel.requests().into_iter();
        let mut running = JoinSet::new();
        loop {
            while running.len() < CANCELS
                && let Some(request) = requests.next()
            {
                let shared = Arc::clone(&self.shared);
                running.spawn(async move { cancel::forward(&shared.upstream, &request).await });
            }
            if running.join_next().await.is_none() {
                return;
            }
        }
    }

    /// Ends all sessions now.
    pub fn quit(&self) {
        self.phase.send_if_modified(|phase| advance(phase, Phase::Quit));
    }

    /// Waits until the sessions have ended, which they do only after [`Server::drain`] or [`Server::quit`].
    ///
    /// # Cancellation safety
    /// May be called again.
    pub async fn sessions_ended(&mut self) {
        self.workers.ended().await;
    }

    /// Ends what is not a session: the admin API answers its last requests.
    pub async fn finish(mut self) {
        self.admin_stop.send_replace(true);
        if let Some(admin) = self.admin.take() {
            // A client of the admin API that keeps its connection does not keep the gate.
            let _ = tokio::time::timeout(Duration::from_secs(2), admin).await;
        }
        // What ended with the sessions is put on record, and then told.
        let records = async { tokio::join!(&mut self.clerk, &mut self.noticing, &mut self.counting) };
        if tokio::time::timeout(LAST_RECORDS, records).await.is_err() {
            tracing::error!("the last events could not be recorded in time");
        }
        self.channels.stop().await;
        if let Err(error) = self.store.record(Event::Stopped).await {
            tracing::error!("the end could not be recorded: {error}");
        }
        self.store.clone().close().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.quit();
        self.admin_stop.send_replace(true);
    }
}

/// What goes on beside the sessions, and nobody waits for.
fn keep_house(
    board: &Board,
    settings: &Settings,
    shared: &Arc<Shared>,
    (desk, store): (&Arc<ApprovalDesk>, &Store),
    stop: &watch::Receiver<bool>,
) {
    tokio::spawn(approval::journal::keep(board.clone(), stop.clone()));
    super::undo::start(settings, dial(shared), stop);
    super::undone::start(settings, dial(shared), board, desk, store, stop);
}

/// Connections to the server behind a running gate, for questions of the gate's own.
fn dial(shared: &Arc<Shared>) -> Dial {
    let shared = Arc::downgrade(shared);
    Arc::new(move || {
        let shared = shared.upgrade();
        Box::pin(async move {
            let shared = shared.ok_or_else(|| io::Error::other("the gate is ending"))?;
            connect(&shared.upstream).await
        })
    })
}

/// The same without a running gate.
pub fn upstream_dial(upstream: Arc<Upstream>) -> Dial {
    Arc::new(move || {
        let upstream = Arc::clone(&upstream);
        Box::pin(async move { connect(&upstream).await })
    })
}

/// The database that every cluster has; who may what in the whole cluster can be asked in any.
const ANY_DATABASE: &str = "postgres";

/// Who looks statements up, if anybody is to.
fn prober(settings: &Settings, shared: &Arc<Shared>) -> Option<Arc<Prober>> {
    let prober = Arc::new(Prober::new(settings.impact.clone()?, dial(shared)));
    tokio::spawn(warn_of_rights(Arc::clone(&prober)));
    Some(prober)
}

/// Says if the role that looks statements up may do more than look. In this database alone; `impact check` asks in any.
async fn warn_of_rights(prober: Arc<Prober>) {
    match prober.excess(ANY_DATABASE).await {
        Ok(excess) => excess.iter().for_each(|line| tracing::warn!("[impact]: {line}")),
        // It need not be there, or open to that role. What matters is said when a statement is looked into.
        Err(why) => tracing::debug!("[impact]: what its role may do cannot be asked in {ANY_DATABASE}: {why}"),
    }
}

async fn connect(upstream: &Upstream) -> io::Result<Box<dyn crate::impact::Stream>> {
    Ok(Box::new(upstream.connect().await.map_err(io::Error::other)?))
}

/// Opens the record on a thread that may wait for the disk.
async fn open_store(settings: StoreSettings) -> Result<(Store, Recovered), StartError> {
    let opened = tokio::task::spawn_blocking(move || Store::open(&settings)).await;
    opened.map_err(|error| StartError::Threads(io::Error::other(error)))?.map_err(StartError::Store)
}

/// Notes the start, and the end of what an earlier process left behind.
async fn begin(
    store: &Store,
    desk: &Arc<ApprovalDesk>,
    settings: &Settings,
    recovered: Recovered,
) -> Result<(), String> {
    let started = Event::Started {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        policy_version: settings.policy.version().to_string(),
    };
    store.record(started).await.map_err(|error| error.to_string())?;
    let now = crate::clock::wall();
    let unreviewed = recovered.unreviewed.into_iter().filter_map(|stored| {
        Some(Unreviewed {
            request: stored.request,
            decision: stored.decision?,
            // Without an end it is among those that were interrupted.
            ended: stored.ended?,
            execution: stored.execution,
            references: stored.announcements,
        })
    });
    recover_reviews(desk, unreviewed.collect(), now);
    let mut interrupted = Vec::new();
    for stored in recovered.open {
        if !approval::recovery::ask_again(desk, store, &stored, now).await? {
            interrupted.push(Interrupted {
                request: stored.request,
                decision: stored.decision,
                unreviewed: stored.break_glass && stored.reviewed_by.is_none(),
                references: stored.announcements,
            });
        }
    }
    recover(desk, interrupted, now).await?;
    recover_beforehand(desk, store, now).await?;
    approval::recovery::retell(desk, store, now).await
}

/// What sessions need of the other rooms.
fn gate(
    settings: &Settings,
    board: Board,
    notices: Notices<Told>,
    passing: Option<Passing>,
    functions: Option<Arc<Books>>,
) -> Result<Gate, StartError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(StartError::Random)?;
    Ok(Gate {
        judge: Judge::new(Arc::clone(&settings.policy)),
        who: who(&settings.approval),
        board,
        notices,
        passing,
        functions,
        offload: Offload::start(ANALYSIS_THREADS).map_err(StartError::Threads)?,
        questions: Offload::start(QUESTION_THREADS).map_err(StartError::Threads)?,
        terms: terms(&settings.approval),
        cache_bytes: u64::try_from(settings.limits.verdict_cache_bytes).unwrap_or(u64::MAX),
        secret,
    })
}

/// Who rules mean by `people` and `groups`.
fn who(settings: &ApprovalSettings) -> Who {
    let people = settings.people.clone();
    Who::new(move |origin| people.behind(origin).map(Person::to_judge).collect())
}

/// Whoever looks into statements does so for people and for rules.
fn examined(desk: ApprovalDesk, shared: &Arc<Shared>, prober: Option<Arc<Prober>>) -> ApprovalDesk {
    let Some(prober) = prober else { return desk };
    shared.measure_by(measurer(Arc::clone(&prober), Handle::current()));
    desk.with_examiner(super::undo::Foretelling::over(prober, shared.settings.undo.as_ref(), dial(shared)))
}

/// Looks into what statements would touch, on the runtime that asks people as well.
fn measurer(prober: Arc<Prober>, runtime: Handle) -> Measurer {
    Measurer::new(move |request, opaque| {
        let (answer, answered) = oneshot::channel();
        let prober = Arc::clone(&prober);
        runtime.spawn(async move {
            let mut answer = answer;
            tokio::select! {
                measure = measure_of(&*prober, &request, opaque) => { let _ = answer.send(measure); }
                // The client is gone, or has cancelled it.
                () = answer.closed() => {}
            }
        });
        answered
    })
}

/// What sessions need to know of the approval profiles.
fn terms(settings: &ApprovalSettings) -> Terms {
    let of = |profile: &Profile| HoldTerms { deadline: profile.deadline, asked: profile.asked() };
    let by_rule = settings.by_rule.keys().map(|rule| (rule.clone(), of(settings.profile(rule)))).collect();
    Terms { default: of(&settings.default), by_rule }
}

async fn bind_admin(settings: &AdminSettings) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = settings.address else {
        return Ok(None);
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(source) => Err(StartError::Admin { address, source }),
    }
}

fn advance(phase: &mut Phase, to: Phase) -> bool {
    let later = to > *phase;
    *phase = to.max(*phase);
    later
}

/// Clients at the door: as many as may come in, and some more, since most go on in milliseconds.
fn half_open(connections: usize) -> usize {
    connections.saturating_add(64)
}

/// Every session has two sockets. Asks for as many descriptors as the system grants.
fn raise_descriptor_limit(connections: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(3).saturating_add(256);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let wanted = needed.max(soft).min(hard);
    if wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_err() {
        tracing::warn!("cannot raise the limit of open files above {soft}");
    }
    if wanted < needed {
        tracing::warn!(
            "the limit of open files ({wanted}) is too low for [limits] connections = {connections}; raise it to {needed}"
        );
    }
}
