//! The measurements. Every round runs all contenders one after the other, each round starting with another one, so that
//! what changes on the machine meanwhile hits all alike.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use proxy_tests::message;
use proxy_tests::postgres::{Cluster, Target};
use proxy_tests::psql::pgbench;
use proxy_tests::raw::Raw;
use querygate::clock;

use crate::contender::{Contender, Kind};
use crate::report::{Report, Row};
use crate::stat::{Usage, summary};
use crate::{Length, Part, Plan};

const DATABASE: &str = "bench";

/// pgbench's workloads: name, arguments.
const WORKLOADS: &[(&str, &[&str])] = &[
    ("select-simple", &["-S", "-M", "simple"]),
    ("select-extended", &["-S", "-M", "extended"]),
    ("select-prepared", &["-S", "-M", "prepared"]),
    ("tpcb-simple", &["-M", "simple"]),
    ("tpcb-prepared", &["-M", "prepared"]),
];

/// Values of one measurement by contender, one per round.
type Values = BTreeMap<Kind, Vec<f64>>;

/// Runs the plan.
pub(crate) fn all(plan: &Plan, cluster: &Cluster) -> Report {
    cluster.admin().rows(&format!("CREATE DATABASE {DATABASE}"));
    let server = cluster.target().with_database(DATABASE);
    pgbench(&server, &["-i", "-q", "-s", &plan.scale.to_string()]).ok();
    let there = |kind: &Kind| *kind != Kind::Earlier || plan.earlier.is_some();
    let chosen = |kind: &Kind| {
        let unasked = plan.contenders.is_empty() && !Kind::VARIANTS.contains(kind);
        matches!(kind, Kind::Direct | Kind::Earlier) || unasked || plan.contenders.contains(kind)
    };
    let wanted = |kind: &Kind| there(kind) && chosen(kind);
    let skipped: Vec<String> = Kind::ALL.into_iter().filter(wanted).filter_map(Kind::missing).collect();
    for line in &skipped {
        eprintln!("{line}");
    }
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(wanted).filter(|kind| kind.missing().is_none()).collect();
    let mut report = Report::new(plan.rounds, &mut cluster.admin(), &kinds, skipped);
    let contenders: Vec<Contender> =
        kinds.iter().map(|kind| Contender::start(*kind, cluster, DATABASE, plan.earlier.as_deref())).collect();
    for contender in &contenders {
        pgbench(&contender.target, &pgbench_arguments(plan, &["-S", "-M", "simple"])).ok();
    }
    let wants = |part| plan.parts.contains(&part);
    if wants(Part::Cpu) {
        cpu(plan, &contenders, &mut report);
    }
    if wants(Part::Latency) {
        latency(plan, &contenders, &mut report);
    }
    if wants(Part::Bulk) {
        bulk(plan, &contenders, &mut report);
    }
    if wants(Part::Connect) {
        connect(plan, &contenders, &mut report);
    }
    drop(contenders);
    if wants(Part::Memory) {
        memory(plan, &kinds, cluster, &mut report);
    }
    report.judge();
    report
}

/// All contenders, beginning with another one each round.
fn rotated(contenders: &[Contender], round: usize) -> impl Iterator<Item = &Contender> {
    let start = round % contenders.len();
    contenders[start..].iter().chain(&contenders[..start])
}

fn row(name: &str, unit: &'static str, values: &Values) -> Row {
    let values = values.iter().filter_map(|(kind, values)| Some((*kind, summary(values)?))).collect();
    Row { name: name.to_owned(), unit, values }
}

fn pgbench_arguments<'a>(plan: &Plan, workload: &[&'a str]) -> Vec<&'a str> {
    // Formatted numbers live as long as the program: there are a handful.
    let text = |number: u64| -> &'static str { Box::leak(number.to_string().into_boxed_str()) };
    let mut arguments = vec!["-n", "-c", text(plan.clients as u64), "-j", "2"];
    match plan.length {
        Length::Time(time) => arguments.extend(["-T", text(time.as_secs())]),
        Length::TransactionsPerClient(count) => arguments.extend(["-t", text(count as u64)]),
    }
    arguments.extend(workload);
    arguments
}

/// Proxy CPU per transaction.
fn cpu(plan: &Plan, contenders: &[Contender], report: &mut Report) {
    for (name, workload) in WORKLOADS {
        let (mut cpu, mut rate) = (Values::new(), Values::new());
        for round in 0..plan.rounds {
            for contender in rotated(contenders, round) {
                let before = contender.usage().cpu;
                let said = pgbench(&contender.target, &pgbench_arguments(plan, workload)).ok();
                let spent = contender.usage().cpu.saturating_sub(before);
                let transactions: f64 = number_after(&said, "number of transactions actually processed: ");
                rate.entry(contender.kind).or_default().push(number_after(&said, "tps = "));
                if contender.kind != Kind::Direct {
                    cpu.entry(contender.kind).or_default().push(spent.as_secs_f64() * 1e6 / transactions);
                }
            }
        }
        report.rows.push(row(&format!("cpu-{name}"), "µs/tx", &cpu));
        report.rows.push(row(&format!("tps-{name}"), "tx/s", &rate));
    }
}

fn number_after(text: &str, label: &str) -> f64 {
    let rest = text.split_once(label).unwrap_or_else(|| panic!("pgbench said no {label:?}:\n{text}")).1;
    rest.split(|c: char| c.is_whitespace() || c == '/').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Added median latency of one client that waits for each answer.
fn latency(plan: &Plan, contenders: &[Contender], report: &mut Report) {
    const CHUNK: usize = 50;
    let ask = message::query("SELECT abalance FROM pgbench_accounts WHERE aid = 4711");
    let mut clients: Vec<(Kind, Raw)> =
        contenders.iter().map(|contender| (contender.kind, Raw::login(&contender.target))).collect();
    let mut added = Values::new();
    for _ in 0..plan.rounds {
        let mut samples = Values::new();
        for _ in 0..plan.latency_samples.div_ceil(CHUNK) {
            for (kind, client) in &mut clients {
                let samples = samples.entry(*kind).or_default();
                for _ in 0..CHUNK {
                    let start = clock::now();
                    client.send(&ask);
                    client.until(b'Z');
                    samples.push(clock::now().duration_since(start).as_secs_f64() * 1e6);
                    client.transcript.clear();
                }
            }
        }
        let median = |kind| summary(&samples[&kind]).expect("samples were taken").median;
        for (kind, _) in &clients {
            if *kind != Kind::Direct {
                added.entry(*kind).or_default().push(median(*kind) - median(Kind::Direct));
            }
        }
    }
    report.rows.push(row("added-p50", "µs", &added));
}

/// CPU of large results: many narrow rows, and fewer wide ones.
fn bulk(plan: &Plan, contenders: &[Contender], report: &mut Report) {
    let wide = format!("SELECT repeat('x', 1000) FROM generate_series(1, {})", plan.wide_rows);
    for (name, sql) in [("bulk-narrow", "SELECT * FROM pgbench_accounts"), ("bulk-wide", &wide)] {
        let mut values = Values::new();
        for round in 0..plan.rounds {
            for contender in rotated(contenders, round).filter(|contender| contender.kind != Kind::Direct) {
                let mut client = Pump::login(&contender.target);
                let before = contender.usage().cpu;
                let bytes = client.query(sql);
                let spent = contender.usage().cpu.saturating_sub(before);
                values.entry(contender.kind).or_default().push(spent.as_secs_f64() * 1e3 / (bytes as f64 / 1e8));
            }
        }
        report.rows.push(row(name, "ms/100 MB", &values));
    }
}

/// CPU of a connection that does nothing else, from connect to its end.
fn connect(plan: &Plan, contenders: &[Contender], report: &mut Report) {
    let mut values = Values::new();
    for round in 0..plan.rounds {
        for contender in rotated(contenders, round).filter(|contender| contender.kind != Kind::Direct) {
            let before = contender.usage().cpu;
            for _ in 0..plan.connects {
                let mut client = Raw::login(&contender.target);
                client.send(message::terminate());
                client.until_eof();
            }
            let spent = contender.usage().cpu.saturating_sub(before);
            values.entry(contender.kind).or_default().push(spent.as_secs_f64() * 1e6 / plan.connects as f64);
        }
    }
    report.rows.push(row("new-connection", "µs", &values));
}

/// Resident memory per open connection, on processes that did nothing before but warm up.
fn memory(plan: &Plan, kinds: &[Kind], cluster: &Cluster, report: &mut Report) {
    let (mut idle, mut burst) = (Values::new(), Values::new());
    for _ in 0..plan.rounds.min(3) {
        for kind in kinds.iter().filter(|kind| **kind != Kind::Direct) {
            let contender = Contender::start(*kind, cluster, DATABASE, plan.earlier.as_deref());
            warm_up(&contender.target);
            let base = contender.usage();
            let mut clients: Vec<Raw> = (0..plan.connections).map(|_| Raw::login(&contender.target)).collect();
            for client in &mut clients {
                client.rows("SELECT 1");
            }
            idle.entry(*kind).or_default().push(per_connection(contender.usage(), base, plan));
            for client in &mut clients {
                both_ways(client);
            }
            burst.entry(*kind).or_default().push(per_connection(contender.usage(), base, plan));
        }
    }
    report.rows.push(row("idle-memory", "KiB/connection", &idle));
    report.rows.push(row("burst-memory", "KiB/connection", &burst));
}

/// Code pages, caches and first buffers, which are not a connection's.
fn warm_up(target: &Target) {
    let mut clients: Vec<Raw> = (0..8).map(|_| Raw::login(target)).collect();
    for client in &mut clients {
        client.rows("SELECT 1");
        both_ways(client);
        client.send(message::terminate());
        client.until_eof();
    }
}

/// 100 KB to the server and 100 KB back.
fn both_ways(client: &mut Raw) {
    let rows = client.rows(&format!("SELECT repeat('y', length('{}'))", "x".repeat(100_000)));
    assert_eq!(rows[0][0].as_ref().map(String::len), Some(100_000));
    client.transcript.clear();
}

fn per_connection(now: Usage, base: Usage, plan: &Plan) -> f64 {
    (now.resident - base.resident) / plan.connections as f64
}

/// A client that counts bytes instead of cutting messages, so that it is not what limits the flow.
struct Pump(TcpStream);

impl Pump {
    fn login(target: &Target) -> Pump {
        let stream = TcpStream::connect((target.host.as_str(), target.port)).expect("the contender accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a read deadline can be set");
        let mut pump = Pump(stream);
        pump.send(&message::startup(&[("user", &target.user), ("database", &target.database)]));
        pump
    }

    /// Sends and reads to `ReadyForQuery`; how many bytes came.
    fn send(&mut self, bytes: &[u8]) -> usize {
        const READY: &[u8] = b"Z\0\0\0\x05I";
        self.0.write_all(bytes).expect("the contender reads");
        let mut buffer = vec![0; 256 * 1024];
        let mut end = Vec::new();
        let mut total = 0;
        loop {
            let read = self.0.read(&mut buffer).expect("an answer within the deadline");
            assert!(read > 0, "the contender closed the connection");
            total += read;
            end.extend_from_slice(&buffer[read.saturating_sub(READY.len())..read]);
            end.drain(..end.len().saturating_sub(READY.len()));
            if end == READY {
                return total;
            }
        }
    }

    fn query(&mut self, sql: &str) -> usize {
        self.send(&message::query(sql))
    }
}
