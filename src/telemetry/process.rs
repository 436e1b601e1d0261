//! What the kernel says about this process (`/proc`, Linux). Elsewhere there is nothing and the metrics are left out.

use std::fs;

use crate::telemetry::names::Metric;

/// Clock ticks of `/proc/self/stat`: USER_HZ is 100 on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Numbers of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process {
    resident_bytes: f64,
    cpu_seconds: f64,
    open_fds: f64,
    fds_max: f64,
    threads: f64,
    started_at: f64,
}

impl Process {
    /// The value of a process metric.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::ProcessResident => Some(self.resident_bytes),
            Metric::ProcessCpu => Some(self.cpu_seconds),
            Metric::ProcessFds => Some(self.open_fds),
            Metric::ProcessFdsMax => Some(self.fds_max),
            Metric::ProcessThreads => Some(self.threads),
            Metric::ProcessStart => Some(self.started_at),
            _ => None,
        }
    }
}

/// Reads them; `None` where there is no `/proc`.
pub fn read() -> Option<Process> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    // The second field is the program's name in parentheses and may hold anything; count from behind it (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<f64>().ok()
    };
    let booted = fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("btime ").and_then(|text| text.trim().parse::<f64>().ok())))
        .unwrap_or(0.0);
    Some(Process {
        resident_bytes: kib("VmRSS").unwrap_or(0.0) * 1024.0,
        cpu_seconds: (field(14) + field(15)) / TICKS_PER_SECOND,
        open_fds: fs::read_dir("/proc/self/fd").map_or(0.0, |entries| entries.count() as f64),
        fds_max: fds_max(),
        threads: field(20),
        started_at: booted + field(22) / TICKS_PER_SECOND,
    })
}

fn fds_max() -> f64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::expect_used)]

    #[test]
    fn the_kernel_knows_this_process() {
        let process = super::read().expect("/proc");
        assert!(process.resident_bytes > 100_000.0 && process.open_fds >= 3.0 && process.threads >= 1.0);
        assert!(process.started_at > 1_500_000_000.0 && process.fds_max >= 64.0, "{process:?}");
    }
}
