//! What a line of progress says, as pure functions of counts and times: when a line is due, how fast work goes, how much is
//! left.

use std::collections::VecDeque;
use std::time::Duration;

use super::units;
use crate::graph::{WorkAmount, WorkCounts};

/// How often progress is read and a bar is drawn.
pub const TICK: Duration = Duration::from_millis(200);

/// How often a plain line is written where there is no bar.
pub const PLAIN: Duration = Duration::from_secs(10);

/// [s] Rates are means over this time, or over more where little happens.
const WINDOW: f64 = 60.0;

/// A trained token costs about as much as this many evaluated ones: the backward pass of a frozen base costs about a
/// forward pass.
const EVALUATED_PER_TRAINED: u64 = 2;

/// A question of a benchmark costs about as much as this many evaluated tokens: a guess, since nobody knows how long its
/// answer will be.
const EVALUATED_PER_QUESTION: u64 = 1000;

/// Whether a line is due, where the last one was written at `said`. Lines come at least every [`PLAIN`], so the tick before
/// that is the last one that will do.
pub fn is_due(said: Duration, now: Duration) -> bool {
    now + TICK >= said + PLAIN
}

/// Counts at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// [s] Since the work began.
    at: f64,
    done: WorkAmount,
}

/// How fast work went in the recent past.
#[derive(Clone, Debug)]
pub struct RecentPace {
    /// Moments at which something had been done, oldest first; never empty. Work that is done in large steps would seem
    /// fast or slow if it was measured at any other moment.
    marks: VecDeque<Mark>,
}

impl Default for RecentPace {
    fn default() -> Self {
        Self { marks: VecDeque::from([Mark::default()]) }
    }
}

impl RecentPace {
    /// Notes what is done `at` seconds after the work began.
    pub fn note(&mut self, at: f64, done: &WorkAmount) {
        let latest = self.latest();
        if latest.done == *done {
            return;
        }
        self.marks.push_back(Mark { at, done: *done });
        // The first mark is the newest of those that are at least as old as the window.
        while self.marks.len() > 2 && self.marks[1].at <= at - WINDOW {
            self.marks.pop_front();
        }
    }

    fn latest(&self) -> Mark {
        *self.marks.back().expect("there is always a mark")
    }

    /// [1/s] How fast a count grew.
    pub fn rate(&self, count: impl Fn(&WorkAmount) -> u64) -> f64 {
        let first = &self.marks[0];
        let latest = self.latest();
        if latest.at <= first.at {
            return 0.0;
        }
        count(&latest.done).saturating_sub(count(&first.done)) as f64 / (latest.at - first.at)
    }
}

/// Work in units of one evaluated token.
pub fn units_of(amount: &WorkAmount) -> u64 {
    let training = amount.trained_tokens * EVALUATED_PER_TRAINED;
    let benchmarks = amount.questions * EVALUATED_PER_QUESTION;
    training + amount.evaluated_tokens + benchmarks
}

/// Something under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// The kind of its order.
    pub kind: &'static str,
    /// [tasks] Trainings that it is.
    pub trainings: usize,
    /// [s] For how long it has been under way.
    pub seconds: u64,
}

impl Activity {
    fn what(&self) -> String {
        match (self.kind, self.trainings) {
            (_, 1) => "a task".into(),
            (_, trainings) if trainings > 1 => format!("{trainings} tasks"),
            ("evaluate", _) => "part of an evaluation".into(),
            ("examine", _) => "a benchmark".into(),
            ("aggregate", _) => "an aggregation".into(),
            (kind, _) => format!("an order of the kind {kind}"),
        }
    }
}

/// How far the rounds of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundsDone {
    pub done: u64,
    pub all: u64,
    /// Whether all work is known: not where selection reads results.
    pub all_is_known: bool,
    /// All work that was known when the latest round ended.
    pub known_before: WorkAmount,
}

/// How far the work of a command is.
#[derive(Clone, Debug)]
pub struct WorkStanding {
    /// `None` outside of a run.
    pub rounds: Option<RoundsDone>,
    pub counts: WorkCounts,
    pub pace: RecentPace,
    /// [s] Since the work began.
    pub elapsed: f64,
    /// The longest first.
    pub under_way: Vec<Activity>,
}

impl WorkStanding {
    /// How far it is, how fast it goes, what is left, and what is under way.
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

    /// Rates of what was done in the recent past.
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

    /// What is under way, equal things counted.
    fn activities(&self) -> String {
        let mut counted: Vec<(String, usize)> = Vec::new();
        for activity in &self.under_way {
            let what = activity.what();
            match counted.iter_mut().find(|(known, _)| *known == what) {
                Some((_, count)) => *count += 1,
                None => counted.push((what, 1)),
            }
        }
        let named = counted.into_iter().map(|(what, count)| match count {
            1 => what,
            _ => format!("{count} times {what}"),
        });
        named.collect::<Vec<_>>().join(" and ")
    }

    /// [s] Until all is done, if it goes on as it went. `None` where that is not known yet.
    fn left(&self) -> Option<f64> {
        match &self.rounds {
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

    /// The share of the work that is done, from 0 to 1. Where the work of rounds to come is not known, each round is as much
    /// as the others.
    pub fn share_done(&self) -> f64 {
        let WorkCounts { done, wanted } = &self.counts;
        match &self.rounds {
            Some(rounds) if !rounds.all_is_known => {
                let before = units_of(&rounds.known_before);
                let of_round = share(units_of(done).saturating_sub(before), units_of(wanted).saturating_sub(before));
                let rounds_done = rounds.done as f64 + if rounds.done < rounds.all { of_round } else { 0.0 };
                (rounds_done / rounds.all.max(1) as f64).min(1.0)
            }
            _ => share(units_of(done), units_of(wanted)),
        }
    }
}

fn share(done: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { done as f64 / all as f64 }
}

/// A span of time in a fitting unit.
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

    fn standing(done: WorkAmount, wanted: WorkAmount, elapsed: f64) -> WorkStanding {
        let mut pace = RecentPace::default();
        pace.note(elapsed, &done);
        WorkStanding { rounds: None, counts: WorkCounts { done, wanted }, pace, elapsed, under_way: vec![] }
    }

    fn rounds(done: u64, all: u64, all_is_known: bool) -> RoundsDone {
        RoundsDone { done, all, all_is_known, known_before: WorkAmount::default() }
    }

    #[test]
    fn a_line_says_how_far_how_fast_what_is_left_and_what_is_under_way() {
        let task = |trainings, seconds| Activity { kind: "train", trainings, seconds };
        let part = Activity { kind: "evaluate", trainings: 0, seconds: 2 };
        let standing = WorkStanding {
            rounds: Some(rounds(4, 10, true)),
            under_way: vec![task(1, 34), task(1, 12), part],
            ..standing(amount(16, 64_000, 120), amount(40, 160_000, 240), 20.0)
        };
        let expected = "4/10 rounds, 16/40 tasks, 120/240 evaluated rows, 0.8 tasks/s, 3.2 k tokens/s, 600 evaluated tokens/s, \
                        about 29 s left, under way for 34 s: 2 times a task and part of an evaluation";
        assert_eq!(standing.line(), expected);
    }

    #[test]
    fn before_the_first_result_a_line_says_what_is_wanted_and_under_way() {
        let under_way = vec![Activity { kind: "cohort", trainings: 3, seconds: 90 }];
        let mut standing = standing(WorkAmount::default(), amount(3, 900, 0), 90.0);
        standing.under_way = under_way;
        assert_eq!(standing.line(), "0/3 tasks, under way for 90 s: 3 tasks");
        assert_eq!(standing.share_done(), 0.0);
    }

    #[test]
    fn tokens_inside_a_task_move_the_share_that_is_done() {
        let standing = standing(amount(0, 450, 0), amount(3, 900, 0), 1.0);
        assert_eq!(standing.share_done(), 0.5);
        assert!(standing.line().starts_with("0/3 tasks, 450 tokens/s, about 1 s left"), "{}", standing.line());
    }

    #[test]
    fn where_later_rounds_are_not_known_each_counts_alike() {
        let mut standing = standing(amount(15, 1500, 0), amount(20, 2000, 0), 30.0);
        let known_before = amount(10, 1000, 0);
        standing.rounds = Some(RoundsDone { known_before, ..rounds(1, 4, false) });
        // One round and half of the next.
        assert_eq!(standing.share_done(), 0.375);
        assert!(standing.line().contains("about 50 s left"), "{}", standing.line());
        standing.rounds = Some(rounds(0, 4, false));
        assert!(!standing.line().contains("left"), "{}", standing.line());
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
        assert!(!is_due(said, said));
        assert!(!is_due(said, said + PLAIN - TICK - Duration::from_millis(1)));
        assert!(is_due(said, said + PLAIN - TICK));
    }

    #[test]
    fn spans_have_a_fitting_unit() {
        assert_eq!([29.6, 600.0, 9000.0].map(span), ["30 s", "10 min", "2.5 h"]);
    }
}
