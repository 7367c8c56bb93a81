//! Seeds by purpose: the master seed, unless an intervention replaced it for a purpose.

use super::{Purpose, Seed, Stream};
use serde::{Deserialize, Serialize};

/// A master seed with exceptions by purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seeds {
    master: Seed,
    /// At most one per purpose; a list, because there are few.
    exceptions: Vec<(Purpose, Seed)>,
}

impl Seeds {
    /// Returns one seed for all purposes.
    pub fn new(master: Seed) -> Self {
        Self { master, exceptions: Vec::new() }
    }

    /// Sets the seed of `purpose`. Streams of other purposes draw the same numbers as before.
    pub fn reseed(&mut self, purpose: Purpose, seed: Seed) {
        self.exceptions.retain(|(known, _)| *known != purpose);
        self.exceptions.push((purpose, seed));
    }

    /// Returns the stream of `purpose` for `entity`, at its first draw.
    pub fn stream(&self, purpose: Purpose, entity: u64) -> Stream {
        let exception = self.exceptions.iter().find(|(known, _)| *known == purpose);
        Stream::new(exception.map_or(self.master, |(_, seed)| *seed), purpose, entity)
    }
}
