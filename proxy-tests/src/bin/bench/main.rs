//! The benchmark: what the gate costs beside a plain relay, PgBouncer and HAProxy, all measured in one run.
//!
//! `cargo run --release -p proxy-tests --bin bench` — see `proxy-tests/docs/benchmark.md` for the method. Absolute times of
//! pgbench mislead here, because client, proxy and server share the cores; so the proxies' own CPU time is what counts.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot be made ends the program; counts fit an f64"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use proxy_tests::postgres::Cluster;
use querygate::server::evaluator;

use contender::Kind;

mod contender;
mod measure;
mod relay;
mod report;
mod stat;

/// Measures querygate against a plain relay, PgBouncer, HAProxy and no proxy.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// A smoke run of a few seconds: shows that everything works, its numbers mean nothing.
    #[arg(long)]
    quick: bool,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// How often every measurement is repeated; medians are reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one pgbench run.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// pgbench's clients.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Connections held open for the memory measurement.
    #[arg(long, default_value_t = 400)]
    connections: usize,
    /// Only these measurements.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Only these contenders (and direct connections). `recording`, `impact` and `rego` are measured only if named.
    #[arg(long, value_enum, value_delimiter = ',')]
    contenders: Vec<Kind>,
    /// An earlier build of this program, whose gate is measured beside this one's.
    #[arg(long)]
    earlier: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Markdown,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Cpu,
    Latency,
    Bulk,
    Memory,
    Connect,
}

/// The size of a run.
#[derive(Debug, Clone)]
struct Plan {
    rounds: usize,
    length: Length,
    clients: usize,
    scale: usize,
    latency_samples: usize,
    wide_rows: usize,
    connections: usize,
    connects: usize,
    parts: Vec<Part>,
    contenders: Vec<Kind>,
    earlier: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
enum Length {
    Time(Duration),
    TransactionsPerClient(usize),
}

impl Plan {
    fn new(args: &Args) -> Plan {
        let all = [Part::Cpu, Part::Latency, Part::Bulk, Part::Memory, Part::Connect];
        let parts = if args.only.is_empty() { all.to_vec() } else { args.only.clone() };
        if args.quick {
            return Plan {
                rounds: 1,
                length: Length::TransactionsPerClient(150),
                clients: 4,
                scale: 1,
                latency_samples: 50,
                wide_rows: 5_000,
                connections: 10,
                connects: 20,
                parts,
                contenders: args.contenders.clone(),
                earlier: args.earlier.clone(),
            };
        }
        Plan {
            rounds: args.rounds,
            length: Length::Time(Duration::from_secs(args.seconds)),
            clients: args.clients,
            scale: 10,
            latency_samples: 2_000,
            wide_rows: 100_000,
            connections: args.connections,
            connects: 1_000,
            parts,
            contenders: args.contenders.clone(),
            earlier: args.earlier.clone(),
        }
    }
}

fn main() -> ExitCode {
    // The same file also runs the relay and the gate, each in a process of its own.
    match std::env::args().nth(1).as_deref() {
        Some("serve" | evaluator::SUBCOMMAND) => return querygate::cli::main(),
        Some("relay") => return relay::main(),
        _ => (),
    }
    let args = Args::parse();
    let plan = Plan::new(&args);
    // Both legs of every connection are descriptors, ours and the proxies'.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let cluster = Cluster::builder()
        .setting("max_connections", &(plan.connections + 100).to_string())
        .setting("shared_buffers", "256MB")
        .setting("max_wal_size", "4GB")
        .start();
    let report = measure::all(&plan, &cluster);
    match args.format {
        Format::Text => print!("{}", report.text()),
        Format::Markdown => print!("{}", report.markdown()),
        Format::Json => println!("{}", serde_json::to_string_pretty(&report).expect("plain data")),
    }
    ExitCode::SUCCESS
}
