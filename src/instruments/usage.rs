//! What the machine is, and what this process takes of it.

use std::time::Duration;
use std::{fs, io};

use serde_json::{Value, json};

/// Prefixes of the names of the engine's own threads.
const ENGINE_THREADS: [&str; 4] = ["fp-read", "fp-dispatch", "fp-work", "fp-commit"];

/// CPU time of the engine's threads so far, in milliseconds. Linux only; 0 elsewhere.
pub fn engine_cpu_ms() -> f64 {
    let times = cpu_of_threads(ENGINE_THREADS).unwrap_or_default();
    times.iter().map(Duration::as_secs_f64).sum::<f64>() * 1000.0
}

/// CPU time of this process' threads so far, summed by the prefix of their names.
///
/// # Errors
/// If the system has no `/proc/self/task`, or its `schedstat` has no time.
pub fn cpu_of_threads<const N: usize>(prefixes: [&str; N]) -> io::Result<[Duration; N]> {
    let mut sums = [Duration::ZERO; N];
    for task in fs::read_dir("/proc/self/task")?.flatten() {
        // A thread may end at any moment.
        let Ok(name) = fs::read_to_string(task.path().join("comm")) else { continue };
        let Some(place) = prefixes.iter().position(|prefix| name.starts_with(prefix)) else {
            continue;
        };
        let Ok(schedstat) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let nanos = schedstat.split(' ').next().and_then(|text| text.parse().ok());
        sums[place] += Duration::from_nanos(nanos.ok_or(io::ErrorKind::InvalidData)?);
    }
    Ok(sums)
}

/// Peak resident memory of this process in bytes. Linux only; 0 elsewhere.
pub fn rss_bytes_max() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// A short description of the machine.
pub fn machine() -> Value {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let system = rustix::system::uname();
    json!({
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "cores": crate::base::threads::parallelism(),
        "system": format!(
            "{} {}",
            system.sysname().to_string_lossy(),
            system.release().to_string_lossy()
        ),
        "architecture": std::env::consts::ARCH,
    })
}
