//! Free memory of devices and memory of the program, as reported by the system.

use crate::model::Device;
use crate::training::kernels::native;

/// Returns the free memory of a device in bytes. `None` if it is not known.
pub fn free_bytes(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => {
            let machine = available_in(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
            Some(container().map_or(machine, |left| left.min(machine)))
        }
        Device::Cuda(_) => native::free_cuda_memory(),
    }
}

/// Returns the memory of this process in bytes without large tensors on the CPU: code, data and threads.
pub fn program_bytes() -> Option<u64> {
    let resident = kibibytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")?;
    Some(resident.saturating_sub(native::tensor_memory()))
}

/// Returns the greatest resident memory of this process since its start, or since [`reset_peak_bytes`].
pub fn peak_bytes() -> Option<u64> {
    kibibytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Sets the greatest resident memory of this process to the present one.
///
/// # Errors
/// If the system does not offer that.
pub fn reset_peak_bytes() -> std::io::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
}

/// Returns the memory in bytes that the kernel could allocate without swapping.
fn available_in(meminfo: &str) -> Option<u64> {
    kibibytes(meminfo, "MemAvailable:")
}

/// Returns a field of one of the system's tables of sizes in bytes.
fn kibibytes(table: &str, field: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Returns the memory in bytes that the container's control group leaves. `None` if there is no limit.
fn container() -> Option<u64> {
    control_group("memory.max")?.checked_sub(control_group("memory.current")?)
}

/// Returns a number that the control group reports. `None` if there is none: a missing limit reads `max`.
fn control_group(name: &str) -> Option<u64> {
    std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse().ok()
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
