//! The text of a progress line as pure functions of counts and times: when a line is due, how fast work proceeds, how
//! much is left.

use std::collections::VecDeque;
use std::time::Duration;

use fedreplay::graph::{WorkAmount, WorkCounts};
use fedreplay::report::units;

/// Interval at which progress is read and the bar is drawn.
pub const TICK: Duration = Duration::from_millis(200);

/// Interval at which a plain line is written when there is no bar.
pub const PLAIN: Duration = Duration::from_secs(10);

/// Interval at which progress is logged as JSON, for a program that draws a bar of its own.
pub const LOGGED: Duration = Duration::from_secs(1);

/// [s] -- Time over which rates are averaged; longer if fewer than two steps finished in it.
const WINDOW: f64 = 60.0;

/// Evaluated tokens that cost about as much as one trained token: the backward pass of a frozen base model costs about
/// as much as its forward pass.
const EVALUATED_PER_TRAINED: u64 = 2;

/// Evaluated tokens that cost about as much as one benchmark question. This is a guess, since the length of the answer
/// is not known in advance.
const EVALUATED_PER_QUESTION: u64 = 1000;

/// Returns whether a line is due at `now` if the last one was written at `said` and at most `interval` may pass between two.
///
/// A line is due at the last tick before that time is over.
pub fn is_due(said: Duration, now: Duration, interval: Duration) -> bool {
    now + TICK >= said + interval
}

/// Amount of finished work at one point in time.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// [s] -- Time since the work began.
    at: f64,
    done: WorkAmount,
}

/// Speed of the work in the recent past.
#[derive(Clone, Debug)]
pub struct RecentPace {
    /// Times at which the counts grew, oldest first; never empty. Work that proceeds in large steps would appear faster
    /// or slower if it were measured between two steps.
    marks: VecDeque<Mark>,
}

impl Default for RecentPace {
    fn default() -> Self {
        Self { marks: VecDeque::from([Mark::default()]) }
    }
}

impl RecentPace {
    /// Records the work that is done `at` seconds after the work began.
    pub fn note(&mut self, at: f64, done: &WorkAmount) {
        let latest = self.latest();
        if latest.done == *done {
            return;
        }
        self.marks.push_back(Mark { at, done: *done });
        // Keep exactly one mark that is at least as old as the window: the rate is measured from it.
        while self.marks.len() > 2 && self.marks[1].at <= at - WINDOW {
            self.marks.pop_front();
        }
    }

    fn latest(&self) -> Mark {
        *self.marks.back().expect("there is always a mark")
    }

    /// Returns the growth of one count in 1/s, or 0 if nothing is known yet.
    pub fn rate(&self, count: impl Fn(&WorkAmount) -> u64) -> f64 {
        let first = &self.marks[0];
        let latest = self.latest();
        if latest.at <= first.at {
            return 0.0;
        }
        count(&latest.done).saturating_sub(count(&first.done)) as f64 / (latest.at - first.at)
    }
}

/// Converts work to units of one evaluated token, by the approximate costs above.
pub fn units_of(amount: &WorkAmount) -> u64 {
    let training = amount.trained_tokens * EVALUATED_PER_TRAINED;
    let benchmarks = amount.questions * EVALUATED_PER_QUESTION;
    training + amount.evaluated_tokens + benchmarks
}

/// A computation in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Kind of its node in the computation graph.
    pub kind: &'static str,
    /// [task] -- Tasks that it trains.
    pub trainings: usize,
    /// [s] -- Time since it began.
    pub seconds: u64,
}

impl Activity {
    /// Names the activity for people.
    fn what(&self) -> String {
        match (self.kind, self.trainings) {
            (_, 1) => "a task".into(),
            (_, trainings) if trainings > 1 => format!("{trainings} tasks"),
            ("evaluate", _) => "part of an evaluation".into(),
            ("examine", _) => "a benchmark".into(),
            ("first_step", _) => "the initial adapter".into(),
            ("aggregate", _) => "an aggregation".into(),
            ("attack", _) => "an attack".into(),
            ("compress", _) => "the compression of an update".into(),
            (kind, _) => format!("an order of the kind {kind}"),
        }
    }
}

/// Progress of a run in rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundsDone {
    pub done: u64,
    pub all: u64,
    /// Whether the work of all rounds is known in advance; it is not if client selection depends on results.
    pub all_is_known: bool,
    /// All work that was known when the latest round ended.
    pub known_before: WorkAmount,
}

/// Progress of a command's work.
#[derive(Clone, Debug)]
pub struct WorkProgress {
    /// `None` if the work is not that of a run.
    pub rounds: Option<RoundsDone>,
    pub counts: WorkCounts,
    pub pace: RecentPace,
    /// [s] -- Time since the work began.
    pub elapsed: f64,
    /// Computations in progress, the longest-running first.
    pub under_way: Vec<Activity>,
}

impl WorkProgress {
    /// Formats finished work, speed, remaining time and the computations in progress as one line.
    pub fn line(&self) -> String {
        let WorkCounts { done, wanted } = &self.counts;
        let mut parts = Vec::new();
        if let Some(rounds) = &self.rounds {
            parts.push(format!("{}/{} rounds", rounds.done, rounds.all));
        }
        for (done, wanted, what) in [
            (done.trainings, wanted.trainings, "tasks"),
            (done.evaluated_rows, wanted.evaluated_rows, "evaluated rows"),
            (done.questions, wanted.questions, "questions"),
        ] {
            if wanted > 0 {
                parts.push(format!("{done}/{wanted} {what}"));
            }
        }
        parts.extend(self.rates());
        if let Some(seconds) = self.left() {
            parts.push(format!("about {} left", span(seconds)));
        }
        if let Some(longest) = self.under_way.first() {
            parts.push(format!("under way for {} s: {}", longest.seconds, self.activities()));
        }
        parts.join(", ")
    }

    /// Formats the nonzero rates of the recent past.
    fn rates(&self) -> Vec<String> {
        let mut rates = Vec::new();
        for (rate, unit) in [
            (self.pace.rate(|amount| amount.trainings), "tasks/s"),
            (self.pace.rate(|amount| amount.trained_tokens), "tokens/s"),
            (self.pace.rate(|amount| amount.evaluated_tokens), "evaluated tokens/s"),
        ] {
            if rate > 0.0 {
                rates.push(format!("{} {unit}", units::rate(rate)));
            }
        }
        rates
    }

    /// Lists the computations in progress; equal ones are counted.
    fn activities(&self) -> String {
        // A list instead of a map keeps the order: the longest-running comes first.
        let mut counted: Vec<(String, usize)> = Vec::new();
        for activity in &self.under_way {
            let what = activity.what();
            match counted.iter_mut().find(|(known, _)| *known == what) {
                Some((_, count)) => *count += 1,
                None => counted.push((what, 1)),
            }
        }
        let mut named = Vec::new();
        for (what, count) in counted {
            named.push(if count == 1 { what } else { format!("{count} times {what}") });
        }
        named.join(" and ")
    }

    /// Estimates the remaining time in seconds at the present speed. `None` if the speed is not known yet.
    fn left(&self) -> Option<f64> {
        match &self.rounds {
            // The total is unknown, so extrapolate from the share of rounds instead of the rate of work.
            Some(rounds) if !rounds.all_is_known => {
                let share = self.share_done();
                (rounds.done > 0 && share > 0.0).then(|| self.elapsed / share * (1.0 - share))
            }
            _ => {
                let rate = self.pace.rate(units_of);
                let left = units_of(&self.counts.wanted).saturating_sub(units_of(&self.counts.done));
                (rate > 0.0).then(|| left as f64 / rate)
            }
        }
    }

    /// Returns the finished share of the work, from 0 to 1. If the work of later rounds is not known, every round is
    /// assumed to take the same amount.
    pub fn share_done(&self) -> f64 {
        let WorkCounts { done, wanted } = &self.counts;
        match &self.rounds {
            Some(rounds) if !rounds.all_is_known => {
                // Work became known round by round: what was known before belongs to finished rounds.
                let before = units_of(&rounds.known_before);
                let of_round = share(units_of(done).saturating_sub(before), units_of(wanted).saturating_sub(before));
                let rounds_done = rounds.done as f64 + if rounds.done < rounds.all { of_round } else { 0.0 };
                (rounds_done / rounds.all.max(1) as f64).min(1.0)
            }
            _ => share(units_of(done), units_of(wanted)),
        }
    }
}

/// Returns `done / all`, or 0 if there is nothing to do.
fn share(done: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { done as f64 / all as f64 }
}

/// Formats a duration in seconds in a unit of suitable size.
fn span(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        seconds if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(trainings: u64, trained_tokens: u64, evaluated_rows: u64) -> WorkAmount {
        let evaluated_tokens = evaluated_rows * 100;
        WorkAmount { trainings, trained_tokens, evaluated_rows, evaluated_tokens, questions: 0 }
    }

    fn progress(done: WorkAmount, wanted: WorkAmount, elapsed: f64) -> WorkProgress {
        let mut pace = RecentPace::default();
        pace.note(elapsed, &done);
        WorkProgress { rounds: None, counts: WorkCounts { done, wanted }, pace, elapsed, under_way: vec![] }
    }

    fn rounds(done: u64, all: u64, all_is_known: bool) -> RoundsDone {
        RoundsDone { done, all, all_is_known, known_before: WorkAmount::default() }
    }

    #[test]
    fn a_line_says_how_far_how_fast_what_is_left_and_what_is_under_way() {
        let task = |trainings, seconds| Activity { kind: "train", trainings, seconds };
        let part = Activity { kind: "evaluate", trainings: 0, seconds: 2 };
        let progress = WorkProgress {
            rounds: Some(rounds(4, 10, true)),
            under_way: vec![task(1, 34), task(1, 12), part],
            ..progress(amount(16, 64_000, 120), amount(40, 160_000, 240), 20.0)
        };
        let expected = "4/10 rounds, 16/40 tasks, 120/240 evaluated rows, 0.8 tasks/s, 3.2 k tokens/s, 600 evaluated tokens/s, \
                        about 29 s left, under way for 34 s: 2 times a task and part of an evaluation";
        assert_eq!(progress.line(), expected);
    }

    #[test]
    fn before_the_first_result_a_line_says_what_is_wanted_and_under_way() {
        let under_way = vec![Activity { kind: "cohort", trainings: 3, seconds: 90 }];
        let mut progress = progress(WorkAmount::default(), amount(3, 900, 0), 90.0);
        progress.under_way = under_way;
        assert_eq!(progress.line(), "0/3 tasks, under way for 90 s: 3 tasks");
        assert_eq!(progress.share_done(), 0.0);
    }

    #[test]
    fn tokens_inside_a_task_move_the_share_that_is_done() {
        let progress = progress(amount(0, 450, 0), amount(3, 900, 0), 1.0);
        assert_eq!(progress.share_done(), 0.5);
        assert!(progress.line().starts_with("0/3 tasks, 450 tokens/s, about 1 s left"), "{}", progress.line());
    }

    #[test]
    fn where_later_rounds_are_not_known_each_counts_alike() {
        let mut progress = progress(amount(15, 1500, 0), amount(20, 2000, 0), 30.0);
        let known_before = amount(10, 1000, 0);
        progress.rounds = Some(RoundsDone { known_before, ..rounds(1, 4, false) });
        // One round and half of the next.
        assert_eq!(progress.share_done(), 0.375);
        assert!(progress.line().contains("about 50 s left"), "{}", progress.line());
        progress.rounds = Some(rounds(0, 4, false));
        assert!(!progress.line().contains("left"), "{}", progress.line());
    }

    #[test]
    fn rates_are_those_of_the_recent_past() {
        let mut pace = RecentPace::default();
        let rate = |pace: &RecentPace| pace.rate(|amount| amount.trainings);
        assert_eq!(rate(&pace), 0.0);
        for second in 1..=100_u32 {
            pace.note(f64::from(second), &amount(u64::from(second), 0, 0));
        }
        assert_eq!(rate(&pace), 1.0);
        for second in 101..=200_u32 {
            pace.note(f64::from(second), &amount(100 + 3 * u64::from(second - 100), 0, 0));
        }
        assert_eq!(rate(&pace), 3.0);
    }

    #[test]
    fn steps_longer_than_the_window_are_not_taken_for_fast_ones() {
        let mut pace = RecentPace::default();
        for second in 0..=540_u32 {
            pace.note(f64::from(second), &amount(u64::from(second) / 180, 0, 0));
        }
        assert_eq!(pace.rate(|amount| amount.trainings), 1.0 / 180.0);
    }

    #[test]
    fn a_line_is_due_before_ten_seconds_are_over() {
        let said = Duration::from_secs(5);
        assert!(!is_due(said, said, PLAIN));
        assert!(!is_due(said, said + PLAIN - TICK - Duration::from_millis(1), PLAIN));
        assert!(is_due(said, said + PLAIN - TICK, PLAIN));
    }

    #[test]
    fn spans_have_a_fitting_unit() {
        assert_eq!([29.6, 600.0, 9000.0].map(span), ["30 s", "10 min", "2.5 h"]);
    }
}
