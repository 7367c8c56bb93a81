//! Translation of a scenario's base model and adapter for the trainer and the simulator.

use fedreplay_sim as sim;

use crate::adapter::Layout;
use crate::model::{Arithmetic, Config, LoraSpec, Precision};
use crate::scenario;
use crate::scenario::{ModelShape, ScenarioSpec};

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

/// Returns the modules of a layer that have an adapter. A module with an adapter in some layers is counted in all of them.
pub(super) fn targets(layout: &Layout) -> Vec<sim::Target> {
    // In the order of `ALL_TARGETS`, then those that some families have instead.
    let names =
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "gate_up_proj"];
    let fused = [sim::Target::QueryKeyValue, sim::Target::GateUp];
    let mut targets = Vec::new();
    for (target, name) in sim::ALL_TARGETS.into_iter().chain(fused).zip(names) {
        if layout.modules.iter().any(|module| module.path.rsplit('.').next() == Some(name)) {
            targets.push(target);
        }
    }
    targets
}
