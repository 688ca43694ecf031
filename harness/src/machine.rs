//! What a record was taken on: processor, kernel, memory, toolchains, and how busy it was.

use crate::record::Machine;
use crate::runner::output;
use std::collections::BTreeMap;
use std::path::Path;

/// Processor flags that decide which code path an engine takes.
const FLAGS: [&str; 14] = [
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512vbmi",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "hypervisor",
];

/// Variables that change how many threads or which code a library uses.
const VARIABLES: [&str; 9] = [
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "KMP_AFFINITY",
    "GOMP_CPU_AFFINITY",
    "ATEN_CPU_CAPABILITY",
    "MALLOC_ARENA_MAX",
    "PYTHONHASHSEED",
];

/// Reads the facts and the state before a run.
pub fn read(root: &Path, python: &Path) -> Machine {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = value(&cpuinfo, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_string());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut facts = BTreeMap::new();
    let mut put = |name: &str, value: Option<String>| {
        facts.insert(name.to_string(), value.filter(|v| !v.is_empty()).unwrap_or_else(|| "not known".into()));
    };
    put("processor", Some(model.clone()));
    put("processors usable", Some(cores.to_string()));
    put(
        "processor flags",
        value(&cpuinfo, "flags").map(|all| {
            let has: Vec<&str> = all.split(' ').collect();
            FLAGS.iter().filter(|flag| has.contains(*flag)).copied().collect::<Vec<_>>().join(" ")
        }),
    );
    let lscpu = output(&["lscpu"], root).unwrap_or_default();
    for cache in ["L1d", "L2", "L3"] {
        let line = lscpu.lines().find_map(|line| line.strip_prefix(&format!("{cache} cache:")));
        put(&format!("cache {cache}"), line.map(|line| line.trim().to_string()));
    }
    put("memory", value(&read_file("/proc/meminfo"), "MemTotal"));
    put(
        "transparent huge pages",
        Some(read_file("/sys/kernel/mm/transparent_hugepage/enabled").trim().into()),
    );
    put(
        "frequency governor",
        Some(read_file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").trim().into()),
    );
    put("kernel", output(&["uname", "-sr"], root));
    put(
        "system",
        value(&read_file("/etc/os-release").replace('=', ":"), "PRETTY_NAME")
            .map(|v| v.trim_matches('"').into()),
    );
    put("rustc", output(&["rustc", "--version"], root));
    put("cc", output(&["cc", "--version"], root).and_then(|text| text.lines().next().map(String::from)));
    put("python", output(&[&python.to_string_lossy(), "--version"], root));
    for name in VARIABLES {
        if let Ok(set) = std::env::var(name) {
            put(name, Some(set));
        }
    }
    Machine { name: folder_name(&model, cores), facts, before: load(), after: BTreeMap::new() }
}

/// How busy the machine is and what the hypervisor took.
pub fn load() -> BTreeMap<String, String> {
    let stat = read_file("/proc/stat");
    let ticks: Vec<&str> = stat.lines().next().unwrap_or_default().split_ascii_whitespace().collect();
    let mut state = BTreeMap::new();
    state.insert("load average".into(), read_file("/proc/loadavg").trim().into());
    state.insert("steal ticks since boot".into(), ticks.get(8).copied().unwrap_or("not known").into());
    state.insert(
        "ticks since boot".into(),
        ticks.iter().skip(1).filter_map(|t| t.parse::<u64>().ok()).sum::<u64>().to_string(),
    );
    for what in ["cpu", "memory", "io"] {
        let text = read_file(&format!("/proc/pressure/{what}"));
        if let Some(line) = text.lines().next() {
            state.insert(format!("pressure {what}"), line.into());
        }
    }
    state
}

fn folder_name(model: &str, cores: usize) -> String {
    let mut name: String = model
        .to_lowercase()
        .replace("(r)", "")
        .replace("(tm)", "")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    while name.contains("--") {
        name = name.replace("--", "-");
    }
    format!("{}-{cores}c", name.trim_matches('-').chars().take(40).collect::<String>().trim_matches('-'))
}

fn value(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_string())
}

fn read_file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folders() {
        assert_eq!(folder_name("Intel(R) Xeon(R) Platinum 8488C", 2), "intel-xeon-platinum-8488c-2c");
        assert_eq!(folder_name("AMD EPYC", 2), "amd-epyc-2c");
    }

    #[test]
    fn this_machine_has_facts() {
        let machine = read(Path::new("."), Path::new("python3"));
        assert!(machine.facts.contains_key("kernel") && machine.before.contains_key("load average"));
    }
}
