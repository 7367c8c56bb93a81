//! Facts about clients and model that virtual time depends on: counts and costs, without weights.

use fedreplay_sim as sim;
use fedreplay_sim::{Purpose, Seed, Stream};

use super::RunError;
use super::inputs::ClientRows;
use crate::adapter::{Layout, WireFormat, wire_bytes};
use crate::model::{Arithmetic, Config, LoraSpec, Precision};
use crate::scenario::{self, ClientFacts, Clients, Counts, ModelShape, Placed, Scenario, Synthetic, TaskCosts, Trace};

/// Amount of data of one client.
struct Amount {
    id: Option<Box<str>>,
    train_rows: u32,
    held_out_rows: u32,
    train_tokens: u64,
    longest_tokens: u64,
}

/// Returns the clients of a scenario with these rows, on a model of this shape.
///
/// # Errors
/// If the adapter does not fit the model, the sizes of a task overflow, or the trace does not fit the data.
pub fn of_rows(scenario: &Scenario, rows: &[ClientRows], config: &Config, trace: &Trace) -> Result<Clients, RunError> {
    let amounts = rows.iter().map(|client| Amount {
        id: Some(client.id.as_str().into()),
        train_rows: count(client.train.count()),
        held_out_rows: count(client.held_out.count()),
        train_tokens: client.train.tokens(),
        longest_tokens: client.train.longest(),
    });
    outline(scenario, amounts, config, trace)
}

/// Returns the clients of a scenario without data, on a model of this shape.
///
/// # Errors
/// As [`of_rows`].
pub fn of_synthetic(
    scenario: &Scenario,
    synthetic: &Synthetic,
    config: &Config,
    trace: &Trace,
) -> Result<Clients, RunError> {
    let amounts = (0..synthetic.clients).map(|client| synthetic_amount(scenario, synthetic, client));
    outline(scenario, amounts, config, trace)
}

/// Draws the amount of data of a synthetic client. Each client has its own random stream.
fn synthetic_amount(scenario: &Scenario, synthetic: &Synthetic, client: u32) -> Amount {
    let tokens = u64::from(synthetic.tokens_per_row.min(scenario.data.max_seq_length));
    let total = match synthetic.rows {
        Counts::Fixed(rows) => rows,
        Counts::Uniform(least, most) => {
            let mut stream = Stream::new(Seed(scenario.seed), Purpose::SyntheticData, u64::from(client));
            least + stream.below(u64::from(most - least) + 1) as u32
        }
    };
    let held_out = (f64::from(total) * scenario.data.held_out).floor() as u32;
    let train_rows = (total - held_out).max(1);
    let train_tokens = u64::from(train_rows) * tokens;
    Amount { id: None, train_rows, held_out_rows: total - train_rows, train_tokens, longest_tokens: tokens }
}

/// Computes the costs of each client's task and places the clients on devices and links.
fn outline(
    scenario: &Scenario,
    amounts: impl ExactSizeIterator<Item = Amount>,
    config: &Config,
    trace: &Trace,
) -> Result<Clients, RunError> {
    let layout = lora_spec(scenario).layout(config).map_err(|error| RunError::Usage(error.to_string()))?;
    let bytes = wire_bytes(&layout, WireFormat::F32);
    let mut costs = TaskCosts::new(scenario, shape(config), targets(&layout), bytes);
    let clients = amounts.len();
    let mut facts = Vec::with_capacity(clients);
    for amount in amounts {
        // Work is costed with rows of mean length, peak memory with the longest row.
        let mean_tokens = amount.train_tokens.div_ceil(u64::from(amount.train_rows));
        let steps = scenario.steps(amount.train_rows.into(), clients);
        let work = costs.row(mean_tokens, amount.longest_tokens, steps).ok_or_else(|| {
            RunError::Usage(format!(
                "failed to cost a task: rows of {} tokens in batches of {} on {} layers of width {} are beyond 64-bit counts",
                amount.longest_tokens, scenario.training.batch_size, config.layers, config.hidden_size
            ))
        })?;
        let Amount { id, train_rows, held_out_rows, train_tokens, .. } = amount;
        facts.push(ClientFacts { id, work, train_rows, held_out_rows, train_tokens });
    }
    let placement = Placed::new(scenario, clients, |client| name_of(facts[client].id.as_deref(), client), trace)
        .map_err(RunError::Usage)?;
    Ok(Clients { facts, placement, costs })
}

/// Returns the name of a client: the one in the data, or one made from its number if the data are synthetic.
pub fn name_of(id: Option<&str>, client: usize) -> String {
    id.map_or_else(|| format!("client-{client}"), str::to_owned)
}

/// Translates the precision of a scenario's base model.
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

/// Translates the LoRA settings of a scenario.
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

fn shape(config: &Config) -> sim::ModelShape {
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
fn targets(layout: &Layout) -> Vec<sim::Target> {
    // In the order of `ALL_TARGETS`.
    let names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let mut targets = Vec::new();
    for (target, name) in sim::ALL_TARGETS.into_iter().zip(names) {
        if layout.modules.iter().any(|module| module.path.rsplit('.').next() == Some(name)) {
            targets.push(target);
        }
    }
    targets
}

fn count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}
