//! Time and memory, as the system counts them, and waiting.

use std::fs;
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until a condition holds.
pub(crate) fn until(what: &str, mut is_met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_met() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        // Between two looks: streams in memory have nothing that this thread could wait on.
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Returns the resident memory of this process in bytes.
pub(crate) fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

/// Returns the CPU time that the threads of a name have taken.
pub(crate) fn cpu_of(name: &str) -> Duration {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    let nanos = threads.flatten().filter_map(|thread| {
        let its_name = fs::read_to_string(thread.path().join("comm")).ok()?;
        let times = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let is_it = its_name.trim_end() == name;
        is_it.then(|| times.split(' ').next()?.parse::<u64>().ok())?
    });
    Duration::from_nanos(nanos.sum())
}

/// Returns the load averages of the machine.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Returns the time within which so many of a hundred are; sorts them.
pub(crate) fn percentile(times: &mut [Duration], part: usize) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get(last * part / 100).copied().unwrap_or_default()
}

pub(crate) const fn mib(bytes: usize) -> usize {
    bytes >> 20
}
