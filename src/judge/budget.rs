//! State of a judge: what was asked and paid for, and whether further requests may be sent.

use super::cost::Usage;
use super::endpoint::{Failure, Remedy};
use super::types::ChatPrompt;
use super::types::Verdict;

/// Number of consecutive prompts that finally failed, after which no further request is sent.
const LOST_IN_A_ROW_MAX: usize = 3;

/// Number of judgments that cannot be used, without one that can, after which no further request is sent.
const UNUSABLE_AT_FIRST_MAX: u64 = 8;

/// Counts of prompts by outcome. Equal prompts count once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallTally {
    /// Usage of the requests that were answered. Tokens are counted by the endpoint.
    pub asked: Usage,
    /// Number of judgments from the store, which cost nothing.
    pub stored: u64,
    /// Number of prompts without a judgment that can be used.
    pub failed: u64,
    /// Number of those whose judgment was cut off or is empty.
    pub unusable: u64,
}

/// Counts of a judge, and whether it may send further requests.
#[derive(Debug, Default)]
pub(super) struct CallBudget {
    pub tally: CallTally,
    lost_in_a_row: usize,
    /// Whether a judgment can be used, of those that were asked for now or are stored.
    has_judged: bool,
    /// Why no further request is sent.
    closed: Option<String>,
}

impl CallBudget {
    /// Counts the outcome of a prompt.
    pub fn count(&mut self, prompt: &ChatPrompt, verdict: &Verdict) {
        match verdict {
            Verdict::Fresh(judgment) => {
                self.lost_in_a_row = 0;
                self.has_judged = true;
                self.tally.asked = self.tally.asked.plus(Usage::of(prompt, judgment));
            }
            Verdict::Unusable(judgment, reason) => {
                self.lost_in_a_row = 0;
                self.tally.asked = self.tally.asked.plus(Usage::of(prompt, judgment));
                self.tally.failed += 1;
                self.tally.unusable += 1;
                // Where none can be used, each further one would be paid for in vain.
                if self.tally.unusable >= UNUSABLE_AT_FIRST_MAX && !self.has_judged && self.closed.is_none() {
                    let unusable = self.tally.unusable;
                    tracing::warn!(%reason, "the judge is not asked any more");
                    self.close(format!("not asked: none of the first {unusable} judgments could be used: {reason}"));
                }
            }
            Verdict::Stored(_) => {
                self.has_judged = true;
                self.tally.stored += 1;
            }
            Verdict::Failed(_) => self.tally.failed += 1,
        }
    }

    /// Forbids further requests. The first reason stays.
    pub fn close(&mut self, reason: String) {
        self.closed.get_or_insert(reason);
    }

    /// Returns why no further request may be sent, if so.
    pub fn closed(&self) -> Option<String> {
        self.closed.clone()
    }

    /// Records a prompt that finally failed, and forbids further requests if they would fail too.
    pub fn lost(&mut self, failure: &Failure) {
        let is_hopeless = match failure.remedy {
            Remedy::Leave => true,
            Remedy::GiveUp => false,
            Remedy::TryAgain { .. } => {
                // All attempts failed. If that happens several times in a row, the endpoint is likely down.
                self.lost_in_a_row += 1;
                self.lost_in_a_row >= LOST_IN_A_ROW_MAX
            }
        };
        if is_hopeless && self.closed.is_none() {
            tracing::warn!(reason = %failure.reason, "the judge is not asked any more");
            self.close(format!("not asked: {}", failure.reason));
        }
    }
}
