//! What a federation looks like in numbers, in the manner of FedLLM-Bench's Table 1.

use super::sample::Sample;

/// Figures of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientStatistics {
    /// The client's id.
    pub client: String,
    /// Number of samples.
    pub samples: u64,
    /// Tokens that are not learnt, template and BOS included.
    pub prompt_tokens: u64,
    /// Tokens that are learnt, EOS included.
    pub response_tokens: u64,
}

/// Figures of a federation, and of each client in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// One entry a client.
    pub clients: Vec<ClientStatistics>,
    /// Number of samples.
    pub samples: u64,
    /// Samples a client.
    pub samples_per_client: Spread,
    /// Prompt length of a sample, over all samples [token].
    pub prompt_tokens: Spread,
    /// Response length of a sample, over all samples [token].
    pub response_tokens: Spread,
}

/// A [`Spread`] under construction, in the memory of one: values come one after another, or whole tallies.
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

    /// Adds the values of another. Sums are of integers, so that no order of adding changes them.
    pub fn merge(&mut self, other: Self) {
        let Self { count, sum, squares, min, max } = other;
        if count == 0 {
            return;
        }
        self.min = if self.count == 0 { min } else { self.min.min(min) };
        self.max = self.max.max(max);
        self.count += count;
        self.sum += sum;
        // 2^64 squares of lengths below 2^32 fit; longer ones there are none.
        self.squares = self.squares.saturating_add(squares);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        u64::try_from(self.sum).unwrap_or(u64::MAX)
    }

    /// The spread of the values; all zero if there are none.
    pub fn spread(&self) -> Spread {
        if self.count == 0 {
            return Spread::default();
        }
        let count = u128::from(self.count);
        // n times the sum of squares less the square of the sum: exact, and never below 0.
        let scatter = (count.saturating_mul(self.squares)).saturating_sub(self.sum.saturating_mul(self.sum));
        let (count, mean) = (count as f64, self.sum as f64 / count as f64);
        Spread { mean, deviation: (scatter as f64).sqrt() / count, min: self.min, max: self.max }
    }
}

/// Mean and population deviation, the two figures of Table 1, and the range.
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
    /// Counts the samples of `clients`, given with their ids.
    pub fn of<'a>(clients: impl IntoIterator<Item = (&'a str, &'a [Sample])>) -> Self {
        let (mut prompts, mut responses, mut figures) = (vec![], vec![], vec![]);
        for (client, samples) in clients {
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
    /// The spread of `values`; all zero if there are none.
    pub fn of(values: &[u64]) -> Self {
        let mut tally = Tally::default();
        values.iter().for_each(|&value| tally.add(value));
        tally.spread()
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
