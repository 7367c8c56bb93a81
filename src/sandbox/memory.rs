//! Memory of a whole sample: what its processes have mapped, and the kinds of memory that belong to no process.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// System calls that keep memory outside of any process: files without a name, segments, queues and semaphores of System V and
/// POSIX, and the rings of io_uring.
const FORBIDDEN_CALLS: [libc::c_long; 7] = [
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    libc::SYS_io_uring_setup,
];

/// Bit in the number of a system call of x32.
const X32: libc::c_long = 0x4000_0000;

/// Forbids system calls that keep memory outside of any process, to the calling thread and to everything that it starts.
///
/// # Errors
/// If the kernel or the processor has no such filters.
pub(super) fn forbid_memory_outside_processes() -> Result<(), String> {
    let mut rules = BTreeMap::new();
    for call in FORBIDDEN_CALLS {
        rules.insert(call, vec![]);
        // The same call by the numbers of x32, which some kernels of x86-64 take as well.
        rules.insert(call | X32, vec![]);
    }
    let architecture = std::env::consts::ARCH.try_into().map_err(|error| format!("system calls: {error}"))?;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture);
    let program: BpfProgram =
        filter.and_then(BpfProgram::try_from).map_err(|error| format!("system calls cannot be filtered: {error}"))?;
    apply_filter(&program).map_err(|error| format!("system calls cannot be filtered: {error}"))
}

/// Returns how many bytes the process and all that descend from it have mapped together, shared pages once per process.
///
/// A process whose parent ended belongs to the first process of its namespace, so that none leaves the tree.
pub(super) fn mapped_bytes(root: u32) -> u64 {
    let mut children: BTreeMap<u32, Vec<(u32, u64)>> = BTreeMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    for process in processes.flatten() {
        let Some(id) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some((parent, bytes)) = parent_and_bytes(&process.path()) else { continue };
        children.entry(parent).or_default().push((id, bytes));
    }
    let mut sum = 0;
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        for &(id, bytes) in children.get(&parent).into_iter().flatten() {
            // Where the first thread of a process has ended, only the others tell.
            sum += if bytes > 0 { bytes } else { mapped_by_threads(id) };
            open.push(id);
        }
    }
    sum
}

/// Returns what the threads of a process have mapped, which is the same for all that live.
fn mapped_by_threads(id: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    threads.filter_map(|thread| Some(parent_and_bytes(&thread.path())?.1)).max().unwrap_or(0)
}

/// Returns the parent and the mapped bytes of the process or thread in a folder of `/proc`; `None` if it has ended.
fn parent_and_bytes(process: &Path) -> Option<(u32, u64)> {
    // A program can give itself a name that is no text.
    let stat = fs::read(process.join("stat")).ok()?;
    in_stat(&String::from_utf8_lossy(&stat))
}

/// Reads the parent and the mapped bytes from the line that `/proc` has about a process.
fn in_stat(stat: &str) -> Option<(u32, u64)> {
    // The name of the program is in parentheses, and may have any character.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    // Fields 4 and 23 of proc_pid_stat(5); the first after the name is field 3.
    let parent = fields.nth(1)?.parse().ok()?;
    let bytes = fields.nth(18)?.parse().ok()?;
    Some((parent, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_past_any_name() {
        let line =
            "42 (a) b) (c) S 7 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 100 123456789 300 18446744073709551615";
        assert_eq!(in_stat(line), Some((7, 123_456_789)));
        assert_eq!(in_stat("42 (a) S"), None);
    }

    #[test]
    fn the_bytes_of_a_process_are_those_of_its_tree() {
        // This process is in the tree of its parent.
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let parent = u32::try_from(field("PPid:")).unwrap();
        assert!(mapped_bytes(parent) >= field("VmSize:") * 1024 / 2);
        assert_eq!(mapped_bytes(u32::MAX), 0);
    }
}
