//! The benchmark command works; what it measures is nobody's business here.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::process::Command;

use proxy_tests::process::binary_dir;
use serde_json::Value;

const MEASUREMENTS: &[&str] = &[
    "cpu-select-simple",
    "cpu-select-extended",
    "cpu-select-prepared",
    "cpu-tpcb-simple",
    "cpu-tpcb-prepared",
    "bulk-narrow",
    "bulk-wide",
    "new-connection",
];

#[test]
fn a_quick_benchmark_measures_every_contender() {
    let output = Command::new(binary_dir().join("bench"))
        .args(["--quick", "--format", "json", "--earlier"])
        .arg(binary_dir().join("bench"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let skipped = report["skipped"].as_array().unwrap();
    let contenders: Vec<&str> = ["relay", "querygate", "earlier", "pgbouncer", "haproxy"]
        .into_iter()
        .filter(|name| !skipped.iter().any(|line| line.as_str().unwrap().to_lowercase().starts_with(name)))
        .collect();
    assert!(contenders.contains(&"querygate") && contenders.contains(&"relay"), "ours are never skipped");
    let rows = report["rows"].as_array().unwrap();
    for name in MEASUREMENTS {
        let row = rows.iter().find(|row| row["name"] == *name).unwrap_or_else(|| panic!("no row {name}"));
        for contender in &contenders {
            let median =
                row["values"][contender]["median"].as_f64().unwrap_or_else(|| panic!("{name}: no {contender}"));
            assert!(median.is_finite() && median > 0.0, "{name}: {contender} spent {median}");
        }
    }
    assert!(report["verdicts"].as_array().unwrap().len() >= 7, "{}", report["verdicts"]);
}
