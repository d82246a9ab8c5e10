//! `querygate undo REQUEST`: asks the database, through the gate, to bring rows back, and prints what came of it.

use std::future::poll_fn;
use std::process::ExitCode;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode as Wanted};
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

use crate::approval::{one_line, spell_out};
use crate::cli::{complain, say};
use crate::session::upstream::Upstream;
use crate::session::{SslMode, UpstreamSettings};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Asked {
    /// The request whose statement is to be undone.
    #[arg(required = true)]
    request: Option<String>,
    /// Where the gate is, and as whom: postgresql://USER@HOST:PORT/DATABASE. The role needs the right to undo, and to write the tables.
    #[arg(long, value_name = "URL", env = "QUERYGATE_DATABASE_URL", required = true, hide_env_values = true)]
    gate: Option<String>,
    /// Restore nothing where a single row conflicts.
    #[arg(long)]
    all_or_nothing: bool,
    /// Say what would be restored and what conflicts, and take all of it back.
    #[arg(long)]
    dry_run: bool,
    /// Told to approvers.
    #[arg(long)]
    reason: Option<String>,
}

/// From dialling to the end of the TLS handshake.
const CONNECT: Duration = Duration::from_secs(10);

pub(super) async fn run(args: &Asked) -> ExitCode {
    match restore(args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            complain!("querygate: {}", spell_out(&why));
            ExitCode::FAILURE
        }
    }
}

/// Whether all of it was, or could be, restored.
async fn restore(args: &Asked) -> Result<bool, String> {
    let request = args.request.as_deref().unwrap_or_default();
    // It is written into SQL.
    if request.is_empty() || !request.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(format!("`{}` is no request", one_line(request)));
    }
    let client = connect(args.gate.as_deref().unwrap_or_default()).await?;
    if let Some(reason) = &args.reason {
        let reason = reason.replace('\'', "''").replace('\\', "/");
        told(client.simple_query(&format!("SET querygate.reason = '{reason}'")).await)?;
    }
    let sql = format!("SELECT * FROM querygate_undo.restore('{request}', {}, {})", args.all_or_nothing, args.dry_run);
    let rows = told(client.simple_query(&sql).await)?;
    let mut complete = true;
    for row in rows {
        let SimpleQueryMessage::Row(row) = row else { continue };
        let cell = |at: usize| row.try_get(at).ok().flatten().map(one_line).unwrap_or_default();
        let (table, text, outcome) = (cell(0), cell(1), cell(2));
        complete &= !outcome.starts_with("conflict");
        say!("{}", spell_out(format!("{table} {text}").trim_end()));
        say!("    {}", spell_out(&outcome));
    }
    Ok(complete)
}

fn told<T>(answer: Result<T, tokio_postgres::Error>) -> Result<T, String> {
    answer.map_err(|error| match error.as_db_error() {
        Some(said) => {
            let detail = said.detail().map(|detail| format!("\n{detail}")).unwrap_or_default();
            // What the gate or the database's own functions say of it begins with the name that is printed anyway.
            let message = said.message();
            format!("{}{detail}", message.strip_prefix("querygate: ").unwrap_or(message))
        }
        None => error.to_string(),
    })
}

async fn connect(url: &str) -> Result<Client, String> {
    let mut config: tokio_postgres::Config = url.parse().map_err(|error| format!("--gate: {error}"))?;
    let settings = UpstreamSettings {
        host: match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.to_string_lossy().into_owned(),
            None => return Err("--gate names no host".to_owned()),
        },
        port: config.get_ports().first().copied().unwrap_or(5432),
        sslmode: match config.get_ssl_mode() {
            Wanted::Disable => SslMode::Disable,
            Wanted::Require => SslMode::Require,
            Wanted::Prefer | _ => SslMode::Prefer,
        },
        connect_timeout: CONNECT,
        ..UpstreamSettings::default()
    };
    let gate = Upstream::new(&settings, Duration::from_secs(60)).map_err(|error| format!("--gate: {error}"))?;
    let stream = gate.connect().await.map_err(|error| format!("the gate cannot be reached: {error}"))?;
    config.ssl_mode(Wanted::Disable).application_name("querygate undo");
    let (client, mut connection) = told(config.connect_raw(stream, NoTls).await)?;
    tokio::spawn(async move {
        // Its end is seen by whoever asks.
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notice(notice) = message {
                complain!("{}", spell_out(&one_line(notice.message())));
            }
        }
    });
    Ok(client)
}
