//! `querygate demo`: a throw-away Postgres with the gate in front, to try holding and deciding by hand, or to see it
//! play by itself. Everything it makes is gone when it ends.

/// Prints a line; whoever no longer listens (a closed pipe, a terminal that is gone) must not keep the demo from
/// clearing up, as the panic of `println!` would.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _nobody_listens = writeln!(std::io::stdout(), $($words)*);
    }};
}

mod postgres;
mod script;

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::approval::{People, Person, TokenDigest, UnknownRequester};
use crate::cli::requests::api::{Api, ApiError};
use crate::cli::requests::live;
use crate::cli::requests::live::model::Model;
use crate::impact::{ImpactSettings, Password};
use crate::server::Server;
use crate::server::settings::Settings;
use crate::session::SslMode;
use crate::store::StoreSettings;
use postgres::{Binaries, Cluster, PostgresError, Stop};
use script::ScriptError;

/// Ended by a signal, as shells count it.
const INTERRUPTED: u8 = 130;

/// How long the live view gets to leave the screen.
const VIEW_LAST: Duration = Duration::from_secs(1);

/// How long sessions get when the demo ends.
const LAST: Duration = Duration::from_secs(5);

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Play a session by itself and check every step; exit status 0 if each did what it says.
    #[arg(long)]
    script: bool,
    /// Port for psql on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// A configuration to try: its rules, people, approval, Slack and webhooks. Addresses, Postgres and the record are the demo's own.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory with initdb, postgres and psql, if it cannot be found.
    #[arg(long, value_name = "DIR")]
    postgres_bin: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error("{0}")]
    Gate(String),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the script stopped: {0}")]
    Script(#[from] ScriptError),
    #[error("interrupted")]
    Interrupted,
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("querygate: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(demo(args));
    // The live view's threads may still wait for the gate that is gone.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(DemoError::Interrupted | DemoError::Postgres(PostgresError::Interrupted)) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("querygate: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: &Args) -> Result<(), DemoError> {
    let stop = stop_signal().map_err(|error| DemoError::Gate(error.to_string()))?;
    let binaries = Binaries::find(args.postgres_bin.as_deref())?;
    say!("Starting a throw-away {} with a sample shop …", binaries.version().await);
    let cluster = Cluster::start(&binaries, &stop).await?;
    let result = with_cluster(args, &binaries, &cluster, stop).await;
    cluster.stop().await;
    result
}

/// Turns `true` at the first signal that asks for the end.
fn stop_signal() -> std::io::Result<Stop> {
    let (told, stop) = watch::channel(false);
    let mut signals = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        signals.push(signal(kind)?);
    }
    for mut signal in signals {
        let told = told.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                told.send_replace(true);
            }
        });
    }
    Ok(stop)
}

async fn with_cluster(args: &Args, binaries: &Binaries, cluster: &Cluster, stop: Stop) -> Result<(), DemoError> {
    let token = postgres::secret()?;
    let settings = settings(args, cluster, &token)?;
    let mut server = Server::start(settings).await.map_err(|error| DemoError::Gate(error.to_string()))?;
    let stage = stage(&server, binaries, cluster, token);
    let result = match stage {
        Ok(stage) => show(args, stage, stop).await,
        Err(error) => Err(error),
    };
    server.quit();
    // Sessions that do not end are ended with the process; Postgres goes first in any case.
    let _late = tokio::time::timeout(LAST, server.sessions_ended()).await;
    server.finish().await;
    result
}

/// What the demo plays with.
struct Stage {
    binaries: Binaries,
    api: Api,
    base: String,
    token: String,
    /// For psql, without the password.
    url: String,
    password: String,
}

fn stage(server: &Server, binaries: &Binaries, cluster: &Cluster, token: String) -> Result<Stage, DemoError> {
    let gate = server.address();
    let admin = server.admin_address().ok_or_else(|| DemoError::Gate("the admin API did not start".to_owned()))?;
    let base = format!("http://{admin}");
    Ok(Stage {
        binaries: binaries.clone(),
        api: Api::new(&base, &token)?,
        base,
        token,
        url: format!("postgresql://app@{gate}/shop"),
        password: cluster.password.clone(),
    })
}

/// Everything at its default, but for the addresses and the one person who decides.
fn settings(args: &Args, cluster: &Cluster, token: &str) -> Result<Settings, DemoError> {
    let wrong = |error: &dyn std::fmt::Display| DemoError::Gate(error.to_string());
    let person = Person {
        name: "you".to_owned(),
        tokens: vec![TokenDigest::of(token).map_err(|error| wrong(&error))?],
        ..Person::default()
    };
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut settings = match &args.config {
        Some(path) => Settings::load(path).map_err(|error| DemoError::Gate(super::load_error(&error)))?.settings,
        None => Settings::default(),
    };
    settings.listen.address = SocketAddr::new(loopback, args.port);
    settings.admin.address = Some(SocketAddr::new(loopback, 0));
    settings.upstream.host = cluster.socket_directory().to_string_lossy().into_owned();
    settings.upstream.port = postgres::PORT;
    settings.upstream.sslmode = SslMode::Disable;
    // Nothing of the demo is left behind, so its record is kept in memory.
    settings.store = StoreSettings::default();
    let people = settings.approval.people.iter().cloned().chain([person]).collect();
    settings.approval.people = People::new(people).map_err(|error| wrong(&error))?;
    let profile = Arc::make_mut(&mut settings.approval.default);
    profile.approvers.people.push("you".to_owned());
    settings.impact = Some(ImpactSettings {
        user: postgres::LOOKER.to_owned(),
        password: Some(Password::new(&*cluster.password)),
        // A machine may be slow, and nobody is in a hurry.
        budget: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(5),
        count_budget: Duration::from_secs(5),
        ..settings.impact.unwrap_or_default()
    });
    if args.config.is_none() {
        // There is nobody else to ask.
        profile.unknown_requester = UnknownRequester::Allow;
    }
    Ok(settings)
}

async fn show(args: &Args, stage: Stage, mut stop: Stop) -> Result<(), DemoError> {
    if args.script {
        return tokio::select! {
            played = script::play(&stage) => Ok(played?),
            _ = stop.wait_for(|stop| *stop) => Err(DemoError::Interrupted),
        };
    }
    let psql = postgres::as_typed(&stage.binaries.psql);
    let url = stage.url.replace("app@", &format!("app:{}@", stage.password));
    let headline = [
        "A throw-away Postgres with a sample shop runs behind querygate. In another terminal:".to_owned(),
        format!("    {psql} \"{url}\""),
        "Try:  SELECT * FROM customers LIMIT 3;    DELETE FROM orders WHERE id = 1;    DROP TABLE products;".to_owned(),
    ];
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        say!("{}\nDecide with (Ctrl-C here ends the demo):", headline.join("\n"));
        say!("    export QUERYGATE_API={} QUERYGATE_TOKEN={}", stage.base, stage.token);
        say!("    querygate requests watch");
        // An error means that the signals' tasks are gone, which is an end too.
        let _either = stop.wait_for(|stop| *stop).await;
        return Ok(());
    }
    let model = Model::with_headline(headline.to_vec());
    let (api, stopped) = (stage.api.clone(), stop.clone());
    let view = tokio::task::spawn_blocking(move || live::run_with(&api, model, || *stopped.borrow()));
    let late = async {
        // A view whose terminal is gone may never look up from reading it (crossterm takes the end for no news).
        let _gone = stop.wait_for(|stop| *stop).await;
        tokio::time::sleep(VIEW_LAST).await;
    };
    tokio::select! {
        ended = view => ended.map_err(|error| DemoError::Gate(error.to_string()))??,
        () = late => {}
    }
    if *stop.borrow() { Err(DemoError::Interrupted) } else { Ok(()) }
}
