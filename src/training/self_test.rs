//! A start-up test of what this machine gives: the same bits twice, in company, and on several threads.
//!
//! Small jobs of odd lengths are trained in several ways, and then the largest work that the run will do. Libraries choose
//! their kernels by shapes, so what a small job shows says nothing of a large one.

use std::sync::Arc;

use fedreplay_sim::{Purpose, Seed, Stream};
use serde::{Deserialize, Serialize};

use super::job::{Hyper, Job, Objective, Terms};
use super::{Error, Outcome, Trainer};
use crate::adapter::Adapter;
use crate::data::Sample;

/// What was found. A grade that was not found is not promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTest {
    /// The same job twice gave the same bits.
    pub repeats: bool,
    /// A job gave the same bits alone and beside others.
    pub company: bool,
    /// One thread and several gave the same bits.
    pub threads: bool,
    /// The numerics are portable ones, of which every processor of their class gives the same bits. Not found here, where
    /// there is one processor, but a property of the code in use.
    pub portable: bool,
}

/// The determinism that a run may claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Grade {
    /// Not even two runs on this machine agree.
    None,
    /// The same binary, machine and settings give the same bits.
    A,
    /// So does any number of workers, threads and clients in a batch.
    B,
    /// So does any x86-64 processor with AVX2 and FMA.
    C,
}

impl Grade {
    /// The grade of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::None, Self::A, Self::B, Self::C].into_iter().find(|grade| grade.to_string() == name)
    }
}

impl std::fmt::Display for Grade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
        })
    }
}

impl SelfTest {
    /// What both tests found.
    fn and(self, other: Self) -> Self {
        Self {
            repeats: self.repeats && other.repeats,
            company: self.company && other.company,
            threads: self.threads && other.threads,
            portable: self.portable && other.portable,
        }
    }

    /// The highest grade that was found.
    pub fn grade(&self) -> Grade {
        match (self.repeats, self.company && self.threads) {
            (false, _) => Grade::None,
            (true, false) => Grade::A,
            (true, true) if self.portable => Grade::C,
            (true, true) => Grade::B,
        }
    }
}

/// The largest work of a run: what a machine is tested with before it begins.
#[derive(Clone, Debug, Default)]
pub struct LargestWork {
    /// The rows of the micro-batch that has the most tokens; none where nothing is trained.
    pub micro_batch: Vec<Arc<Sample>>,
    /// What clients minimize.
    pub objective: Objective,
    /// How they train.
    pub hyper: Hyper,
    /// Most jobs in one pass.
    pub jobs: usize,
    /// Rows that are evaluated in one pass, the longest of all last; none where nothing is evaluated.
    pub evaluated: Vec<Arc<Sample>>,
}

/// The shapes up to which a machine was tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestedShapes {
    /// Rows of the largest micro-batch.
    pub micro_batch_rows: u64,
    /// Tokens of the largest micro-batch.
    pub micro_batch_tokens: u64,
    /// Tokens of the longest row, trained or evaluated.
    pub longest_row_tokens: u64,
    /// Tokens that were evaluated in one pass.
    pub evaluated_tokens: u64,
    /// Most clients that shared a pass with their largest micro-batches.
    pub clients_in_a_pass: u64,
    /// Tokens of the largest pass.
    pub tokens_in_a_pass: u64,
    /// Threads inside an operation, the fewer first.
    pub threads: [u64; 2],
}

impl TestedShapes {
    /// Whether what was shown at these shapes was shown at `others` too.
    pub fn cover(&self, others: &Self) -> bool {
        self.micro_batch_rows >= others.micro_batch_rows
            && self.micro_batch_tokens >= others.micro_batch_tokens
            && self.longest_row_tokens >= others.longest_row_tokens
            && self.evaluated_tokens >= others.evaluated_tokens
            && self.clients_in_a_pass >= others.clients_in_a_pass
            && self.tokens_in_a_pass >= others.tokens_in_a_pass
            && self.threads == others.threads
    }
}

impl LargestWork {
    /// The shapes that a test with this work has on `threads` threads.
    pub fn shapes(&self, threads: usize) -> TestedShapes {
        let small_rows = LENGTHS.iter().flat_map(|lengths| lengths.iter());
        let longest_small = small_rows.copied().max().unwrap_or(0);
        let rows = self.micro_batch.iter().chain(&self.evaluated);
        let longest = rows.map(|row| row.ids.len() as u64).max().unwrap_or(0);
        let small_tokens = LENGTHS.iter().map(|lengths| lengths.iter().sum::<u32>()).max().unwrap_or(0);
        let small_pass = LENGTHS.iter().map(|lengths| lengths.iter().sum::<u32>()).sum::<u32>();
        let small_count = LENGTHS.iter().map(|lengths| lengths.len()).max().unwrap_or(0);
        let mut both = [threads as u64, other_than(threads) as u64];
        both.sort_unstable();
        TestedShapes {
            micro_batch_rows: self.micro_batch.len().max(small_count) as u64,
            micro_batch_tokens: tokens(&self.micro_batch).max(u64::from(small_tokens)),
            longest_row_tokens: longest.max(u64::from(longest_small)),
            evaluated_tokens: tokens(&self.evaluated),
            clients_in_a_pass: self.jobs.max(1) as u64,
            tokens_in_a_pass: self.tokens_in_company().max(u64::from(small_pass)),
            threads: both,
        }
    }

    /// Tokens of the pass in which the largest micro-batch has company: as many of its kind as share a pass, and a small one.
    pub fn tokens_in_company(&self) -> u64 {
        if self.micro_batch.is_empty() {
            return 0;
        }
        let small = u64::from(LENGTHS[0].iter().sum::<u32>());
        tokens(&self.micro_batch) * self.jobs.max(1) as u64 + small
    }

    /// Tokens that a test with this work trains, and those that it evaluates.
    pub fn tested_tokens(&self) -> [u64; 2] {
        let longest = self.evaluated.last().map_or(0, |row| row.ids.len() as u64);
        [tokens(&self.micro_batch) + self.tokens_in_company(), longest + tokens(&self.evaluated)]
    }
}

fn tokens(rows: &[Arc<Sample>]) -> u64 {
    rows.iter().map(|row| row.ids.len() as u64).sum()
}

/// The number of threads that a test compares `threads` with.
fn other_than(threads: usize) -> usize {
    if threads > 1 { 1 } else { 2 }
}

/// Lengths of the rows of the three jobs: none a multiple of 16, some shorter than that, two alike.
const LENGTHS: [&[u32]; 3] = [&[23, 9, 9], &[61], &[37, 5]];

impl Trainer {
    /// Trains three small jobs of this trainer's shapes in several ways and compares their bits.
    ///
    /// # Errors
    /// If LibTorch fails.
    pub fn self_test(&self) -> Result<SelfTest, Error> {
        let jobs = self.random_jobs();
        let together = self.train(&jobs)?;
        let again = self.train(&jobs)?;
        let alone = jobs.iter().map(|job| Ok(self.train(std::slice::from_ref(job))?.remove(0)));
        let alone = alone.collect::<Result<Vec<_>, Error>>()?;
        let threaded = self.with_threads(other_than(self.numerics.threads), || self.train(&jobs))?;
        Ok(SelfTest {
            repeats: same_bits(&together, &again),
            company: same_bits(&together, &alone),
            threads: same_bits(&together, &threaded),
            portable: self.numerics_class().is_portable(),
        })
    }

    /// [`Self::self_test`], and the same with the largest work of a run: trained alone and with as many jobs as share a pass
    /// in the run, evaluated alone and with other rows, each on another number of threads.
    ///
    /// # Errors
    /// If the work does not fit this trainer or the memory, or LibTorch fails.
    pub fn self_test_with(&self, work: &LargestWork) -> Result<SelfTest, Error> {
        let mut found = self.self_test()?;
        if !work.micro_batch.is_empty() {
            let company = self.company_of(work);
            let place = company.len() - 1;
            let alone = || Ok(bits(&self.train(&company[place..])?[0]));
            let together = || Ok(bits(&self.train(&company)?[place]));
            found = self.compared(&alone, &together)?.and(found);
        }
        if let Some(longest) = work.evaluated.last() {
            let adapter = self.varied_adapter(0);
            let loss_of_last = |rows: &[Arc<Sample>]| {
                let last = self.evaluate(&adapter, rows)?.pop().expect("every row has a loss");
                Ok((last.nats.to_bits(), last.hits))
            };
            let alone = || loss_of_last(std::slice::from_ref(longest));
            let together = || loss_of_last(&work.evaluated);
            found = self.compared(&alone, &together)?.and(found);
        }
        Ok(found)
    }

    /// What differs between two ways to compute the same. Both are run once, on different numbers of threads; more is run
    /// only where that gives different bits, to tell the cause.
    fn compared<T: PartialEq>(
        &self,
        alone: &dyn Fn() -> Result<T, Error>,
        together: &dyn Fn() -> Result<T, Error>,
    ) -> Result<SelfTest, Error> {
        let portable = self.numerics_class().is_portable();
        let other = other_than(self.numerics.threads);
        let first = alone()?;
        let in_company = self.with_threads(other, together)?;
        if first == in_company {
            return Ok(SelfTest { repeats: true, company: true, threads: true, portable });
        }
        let again = alone()?;
        let threaded = self.with_threads(other, alone)?;
        Ok(SelfTest { repeats: first == again, company: threaded == in_company, threads: first == threaded, portable })
    }

    /// One small job, and then as many of the largest as share a pass. The small one moves the others from the first rows
    /// of the pass.
    fn company_of(&self, work: &LargestWork) -> Vec<Job> {
        let small = Job { objective: Objective::Sft, ..self.random_job(0, LENGTHS[0]) };
        let mut small = Job { hyper: work.hyper.clone(), ..small };
        small.steps.truncate(1);
        let mut jobs = vec![small];
        for number in 1..=work.jobs.max(1) as u64 {
            jobs.push(Job {
                adapter: Arc::new(self.varied_adapter(number)),
                steps: vec![vec![work.micro_batch.clone()]],
                objective: work.objective,
                terms: Terms::default(),
                hyper: work.hyper.clone(),
                seed: Seed(0),
                stream: number,
            });
        }
        jobs
    }

    /// An adapter none of whose values is zero, as in the middle of a training: a fresh one has no gradient at A.
    fn varied_adapter(&self, number: u64) -> Adapter {
        let mut adapter = Adapter::initial(self.layout(), Seed(number));
        for (index, value) in adapter.values.iter_mut().enumerate() {
            // Multiples of the golden ratio are spread evenly between 0 and 1.
            let spread = (index as u64 + number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            *value += (spread as f32 / (1u32 << 24) as f32 - 0.5) * 0.02;
        }
        adapter
    }

    /// The first of other devices that gives other bits than this one, for the same small jobs.
    ///
    /// # Errors
    /// If LibTorch fails.
    pub fn first_to_differ<'t>(&self, others: &'t [Arc<Self>]) -> Result<Option<&'t Self>, Error> {
        if others.is_empty() {
            return Ok(None);
        }
        let jobs = self.random_jobs();
        let own = self.train(&jobs)?;
        for other in others {
            if self.numerics_class() != other.numerics_class() || !same_bits(&own, &other.train(&jobs)?) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    fn random_jobs(&self) -> Vec<Job> {
        LENGTHS.iter().enumerate().map(|(n, lengths)| self.random_job(n as u64, lengths)).collect()
    }

    fn random_job(&self, number: u64, lengths: &[u32]) -> Job {
        let config = &self.base.config;
        let mut stream = Stream::new(Seed(0), Purpose::SyntheticData, u64::MAX - number);
        let mut row = |length: u32| {
            let length = length.min(config.max_positions as u32).max(2);
            let ids = (0..length).map(|_| stream.below(config.vocab_size as u64) as u32).collect();
            Arc::new(Sample { ids, targets: std::iter::once(length / 2..length).collect() })
        };
        let rows: Vec<Arc<Sample>> = lengths.iter().map(|&length| row(length)).collect();
        Job {
            adapter: Arc::new(Adapter::initial(self.layout(), Seed(number))),
            steps: vec![vec![rows]; 2],
            objective: Objective::Sft,
            terms: Terms::default(),
            hyper: Hyper::default(),
            seed: Seed(0),
            stream: number,
        }
    }
}

fn same_bits(left: &[Outcome], right: &[Outcome]) -> bool {
    left.iter().map(bits).eq(right.iter().map(bits))
}

/// What of an outcome must not differ.
fn bits(outcome: &Outcome) -> (blake3::Hash, Vec<u64>) {
    (outcome.adapter.hash(), outcome.losses.iter().map(|loss| loss.to_bits()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(length: u32) -> Arc<Sample> {
        Arc::new(Sample { ids: vec![1; length as usize], targets: std::iter::once(1..length).collect() })
    }

    #[test]
    fn shapes_are_those_of_the_largest_work() {
        let work = LargestWork {
            micro_batch: vec![row(512), row(300)],
            jobs: 4,
            evaluated: vec![row(20), row(600)],
            ..LargestWork::default()
        };
        let shapes = work.shapes(1);
        assert_eq!((shapes.micro_batch_rows, shapes.micro_batch_tokens), (3, 812), "a small job has three rows");
        assert_eq!((shapes.longest_row_tokens, shapes.evaluated_tokens), (600, 620));
        assert_eq!((shapes.clients_in_a_pass, shapes.threads), (4, [1, 2]));
        assert_eq!(work.shapes(2).threads, [1, 2]);
        assert_eq!(work.shapes(5).threads, [1, 5]);
        assert_eq!(work.tested_tokens(), [812 * 5 + 41, 1220]);
    }

    #[test]
    fn larger_shapes_cover_smaller_ones() {
        let of = |length| LargestWork { micro_batch: vec![row(length); 4], ..LargestWork::default() }.shapes(1);
        assert!(of(500).cover(&of(400)) && of(400).cover(&of(400)));
        assert!(!of(400).cover(&of(500)));
        let nothing = LargestWork::default();
        assert!(!nothing.shapes(3).cover(&nothing.shapes(1)), "on other threads anything may differ");
    }
}
