//! What judging costs: a text seen before, a text of a known shape, a text never seen, from 5 bytes to 1 MB.
//!
//! `cargo bench --bench judge`. The promise: a text seen before, up to 200 bytes long, in at most 0.3 µs. The
//! byte copy beside each look-up is the reference of the same run: what merely touching the text costs.

#![allow(clippy::arithmetic_side_effects)]

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use querygate::judge::{Facts, Judge, JudgeCache, Limits, NothingPrepared, Parts, Policy, Rego, RegoParts, analyse};
use querygate::server::evaluator::{self, Evaluator};

/// Deep trees are walked by recursion; sessions have the same.
const STACK_BYTES: usize = 256 << 20;

fn texts() -> Vec<(&'static str, String)> {
    let point = "SELECT abalance FROM pgbench_accounts WHERE aid = 934562;";
    let columns = "\"order\".\"id\", \"order\".\"customer_id\", \"order\".\"created_at\", \"order\".\"state\"";
    let orm = format!(
        "SELECT {columns} FROM \"order\" WHERE \"order\".\"customer_id\" = 4711 AND \"order\".\"state\" = 'open' LIMIT 21"
    );
    let wide: Vec<String> = (0..120).map(|n| format!("\"t\".\"column_{n}\"")).collect();
    let list: Vec<String> = (0..12_000).map(|n| (100_000 + n).to_string()).collect();
    let rows: Vec<String> = (0..25_000).map(|n| format!("({n}, 'name of row {n}', {n}.5)")).collect();
    vec![
        ("BEGIN", "BEGIN".to_owned()),
        ("point select", point.to_owned()),
        ("update", "UPDATE pgbench_accounts SET abalance = abalance + -4242 WHERE aid = 1817;".to_owned()),
        ("prepared", "SELECT abalance FROM pgbench_accounts WHERE aid = $1".to_owned()),
        ("ORM", orm),
        ("ORM wide", format!("SELECT {} FROM \"t\" WHERE \"t\".\"id\" = 5", wide.join(", "))),
        ("IN list", format!("SELECT * FROM t WHERE id IN ({})", list.join(","))),
        ("long literal", format!("INSERT INTO t VALUES (1, '{}')", "x".repeat(1 << 20))),
        ("INSERT of many rows", format!("INSERT INTO t VALUES {}", rows.join(","))),
    ]
}

fn seen_before(c: &mut Criterion) {
    let judge = Judge::new(Arc::new(Policy::shipped()));
    let class = judge.class(&Facts {
        user: "app",
        database: "shop",
        application_name: "pgbench",
        client_addr: None,
        ..Facts::default()
    });
    let mut group = c.benchmark_group("seen before");
    for (name, text) in texts().iter().filter(|(_, text)| text.len() <= 16 << 10) {
        let mut cache = JudgeCache::new(16 << 20);
        judge.judge(&mut cache, text.as_bytes(), &class, false, &NothingPrepared);
        let name = format!("{name}, {} bytes", text.len());
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::new("verdict", &name), text, |b, text| {
            b.iter(|| judge.known(&mut cache, black_box(text.as_bytes()), &class, false, &NothingPrepared));
        });
        let mut copy = Vec::new();
        group.bench_with_input(BenchmarkId::new("copy", &name), text, |b, text| {
            b.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(text.as_bytes()));
                black_box(copy.len())
            });
        });
    }
    group.finish();
}

fn other_literals(c: &mut Criterion) {
    let judge = Judge::new(Arc::new(Policy::shipped()));
    let class = judge.class(&Facts {
        user: "app",
        database: "shop",
        application_name: "pgbench",
        client_addr: None,
        ..Facts::default()
    });
    let mut cache = JudgeCache::new(16 << 20);
    let texts: Vec<String> = (0..4096)
        .map(|n| format!("SELECT abalance FROM pgbench_accounts WHERE aid = {};", n * 7919 % 1_000_000))
        .collect();
    let mut next = texts.iter().cycle();
    c.bench_function("seen with other literals", |b| {
        b.iter(|| {
            let text = next.next().map_or("", String::as_str);
            black_box(judge.judge(&mut cache, text.as_bytes(), &class, false, &NothingPrepared))
        });
    });
}

fn never_seen(c: &mut Criterion) {
    let judge = Judge::new(Arc::new(Policy::shipped()));
    let class = judge.class(&Facts {
        user: "app",
        database: "shop",
        application_name: "pgbench",
        client_addr: None,
        ..Facts::default()
    });
    let mut group = c.benchmark_group("never seen");
    for (name, text) in &texts() {
        group.sample_size(if text.len() > 16 << 10 { 10 } else { 50 });
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(
            BenchmarkId::from_parameter(format!("{name}, {} bytes", text.len())),
            text,
            |b, text| {
                b.iter(|| class.decide(&judge.analyse(black_box(text.as_bytes())), false, &NothingPrepared));
            },
        );
    }
    group.finish();
}

/// Deciding what is known of a text, with no verdict remembered: the rules of a recipe, and a policy in Rego that says the same.
fn deciding(c: &mut Criterion) {
    const RULES: &str = r#"
        [[rule]]
        name = "no-drops-in-shop"
        action = "reject"
        effects = ["drop", "truncate"]
        objects = ["shop.*"]
        [[rule]]
        name = "money"
        action = "hold"
        effects = ["insert", "update", "delete", "merge"]
        objects = ["shop.payments", "shop.refunds"]
        [[rule]]
        name = "prices"
        action = "hold"
        effects = ["insert", "update", "merge"]
        objects = ["shop.products"]
        columns = ["price", "*_price"]
    "#;
    let recipe = include_str!("../docs/rego.md").split("```rego\n").nth(1).and_then(|rest| rest.split("```").next());
    let modules = vec![("policy.rego".to_owned(), recipe.unwrap_or_default().to_owned())];
    let parts = RegoParts { modules, limit: Duration::from_secs(1), memory: 64 << 20, ..RegoParts::default() };
    let rego = Rego::new(&parts);
    // As in a gate: in a process of its own, which is this benchmark again.
    let apart = Evaluator::start(&parts).and_then(|evaluator| Rego::with(&parts, Box::new(evaluator)));
    let shipped = || Policy::shipped().rules().cloned().collect::<Vec<_>>();
    let own = Policy::from_toml(RULES).map(|policy| policy.rules().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let rules = Policy::of(Parts { rules: own.into_iter().chain(shipped()).collect(), ..Parts::default() });
    let rego = Policy::of(Parts { rules: shipped(), rego: rego.ok().map(Arc::new), ..Parts::default() });
    let apart = Policy::of(Parts { rules: shipped(), rego: apart.ok().map(Arc::new), ..Parts::default() });
    let (Ok(rules), Ok(rego), Ok(apart)) = (rules, rego, apart) else { return };
    assert!(rego.rego().is_some() && apart.rego().is_some(), "the recipe is valid");
    let facts = Facts { user: "app", database: "shop", ..Facts::default() };
    let (rules, rego, apart) = (rules.class(&facts), rego.class(&facts), apart.class(&facts));
    // More than are remembered, so that each is evaluated.
    let all: Vec<_> = (0..30_000)
        .map(|n| analyse(format!("UPDATE t{n} SET note = 'x' WHERE id = 1").as_bytes(), &Limits::default()))
        .collect();
    let mut group = c.benchmark_group("deciding");
    for (name, class, among) in [
        ("rules", &rules, 30_000),
        ("rego, remembered", &rego, 1),
        ("rego, evaluated in this process", &rego, 30_000),
        ("rego, evaluated", &apart, 30_000),
    ] {
        let mut next = all.iter().take(among).cycle();
        group.bench_function(name, |b| {
            b.iter(|| next.next().map(|analysis| black_box(class.decide(analysis, false, &NothingPrepared))));
        });
    }
    group.finish();
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some(evaluator::SUBCOMMAND) {
        return evaluator::serve().unwrap_or_else(|error| eprintln!("{error}"));
    }
    let run = || {
        let mut criterion = Criterion::default()
            .configure_from_args()
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        seen_before(&mut criterion);
        other_literals(&mut criterion);
        never_seen(&mut criterion);
        deciding(&mut criterion);
        criterion.final_summary();
    };
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(run);
    if thread.map(thread::JoinHandle::join).is_err() {
        eprintln!("no thread to measure on");
    }
}
