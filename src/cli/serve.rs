//! `querygate serve`: runs the gate.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::complain;
use crate::server::Server;
use crate::server::settings::{LogFormat, LogSettings, Settings};
use crate::server::watch::Watcher;

/// Threads for everything that is not a session: accepting, the admin API, signals.
const CONTROL_THREADS: usize = 2;
/// After the last session, how long what is left may take.
const LAST: Duration = Duration::from_secs(5);

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file; without one the defaults hold.
    #[arg(long, value_name = "FILE", env = "QUERYGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Written once the gate listens: its address, and on a second line that of the admin API.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Runs it until a signal ends it.
pub fn run(args: &Args) -> ExitCode {
    let settings = match load(args) {
        Ok(settings) => settings,
        Err(error) => {
            complain!("querygate: {error}");
            return ExitCode::from(super::USAGE);
        }
    };
    if let Err(error) = init_log(&settings.log) {
        complain!("querygate: [log] filter: {error}");
        return ExitCode::from(super::USAGE);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(serve(args, settings));
            runtime.shutdown_timeout(LAST);
            result
        }
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("querygate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load(args: &Args) -> Result<Settings, String> {
    let Some(path) = &args.config else {
        return Ok(Settings::default());
    };
    let loaded = Settings::load(path).map_err(|error| error.to_string())?;
    for warning in loaded.warnings {
        complain!("{}", warning.display(path));
    }
    Ok(loaded.settings)
}

fn init_log(settings: &LogSettings) -> Result<(), String> {
    let filter = EnvFilter::try_new(&settings.filter).map_err(|error| error.to_string())?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => log.json().try_init(),
    }
    .map_err(|error| error.to_string())
}

/// The signals that end a server.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// SIGTERM or SIGINT.
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn serve(args: &Args, settings: Settings) -> Result<(), String> {
    // Before anything listens, so that no signal finds the default action.
    let mut stop = Stop::new().map_err(|error| error.to_string())?;
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
    let drain_deadline = settings.session.drain_deadline;
    let mut watch = settings.watch;
    let mut watcher = Watcher::new(args.config.clone()).await;
    let mut server = Server::start(settings).await.map_err(|error| error.to_string())?;
    announce(&server, args)?;
    loop {
        tokio::select! {
            () = stop.asked() => break,
            _ = hangup.recv() => watcher.note().await,
            () = watcher.changed(), if watch => tracing::info!("the configuration has changed"),
        }
        watch = reload(&server, args).unwrap_or(watch);
    }
    tracing::info!(deadline = ?drain_deadline, "ending: no new sessions; running statements are waited for");
    server.drain();
    let in_time = tokio::select! {
        () = server.sessions_ended() => true,
        () = tokio::time::sleep(drain_deadline) => false,
        () = stop.asked() => false,
    };
    if !in_time {
        tracing::warn!("ending what still runs");
        // A second or third signal does not wait for a server that does not answer.
        tokio::select! {
            _ = tokio::time::timeout(LAST, server.cancel_running()) => {}
            () = stop.asked() => {}
        }
    }
    server.quit();
    // The threads bound this themselves.
    server.sessions_ended().await;
    server.finish().await;
    tracing::info!("ended");
    Ok(())
}

fn announce(server: &Server, args: &Args) -> Result<(), String> {
    tracing::info!("listening on {}", server.address());
    if let Some(admin) = server.admin_address() {
        tracing::info!("admin API on http://{admin}");
    }
    let Some(path) = &args.ready_file else {
        return Ok(());
    };
    let admin = server.admin_address().map(|address| format!("{address}\n")).unwrap_or_default();
    // Renamed into place: whoever waits for the file never reads half of it.
    let draft = path.with_extension("new");
    std::fs::write(&draft, format!("{}\n{admin}", server.address()))
        .and_then(|()| std::fs::rename(&draft, path))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Takes over what can change. Returns whether its files are to be watched, if they could be loaded.
fn reload(server: &Server, args: &Args) -> Option<bool> {
    let settings = match load(args) {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("not reloaded, the configuration in force stays: {error}");
            server.not_loaded();
            return None;
        }
    };
    let watch = settings.watch;
    let errors = server.reload(settings);
    for error in &errors {
        tracing::error!("not reloaded: {error}; what was loaded before stays in use");
    }
    if errors.is_empty() {
        tracing::info!("reloaded certificates, policy, people and approvers; other settings need a restart");
    }
    Some(watch)
}
