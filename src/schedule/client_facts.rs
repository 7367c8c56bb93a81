//! Facts about clients and model that virtual time depends on: counts and costs, without weights.

use std::collections::{BTreeMap, BTreeSet};

use fedreplay_sim::{Purpose, Seed, Span, Stream, TaskRecord};

use super::ScheduleError;
use super::attackers::{attacking_clients, place_attackers};
use super::carbon::Carbon;
use super::measured_time::{PopulationFiles, TaskSize};
use super::model_shape::{lora_spec, shape, targets, workload};
use super::placement::Placed;
use super::task_cost::TaskCosts;
use crate::adapter::Layout;
use crate::data::{ClientRows, Rows, held_out_rows};
use crate::model::Config;
use crate::scenario::{Counts, ScenarioSpec, Synthetic, check_first_step, check_layers};

/// Facts about a client for the simulator and the population table.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientFacts {
    /// Name in the data. `None` for a client without data, which goes by its number.
    pub id: Option<Box<str>>,
    /// Row of [`TaskCosts::works`].
    pub work: u32,
    pub train_rows: u32,
    pub held_out_rows: u32,
    pub train_tokens: u64,
}

/// Clients of a scenario, with their classes and the costs of their tasks.
#[derive(Clone, Debug)]
pub struct Clients {
    pub facts: Vec<ClientFacts>,
    /// Tables of classes, and the row of each client in them.
    pub placement: Placed,
    pub costs: TaskCosts,
    /// Numbers of the clients that attack.
    pub attackers: BTreeSet<u32>,
    /// Row of [`TaskCosts::works`] of the server's own training in a round; `None` if it does not train.
    pub server_work: Option<u32>,
    /// Electricity grids of the clients; `None` if the scenario counts no carbon.
    pub carbon: Option<Carbon>,
}

impl Clients {
    /// [ns] -- Returns the least and the greatest training time of a task without slowdown, by device class with a profile.
    pub fn measured_times(&self) -> BTreeMap<String, [u64; 2]> {
        let mut times = BTreeMap::new();
        for (facts, place) in self.facts.iter().zip(&self.placement.places) {
            let Some(Span(time)) = self.costs.works()[facts.work as usize].training else { continue };
            let class = &self.placement.devices[place.device as usize].name;
            let [least, greatest] = times.get(class).copied().unwrap_or([time; 2]);
            times.insert(class.clone(), [time.min(least), time.max(greatest)]);
        }
        times
    }

    /// Returns the rank of a client's adapter under a scenario.
    pub fn rank(&self, scenario: &ScenarioSpec, client: u32) -> u32 {
        let place = self.placement.places[client as usize];
        scenario.rank_of(&self.placement.devices[place.device as usize].name)
    }

    /// [µg] -- Returns the carbon of a task; `None` if the scenario counts none.
    pub fn carbon_ug(&self, task: &TaskRecord) -> Option<u64> {
        let region = self.placement.places[task.client as usize].region;
        self.carbon.as_ref().map(|carbon| carbon.of_task(task, region))
    }
}

/// Amount of data of one client.
struct Amount {
    id: Option<Box<str>>,
    train_rows: u32,
    held_out_rows: u32,
    train_tokens: u64,
    longest_tokens: u64,
}

/// Returns the clients of a scenario with these rows, on a model of this shape. `root` are the rows that the server trains on.
///
/// # Errors
/// If the adapter does not fit the model, a method leaves no layer of it to be shared, the sizes of a task overflow, the trace or the attackers do
/// not fit the data, or a profile does not fit what is trained.
pub fn of_rows(
    scenario: &ScenarioSpec,
    rows: &[ClientRows],
    root: Option<&Rows>,
    config: &Config,
    files: &PopulationFiles,
) -> Result<Clients, ScheduleError> {
    let amounts = rows.iter().map(|client| Amount {
        id: Some(client.id.as_str().into()),
        train_rows: count(client.train.count()),
        held_out_rows: count(client.held_out.count()),
        train_tokens: client.train.tokens(),
        longest_tokens: client.train.longest(),
    });
    let mut clients = outline(scenario, amounts, |client| rows[client].id.clone(), config, files)?;
    if let Some(root) = root {
        let size = TaskSize {
            rank: scenario.model.lora.rank,
            steps: scenario.training.local_steps,
            mean_tokens: root.tokens().div_ceil(root.count() as u64),
            longest_tokens: root.longest(),
        };
        let work = clients.costs.row(size, None);
        clients.server_work = Some(work.ok_or_else(|| too_large(scenario, size.longest_tokens, config))?);
    }
    Ok(clients)
}

/// Returns the clients of a scenario without data, on a model of this shape.
///
/// # Errors
/// As [`of_rows`].
pub fn of_synthetic(
    scenario: &ScenarioSpec,
    synthetic: &Synthetic,
    config: &Config,
    files: &PopulationFiles,
) -> Result<Clients, ScheduleError> {
    let amounts = (0..synthetic.clients).map(|client| synthetic_amount(scenario, synthetic, client));
    outline(scenario, amounts, |client| name_of(None, client), config, files)
}

/// Draws the amount of data of a synthetic client. Each client has its own random stream.
fn synthetic_amount(scenario: &ScenarioSpec, synthetic: &Synthetic, client: u32) -> Amount {
    let tokens = u64::from(synthetic.tokens_per_row.min(scenario.data.max_seq_length));
    let total = match synthetic.rows {
        Counts::Fixed(rows) => rows,
        Counts::Uniform(least, most) => {
            let mut stream = Stream::new(Seed(scenario.seed), Purpose::SyntheticData, u64::from(client));
            least + stream.below(u64::from(most - least) + 1) as u32
        }
    };
    let held_out_rows = count(held_out_rows(total as usize, scenario.data.held_out));
    let train_rows = total - held_out_rows;
    let train_tokens = u64::from(train_rows) * tokens;
    Amount { id: None, train_rows, held_out_rows, train_tokens, longest_tokens: tokens }
}

/// Places the clients, whose names in the data `name` returns, on devices and links, and computes the costs of each one's task.
fn outline(
    scenario: &ScenarioSpec,
    amounts: impl ExactSizeIterator<Item = Amount>,
    name: impl Fn(usize) -> String,
    config: &Config,
    files: &PopulationFiles,
) -> Result<Clients, ScheduleError> {
    let layout = lora_spec(scenario).layout(config)?;
    check_layers(scenario, layout.layers().len())?;
    let clients = amounts.len();
    let mut rows = 0;
    let mut costs = TaskCosts::new(scenario, shape(config), targets(&layout), Layout::clone(&layout), clients);
    let attackers = attacking_clients(scenario, clients, &name)?;
    let mut placement = Placed::new(scenario, clients, &name, &files.trace)?;
    place_attackers(scenario, &attackers, &mut placement);
    let carbon = match (&scenario.carbon, &files.trace.grids) {
        (Some(spec), Some(grids)) => Some(Carbon::new(spec, grids, &placement)?),
        _ => None,
    };
    if !files.profiles.is_empty() {
        let wanted = workload(scenario, config, &layout);
        placement
            .devices
            .iter()
            .filter_map(|class| files.measured(class))
            .try_for_each(|class| class.check(scenario, &wanted))?;
    }
    let mut facts = Vec::with_capacity(clients);
    for (client, (amount, place)) in amounts.zip(&placement.places).enumerate() {
        // Work is costed with rows of mean length, peak memory with the longest row.
        let device = &placement.devices[place.device as usize];
        let steps = scenario.steps(amount.train_rows.into(), clients).saturating_mul(scenario.trainings_per_task());
        let size = TaskSize {
            rank: scenario.rank_of(&device.name),
            steps,
            mean_tokens: amount.train_tokens.div_ceil(u64::from(amount.train_rows)),
            longest_tokens: amount.longest_tokens,
        };
        let measured = files.measured(device);
        if let Some(class) = &measured {
            class.check_task(size, scenario.training.batch_size, &name(client))?;
        }
        let work = costs.row(size, measured).ok_or_else(|| too_large(scenario, amount.longest_tokens, config))?;
        let Amount { id, train_rows, held_out_rows, train_tokens, .. } = amount;
        rows += u64::from(train_rows);
        facts.push(ClientFacts { id, work, train_rows, held_out_rows, train_tokens });
    }
    check_first_step(scenario, &layout, rows)?;
    Ok(Clients { facts, placement, costs, attackers, server_work: None, carbon })
}

/// Returns the error of a task whose operations cannot be counted, of rows of up to this number of tokens.
fn too_large(scenario: &ScenarioSpec, tokens: u64, config: &Config) -> ScheduleError {
    let batch_size = scenario.training.batch_size;
    ScheduleError::TaskTooLarge { tokens, batch_size, layers: config.layers, width: config.hidden_size }
}

/// Returns the name of a client: the one in the data, or one made from its number if the data are synthetic.
pub fn name_of(id: Option<&str>, client: usize) -> String {
    id.map_or_else(|| format!("client-{client}"), str::to_owned)
}

fn count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}
