//! Start-up test of the machine's determinism: whether results repeat, and whether they are batch-invariant and
//! independent of the number of threads.
//!
//! Small jobs of odd lengths are trained in several ways, and then the largest work of the run. Libraries choose their
//! kernels by shapes, so a small job proves nothing about a large one.

use std::sync::Arc;

use fedreplay_sim::{Purpose, Seed, Stream};
use serde::{Deserialize, Serialize};

use super::Error;
use super::engine::job::{AlgorithmTerms, Hyper, Job, Objective, TrainingOutcome};
use super::engine::trainer::Trainer;
use crate::adapter::{Adapter, BaseChange, ModuleChange};
use crate::data::Sample;

/// Result of the test. A grade that was not found is not promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTest {
    /// Whether the same job gave the same bits twice.
    pub repeats: bool,
    /// Whether a job gave the same bits alone and in one pass with others.
    pub company: bool,
    /// Whether one thread and several gave the same bits.
    pub threads: bool,
    /// Whether the numerics are portable, so that every processor of their class gives the same bits. One machine
    /// cannot test this: it is a property of the code in use.
    pub portable: bool,
}

/// Grades of determinism that a run may claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Grade {
    /// Even two runs on one machine may differ.
    None,
    /// The same binary, machine and settings give the same bits.
    A,
    /// In addition, so do any number of workers, of threads and of clients in a batch.
    B,
    /// In addition, so does any x86-64 processor with AVX2 and FMA.
    C,
}

impl Grade {
    /// Returns the grade with this name.
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
    /// Returns the properties that both tests found.
    fn and(self, other: Self) -> Self {
        Self {
            repeats: self.repeats && other.repeats,
            company: self.company && other.company,
            threads: self.threads && other.threads,
            portable: self.portable && other.portable,
        }
    }

    /// Returns the highest grade that was found.
    pub fn grade(&self) -> Grade {
        match (self.repeats, self.company && self.threads) {
            (false, _) => Grade::None,
            (true, false) => Grade::A,
            (true, true) if self.portable => Grade::C,
            (true, true) => Grade::B,
        }
    }
}

/// Largest work of a run, with which the machine is tested before the run begins.
#[derive(Clone, Debug, Default)]
pub struct LargestWork {
    /// Rows of the micro-batch with the most tokens; empty if nothing is trained.
    pub micro_batch: Vec<Arc<Sample>>,
    /// Objective of the clients' training.
    pub objective: Objective,
    /// Hyperparameters of the clients' training.
    pub hyper: Hyper,
    /// Greatest number of jobs in one pass.
    pub jobs: usize,
    /// Rows that are evaluated in one pass, with the longest of the run at the end; empty if nothing is evaluated.
    pub evaluated: Vec<Arc<Sample>>,
    /// Whether models have a change of the base.
    pub changes_base: bool,
}

/// Shapes up to which a machine was tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestedShapes {
    /// [row] -- Rows of the largest micro-batch.
    pub micro_batch_rows: u64,
    /// [token] -- Tokens of the largest micro-batch.
    pub micro_batch_tokens: u64,
    /// [token] -- Tokens of the longest row, trained or evaluated.
    pub longest_row_tokens: u64,
    /// [token] -- Tokens that were evaluated in one pass.
    pub evaluated_tokens: u64,
    /// [client] -- Greatest number of clients that shared a pass with their largest micro-batches.
    pub clients_in_a_pass: u64,
    /// [token] -- Tokens of the largest pass.
    pub tokens_in_a_pass: u64,
    /// The two numbers of threads inside an operation that were compared, in ascending order.
    pub threads: [u64; 2],
    /// Whether the largest work was tested with a change of the base.
    // Manifests were written without this field before there were methods that change it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changed_base: bool,
}

impl TestedShapes {
    /// Returns whether a test at these shapes also holds for the shapes `others`.
    pub fn cover(&self, others: &Self) -> bool {
        self.micro_batch_rows >= others.micro_batch_rows
            && self.micro_batch_tokens >= others.micro_batch_tokens
            && self.longest_row_tokens >= others.longest_row_tokens
            && self.evaluated_tokens >= others.evaluated_tokens
            && self.clients_in_a_pass >= others.clients_in_a_pass
            && self.tokens_in_a_pass >= others.tokens_in_a_pass
            && self.threads == others.threads
            && (self.changed_base || !others.changed_base)
    }
}

impl LargestWork {
    /// Returns the shapes of a test with this work on `threads` threads.
    pub fn shapes(&self, threads: usize) -> TestedShapes {
        // The small jobs are tested too, so their shapes are a lower bound.
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
            changed_base: self.changes_base,
        }
    }

    /// Returns the tokens of the pass in which as many of the largest micro-batches as a pass may hold are trained
    /// together with a small one.
    pub fn tokens_in_company(&self) -> u64 {
        if self.micro_batch.is_empty() {
            return 0;
        }
        let small = u64::from(LENGTHS[0].iter().sum::<u32>());
        tokens(&self.micro_batch) * self.jobs.max(1) as u64 + small
    }

    /// Returns the tokens that a test with this work trains, and those that it evaluates.
    pub fn tested_tokens(&self) -> [u64; 2] {
        let longest = self.evaluated.last().map_or(0, |row| row.ids.len() as u64);
        [tokens(&self.micro_batch) + self.tokens_in_company(), longest + tokens(&self.evaluated)]
    }
}

/// Returns the number of tokens in all rows.
fn tokens(rows: &[Arc<Sample>]) -> u64 {
    rows.iter().map(|row| row.ids.len() as u64).sum()
}

/// Returns the number of threads with which a test compares `threads`.
fn other_than(threads: usize) -> usize {
    if threads > 1 { 1 } else { 2 }
}

/// Lengths of the rows of the three small jobs: none is a multiple of 16, some are shorter, two are equal.
const LENGTHS: [&[u32]; 3] = [&[23, 9, 9], &[61], &[37, 5]];

impl Trainer {
    /// Trains three small jobs in several ways and compares the bits of the results.
    ///
    /// # Errors
    /// If LibTorch fails.
    pub fn self_test(&self) -> Result<SelfTest, Error> {
        let jobs = self.random_jobs();
        let together = self.train(&jobs)?;
        let again = self.train(&jobs)?;
        let mut alone = Vec::new();
        for job in &jobs {
            alone.extend(self.train(std::slice::from_ref(job))?);
        }
        let threaded = self.with_threads(other_than(self.numerics.threads), || self.train(&jobs))?;
        Ok(SelfTest {
            repeats: same_bits(&together, &again),
            company: same_bits(&together, &alone),
            threads: same_bits(&together, &threaded),
            portable: self.numerics_class().is_portable(),
        })
    }

    /// Performs [`Self::self_test`] and tests the largest work of a run: it is trained alone and with as many jobs as
    /// share a pass in the run, and evaluated alone and with other rows, each on a different number of threads.
    ///
    /// # Errors
    /// If the work does not fit this trainer or the memory, or LibTorch fails.
    pub fn self_test_with(&self, work: &LargestWork) -> Result<SelfTest, Error> {
        let mut found = self.self_test()?;
        if !work.micro_batch.is_empty() {
            let company = self.company_of(work);
            let place = company.len() - 1;
            let compared = self.compared(&|| Ok(bits(&self.train(&company[place..])?[0])), &|| {
                Ok(bits(&self.train(&company)?[place]))
            })?;
            found = compared.and(found);
        }
        if let Some(longest) = work.evaluated.last() {
            let adapter = self.adapter_of(work, 0);
            let compared = self.compared(&|| self.bits_of_last(&adapter, std::slice::from_ref(longest)), &|| {
                self.bits_of_last(&adapter, &work.evaluated)
            })?;
            found = compared.and(found);
        }
        Ok(found)
    }

    /// Evaluates rows and returns the bits of the last one's loss.
    fn bits_of_last(&self, adapter: &Adapter, rows: &[Arc<Sample>]) -> Result<(u64, u32), Error> {
        let last = self.evaluate(adapter, rows)?.pop().expect("every row has a loss");
        Ok((last.nats.to_bits(), last.hits))
    }

    /// Compares two computations of the same value, which are run on different numbers of threads. Only if they differ,
    /// they are run again to find the cause.
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
        // Change one condition at a time: nothing, the number of threads, the batch.
        let again = alone()?;
        let threaded = self.with_threads(other, alone)?;
        Ok(SelfTest { repeats: first == again, company: threaded == in_company, threads: first == threaded, portable })
    }

    /// Returns one small job followed by as many of the largest ones as share a pass. The small one shifts the others
    /// away from the first rows of the pass.
    fn company_of(&self, work: &LargestWork) -> Vec<Job> {
        let small = Job { objective: Objective::Sft, ..self.random_job(0, LENGTHS[0]) };
        let mut small = Job { hyper: work.hyper.clone(), ..small };
        small.steps.truncate(1);
        let mut jobs = vec![small];
        for number in 1..=work.jobs.max(1) as u64 {
            jobs.push(Job {
                adapter: Arc::new(self.adapter_of(work, number)),
                steps: vec![vec![work.micro_batch.clone()]],
                objective: work.objective,
                terms: AlgorithmTerms::default(),
                hyper: work.hyper.clone(),
                seed: Seed(0),
                stream: number,
            });
        }
        jobs
    }

    /// Returns a varied adapter of the largest work, with a change of the base if the work has one: of all elements in every
    /// second module, and in the others as the factors of the greatest rank that is kept.
    fn adapter_of(&self, work: &LargestWork, number: u64) -> Adapter {
        let adapter = self.varied_adapter(number);
        if !work.changes_base {
            return adapter;
        }
        let mut modules = Vec::with_capacity(adapter.layout.modules.len());
        for (index, (module, (a, b))) in adapter.layout.modules.iter().zip(adapter.layout.ranges()).enumerate() {
            let repeated = |range: std::ops::Range<usize>, length: usize| {
                adapter.values[range].iter().copied().cycle().take(length).collect::<Vec<f32>>()
            };
            let widths = [module.in_features, module.out_features];
            let rank = (widths[0].min(widths[1]) / 2).max(1);
            modules.push(match index % 2 {
                0 => ModuleChange::Dense(repeated(a, widths[0] * widths[1])),
                _ => ModuleChange::Factors {
                    rank,
                    columns: repeated(b, rank * widths[1]),
                    rows: repeated(a, rank * widths[0]),
                },
            });
        }
        adapter.on(Some(Arc::new(BaseChange { modules })))
    }

    /// Returns an adapter without zeros, as in the middle of training: in a fresh one B is zero, so that A has no
    /// gradient.
    fn varied_adapter(&self, number: u64) -> Adapter {
        let mut adapter = Adapter::initial(self.layout(), Seed(number));
        for (index, value) in adapter.values.iter_mut().enumerate() {
            // The fractional parts of multiples of the golden ratio are spread evenly over [0, 1).
            let spread = (index as u64 + number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            *value += (spread as f32 / (1u32 << 24) as f32 - 0.5) * 0.02;
        }
        adapter
    }

    /// Trains the small jobs on other devices and returns the first whose bits differ from this one's.
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

    /// Returns the small jobs.
    fn random_jobs(&self) -> Vec<Job> {
        LENGTHS.iter().enumerate().map(|(n, lengths)| self.random_job(n as u64, lengths)).collect()
    }

    /// Returns a job of two equal steps with rows of random tokens, the second half of which are targets.
    fn random_job(&self, number: u64, lengths: &[u32]) -> Job {
        let config = &self.base.config;
        let mut stream = Stream::new(Seed(0), Purpose::SyntheticData, u64::MAX - number);
        let mut rows = Vec::new();
        for &length in lengths {
            let length = length.min(config.max_positions as u32).max(2);
            let ids = (0..length).map(|_| stream.below(config.vocab_size as u64) as u32).collect();
            rows.push(Arc::new(Sample { ids, targets: std::iter::once(length / 2..length).collect() }));
        }
        Job {
            adapter: Arc::new(Adapter::initial(self.layout(), Seed(number))),
            steps: vec![vec![rows]; 2],
            objective: Objective::Sft,
            terms: AlgorithmTerms::default(),
            hyper: Hyper::default(),
            seed: Seed(0),
            stream: number,
        }
    }
}

/// Returns whether all outcomes have the same bits.
fn same_bits(left: &[TrainingOutcome], right: &[TrainingOutcome]) -> bool {
    left.iter().map(bits).eq(right.iter().map(bits))
}

/// Returns the parts of an outcome that must not differ.
fn bits(outcome: &TrainingOutcome) -> (blake3::Hash, Vec<u64>) {
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
