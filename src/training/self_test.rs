//! A start-up test of what this machine gives: the same bits twice, in company, and on several threads.

use std::sync::Arc;

use fedreplay_sim::{Purpose, Seed, Stream};
use serde::{Deserialize, Serialize};

use super::job::{Hyper, Job, Objective, Terms};
use super::{Error, Outcome, Trainer};
use crate::adapter::Adapter;
use crate::dataset::Sample;

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
        let threads = if self.numerics.threads > 1 { 1 } else { 2 };
        let threaded = self.with_threads(threads, || self.train(&jobs))?;
        Ok(SelfTest {
            repeats: same_bits(&together, &again),
            company: same_bits(&together, &alone),
            threads: same_bits(&together, &threaded),
            portable: self.numerics_class().is_portable(),
        })
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
    let bits = |outcome: &Outcome| {
        let losses: Vec<u64> = outcome.losses.iter().map(|loss| loss.to_bits()).collect();
        (outcome.adapter.hash(), losses)
    };
    left.iter().map(bits).eq(right.iter().map(bits))
}
