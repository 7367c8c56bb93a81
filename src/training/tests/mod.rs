//! Behaviour of training on tiny random models: against autograd, alone and in company, and on bad input.

mod bits;
mod by_libtorch;
mod company;
mod core_matrix;
mod families;
mod gradients;
mod memory;
mod merging;
mod methods;
mod model_files;
mod outcomes;
mod parity;
mod precisions;
mod self_test;
mod timing;

use std::path::Path;
use std::sync::Arc;

use fedreplay_sim::{Purpose, Seed, Stream};

use super::{AlgorithmTerms, Hyper, Job, Numerics, Objective, Trainer};
use crate::adapter::{Adapter, BaseChange, ModuleChange};
use crate::data::Sample;
use crate::model::{
    Activation, Architecture, Config, DecoderVariant, Device, LoraSpec, NormPlacement, Precision, QueryKeyNorm,
    RopeScaling, random,
};

/// One small model of each family, none of whose sizes is a multiple of another's by accident.
pub(super) fn configs() -> Vec<Config> {
    let llama = Config { max_positions: 256, ..Config::llama(97, 64, 80, 2, 4) };
    let scaling =
        RopeScaling::Llama3 { factor: 4.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_positions: 64.0 };
    vec![
        Config { kv_heads: 2, tied: true, rope_scaling: Some(scaling), ..llama.clone() },
        Config { output_bias: true, qkv_bias: true, mlp_bias: true, head_dim: 8, ..llama.clone() },
        Config { architecture: Architecture::Mistral, kv_heads: 1, sliding_window: Some(7), ..llama.clone() },
        Config { architecture: Architecture::Qwen2, kv_heads: 2, qkv_bias: true, tied: true, ..llama.clone() },
        Config {
            architecture: Architecture::Gemma3,
            kv_heads: 1,
            tied: true,
            sliding_window: Some(7),
            variant: DecoderVariant { query_key_norm: QueryKeyNorm::Head, local_rope_theta: Some(1000.0), ..gemma() },
            ..llama.clone()
        },
        Config {
            architecture: Architecture::Gemma2,
            kv_heads: 2,
            tied: true,
            sliding_window: Some(9),
            variant: DecoderVariant { attention_cap: Some(1.5), logit_cap: Some(2.0), ..gemma() },
            ..llama.clone()
        },
        Config {
            architecture: Architecture::Phi3,
            kv_heads: 2,
            sliding_window: Some(20),
            variant: DecoderVariant { fused: true, rotated: Some(8), ..DecoderVariant::default() },
            ..llama.clone()
        },
        Config {
            architecture: Architecture::Olmo2,
            kv_heads: 2,
            variant: DecoderVariant {
                norms: NormPlacement::After,
                query_key_norm: QueryKeyNorm::Whole,
                ..DecoderVariant::default()
            },
            ..llama
        },
    ]
}

/// What Gemma 2 and 3 have in common, for a width of 64.
fn gemma() -> DecoderVariant {
    DecoderVariant {
        norms: NormPlacement::Around,
        norms_from_one: true,
        activation: Activation::GeluTanh,
        embedding_scale: 8.0,
        attention_scale: Some(0.125),
        windowed_layers: Some(vec![true, false]),
        ..DecoderVariant::default()
    }
}

/// Writes a random model in which biases and norms are not at their trivial initial values.
fn write_model(folder: &Path, config: &Config) {
    let mut stream = Stream::new(Seed(5), Purpose::ModelInit, 1 << 40);
    let tensors: Vec<_> = crate::model::tensor_specs(config)
        .into_iter()
        .enumerate()
        .map(|(index, spec)| {
            let mut values = random::initial_values(&spec, Seed(5), index as u64);
            let spread = if spec.shape.len() == 1 { 0.2 } else { 0.1 };
            values.iter_mut().for_each(|v| *v += ((stream.unit() - 0.5) * spread) as f32);
            (spec.name, spec.shape, values)
        })
        .collect();
    random::write_values(folder, config, &tensors).unwrap();
}

fn lora(targets: &[&str]) -> LoraSpec {
    let target_modules = targets.iter().map(|&target| target.into()).collect();
    LoraSpec { rank: 4, alpha: 10.0, dropout: 0.0, target_modules, rank_stabilized: false, has_core: false }
}

pub(super) fn trainer(config: &Config, precision: Precision, targets: &[&str]) -> Trainer {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), config);
    Trainer::load(folder.path(), precision, Device::Cpu, &lora(targets), &Numerics::default()).unwrap()
}

/// A trainer of two projections on the fixture that whole runs use.
pub(crate) fn on_tiny_base() -> Trainer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny-base");
    let lora = lora(&["q_proj", "v_proj"]);
    Trainer::load(&folder, Precision::F32, Device::Cpu, &lora, &Numerics::default()).unwrap()
}

/// A row of `length` random tokens of which those from `first` on are learnt.
pub(super) fn sample(config: &Config, length: u32, first: u32, seed: u64) -> Arc<Sample> {
    let mut stream = Stream::new(Seed(9), Purpose::SyntheticData, seed);
    let ids = (0..length).map(|_| stream.below(config.vocab_size as u64) as u32).collect();
    let targets = std::iter::once(first..length).collect();
    Arc::new(Sample { ids, targets })
}

/// An adapter of which no matrix is zero.
pub(super) fn adapter(trainer: &Trainer, seed: u64) -> Arc<Adapter> {
    let mut adapter = Adapter::initial(trainer.layout(), Seed(seed));
    let mut stream = Stream::new(Seed(seed), Purpose::SyntheticData, 1 << 40);
    for (_, b) in adapter.layout.clone().ranges() {
        adapter.values[b].iter_mut().for_each(|v| *v = ((stream.unit() - 0.5) * 0.1) as f32);
    }
    Arc::new(adapter)
}

/// Returns a change of every module: of all elements, as factors, or nothing, by turns.
pub(super) fn base_change(trainer: &Trainer) -> Arc<BaseChange> {
    let mut stream = Stream::new(Seed(3), Purpose::SyntheticData, 1 << 41);
    let mut drawn = |count: usize| (0..count).map(|_| ((stream.unit() - 0.5) * 0.1) as f32).collect::<Vec<_>>();
    let mut modules = Vec::new();
    for (index, module) in trainer.layout().modules.iter().enumerate() {
        let (inputs, outputs) = (module.in_features, module.out_features);
        modules.push(match index % 3 {
            0 => ModuleChange::Dense(drawn(inputs * outputs)),
            1 => ModuleChange::Factors { rank: 5, columns: drawn(5 * outputs), rows: drawn(5 * inputs) },
            _ => ModuleChange::zero(),
        });
    }
    Arc::new(BaseChange { modules })
}

fn job(adapter: Arc<Adapter>, steps: Vec<super::Step>, hyper: Hyper) -> Job {
    Job { adapter, steps, objective: Objective::Sft, terms: AlgorithmTerms::default(), hyper, seed: Seed(1), stream: 0 }
}
