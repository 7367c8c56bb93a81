//! How it stands with a judge: what was asked and paid for, and whether he may be asked further.

use super::chat_prompt::Inquiry;
use super::cost::Usage;
use super::endpoint::{Failure, Remedy};
use super::verdict::Verdict;

/// After so many inquiries in a row that failed for good, the endpoint is not asked any more.
const LOST_IN_A_ROW_MAX: usize = 3;

/// What became of inquiries; one that several exams share is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What was asked and answered, as the endpoint counts its tokens.
    pub asked: Usage,
    /// Judgements that were in the store, and cost nothing.
    pub stored: u64,
    /// Inquiries without a judgement.
    pub failed: u64,
}

/// The account of one judge.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub tally: Tally,
    lost_in_a_row: usize,
    /// Why nothing more is asked.
    closed: Option<String>,
}

impl Standing {
    /// Counts what became of an inquiry.
    pub fn count(&mut self, inquiry: &Inquiry, verdict: &Verdict) {
        match verdict {
            Verdict::Fresh(judgement) => {
                self.lost_in_a_row = 0;
                self.tally.asked = self.tally.asked.plus(Usage::of(inquiry, judgement));
            }
            Verdict::Stored(_) => self.tally.stored += 1,
            Verdict::Failed(_) => self.tally.failed += 1,
        }
    }

    /// Lets nothing more be asked.
    pub fn close(&mut self, reason: String) {
        self.closed.get_or_insert(reason);
    }

    /// Why nothing more is asked, if it is so.
    pub fn closed(&self) -> Option<String> {
        self.closed.clone()
    }

    /// Notes an inquiry that failed for good, and closes where more would only fail too.
    pub fn lost(&mut self, failure: &Failure) {
        let is_hopeless = match failure.remedy {
            Remedy::Leave => true,
            Remedy::GiveUp => false,
            Remedy::TryAgain { .. } => {
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
