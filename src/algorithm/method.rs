//! Translation of a scenario's method into its rules: additions to local training, and the server's step.

use fedreplay_sim::Seed;

use super::{AdaptiveOptimizer, Momentum, ServerRule, SquareRule};
use crate::scenario::{self, Algorithm, Averages, FederatedLora, FirstMoment, Mean, ScenarioSpec, SecondMoment};

/// Additions of a method to local training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClientTerms {
    /// [1] -- FedProx's mu: mu/2 times the squared distance from the start is added to the loss (arXiv 1812.06127).
    pub proximal: Option<f64>,
    /// Place of SCAFFOLD's correction, with which each client has a control variate.
    pub correction: Option<scenario::Correction>,
}

/// Federated method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Method {
    pub client: ClientTerms,
    pub server: ServerRule,
    /// Whether each client continues from its own last adapter, and nothing is aggregated.
    pub is_alone: bool,
}

impl Method {
    /// Creates the method that a scenario names.
    pub fn new(scenario: &ScenarioSpec) -> Self {
        let mut method = Self { client: ClientTerms::default(), server: ServerRule::PLAIN, is_alone: false };
        match scenario.algorithm {
            // A rule of one's own takes the place of the server's step.
            Algorithm::Centralised | Algorithm::Python { .. } | Algorithm::Custom { .. } => {}
            Algorithm::FedAvg { mean, .. } => method.server = averaging(mean),
            Algorithm::FedProx { mu, mean, .. } => {
                method.client.proximal = Some(mu);
                method.server = averaging(mean);
            }
            Algorithm::Scaffold { server_lr, correction, .. } => {
                method.client.correction = Some(correction.get());
                method.server = ServerRule::Average { lr: server_lr };
            }
            Algorithm::FedAvgM { beta, server_lr, momentum, .. } => {
                let averages = momentum.get() == scenario::MomentumSpec::Averaged;
                method.server = ServerRule::Momentum(Momentum { beta: beta.get(), lr: server_lr, averages });
            }
            Algorithm::FedAdagrad { server_lr, tau, .. } => {
                // FedAdagrad has no first moment: with beta1 = 0 it is the update itself.
                let first = FirstMoment::FromZero;
                let second = SecondMoment::OfUpdates;
                method.server = adaptive(server_lr, tau, 0.0, SquareRule::Adagrad, first, second);
            }
            Algorithm::FedYogi { server_lr, tau, beta1, beta2, first_moment, second_moment, .. } => {
                let squares = SquareRule::Yogi { beta2 };
                method.server = adaptive(server_lr, tau, beta1.get(), squares, first_moment.get(), second_moment.get());
            }
            Algorithm::FedAdam { server_lr, tau, beta1, beta2, first_moment, second_moment, .. } => {
                let squares = SquareRule::Adam { beta2 };
                method.server = adaptive(server_lr, tau, beta1.get(), squares, first_moment.get(), second_moment.get());
            }
            Algorithm::Local => method.is_alone = true,
        }
        match scenario.lora_method().averages {
            Averages::Factors => {}
            Averages::CorrectedFactors => {
                if let FederatedLora::LoraFair { regularization } = scenario.federated_lora {
                    method.server = ServerRule::AverageCorrected { regularization };
                }
            }
            Averages::FactorsByNorm => method.server = ServerRule::AverageByNorm,
            Averages::Products => method.server = ServerRule::Products,
            Averages::FactorsWithResidual => method.server = ServerRule::AverageAndMergeResidual,
            Averages::MergedProducts => {
                method.server = ServerRule::MergeProducts { seed: seed_of_adapters(scenario), step: 0 };
            }
            Averages::MergedTruncatedProducts => {
                let seed = seed_of_adapters(scenario);
                let threshold = scenario.kept_energy().expect("the method has a threshold");
                method.server = ServerRule::MergeTruncatedProducts { seed, step: 0, threshold };
            }
        }
        method
    }
}

/// Returns the seed from which initial adapters are drawn.
fn seed_of_adapters(scenario: &ScenarioSpec) -> Seed {
    Seed(scenario.model.lora.init_seed.unwrap_or(scenario.seed))
}

fn averaging(mean: Mean) -> ServerRule {
    match mean {
        Mean::Factors => ServerRule::PLAIN,
        Mean::Products => ServerRule::Products,
    }
}

fn adaptive(
    lr: f64,
    tau: f64,
    beta1: f64,
    squares: SquareRule,
    first: FirstMoment,
    second: SecondMoment,
) -> ServerRule {
    ServerRule::Adaptive(AdaptiveOptimizer {
        lr,
        tau,
        beta1,
        squares,
        starts_at_first: first == FirstMoment::FromFirstUpdate,
        squares_first_moments: second == SecondMoment::OfFirstMoments,
    })
}
