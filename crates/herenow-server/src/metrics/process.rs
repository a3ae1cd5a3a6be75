//! What the system says of this process, where it has a `/proc`.

use std::fs;

/// Ticks of the processor's time in a second, as Linux shows them to every program.
const TICKS_PER_SECOND: f64 = 100.0;

/// What this process uses.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Process {
    /// Memory that is in use, in bytes.
    pub(super) resident_bytes: u64,
    /// Time of the processor, of all threads.
    pub(super) cpu_seconds: f64,
}

impl Process {
    /// Reads what there is; zeros where there is nothing.
    pub(super) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self {
            resident_bytes: resident_bytes(&status).unwrap_or_default(),
            cpu_seconds: cpu_seconds(&stat).unwrap_or_default(),
        }
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// User's and system's time are the twelfth and thirteenth field after the program's name, which
/// is in parentheses and may have any character in it.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = ticks.filter_map(|ticks| ticks.parse().ok()).collect();
    (ticks.len() == 2).then(|| ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_847_memory_and_time_are_read_from_what_linux_shows() {
        let status = "Name:\therenow\nVmHWM:\t    9000 kB\nVmRSS:\t    1234 kB\nThreads:\t9\n";
        assert_eq!(resident_bytes(status), Some(1234 * 1024));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        let stat = "7 (a) (b) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 9 0 100 1 2";
        assert_eq!(cpu_seconds(stat), Some(1.75));
        assert_eq!(cpu_seconds(""), None);
    }
}
