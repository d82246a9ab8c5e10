//! What the kernel says of a process, and medians.

use std::fs;
use std::time::Duration;

use proxy_tests::process::resident_kib;
use serde::Serialize;

/// CPU time and memory of a process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// User and system time of all its threads.
    pub(crate) cpu: Duration,
    /// Resident memory, KiB.
    pub(crate) resident: f64,
}

impl Usage {
    /// Reads it from `/proc/PID`.
    pub(crate) fn of(pid: u32) -> Usage {
        let cpu = scheduled(pid).unwrap_or_else(|| ticked(pid));
        Usage { cpu, resident: resident_kib(pid) as f64 }
    }
}

/// User and system time in nanoseconds: the first field of every thread's `schedstat`, where the kernel keeps it.
fn scheduled(pid: u32) -> Option<Duration> {
    let mut nanoseconds = 0_u64;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread may end between the listing and the reading.
        let Ok(schedstat) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        nanoseconds += schedstat.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
}

/// The same in hundredths of a second: fields 14 and 15 of `stat`.
fn ticked(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The second field, a name in parentheses, may contain anything.
    let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    // USER_HZ is 100 on every architecture Linux runs on today.
    Duration::from_millis(ticks * 10)
}

/// Median and extremes of a few values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// `None` for no values.
pub(crate) fn summary(values: &[f64]) -> Option<Summary> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    let median = if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[middle - 1], upper) };
    Some(Summary { median, min: *sorted.first()?, max: *sorted.last()? })
}
