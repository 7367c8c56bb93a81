//! Translation of a scenario's base model and adapter for the trainer and the simulator.

use fedreplay_sim as sim;

use crate::adapter::Layout;
use crate::model::{Arithmetic, Config, LoraSpec, Precision};
use crate::profile::Workload;
use crate::scenario;
use crate::scenario::{
    ArithmeticSpec, ModelShape, ModelSpec, ObjectiveSpec, OptimizerSpec, PrecisionSpec, ScenarioSpec,
};

/// Translates the precision of a scenario's base model.
pub fn precision(model: &scenario::ModelSpec) -> Precision {
    let arithmetic = match model.arithmetic() {
        scenario::ArithmeticSpec::F32 => Arithmetic::F32,
        scenario::ArithmeticSpec::Bf16 => Arithmetic::Bf16,
    };
    match model.precision {
        scenario::PrecisionSpec::F32 => Precision::F32,
        scenario::PrecisionSpec::Bf16 => Precision::Bf16,
        scenario::PrecisionSpec::Int8 => Precision::Int8(arithmetic),
        scenario::PrecisionSpec::Int8Held => Precision::Int8Held(arithmetic),
        scenario::PrecisionSpec::Nf4 => Precision::Nf4 { arithmetic, double: false },
        scenario::PrecisionSpec::Nf4Double => Precision::Nf4 { arithmetic, double: true },
        scenario::PrecisionSpec::LlmInt8 => Precision::LlmInt8(arithmetic),
    }
}

/// Translates the LoRA settings of a scenario.
pub fn lora_spec(scenario: &ScenarioSpec) -> LoraSpec {
    let lora = &scenario.model.lora;
    LoraSpec {
        rank: lora.rank as usize,
        alpha: lora.alpha,
        dropout: lora.dropout.get(),
        target_modules: lora.target_modules.clone(),
        rank_stabilized: lora.rank_stabilized,
        has_core: scenario.trains_core(),
    }
}

/// Returns what a device profile must be of to serve a scenario: everything that its times and its memory depend on, except for the shapes of
/// micro-batches.
pub fn workload(scenario: &ScenarioSpec, config: &Config, layout: &Layout) -> Workload {
    let optimizer = match scenario.training.optimizer.get() {
        OptimizerSpec::AdamW { .. } => "AdamW",
        OptimizerSpec::Sgd { momentum: 0.0 } => "Sgd",
        OptimizerSpec::Sgd { .. } => "Sgd with momentum",
    };
    let objective = match scenario.training.objective {
        ObjectiveSpec::Sft => "Sft",
        ObjectiveSpec::Dpo { .. } => "Dpo",
    };
    Workload {
        model: shape(config),
        targets: target_names(layout).map(str::to_owned).collect(),
        precision: precision_name(&scenario.model),
        recomputation: scenario.training.recomputation,
        optimizer: optimizer.into(),
        objective: objective.into(),
    }
}

/// Returns the precision as a scenario writes it, with the arithmetic if that is not the usual one.
fn precision_name(model: &ModelSpec) -> String {
    let usual = if model.precision == PrecisionSpec::F32 { ArithmeticSpec::F32 } else { ArithmeticSpec::Bf16 };
    let arithmetic = model.arithmetic();
    if arithmetic == usual {
        return format!("{:?}", model.precision);
    }
    format!("{:?} in {arithmetic:?}", model.precision)
}

/// Returns the configuration of a model that is given by its shape alone.
pub fn config_of_shape(shape: &ModelShape) -> Config {
    let config = Config::llama(
        shape.vocabulary as usize,
        shape.hidden as usize,
        shape.intermediate as usize,
        shape.layers as usize,
        shape.heads as usize,
    );
    Config { kv_heads: shape.kv_heads.unwrap_or(shape.heads) as usize, tied: shape.ties_embeddings, ..config }
}

/// Returns the number of parameters of a base model.
pub fn parameters(config: &Config) -> u64 {
    shape(config).params()
}

pub(super) fn shape(config: &Config) -> sim::ModelShape {
    sim::ModelShape {
        layers: config.layers as u64,
        hidden: config.hidden_size as u64,
        intermediate: config.intermediate_size as u64,
        heads: config.heads as u64,
        kv_heads: config.kv_heads as u64,
        head_dim: config.head_dim as u64,
        vocabulary: config.vocab_size as u64,
        ties_embeddings: config.tied,
    }
}

/// Modules of a layer with their names, in the order of `ALL_TARGETS`, then those that some families have instead.
const TARGETS: [(sim::Target, &str); 9] = [
    (sim::Target::Query, "q_proj"),
    (sim::Target::Key, "k_proj"),
    (sim::Target::Value, "v_proj"),
    (sim::Target::Output, "o_proj"),
    (sim::Target::Gate, "gate_proj"),
    (sim::Target::Up, "up_proj"),
    (sim::Target::Down, "down_proj"),
    (sim::Target::QueryKeyValue, "qkv_proj"),
    (sim::Target::GateUp, "gate_up_proj"),
];

/// Returns the modules of a layer that have an adapter. A module with an adapter in some layers is counted in all of them.
pub(super) fn targets(layout: &Layout) -> Vec<sim::Target> {
    adapted(layout).map(|(target, _)| target).collect()
}

/// Returns the names of the same modules.
pub(super) fn target_names(layout: &Layout) -> impl Iterator<Item = &'static str> {
    adapted(layout).map(|(_, name)| name)
}

fn adapted(layout: &Layout) -> impl Iterator<Item = (sim::Target, &'static str)> {
    let is_adapted = |name| layout.modules.iter().any(|module| module.path.rsplit('.').next() == Some(name));
    TARGETS.into_iter().filter(move |&(_, name)| is_adapted(name))
}
