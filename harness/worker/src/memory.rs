//! The memory ladder of this process, read from its own /proc files.
//!
//! `wait4`'s ru_maxrss of a small child reports its parent's peak, so the worker reads VmHWM itself.

use serde::{Deserialize, Serialize};

/// Resident memory of this process, in bytes. A field the kernel does not give is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident now (VmRSS).
    pub rss_bytes: u64,
    /// Highest resident since start or the last reset (VmHWM).
    pub peak_bytes: u64,
    /// Proportional share: pages shared with other processes counted in part (Pss).
    pub pss_bytes: u64,
    /// Anonymous pages: neither file nor shared mapping (Anonymous of smaps_rollup).
    pub anonymous_bytes: u64,
}

/// Reads /proc/self/status and /proc/self/smaps_rollup.
pub fn read_memory() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    Memory {
        rss_bytes: field(&status, "VmRSS:"),
        peak_bytes: field(&status, "VmHWM:"),
        pss_bytes: field(&rollup, "Pss:"),
        anonymous_bytes: field(&rollup, "Anonymous:"),
    }
}

/// Starts VmHWM anew from the present resident size. False where the kernel refuses.
pub fn reset_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_kibibytes() {
        assert_eq!(field("VmRSS:\t    12 kB\nVmHWM: 7 kB\n", "VmHWM:"), 7 * 1024);
        assert_eq!(field("VmRSS: x kB", "VmRSS:"), 0);
    }

    #[test]
    fn a_large_buffer_raises_the_peak() {
        let before = read_memory();
        let buffer = vec![1u8; 32 << 20];
        let during = read_memory();
        std::hint::black_box(&buffer);
        assert!(during.peak_bytes >= before.rss_bytes + (30 << 20));
    }
}
