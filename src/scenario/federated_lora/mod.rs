//! Federated methods made for LoRA, each declared in a file of its own: which factors a client trains, sends, receives and keeps, what
//! the server averages, and with which other settings the method goes.
//!
//! Training, sizes on the wire, clients' state, aggregation and evaluation follow from the declaration. A method is added by a file, a line of
//! the list below, and a variant of `schema::FederatedLora`.

use super::ScenarioError;
use super::schema::{Algorithm, FederatedLora, Mean, OptimizerState, Protocol, ScenarioSpec};
use crate::adapter::{Factors, Layout};

/// Declaration of a method.
pub struct LoraMethod {
    /// Name in the literature.
    pub name: &'static str,
    /// Publication.
    pub source: &'static str,
    /// Returns the factors that a client trains in a round of the server, from 1, after the steps of [`ScenarioSpec::first_steps`] if
    /// there are any. The others stay as they are, bit by bit.
    trains: fn(FederatedLora, round: u32) -> Factors,
    /// Returns the factors that a client sends in a round, and the server averages.
    sends: fn(FederatedLora, round: u32) -> Factors,
    /// Returns the factors that a client receives at the beginning of a round. `nobody_misses` tells whether each
    /// client gets a model in every round, so that it has what earlier rounds sent.
    receives: fn(FederatedLora, round: u32, nobody_misses: bool) -> Factors,
    /// Returns the factors of its own that a client keeps from task to task; nobody else sees them.
    keeps: fn(FederatedLora) -> Factors,
    /// Whether those factors are of an adapter that the client trains in addition to the server's, and not of the one that it sends.
    pub trains_own_adapter: bool,
    /// Quantity that the server averages.
    pub averages: Averages,
    /// Whether clients may have lower ranks than the server, by their devices.
    pub takes_mixed_ranks: bool,
    /// Returns the field that the method does not go with, and the reason.
    pub(super) clash: fn(&ScenarioSpec) -> Option<Clash>,
}

/// Quantity that the server averages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Averages {
    /// A and B, each by itself.
    Factors,
    /// A and B, each by itself, with weights in proportion to the Frobenius norm of the client's products B A.
    FactorsByNorm,
    /// A and B, each by itself; B is then corrected toward the mean of the products.
    CorrectedFactors,
    /// The products B A.
    Products,
    /// A and B, each by itself; what the mean of the products has beyond the product of the means is added to the base.
    FactorsWithResidual,
    /// The products B A, whose mean is added to the base; a new adapter takes the place of the old one.
    MergedProducts,
    /// As [`Self::MergedProducts`], of the mean cut to the least rank that holds a share of its energy.
    MergedTruncatedProducts,
}

impl Averages {
    /// Whether the base of the server's model changes, so that clients receive the change too.
    pub fn changes_base(self) -> bool {
        matches!(self, Self::FactorsWithResidual | Self::MergedProducts | Self::MergedTruncatedProducts)
    }
}

/// Pruning of ranks by clients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pruning {
    /// [1] -- Part of its rank that a client keeps when it prunes.
    pub gamma: f64,
    /// [1] -- Weight of the size of the other components in the loss.
    pub lambda: f64,
}

/// First step on the whole weights, from which an initial adapter is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FirstStepSettings {
    /// [rows] -- Training rows whose gradients are summed.
    pub samples: u32,
    /// [1] -- Length of the step along the signs of the gradient.
    pub step_size: f64,
}

/// Field that a method does not go with, and the reason.
pub(super) type Clash = (&'static str, &'static str);

macro_rules! methods {
    ($($variant:ident $({ $($parameter:ident: $value:expr),* })? => $file:ident,)*) => {
        $(mod $file;)*

        impl FederatedLora {
            /// All methods, with values for their parameters.
            pub const ALL: &[Self] = &[$(Self::$variant $({ $($parameter: $value),* })?,)*];

            /// Returns its declaration.
            pub fn method(self) -> &'static LoraMethod {
                match self {
                    $(Self::$variant $({ $($parameter: _),* })? => &$file::METHOD,)*
                }
            }

            /// Returns its name in a scenario.
            pub fn variant(self) -> &'static str {
                match self {
                    $(Self::$variant $({ $($parameter: _),* })? => stringify!($variant),)*
                }
            }
        }
    };
}

methods! {
    FedIt => fed_it,
    FfaLora => ffa_lora,
    RoLora => ro_lora,
    FedSaLora => fed_sa_lora,
    FlexLora => flex_lora,
    HetLora => het_lora,
    LoraFair { regularization: 0.01 } => lora_fair,
    Flora => flora,
    FedExLora => fed_ex_lora,
    Ditto { lambda: 0.1 } => ditto,
    FedPer { local_layers: 1 } => fed_per,
    FedRep { local_layers: 1, local_layer_steps: 1 } => fed_rep,
    Florist { threshold: 0.9 } => florist,
    HetLoraPruning { gamma: 0.99, lambda: 0.01 } => het_lora_pruning,
    FedSb { init_samples: 50, init_step_size: None } => fed_sb,
}

pub use florist::truncated_rank_max;

impl ScenarioSpec {
    /// Returns the declaration of its federated LoRA method.
    pub fn lora_method(&self) -> &'static LoraMethod {
        self.federated_lora.method()
    }

    /// Returns the factors that a client trains in a round of the server, from 1, after the steps of [`Self::first_steps`].
    pub fn trained_factors(&self, round: u32) -> Factors {
        (self.lora_method().trains)(self.federated_lora, round)
    }

    /// Returns the factors that a client sends in a round of the server, from 1.
    pub fn sent_factors(&self, round: u32) -> Factors {
        (self.lora_method().sends)(self.federated_lora, round)
    }

    /// Returns the factors that a client receives at the beginning of a round of the server, from 1, in a run in which some client may
    /// miss a round, or none.
    pub fn received_factors(&self, round: u32, nobody_misses: bool) -> Factors {
        (self.lora_method().receives)(self.federated_lora, round, nobody_misses)
    }

    /// Returns the factors that clients receive in some round. Of a model that is encoded on its way to clients, they have these as they are
    /// decoded, and the others as they are.
    pub fn factors_on_the_way_down(&self) -> Factors {
        // A client that misses a round receives what all rounds change.
        self.received_factors(1, false)
    }

    /// Returns the factors that a client receives in addition with its first task: frozen ones that it cannot draw from a seed.
    pub fn factors_received_once(&self) -> Factors {
        if self.trains_core() { Factors::ButCore } else { Factors::None }
    }

    /// Whether adapters have a matrix R between B and A, which is all that is trained.
    pub fn trains_core(&self) -> bool {
        matches!(self.federated_lora, FederatedLora::FedSb { .. })
    }

    /// Returns the first step from which the initial adapter is made; `None` under methods that draw it from the seed.
    pub fn first_step(&self) -> Option<FirstStepSettings> {
        let FederatedLora::FedSb { init_samples, init_step_size } = self.federated_lora else { return None };
        let steps = f64::from(self.rounds) * f64::from(self.training.local_steps);
        let step_size = init_step_size.unwrap_or(self.training.lr / (WARMUP * steps).max(1.0));
        Some(FirstStepSettings { samples: init_samples, step_size })
    }

    /// Returns the factors of its own that a client keeps from task to task.
    pub fn kept_factors(&self) -> Factors {
        (self.lora_method().keeps)(self.federated_lora)
    }

    /// Returns the number of layers whose adapters clients keep for themselves, under methods that split an adapter by layers.
    pub fn local_layers(&self) -> Option<u32> {
        match self.kept_factors() {
            Factors::LastLayers(count) => Some(count),
            _ => None,
        }
    }

    /// Whether the server averages the products B A, by either name of that setting.
    pub fn averages_products(&self) -> bool {
        let by_algorithm = matches!(
            self.algorithm,
            Algorithm::FedAvg { mean: Mean::Products, .. } | Algorithm::FedProx { mean: Mean::Products, .. }
        );
        by_algorithm || self.lora_method().averages == Averages::Products
    }

    /// Returns the rank of clients on devices of a class.
    pub fn rank_of(&self, class: &str) -> u32 {
        self.model.lora.ranks.get(class).copied().unwrap_or(self.model.lora.rank)
    }

    /// Whether clients keep factors of their own, so that each has a model of its own.
    pub fn has_personal_models(&self) -> bool {
        self.kept_factors() != Factors::None
    }

    /// Whether the server's model is one by itself, without the factors that clients keep.
    pub fn has_server_model(&self) -> bool {
        !self.has_personal_models() || self.lora_method().trains_own_adapter
    }

    /// [1] -- Returns the weight of the pull of a client's own adapter toward the server's, if it trains one.
    pub fn own_adapter_pull(&self) -> Option<f64> {
        match self.federated_lora {
            FederatedLora::Ditto { lambda } => Some(lambda),
            _ => None,
        }
    }

    /// Returns the number of a task's first steps that train other factors than the rest, and those factors; `None` under methods whose
    /// tasks train the same factors in all steps.
    pub fn first_steps(&self) -> Option<(u32, Factors)> {
        match self.federated_lora {
            FederatedLora::FedRep { local_layer_steps, .. } => Some((local_layer_steps, self.kept_factors())),
            _ => None,
        }
    }

    /// [1] -- Returns the share of the energy of a mean of products that the server keeps, if it cuts the mean by its energy.
    pub fn kept_energy(&self) -> Option<f64> {
        match self.federated_lora {
            FederatedLora::Florist { threshold } => Some(threshold),
            _ => None,
        }
    }

    /// Returns how clients prune their ranks, if they do.
    pub fn pruning(&self) -> Option<Pruning> {
        match self.federated_lora {
            FederatedLora::HetLoraPruning { gamma, lambda } => Some(Pruning { gamma, lambda }),
            _ => None,
        }
    }

    /// Returns the number of trainings in a task of a client.
    pub fn trainings_per_task(&self) -> u32 {
        1 + u32::from(self.lora_method().trains_own_adapter)
    }
}

/// Checks that the method goes with the other settings.
///
/// # Errors
/// The offending field, and what is wrong with it.
pub(super) fn check(scenario: &ScenarioSpec) -> Result<(), (String, String)> {
    let method = scenario.lora_method();
    match (method.clash)(scenario) {
        Some((field, reason)) => Err((field.to_owned(), format!("it does not go with {}: {reason}", method.name))),
        None => check_first_steps(scenario).and_then(|()| check_ranks(scenario)),
    }
}

/// Checks that a task has steps beyond its first ones.
fn check_first_steps(scenario: &ScenarioSpec) -> Result<(), (String, String)> {
    let steps = scenario.training.local_steps;
    match scenario.first_steps() {
        Some((first, _)) if first >= steps => Err((
            "federated_lora.local_layer_steps".into(),
            format!(
                "it is {first}, and must be less than training.local_steps, which is {steps}: the others train the shared layers"
            ),
        )),
        _ => Ok(()),
    }
}

/// [1] -- Share of all steps that the warmup of Fed-SB's authors takes.
const WARMUP: f64 = 0.02;

/// Checks that a method with a first step has the rows for it, of `rows` of all clients, and that its rank has as many singular vectors in
/// each module.
///
/// # Errors
/// If a field asks for more; the error names it.
pub fn check_first_step(scenario: &ScenarioSpec, layout: &Layout, rows: u64) -> Result<(), ScenarioError> {
    let Some(FirstStepSettings { samples, .. }) = scenario.first_step() else { return Ok(()) };
    if u64::from(samples) > rows {
        return Err(ScenarioError::Inputs {
            field: "federated_lora.init_samples",
            message: format!("it is {samples}, and must be at most {rows}, the training rows of all clients"),
        });
    }
    let narrow = layout.modules.iter().find(|module| module.in_features.min(module.out_features) < layout.rank);
    match narrow {
        Some(module) => Err(ScenarioError::Inputs {
            field: "model.lora.rank",
            message: format!(
                "it is {}, and must be at most {} under Fed-SB: {} has no more singular vectors",
                layout.rank,
                module.in_features.min(module.out_features),
                module.path
            ),
        }),
        None => Ok(()),
    }
}

/// Checks that a split by layers leaves some of an adapter's layers to both sides.
///
/// # Errors
/// If all layers are local; the error names the field.
pub fn check_layers(scenario: &ScenarioSpec, layers: usize) -> Result<(), ScenarioError> {
    match scenario.local_layers() {
        Some(count) if count as usize >= layers => Err(ScenarioError::Inputs {
            field: "federated_lora.local_layers",
            message: format!(
                "it is {count}, and must be less than {layers}, the layers with an adapter: one is shared at least"
            ),
        }),
        _ => Ok(()),
    }
}

/// Checks the ranks of device classes.
fn check_ranks(scenario: &ScenarioSpec) -> Result<(), (String, String)> {
    let lora = &scenario.model.lora;
    for (class, &rank) in &lora.ranks {
        let refused = |reason: String| Err((format!("model.lora.ranks.{class}"), reason));
        if !scenario.population.devices.contains_key(class) {
            return refused("population.devices has no class of this name".into());
        }
        if !(1..=lora.rank).contains(&rank) {
            return refused(format!("it is {rank}, and must be from 1 to model.lora.rank, which is {}", lora.rank));
        }
    }
    match clash_of_mixed_ranks(scenario).filter(|_| !lora.ranks.is_empty()) {
        Some(reason) => Err(("model.lora.ranks".into(), reason)),
        None => Ok(()),
    }
}

/// Returns why clients cannot have ranks of their own, or `None` if they can.
fn clash_of_mixed_ranks(scenario: &ScenarioSpec) -> Option<String> {
    let method = scenario.lora_method();
    let is_free = scenario.algorithm.is_own_rule() && scenario.federated_lora == FederatedLora::FedIt;
    if !(method.takes_mixed_ranks || scenario.averages_products() || is_free) {
        let takes = FederatedLora::ALL.iter().filter(|method| method.method().takes_mixed_ranks);
        let names: Vec<_> = takes.map(|method| method.variant()).collect();
        return Some(format!(
            "{} has one rank; methods that take several: federated_lora {}",
            method.name,
            names.join(", ")
        ));
    }
    if !matches!(scenario.server.protocol, Protocol::Synchronous { .. }) {
        return Some(
            "it requires synchronous rounds, in which each client begins with the server's model, cut to its rank"
                .into(),
        );
    }
    if scenario.attackers.is_some() {
        return Some(
            "it does not go with attackers: what they send is a multiple of a change, and the cut is none".into(),
        );
    }
    None
}

/// Refuses methods without federation, and the old name of FlexLoRA under another method.
fn apart(scenario: &ScenarioSpec) -> Option<Clash> {
    match scenario.algorithm {
        Algorithm::Local | Algorithm::Centralised => Some(("algorithm", "nothing is exchanged")),
        Algorithm::FedAvg { mean: Mean::Products, .. } | Algorithm::FedProx { mean: Mean::Products, .. } => {
            Some(("algorithm.mean", "it says itself what is averaged"))
        }
        _ => None,
    }
}

/// Returns the number of last layers whose adapters clients keep, under a method that splits an adapter by layers.
fn kept_layers(method: FederatedLora) -> u32 {
    match method {
        FederatedLora::FedPer { local_layers } | FederatedLora::FedRep { local_layers, .. } => local_layers,
        _ => unreachable!("it splits no adapter by layers"),
    }
}

/// Refuses what does not go with models whose last layers are each client's own.
fn clash_of_split(scenario: &ScenarioSpec) -> Option<Clash> {
    if !matches!(scenario.algorithm, Algorithm::FedAvg { .. }) {
        return Some((
            "algorithm",
            "its rule for the shared layers is a mean, and no other is published for models whose last layers differ; use FedAvg",
        ));
    }
    if scenario.privacy.is_some() {
        return Some(("privacy", "each client's own layers are evaluated and saved, which no noise protects"));
    }
    apart(scenario).or_else(|| {
        asynchronous(
            scenario,
            "a client continues from its own layers, and only synchronous rounds count one task of a client at a time",
        )
    })
}

/// Refuses what does not go with a new adapter in each round.
fn renewing(scenario: &ScenarioSpec) -> Option<Clash> {
    if scenario.training.optimizer_state == OptimizerState::Kept {
        return Some((
            "training.optimizer_state",
            "each round trains a new adapter, of which no optimizer has moments",
        ));
    }
    let has_error_feedback = scenario.server.uplink_codec.is_some_and(|codec| codec.has_error_feedback());
    has_error_feedback.then_some((
        "server.uplink_codec",
        "what error feedback remembers is of an adapter that the next round does not train; turn it off",
    ))
}

/// Refuses what does not go with a change of the base that is made from a mean of products.
fn merging(scenario: &ScenarioSpec) -> Option<Clash> {
    if !matches!(scenario.algorithm, Algorithm::FedAvg { .. } | Algorithm::FedProx { .. }) {
        return Some((
            "algorithm",
            "what is added to the base is made from a mean, which is the server's step; use FedAvg or FedProx",
        ));
    }
    if scenario.privacy.is_some() {
        return Some((
            "privacy",
            "what is added to the base is made from the products of single clients, which no noise protects",
        ));
    }
    if !scenario.server.aggregation.is_mean() {
        return Some(("server.aggregation", "what is added to the base is made from a mean"));
    }
    asynchronous(scenario, "all clients of a round begin with one model and one change of the base")
}

/// Refuses rounds that are not synchronous, with the reason of the method.
fn asynchronous(scenario: &ScenarioSpec, reason: &'static str) -> Option<Clash> {
    let is_synchronous = matches!(scenario.server.protocol, Protocol::Synchronous { .. });
    (!is_synchronous).then_some(("server.protocol", reason))
}
