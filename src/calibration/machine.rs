//! Processor time of other programs, from Linux's tables in `/proc`.

use std::fs;
use std::time::Instant;

/// [1/s] -- Ticks in which Linux reports processor time to programs, on every architecture that this program runs on (USER_HZ).
const TICKS: f64 = 100.0;

/// Part of all processors that other programs may take while times are measured.
const SHARE_ALLOWED: f64 = 0.05;

/// [processors] -- Number that other programs may take, however few there are: a shell, a clock, this program's caller.
const LEAST_ALLOWED: f64 = 0.1;

/// Processor time that was used on a machine, and by this process, at one instant.
#[derive(Clone, Copy, Debug)]
pub struct ProcessorTime {
    at: Instant,
    processors: usize,
    /// [tick] -- Time that all processors were not idle.
    all: u64,
    /// [tick] -- Time of this process.
    own: u64,
}

impl ProcessorTime {
    /// Returns the times so far. `None` if the system does not report them.
    pub fn now() -> Option<Self> {
        let machine = fs::read_to_string("/proc/stat").ok()?;
        let process = fs::read_to_string("/proc/self/stat").ok()?;
        let own = used_by_process(&process)?;
        Some(Self { at: Instant::now(), processors: count_processors(&machine), all: used_by_all(&machine)?, own })
    }

    /// Returns the number of the machine's processors.
    pub fn processors(&self) -> usize {
        self.processors
    }

    /// [processors] -- Returns how many processors other programs may take on average without being noticed in the times.
    pub fn allowed(&self) -> f64 {
        (SHARE_ALLOWED * self.processors as f64).max(LEAST_ALLOWED)
    }

    /// Returns what other programs have used since `earlier`.
    pub fn others_since(&self, earlier: &Self) -> OtherPrograms {
        let all = self.all.saturating_sub(earlier.all);
        let own = self.own.saturating_sub(earlier.own);
        let elapsed = self.at.duration_since(earlier.at).as_secs_f64();
        OtherPrograms { seconds: all.saturating_sub(own) as f64 / TICKS, elapsed }
    }
}

/// Processor time of other programs in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OtherPrograms {
    /// [s] -- Time on all processors together.
    pub seconds: f64,
    /// [s] -- Length of the interval.
    pub elapsed: f64,
}

impl OtherPrograms {
    /// [processors] -- Returns the number of processors that they took on average over several intervals.
    pub fn processors(intervals: impl Iterator<Item = Self>) -> f64 {
        let mut sum = Self::default();
        for interval in intervals {
            sum.seconds += interval.seconds;
            sum.elapsed += interval.elapsed;
        }
        if sum.elapsed > 0.0 { sum.seconds / sum.elapsed } else { 0.0 }
    }
}

/// [tick] -- Returns the time that processors were not idle, in the table of `/proc/stat`. Its first line has user, nice, system,
/// idle, iowait, irq, softirq and steal time; that of guests is in the first two.
fn used_by_all(table: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).take(8).collect();
    if ticks.len() < 4 {
        return None;
    }
    // The fourth and fifth field are idle time and idle time with a disk at work.
    Some(ticks.iter().enumerate().filter(|(place, _)| !matches!(place, 3 | 4)).map(|(_, ticks)| ticks).sum())
}

/// Returns the number of processors in the table of `/proc/stat`, which has a line for each.
fn count_processors(table: &str) -> usize {
    let names = table.lines().filter_map(|line| line.strip_prefix("cpu"));
    // The line of all processors together has no number.
    names.filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit())).count().max(1)
}

/// [tick] -- Returns the time of a process in the line of `/proc/PID/stat`: its user and system time, the twelfth and thirteenth field
/// after the name, which is in parentheses and may have any character.
fn used_by_process(line: &str) -> Option<u64> {
    let (_, after_name) = line.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MACHINE: &str = "cpu  8403 638 1744 16744 27 5 29 94 7 0\ncpu0 1 0 0 0\ncpu1 2 0 0 0\nintr 5\nctxt 9\n";

    #[test]
    fn idle_time_and_time_of_guests_are_left_out() {
        assert_eq!(used_by_all(MACHINE), Some(8403 + 638 + 1744 + 5 + 29 + 94));
        assert_eq!(count_processors(MACHINE), 2);
        assert_eq!(used_by_all("cpu0 1 2 3 4\n"), None);
        assert_eq!(used_by_all("cpu 1 2\n"), None);
    }

    #[test]
    fn the_time_of_a_process_is_found_whatever_its_name() {
        let line = "77 (a) b ( c) R 1 77 77 0 -1 4194304 100 0 0 0 250 31 0 0 20 0 3 0 900 1 2";
        assert_eq!(used_by_process(line), Some(281));
        assert_eq!(used_by_process("77 (a) R 1"), None);
    }

    #[test]
    fn other_programs_are_what_is_left_of_the_machines_time() {
        let start = Instant::now();
        let earlier = ProcessorTime { at: start, processors: 2, all: 1000, own: 300 };
        let later = ProcessorTime { at: start + Duration::from_secs(2), all: 1350, own: 580, ..earlier };
        // 3.5 s of all, 2.8 s of the process.
        let others = later.others_since(&earlier);
        assert!((others.seconds - 0.7).abs() < 1e-12 && others.elapsed == 2.0);
        let idle = OtherPrograms { seconds: 0.0, elapsed: 5.0 };
        assert!((OtherPrograms::processors([others, idle].into_iter()) - 0.1).abs() < 1e-12);
        assert_eq!(OtherPrograms::processors(std::iter::empty()), 0.0);
    }

    #[test]
    fn more_processors_bear_more_other_work() {
        let of = |processors| ProcessorTime { at: Instant::now(), processors, all: 0, own: 0 }.allowed();
        assert_eq!([of(1), of(2), of(64)], [0.1, 0.1, 3.2]);
    }

    #[test]
    fn this_process_takes_time() {
        let Some(before) = ProcessorTime::now() else { return };
        let mut sum = 0_u64;
        while ProcessorTime::now().is_some_and(|now| now.own < before.own + 20) {
            sum = sum.wrapping_add(1);
        }
        assert!(ProcessorTime::now().expect("it was there").all > before.all);
    }
}
