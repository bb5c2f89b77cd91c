//! Judges this machine: processor, cores, memory and kernel settings.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::{Resource, getrlimit};

use super::finding::Finding;
use crate::base::threads;
use crate::cli::output::human_bytes;
use crate::config::{Config, Pin};
use crate::engine::Plan;
use crate::image;

/// Open files other than connections: the log, the configuration, the statistics server and its
/// clients.
const FILES_BESIDE: u64 = 64;

/// Facts about this machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// Why the codecs do not run on this processor, if so.
    pub(super) codecs_refused: Option<String>,
    /// SIMD extensions of the processor that a codec could use.
    pub(super) simd: Vec<&'static str>,
    /// The cores this process may run on.
    pub(super) cores: Vec<usize>,
    /// How many of them it may use at once; a quota may allow fewer.
    pub(super) parallelism: usize,
    /// Memory this process may use, in bytes: the machine's, or the limit of its control group.
    pub(super) memory_bytes: Option<u64>,
    /// Maximum number of open files of this process.
    pub(super) files_max: Option<u64>,
    /// Transparent huge pages: always, madvise or never.
    pub(super) huge_pages: Option<String>,
    /// vm.overcommit_memory.
    pub(super) overcommit: Option<u8>,
}

impl Machine {
    /// Collects the facts. What the operating system does not report is left out.
    pub(super) fn look() -> Machine {
        Machine {
            codecs_refused: image::supported_cpu().err().map(|fault| fault.to_string()),
            simd: simd(),
            cores: threads::allowed_cores(),
            parallelism: threads::parallelism(),
            memory_bytes: memory(),
            files_max: getrlimit(Resource::Nofile).current,
            huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|modes| {
                let (_, chosen) = modes.split_once('[')?;
                Some(chosen.split_once(']')?.0.to_owned())
            }),
            overcommit: read("/proc/sys/vm/overcommit_memory")
                .and_then(|text| text.trim().parse().ok()),
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The smaller of the machine's memory and the limit of this control group, v2 or v1.
fn memory() -> Option<u64> {
    let group = read("/proc/self/cgroup").unwrap_or_default();
    let own = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let limit = [
        format!("/sys/fs/cgroup{}/memory.max", own.trim_end_matches('/')),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".into(),
    ]
    .iter()
    .find_map(|path| read(path)?.trim().parse::<u64>().ok());
    let total = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? << 10)
    });
    limit.into_iter().chain(total).min()
}

fn simd() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("SSE2", true),
        ("SSE4.1", std::arch::is_x86_feature_detected!("sse4.1")),
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
    ];
    #[cfg(target_arch = "aarch64")]
    let found = [("NEON", true)];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found: [(&'static str, bool); 0] = [];
    found.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect()
}

/// Judges the machine; `local` says whether Redis runs on it.
pub(super) fn judge(machine: &Machine, plan: &Plan, config: &Config, local: bool) -> Vec<Finding> {
    let mut findings = vec![codecs(machine), cores(machine, plan), pinning(machine, plan, config)];
    findings.extend(memory_fits(machine, plan));
    findings.extend(files(machine, plan));
    if local {
        findings.extend(kernel(machine));
    }
    findings
}

fn codecs(machine: &Machine) -> Finding {
    let code = "machine.codecs";
    if let Some(why) = &machine.codecs_refused {
        return Finding::error(code, why.clone())
            .why("the engine refuses to start rather than die of an illegal instruction")
            .mend("install a build without the feature native-webp");
    }
    let best = machine.simd.last().copied().unwrap_or("no SIMD");
    let webp = if cfg!(feature = "native-webp") {
        best
    } else {
        machine.simd.first().copied().unwrap_or(best)
    };
    let what = format!(
        "codecs: libjpeg-turbo with {best}, libwebp with {webp}; the processor has {}",
        machine.simd.join(", ")
    );
    Finding::ok(code, what)
}

fn cores(machine: &Machine, plan: &Plan) -> Finding {
    let code = "machine.cores";
    let usable = machine.parallelism.min(machine.cores.len()).max(1);
    let quota = if machine.parallelism < machine.cores.len() {
        format!(" (a quota; {} are visible)", machine.cores.len())
    } else {
        String::new()
    };
    let what = format!("{usable} cores may be used{quota}, by {} workers", plan.workers);
    if plan.workers > usable {
        return Finding::warning(code, what)
            .why(
                "with more workers than cores each frame takes longer, and the engine is not \
                 faster",
            )
            .mend("engine.workers: auto");
    }
    Finding::ok(code, what)
}

fn pinning(machine: &Machine, plan: &Plan, config: &Config) -> Finding {
    let code = "machine.pinning";
    if let Pin::Cores(list) = &config.engine.pin {
        let strange: Vec<String> = list
            .iter()
            .filter(|core| !machine.cores.contains(core))
            .map(ToString::to_string)
            .collect();
        if !strange.is_empty() {
            return Finding::warning(
                code,
                format!(
                    "engine.pin names cores that this process cannot use: {}",
                    strange.join(", ")
                ),
            )
            .why("the engine does not pin the threads of these cores")
            .mend(format!("set engine.pin: auto, or cores out of {:?}", machine.cores));
        }
    }
    let threads = &plan.cores;
    let all = [&threads.readers, &threads.dispatchers, &threads.workers, &threads.committers];
    let pinned: Vec<usize> = all.into_iter().flatten().flatten().copied().collect();
    let cores: BTreeSet<usize> = pinned.iter().copied().collect();
    let what = if pinned.is_empty() {
        "no thread is pinned"
    } else if cores.len() == pinned.len() {
        "every thread stays on a core of its own"
    } else {
        "every thread stays on a core, and some share theirs"
    };
    Finding::ok(code, what)
}

fn memory_fits(machine: &Machine, plan: &Plan) -> Option<Finding> {
    let code = "machine.memory";
    let (have, need) = (machine.memory_bytes?, plan.inflight_bytes_max as u64);
    let what =
        format!("{} of memory, up to {} for frames in work", human_bytes(have), human_bytes(need));
    Some(if need > have / 2 {
        Finding::warning(code, what)
            .why("codecs and results need as much again: under load the kernel may kill the engine")
            .mend("lower engine.max_inflight_bytes, or add memory")
    } else {
        Finding::ok(code, what)
    })
}

fn files(machine: &Machine, plan: &Plan) -> Option<Finding> {
    let code = "machine.files";
    let (have, need) = (machine.files_max?, plan.connections_max as u64 + FILES_BESIDE);
    Some(if have < need {
        Finding::warning(
            code,
            format!("the process can open {have} files; the engine may need {need}"),
        )
        .why("the engine cannot open some of its connections, and keeps trying")
        .mend(format!("ulimit -n {}, or LimitNOFILE= in the unit", need.next_power_of_two()))
    } else {
        Finding::ok(code, format!("the process can open {have} files"))
    })
}

/// Redis forks to save; both settings determine the cost.
fn kernel(machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    if machine.huge_pages.as_deref() == Some("always") {
        findings.push(
            Finding::warning("machine.huge_pages", "transparent huge pages are always on")
                .why("while Redis saves, each write copies 2 MiB instead of 4 KiB: latency and memory")
                .mend("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, at each boot"),
        );
    }
    if machine.overcommit.is_some_and(|mode| mode != 1) {
        findings.push(
            Finding::note("machine.overcommit", "vm.overcommit_memory is not 1")
                .why("when memory is short Redis cannot fork, and rewriting its file or saving fails")
                .mend("sysctl vm.overcommit_memory=1, and in /etc/sysctl.d"),
        );
    }
    findings
}

/// Whether an address belongs to this machine.
pub(super) fn is_local(endpoint: &str) -> bool {
    endpoint.starts_with('/')
        || ["127.", "localhost:", "[::1]"].iter().any(|start| endpoint.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{Error, Note, Ok, Warning};
    use super::super::finding::tests::only;
    use super::super::tests::config;
    use super::*;
    use crate::engine::Hooks;
    use crate::redis::{Address, Topology};

    fn machine() -> Machine {
        Machine {
            codecs_refused: None,
            simd: vec!["SSE2", "AVX2"],
            cores: vec![0, 1, 2, 3],
            parallelism: 4,
            memory_bytes: Some(8 << 30),
            files_max: Some(1_024),
            huge_pages: Some("madvise".into()),
            overcommit: Some(1),
        }
    }

    fn findings(flags: &[(&str, &str)], change: impl FnOnce(&mut Machine)) -> Vec<Finding> {
        let mut machine = machine();
        change(&mut machine);
        let mut all = vec![("engine.workers", "4"), ("engine.pin", "off")];
        all.retain(|(key, _)| flags.iter().all(|(known, _)| known != key));
        all.extend(flags);
        let config = config(&all);
        let topology = Topology::from(Address::parse("redis://127.0.0.1:6379").unwrap());
        judge(&machine, &Plan::new(&config, &topology, &Hooks::default()), &config, true)
    }

    #[test]
    fn an_ordinary_machine_has_nothing_to_mend() {
        let findings = findings(&[], |_| {});
        assert!(findings.iter().all(|finding| finding.severity == Ok), "{findings:#?}");
        assert!(only(&findings, "machine.codecs", Ok).what.contains("AVX2"));
    }

    #[test]
    fn a_processor_the_codecs_do_not_fit_is_an_error() {
        let refused = findings(&[], |m| m.codecs_refused = Some("no AVX2".into()));
        only(&refused, "machine.codecs", Error);
    }

    #[test]
    fn more_workers_than_cores_or_quota_are_a_warning() {
        only(&findings(&[("engine.workers", "5")], |_| {}), "machine.cores", Warning);
        let quota = findings(&[], |m| m.parallelism = 2);
        assert!(only(&quota, "machine.cores", Warning).what.contains("a quota"));
    }

    #[test]
    fn pinning_to_a_core_of_others_is_a_warning() {
        only(&findings(&[("engine.pin", "[0, 7]")], |_| {}), "machine.pinning", Warning);
        let shared = findings(&[("engine.pin", "[0, 1]")], |_| {});
        assert!(only(&shared, "machine.pinning", Ok).what.contains("some share theirs"));
        let own = findings(&[("engine.pin", "[0, 1, 2, 3]"), ("engine.workers", "1")], |_| {});
        assert!(only(&own, "machine.pinning", Ok).what.contains("a core of its own"));
    }

    #[test]
    fn frames_in_work_must_leave_room_for_the_rest() {
        only(&findings(&[], |m| m.memory_bytes = Some(300 << 20)), "machine.memory", Warning);
    }

    #[test]
    fn every_connection_is_a_file() {
        only(&findings(&[], |m| m.files_max = Some(32)), "machine.files", Warning);
    }

    #[test]
    fn the_kernel_is_looked_at_where_redis_is() {
        only(
            &findings(&[], |m| m.huge_pages = Some("always".into())),
            "machine.huge_pages",
            Warning,
        );
        only(&findings(&[], |m| m.overcommit = Some(0)), "machine.overcommit", Note);
        assert!(is_local("127.0.0.1:6379") && is_local("/run/redis.sock"));
        assert!(!is_local("redis:6379") && !is_local("10.0.0.1:6379"));
    }
}
