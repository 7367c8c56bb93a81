//! How much memory a device has left, and how much the program takes, as far as the system says.

use super::native;
use crate::model::Device;

/// Memory that may still be taken on a device [byte]; none where nothing tells.
pub fn free_bytes(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => {
            let machine = available_in(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
            Some(container().map_or(machine, |left| left.min(machine)))
        }
        Device::Cuda(_) => native::free_cuda_memory(),
    }
}

/// Memory of this process beside that of large tensors on the CPU: code, data and threads [byte].
pub fn program_bytes() -> Option<u64> {
    let resident = kibibytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")?;
    Some(resident.saturating_sub(native::tensor_memory()))
}

/// What the kernel would hand out without swapping.
fn available_in(meminfo: &str) -> Option<u64> {
    kibibytes(meminfo, "MemAvailable:")
}

/// A field of one of the system's tables of sizes [byte].
fn kibibytes(table: &str, field: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// What the control group of a container leaves, where it has a limit.
fn container() -> Option<u64> {
    let read = |name| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok();
    read("memory.max")?.checked_sub(read("memory.current")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figure_is_read_in_bytes() {
        assert_eq!(available_in("MemTotal:  9 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(available_in("MemTotal:  9 kB\n"), None);
        assert!(program_bytes().is_some_and(|bytes| bytes > 0));
        assert!(free_bytes(Device::Cpu).is_some_and(|free| free > 0));
    }
}
