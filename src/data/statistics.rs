//! Summary statistics of a federation, in the manner of FedLLM-Bench's Table 1, and the unit of lengths of texts.

use std::path::Path;

use super::error::{DatasetError, TokenizerError};
use super::sample::Sample;
use super::tokenizer::Tokenizer;

/// Counts of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientStatistics {
    /// The client's id.
    pub client: String,
    /// Number of samples.
    pub samples: u64,
    /// [token] -- Tokens that are not trained on, template and BOS included.
    pub prompt_tokens: u64,
    /// [token] -- Tokens that are trained on, EOS included.
    pub response_tokens: u64,
}

/// Statistics of a federation and of each of its clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// One entry per client, in order.
    pub clients: Vec<ClientStatistics>,
    /// Number of samples.
    pub samples: u64,
    /// Samples per client.
    pub samples_per_client: Spread,
    /// [token] -- Prompt length of a sample, over all samples.
    pub prompt_tokens: Spread,
    /// [token] -- Response length of a sample, over all samples.
    pub response_tokens: Spread,
}

/// A running summary of values in constant memory. Summaries can be merged, and [`Tally::spread`] evaluates them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    count: u64,
    sum: u128,
    squares: u128,
    min: u64,
    max: u64,
}

impl Tally {
    /// Adds a value.
    pub fn add(&mut self, value: u64) {
        self.merge(Self { count: 1, sum: value.into(), squares: u128::from(value).pow(2), min: value, max: value });
    }

    /// Adds the values of another summary. All sums are of integers, so the result does not depend on the order.
    pub fn merge(&mut self, other: Self) {
        let Self { count, sum, squares, min, max } = other;
        if count == 0 {
            return;
        }
        self.min = if self.count == 0 { min } else { self.min.min(min) };
        self.max = self.max.max(max);
        self.count += count;
        self.sum += sum;
        // u128 holds 2^64 squares of values below 2^32, and no length is larger than that.
        self.squares = self.squares.saturating_add(squares);
    }

    /// Returns the number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the sum of the values.
    pub fn sum(&self) -> u64 {
        u64::try_from(self.sum).unwrap_or(u64::MAX)
    }

    /// Returns the spread of the values; all zero if there are none.
    pub fn spread(&self) -> Spread {
        if self.count == 0 {
            return Spread::default();
        }
        // deviation = sqrt(n sum(x^2) - sum(x)^2) / n. The difference is exact in integers and never below 0, unlike
        // the difference of two rounded means.
        let count = u128::from(self.count);
        let scatter = (count.saturating_mul(self.squares)).saturating_sub(self.sum.saturating_mul(self.sum));
        let mean = self.sum as f64 / count as f64;
        let deviation = (scatter as f64).sqrt() / count as f64;
        Spread { mean, deviation, min: self.min, max: self.max }
    }
}

/// Mean and population standard deviation, as in Table 1, with the range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Arithmetic mean.
    pub mean: f64,
    /// Population standard deviation (divided by n).
    pub deviation: f64,
    /// Smallest value.
    pub min: u64,
    /// Largest value.
    pub max: u64,
}

impl Statistics {
    /// Computes the statistics of `clients`, given as pairs of id and samples.
    pub fn of<'a>(clients: impl IntoIterator<Item = (&'a str, &'a [Sample])>) -> Self {
        let mut prompts = Vec::new();
        let mut responses = Vec::new();
        let mut figures = Vec::new();
        for (client, samples) in clients {
            // The lengths of all clients share one list; this client's begin at `first`.
            let first = prompts.len();
            for sample in samples {
                let learnt = sample.target_tokens();
                prompts.push(sample.ids.len() as u64 - learnt);
                responses.push(learnt);
            }
            figures.push(ClientStatistics {
                client: client.to_owned(),
                samples: samples.len() as u64,
                prompt_tokens: prompts[first..].iter().sum(),
                response_tokens: responses[first..].iter().sum(),
            });
        }
        let counts: Vec<u64> = figures.iter().map(|client| client.samples).collect();
        Self {
            clients: figures,
            samples: counts.iter().sum(),
            samples_per_client: Spread::of(&counts),
            prompt_tokens: Spread::of(&prompts),
            response_tokens: Spread::of(&responses),
        }
    }
}

impl Spread {
    /// Computes the spread of `values`; all zero if there are none.
    pub fn of(values: &[u64]) -> Self {
        let mut tally = Tally::default();
        for &value in values {
            tally.add(value);
        }
        tally.spread()
    }
}

/// A measure of the length of a text.
pub enum Ruler {
    /// Words separated by white space.
    Words,
    /// Tokens of a model's tokenizer, without template and special tokens.
    Tokens(Box<Tokenizer>),
}

impl Ruler {
    /// Counts in tokens of the tokenizer in this folder, or in words if there is none.
    ///
    /// # Errors
    /// If the tokenizer cannot be loaded.
    pub fn new(tokenizer: Option<&Path>) -> Result<Self, DatasetError> {
        Ok(match tokenizer {
            Some(folder) => Self::Tokens(Box::new(Tokenizer::load(folder)?)),
            None => Self::Words,
        })
    }

    /// Returns the name of the unit.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Tokens(_) => "tokens",
        }
    }

    /// Returns the length of a text.
    ///
    /// # Errors
    /// The tokenizer's message.
    pub fn length(&self, text: &str) -> Result<u64, TokenizerError> {
        match self {
            Self::Words => Ok(text.split_whitespace().count() as u64),
            Self::Tokens(tokenizer) => Ok(tokenizer.encode(text)?.ids.len() as u64),
        }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    /// The 38 client sizes of Fed-Aya, as printed by a run of the benchmark; its Table 1 gives 671 +- 815.
    const FED_AYA: [u64; 38] = [
        421, 1576, 5016, 418, 1555, 365, 783, 935, 1223, 795, 516, 476, 447, 614, 361, 1363, 298, 1418, 809, 192, 493,
        289, 194, 139, 235, 209, 347, 713, 533, 417, 175, 492, 271, 418, 293, 223, 270, 221,
    ];

    #[test]
    fn the_spread_of_fed_aya_is_the_published_one() {
        let spread = Spread::of(&FED_AYA);
        assert_eq!((spread.mean.round(), spread.deviation.round()), (671.0, 815.0));
        assert_eq!((spread.min, spread.max, FED_AYA.iter().sum::<u64>()), (139, 5016, 25_513));
    }

    #[test]
    fn parts_of_values_come_to_the_spread_of_all() {
        let mut whole = Tally::default();
        for part in FED_AYA.chunks(7) {
            let mut tally = Tally::default();
            part.iter().for_each(|&value| tally.add(value));
            whole.merge(tally);
        }
        whole.merge(Tally::default());
        assert_eq!((whole.spread(), whole.count(), whole.sum()), (Spread::of(&FED_AYA), 38, 25_513));
        assert_eq!(Tally::default().spread(), Spread::default());
        // Far from 0, where sums of squared floats lose the deviation.
        assert_eq!(Spread::of(&[u64::from(u32::MAX), u64::from(u32::MAX) - 2]).deviation, 1.0);
    }

    #[test]
    fn tokens_are_counted_by_part() {
        let sample = |length: u32, start: u32| Sample { ids: vec![0; length as usize], targets: vec![start..length] };
        let (a, b) = ([sample(10, 7), sample(6, 5)], [sample(4, 2)]);
        let statistics = Statistics::of([("a", &a[..]), ("b", &b[..])]);
        let expected = ClientStatistics { client: "a".into(), samples: 2, prompt_tokens: 12, response_tokens: 4 };
        assert_eq!(statistics.clients[0], expected);
        assert_eq!((statistics.samples, statistics.samples_per_client.mean), (3, 1.5));
        assert_eq!((statistics.response_tokens.min, statistics.response_tokens.max), (1, 3));
        assert_eq!(Statistics::of([]).prompt_tokens, Spread::default());
    }
}
