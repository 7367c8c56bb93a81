//! Server step from a round's mean update, and the server's state between rounds.

use std::sync::Arc;

use fedreplay_sim::Seed;
use serde::Serialize;

use super::averaging::add;
use super::{AdaptiveOptimizer, Momentum, SquareRule};
use crate::adapter::Adapter;

/// Rule by which the server computes the next model from the mean of a round's updates.
///
/// # Examples
///
/// Two rounds of FedAvgM in which the mean update is the same:
///
/// ```
/// use std::sync::Arc;
///
/// use fedreplay::adapter::{Adapter, Layout, Module};
/// use fedreplay::algorithm::{Momentum, ServerRule, ServerState};
///
/// let module = Module { path: "m".into(), in_features: 1, out_features: 1 };
/// let layout = Layout { rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false, modules: vec![module] };
/// let start = Adapter::zeros(Arc::new(layout));
/// let rule = ServerRule::Momentum(Momentum { beta: 0.5, lr: 1.0, averages: false });
/// let change = [1.0, -2.0];
/// let (first, state) = rule.apply(&start, &ServerState::default(), Some(&change));
/// assert_eq!(first.values, [1.0, -2.0]);
/// // The momentum is now 0.5 of the one before, plus the update.
/// let (second, _) = rule.apply(&first, &state, Some(&change));
/// assert_eq!(second.values, [2.5, -5.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum ServerRule {
    /// server + lr * mean.
    Average { lr: f64 },
    /// FedAvgM.
    Momentum(Momentum),
    /// FedAdagrad, FedYogi, FedAdam.
    Adaptive(AdaptiveOptimizer),
    /// server + mean, whose weights are the norms of the products B A ([`super::product_norm`]).
    AverageByNorm,
    /// server + mean, with a correction of B ([`super::correction_of_b`]).
    AverageCorrected { regularization: f64 },
    /// server + mean of products instead of factors ([`super::products_change`]).
    Products,
    /// server + mean; what the mean of the products B A has beyond the product of the means is added to the base (FedEx-LoRA).
    AverageAndMergeResidual,
    /// The mean of the products B A is added to the base, and a new adapter takes the place of the old one (FLoRA). It is drawn
    /// from `seed` for the server's `step`, which is the number of the new model.
    MergeProducts { seed: Seed, step: u32 },
    /// As [`Self::MergeProducts`], of the mean cut to the least rank that holds `threshold` of its energy in each module (FLoRIST).
    MergeTruncatedProducts { seed: Seed, step: u32, threshold: f64 },
}

impl ServerRule {
    /// Rule of methods that change nothing at the server.
    pub const PLAIN: Self = Self::Average { lr: 1.0 };

    /// Returns the rule of the step that leads to the server's model number `version`.
    pub fn of_version(self, version: u32) -> Self {
        match self {
            Self::MergeProducts { seed, .. } => Self::MergeProducts { seed, step: version },
            Self::MergeTruncatedProducts { seed, threshold, .. } => {
                Self::MergeTruncatedProducts { seed, step: version, threshold }
            }
            rule => rule,
        }
    }

    /// Returns the rule of edges below a server with this rule: a mean of the same kind, without momentum or other
    /// state.
    pub fn of_edges(self) -> Self {
        if self == Self::Products { self } else { Self::PLAIN }
    }

    /// Returns whether the moments that a server kept under the rule `before` are what this rule keeps. A sum is not an
    /// average: FedAdam after FedAvgM would take a first moment that is 1/(1 - beta) times too long.
    pub fn continues(self, before: Self) -> bool {
        match (before, self) {
            (_, Self::Average { .. } | Self::AverageByNorm | Self::AverageCorrected { .. } | Self::Products) => true,
            (_, Self::AverageAndMergeResidual | Self::MergeProducts { .. } | Self::MergeTruncatedProducts { .. }) => {
                true
            }
            (Self::Momentum(before), Self::Momentum(now)) => before.averages == now.averages,
            (Self::Adaptive(before), Self::Adaptive(now)) => {
                let sums = |rule: AdaptiveOptimizer| rule.squares == SquareRule::Adagrad;
                sums(before) == sums(now) && before.squares_first_moments == now.squares_first_moments
            }
            _ => false,
        }
    }

    /// Returns the next model and state, without the change of the base ([`Self::with_base_change`]). `change` is `None` for a
    /// round in which no update had a weight; it changes neither, so momentum alone moves nothing.
    ///
    /// # Panics
    /// If the change does not have the server's layout.
    pub fn apply(&self, server: &Adapter, state: &ServerState, change: Option<&[f64]>) -> (Adapter, ServerState) {
        let Some(change) = change else { return (server.clone(), state.clone()) };
        assert_eq!(change.len(), server.values.len(), "a mean update of another layout");
        match self {
            Self::Average { lr } => (add(server, *lr, change), state.clone()),
            Self::AverageByNorm
            | Self::AverageCorrected { .. }
            | Self::Products
            | Self::AverageAndMergeResidual
            | Self::MergeProducts { .. }
            | Self::MergeTruncatedProducts { .. } => (add(server, 1.0, change), state.clone()),
            Self::Momentum(rule) => rule.apply(server, state, change),
            Self::Adaptive(rule) => rule.apply(server, state, change),
        }
    }
}

/// State of a server in addition to its model. It is stored as part of the model, so that whatever starts from a stored
/// model, such as a resumed run, starts from the state too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerState {
    /// First moment of updates.
    pub momentum: Option<Arc<Adapter>>,
    /// Second moment of updates.
    pub second_moment: Option<Arc<Adapter>>,
    /// SCAFFOLD's control variate c.
    pub control: Option<Arc<Adapter>>,
    /// Center of centered clipping: the aggregate of the round before.
    pub center: Option<Arc<Adapter>>,
    /// State of a rule of one's own, in the form that the rule gave it.
    pub own_rule: Option<Arc<Vec<u8>>>,
}

impl ServerState {
    /// Returns the state without the moments of the server's rule. SCAFFOLD's variate, the center and the state of a rule of one's own
    /// stay.
    pub fn without_moments(&self) -> Self {
        Self { momentum: None, second_moment: None, ..self.clone() }
    }

    /// Returns its parts but for the center and the state of a rule of one's own in a fixed order, for the store.
    pub fn parts(&self) -> [Option<&Arc<Adapter>>; 3] {
        [self.momentum.as_ref(), self.second_moment.as_ref(), self.control.as_ref()]
    }

    /// Creates a state of nothing else from its parts, in the order of [`Self::parts`].
    pub fn from_parts([momentum, second_moment, control]: [Option<Arc<Adapter>>; 3]) -> Self {
        Self { momentum, second_moment, control, center: None, own_rule: None }
    }

    /// Rounds values to f32, in the layout of `like`.
    pub(super) fn adapter_like(like: &Adapter, values: &[f64]) -> Arc<Adapter> {
        Arc::new(Adapter::new(like.layout.clone(), values.iter().map(|&value| value as f32).collect()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{SquareRule, Update, mean_update};
    use super::*;
    use crate::adapter::{Layout, Module};

    pub fn adapter(values: [f32; 2]) -> Adapter {
        let modules = vec![Module { path: "m".into(), in_features: 1, out_features: 1 }];
        let layout = Arc::new(Layout { rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false, modules });
        Adapter::new(layout, values.to_vec())
    }

    #[track_caller]
    pub fn assert_close(found: &Adapter, expected: [f32; 2]) {
        for (found, expected) in found.values.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-6, "{found} against {expected}");
        }
    }

    /// The two rounds of the reference: from (1, -2), clients with 3 and 1 rows.
    fn two_rounds(rule: ServerRule, weights: [f64; 2]) -> (Adapter, Adapter, ServerState) {
        let round = |server: &Adapter, state: &ServerState, locals: [[f32; 2]; 2]| {
            let locals = locals.map(adapter);
            let update = |(adapter, weight)| Update { adapter, base: server, weight, discount: 1.0 };
            let updates: Vec<Update> = locals.iter().zip(weights).map(update).collect();
            rule.apply(server, state, mean_update(2, &updates).change.as_deref())
        };
        let (first, state) = round(&adapter([1.0, -2.0]), &ServerState::default(), [[1.1, -2.2], [0.9, -1.9]]);
        let (second, state) = round(&first, &state, [[1.3, -2.1], [1.2, -2.0]]);
        (first, second, state)
    }

    #[track_caller]
    fn check(rule: ServerRule, weights: [f64; 2], first: [f32; 2], second: [f32; 2]) -> ServerState {
        let (found_first, found_second, state) = two_rounds(rule, weights);
        assert_close(&found_first, first);
        assert_close(&found_second, second);
        state
    }

    const BY_SIZE: [f64; 2] = [3.0, 1.0];
    const UNIFORM: [f64; 2] = [1.0, 1.0];

    fn adaptive(squares: SquareRule, published: bool) -> ServerRule {
        let beta1 = if squares == SquareRule::Adagrad { 0.0 } else { 0.5 };
        let (starts_at_first, squares_first_moments) = (published, published);
        ServerRule::Adaptive(AdaptiveOptimizer {
            lr: 1e-3,
            tau: 1e-3,
            beta1,
            squares,
            starts_at_first,
            squares_first_moments,
        })
    }

    #[test]
    fn rules_of_the_published_code_give_its_numbers() {
        check(ServerRule::PLAIN, BY_SIZE, [1.05, -2.125], [1.275, -2.075]);
        let momentum = Momentum { beta: 0.5, lr: 1.0, averages: true };
        check(ServerRule::Momentum(momentum), BY_SIZE, [1.05, -2.125], [1.1875, -2.1625]);
        let v = |state: ServerState| (*state.second_moment.expect("an adaptive rule keeps it")).clone();
        let state = check(adaptive(SquareRule::Adagrad, true), UNIFORM, [1.0, -2.00098], [1.000996, -2.00167]);
        assert_close(&v(state), [0.062501, 0.0049039]);
        let yogi = SquareRule::Yogi { beta2: 0.99 };
        let state = check(adaptive(yogi, true), UNIFORM, [1.0, -2.008198], [1.009232, -2.014037]);
        assert_close(&v(state), [1.572e-4, 4.71e-5]);
        let adam = SquareRule::Adam { beta2: 0.99 };
        let state = check(adaptive(adam, true), UNIFORM, [1.0, -2.008199], [1.009233, -2.014053]);
        assert_close(&v(state), [1.572e-4, 4.68e-5]);
    }

    #[test]
    fn rules_of_the_papers_give_theirs() {
        let momentum = Momentum { beta: 0.9, lr: 1.0, averages: false };
        check(ServerRule::Momentum(momentum), BY_SIZE, [1.05, -2.125], [1.32, -2.1875]);
        let yogi = SquareRule::Yogi { beta2: 0.99 };
        check(adaptive(yogi, false), UNIFORM, [1.0, -2.004099], [1.004804, -2.008609]);
        let adam = SquareRule::Adam { beta2: 0.99 };
        check(adaptive(adam, false), UNIFORM, [1.0, -2.0041], [1.004804, -2.008621]);
    }

    #[test]
    fn moments_are_continued_only_as_what_they_are() {
        let momentum = |averages| ServerRule::Momentum(Momentum { beta: 0.9, lr: 1.0, averages });
        let yogi = |published| adaptive(SquareRule::Yogi { beta2: 0.9 }, published);
        let adam = adaptive(SquareRule::Adam { beta2: 0.99 }, false);
        assert!(
            adam.continues(yogi(false))
                && ServerRule::PLAIN.continues(adam)
                && momentum(true).continues(momentum(true))
        );
        assert!(!adam.continues(momentum(true)) && !momentum(false).continues(momentum(true)));
        assert!(!adam.continues(yogi(true)) && !adam.continues(adaptive(SquareRule::Adagrad, false)));
        assert!(!momentum(false).continues(ServerRule::PLAIN), "its momentum is from before those rounds");
    }

    #[test]
    fn a_round_without_a_usable_update_moves_nothing() {
        let rule = ServerRule::Momentum(Momentum { beta: 0.9, lr: 1.0, averages: false });
        let (_, server, state) = two_rounds(rule, BY_SIZE);
        assert_eq!(rule.apply(&server, &state, None), (server, state));
    }
}
