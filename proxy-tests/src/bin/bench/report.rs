//! What came out: a table with ratios, and a verdict on every target.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use proxy_tests::raw::Raw;
use serde::Serialize;

use crate::contender::Kind;
use crate::stat::Summary;

/// One measurement of all contenders.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) values: BTreeMap<Kind, Summary>,
}

/// A target and whether it was met.
#[derive(Debug, Serialize)]
struct Judged {
    target: String,
    measured: f64,
    limit: f64,
    met: bool,
}

/// Everything a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    date: String,
    machine: String,
    build: &'static str,
    versions: Vec<String>,
    rounds: usize,
    skipped: Vec<String>,
    pub(crate) rows: Vec<Row>,
    verdicts: Vec<Judged>,
}

/// What a measurement of querygate is held against.
enum Limit {
    Fixed(f64),
    Times(f64, Kind),
}

const TARGETS: &[(&str, Limit)] = &[
    ("cpu-select-simple", Limit::Times(1.0, Kind::Pgbouncer)),
    ("cpu-select-extended", Limit::Times(1.0, Kind::Pgbouncer)),
    ("cpu-select-prepared", Limit::Times(1.0, Kind::Pgbouncer)),
    ("cpu-select-simple", Limit::Times(1.2, Kind::Relay)),
    ("cpu-select-extended", Limit::Times(1.2, Kind::Relay)),
    ("cpu-select-prepared", Limit::Times(1.2, Kind::Relay)),
    ("cpu-select-simple", Limit::Times(1.0, Kind::Haproxy)),
    ("cpu-select-prepared", Limit::Times(1.0, Kind::Haproxy)),
    ("bulk-narrow", Limit::Fixed(110.0)),
    ("bulk-wide", Limit::Fixed(110.0)),
    ("idle-memory", Limit::Fixed(4.0)),
    ("burst-memory", Limit::Fixed(5.0)),
    ("new-connection", Limit::Fixed(200.0)),
];

impl Report {
    pub(crate) fn new(rounds: usize, server: &mut Raw, kinds: &[Kind], skipped: Vec<String>) -> Report {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown CPU", |(_, model)| model);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let versions = std::iter::once(format!("PostgreSQL {}", server.value("SHOW server_version")))
            .chain(kinds.iter().filter_map(|kind| kind.version()))
            .collect();
        Report {
            date: querygate::clock::wall().to_string().chars().take(10).collect(),
            machine: format!("{cores} × {model}, Linux {}", kernel.trim()),
            build: if cfg!(debug_assertions) { "debug: the numbers mean nothing" } else { "release" },
            versions,
            rounds,
            skipped,
            rows: Vec::new(),
            verdicts: Vec::new(),
        }
    }

    /// Fills in the verdicts for what was measured.
    pub(crate) fn judge(&mut self) {
        for (name, limit) in TARGETS {
            let Some(row) = self.rows.iter().find(|row| row.name == *name) else { continue };
            let Some(measured) = row.values.get(&Kind::Querygate) else { continue };
            let (limit, what) = match limit {
                Limit::Fixed(limit) => (*limit, format!("{limit} {}", row.unit)),
                Limit::Times(factor, kind) => {
                    let Some(other) = row.values.get(kind) else { continue };
                    (factor * other.median, format!("{factor} × {} ({:.1})", kind.name(), other.median))
                }
            };
            self.verdicts.push(Judged {
                target: format!("{name} at most {what}"),
                measured: measured.median,
                limit,
                met: measured.median <= limit,
            });
        }
    }

    fn head(&self) -> Vec<String> {
        let mut lines = vec![
            format!("{}, {}", self.date, self.machine),
            format!(
                "{}; {} build; medians of {} rounds (lowest–highest)",
                self.versions.join(", "),
                self.build,
                self.rounds
            ),
        ];
        lines.extend(self.skipped.iter().cloned());
        lines
    }

    /// Header and cells, as both renderings print them.
    fn table(&self) -> Vec<Vec<String>> {
        let measured = |kind: &Kind| self.rows.iter().any(|row| row.values.contains_key(kind));
        let shown: Vec<Kind> = Kind::ALL.into_iter().filter(measured).collect();
        let others = [Kind::Relay, Kind::Pgbouncer, Kind::Earlier].into_iter().filter(measured);
        let ratios = others.map(|other| (Kind::Querygate, other));
        let variants = Kind::VARIANTS.into_iter().filter(measured).map(|variant| (variant, Kind::Querygate));
        let ratios: Vec<(Kind, Kind)> = ratios.chain(variants).collect();
        let mut head = vec!["measurement".to_owned()];
        head.extend(shown.iter().map(|kind| kind.name().to_owned()));
        head.extend(ratios.iter().map(|(of, to)| format!("{} ÷ {}", of.name(), to.name())));
        let mut table = vec![head];
        for row in &self.rows {
            let mut cells = vec![format!("{}, {}", row.name, row.unit)];
            cells.extend(shown.iter().map(|kind| row.values.get(kind).map_or_else(|| "–".to_owned(), show)));
            cells.extend(ratios.iter().map(|(of, to)| {
                let ratio = row.values.get(of).zip(row.values.get(to)).map(|(of, to)| of.median / to.median);
                ratio.filter(|ratio| ratio.is_finite()).map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
            }));
            table.push(cells);
        }
        table
    }

    fn verdict_table(&self) -> Vec<Vec<String>> {
        let mut table = vec![["target for querygate", "measured", "verdict"].map(str::to_owned).to_vec()];
        for judged in &self.verdicts {
            let verdict = if judged.met { "met" } else { "MISSED" };
            table.push(vec![judged.target.clone(), format!("{:.1}", judged.measured), verdict.to_owned()]);
        }
        table
    }

    /// For terminals.
    pub(crate) fn text(&self) -> String {
        format!("{}\n\n{}\n{}", self.head().join("\n"), aligned(&self.table()), aligned(&self.verdict_table()))
    }

    /// For documents.
    pub(crate) fn markdown(&self) -> String {
        format!("{}\n\n{}\n{}", self.head().join("  \n"), piped(&self.table()), piped(&self.verdict_table()))
    }
}

fn show(value: &Summary) -> String {
    if value.median >= 1000.0 {
        format!("{:.0} ({:.0}–{:.0})", value.median, value.min, value.max)
    } else {
        format!("{:.1} ({:.1}–{:.1})", value.median, value.min, value.max)
    }
}

fn aligned(table: &[Vec<String>]) -> String {
    let mut text = String::new();
    let columns = table.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    for row in table {
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(text, "{cell:<width$}  ", width = widths[column]);
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn piped(table: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (index, row) in table.iter().enumerate() {
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if index == 0 {
            let _ = writeln!(text, "|{}", " --- |".repeat(row.len()));
        }
    }
    text
}
