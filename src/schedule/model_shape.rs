//! The scenario's base model and adapter, as the model's code and the simulator describe them.

use fedreplay_sim as sim;

use crate::adapter::Layout;
use crate::model::{Arithmetic, Config, LoraSpec, Precision};
use crate::scenario;
use crate::scenario::{ModelShape, Scenario};

/// How a scenario's base is held and computed.
pub fn precision(model: &scenario::Model) -> Precision {
    let arithmetic = match model.arithmetic() {
        scenario::Arithmetic::F32 => Arithmetic::F32,
        scenario::Arithmetic::Bf16 => Arithmetic::Bf16,
    };
    match model.precision {
        scenario::Precision::F32 => Precision::F32,
        scenario::Precision::Bf16 => Precision::Bf16,
        scenario::Precision::Int8 => Precision::Int8(arithmetic),
        scenario::Precision::Int8Held => Precision::Int8Held(arithmetic),
        scenario::Precision::Nf4 => Precision::Nf4 { arithmetic, double: false },
        scenario::Precision::Nf4Double => Precision::Nf4 { arithmetic, double: true },
        scenario::Precision::LlmInt8 => Precision::LlmInt8(arithmetic),
    }
}

/// The adapter that a scenario asks for.
pub fn lora_spec(scenario: &Scenario) -> LoraSpec {
    let lora = &scenario.model.lora;
    LoraSpec {
        rank: lora.rank as usize,
        alpha: lora.alpha,
        dropout: lora.dropout,
        target_modules: lora.target_modules.clone(),
        rank_stabilised: lora.rank_stabilised,
    }
}

/// A model of which only the shape is known.
pub fn config_of_shape(shape: &ModelShape) -> Config {
    let size = |value: u32| value as usize;
    let config = Config::llama(
        size(shape.vocabulary),
        size(shape.hidden),
        size(shape.intermediate),
        size(shape.layers),
        size(shape.heads),
    );
    Config { kv_heads: size(shape.kv_heads.unwrap_or(shape.heads)), tied: shape.ties_embeddings, ..config }
}

/// Parameters of a base.
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

/// The modules of a layer that have an adapter; one that only some layers have is counted in all.
pub(super) fn targets(layout: &Layout) -> Vec<sim::Target> {
    let names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let has = |name: &str| layout.modules.iter().any(|module| module.path.rsplit('.').next() == Some(name));
    sim::ALL_TARGETS.into_iter().zip(names).filter(|(_, name)| has(name)).map(|(target, _)| target).collect()
}
