//! The seed of each purpose: one for all, until an intervention gives a purpose another.

use super::{Purpose, Seed, Stream};
use serde::{Deserialize, Serialize};

/// A master seed and exceptions from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seeds {
    master: Seed,
    /// Few, so a list; at most one a purpose.
    exceptions: Vec<(Purpose, Seed)>,
}

impl Seeds {
    /// One seed for all purposes.
    pub fn new(master: Seed) -> Self {
        Self { master, exceptions: Vec::new() }
    }

    /// Gives `purpose` a seed of its own. Streams of other purposes draw the same numbers as before.
    pub fn reseed(&mut self, purpose: Purpose, seed: Seed) {
        self.exceptions.retain(|(known, _)| *known != purpose);
        self.exceptions.push((purpose, seed));
    }

    /// The stream of `purpose` for `entity`, at its first draw.
    pub fn stream(&self, purpose: Purpose, entity: u64) -> Stream {
        let exception = self.exceptions.iter().find(|(known, _)| *known == purpose);
        Stream::new(exception.map_or(self.master, |(_, seed)| *seed), purpose, entity)
    }
}
