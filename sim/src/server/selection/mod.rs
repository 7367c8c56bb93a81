//! Whom the server asks. Each policy states what it reads; those that read training results say so by
//! [`Selection::reads_results`], and the simulation then asks for the results of the tasks that counted.

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
pub use mersenne::Mersenne;
pub use oort::Oort;
pub use python::sample;

use crate::random::{Probability, Stream};
use serde::{Deserialize, Serialize};

/// A selection policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// Uniform without replacement. Reads who is a candidate.
    #[default]
    Uniform,
    /// Each candidate on its own with this probability, whatever number is wanted: what amplification by sampling in
    /// differential privacy assumes. Reads who is a candidate.
    Poisson {
        /// The sampling rate.
        rate: Probability,
    },
    /// One after the other without replacement, in proportion to the rows of training data. Reads candidates and rows.
    BySize,
    /// In turns by number. Reads candidates and who was asked last.
    RoundRobin,
    /// Uniform among the candidates that stay online for the nominal time of their task, then among the others. Reads
    /// candidates and, as an oracle would, how long each stays online.
    AvailabilityAware,
    /// Power of choice, Cho et al. (2020): draws this many candidates in proportion to their rows, and takes those with
    /// the greatest loss; who has never reported comes first. Reads candidates, rows, and the last loss of each
    /// client whose task counted (the paper's variant `rpow-d`).
    PowerOfChoice {
        /// Candidates to draw -- at least as many as are wanted.
        draw: u32,
    },
    /// Oort, Lai et al. (2021). Reads candidates, rows, and loss and duration of each client's last counted task.
    Oort(Oort),
    /// What FedLLM-Bench does: `random.seed(round); sorted(random.sample(range(N), wanted))` of CPython, or all clients
    /// if that many are wanted or more. Reads the round; the master seed has no influence.
    PythonSample,
}

impl Selection {
    /// Whether the policy reads results of training.
    pub const fn reads_results(&self) -> bool {
        matches!(self, Selection::PowerOfChoice { .. } | Selection::Oort(_))
    }
}

/// What a selection may look at.
pub(crate) struct View<'a> {
    /// The stream of this draw.
    pub stream: Stream,
    /// Number of clients.
    pub population: u32,
    /// The round of the aggregator that asks.
    pub round: u32,
    /// How many clients are wanted.
    pub wanted: u32,
    /// Whether a client can be selected now.
    pub is_candidate: &'a mut dyn FnMut(u32) -> bool,
    /// Whether a client stays online for the nominal time of its task.
    pub lasts: &'a mut dyn FnMut(u32) -> bool,
    /// Rows of training data of a client.
    pub samples: &'a dyn Fn(u32) -> u32,
    /// What selections remember.
    pub memory: &'a mut Memory,
    /// Who asks.
    pub aggregator: u32,
}

impl View<'_> {
    /// All candidates, ascending.
    fn candidates(&mut self) -> Vec<u32> {
        (0..self.population).filter(|client| (self.is_candidate)(*client)).collect()
    }
}

impl Selection {
    /// The candidates to ask, ascending: at most as many as are wanted, except by Poisson.
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
