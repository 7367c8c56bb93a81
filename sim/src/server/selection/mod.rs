//! Client selection. Each policy documents the information that it reads. Policies that read training results return
//! true from [`Selection::reads_results`], and the simulation then requests the results of counted tasks.

mod memory;
mod mersenne;
mod oort;
mod poisson;
mod power_of_choice;
mod python;
mod round_robin;
mod uniform;
mod weighted;

pub(crate) use memory::Memory;
pub use memory::TaskReport;
pub use mersenne::Mersenne;
pub use oort::Oort;
pub use python::sample;

use crate::random::{Probability, Stream};
use serde::{Deserialize, Serialize};

/// A selection policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// Uniform without replacement. Reads the candidates.
    #[default]
    Uniform,
    /// Each candidate independently with this probability, regardless of the number wanted. Privacy amplification by
    /// subsampling assumes this. Reads the candidates.
    Poisson {
        /// Sampling rate.
        rate: Probability,
    },
    /// Sequentially without replacement, in proportion to the rows of training data. Reads candidates and rows.
    BySize,
    /// Round robin by number. Reads candidates and the client selected last.
    RoundRobin,
    /// Uniform among the candidates that stay online for the nominal time of their task, then among the others. Reads
    /// candidates and, as an oracle, how long each stays online.
    AvailabilityAware,
    /// Power of choice, Cho et al. (2020): draws this many candidates in proportion to their rows, and selects those
    /// with the greatest loss; clients that have never reported come first. Reads candidates, rows, and the last loss
    /// of each client whose task counted (the paper's variant `rpow-d`).
    PowerOfChoice {
        /// Number of candidates to draw; at least the number wanted.
        draw: u32,
    },
    /// Oort, Lai et al. (2021). Reads candidates, rows, and loss and duration of each client's last counted task.
    Oort(Oort),
    /// The selection of FedLLM-Bench: `random.seed(round); sorted(random.sample(range(N), wanted))` of CPython, or all
    /// clients if at least N are wanted. Reads the round; the master seed has no influence.
    PythonSample,
}

impl Selection {
    /// Returns whether the policy reads training results.
    pub const fn reads_results(&self) -> bool {
        matches!(self, Selection::PowerOfChoice { .. } | Selection::Oort(_))
    }
}

/// Information available to a selection.
pub(crate) struct View<'a> {
    /// Random stream of this selection.
    pub stream: Stream,
    /// Number of clients.
    pub population: u32,
    /// Round of the aggregator that selects.
    pub round: u32,
    /// Number of clients wanted.
    pub wanted: u32,
    /// Whether a client can be selected now.
    pub is_candidate: &'a mut dyn FnMut(u32) -> bool,
    /// Whether a client stays online for the nominal time of its task.
    pub lasts: &'a mut dyn FnMut(u32) -> bool,
    /// Number of rows of training data of a client.
    pub samples: &'a dyn Fn(u32) -> u32,
    /// State of policies across rounds.
    pub memory: &'a mut Memory,
    /// Aggregator that selects.
    pub aggregator: u32,
}

impl View<'_> {
    /// Returns all candidates, ascending.
    fn candidates(&mut self) -> Vec<u32> {
        (0..self.population).filter(|client| (self.is_candidate)(*client)).collect()
    }
}

impl Selection {
    /// Returns the selected candidates, ascending: at most the number wanted, except with Poisson selection.
    pub(crate) fn select(&self, view: View<'_>) -> Vec<u32> {
        let mut chosen = match self {
            Selection::Uniform => uniform::select(view),
            Selection::Poisson { rate } => poisson::select(view, *rate),
            Selection::BySize => weighted::select_by_size(view),
            Selection::RoundRobin => round_robin::select(view),
            Selection::AvailabilityAware => uniform::select_lasting(view),
            Selection::PowerOfChoice { draw } => power_of_choice::select(view, *draw),
            Selection::Oort(policy) => policy.select(view),
            Selection::PythonSample => python::select(view),
        };
        chosen.sort_unstable();
        chosen
    }
}

#[cfg(test)]
mod testing {
    //! Selections by hand: ten clients with rows equal to their number plus one.

    use super::{Memory, Selection, View};
    use crate::random::{Purpose, Seed, Stream};

    pub(super) struct Bench {
        pub memory: Memory,
        pub offline: Vec<u32>,
        pub leaving: Vec<u32>,
        pub population: u32,
    }

    impl Default for Bench {
        fn default() -> Self {
            Self { memory: Memory::default(), offline: vec![], leaving: vec![], population: 10 }
        }
    }

    impl Bench {
        pub fn select(&mut self, selection: Selection, round: u32, wanted: u32) -> Vec<u32> {
            selection.select(View {
                stream: Stream::new(Seed(1), Purpose::Selection, u64::from(round)),
                population: self.population,
                round,
                wanted,
                is_candidate: &mut |client| !self.offline.contains(&client),
                lasts: &mut |client| !self.leaving.contains(&client),
                samples: &|client| client + 1,
                memory: &mut self.memory,
                aggregator: 0,
            })
        }
    }
}
