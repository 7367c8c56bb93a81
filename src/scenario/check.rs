//! Consistency checks between the fields of a scenario, as far as the simulator does not make them itself.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::method::check_method;
use super::quantity::Duration;
use super::schema::{
    ArithmeticSpec, Counts, DeviceClassSpec, Dropout, GroupSpec, Kernels, LastQuestion, LinkSharing, LinkWeights,
    ModelSpec, Network, NumericsSpec, ObjectiveSpec, PairFormSpec, Population, PrecisionSpec, Protocol, ScenarioSpec,
    TemplateSpec,
};
use super::{check_aggregation, check_codec, check_privacy, federated_lora};

/// Offending field and what is wrong with it.
pub(super) type Fault = (String, String);

/// Checks a scenario whose fields have been read.
///
/// # Errors
/// The first fault.
pub(super) fn check(scenario: &ScenarioSpec) -> Result<(), Fault> {
    check_name(&scenario.name)?;
    check_rounds(scenario)?;
    check_sources(scenario)?;
    check_population(scenario)?;
    check_server(scenario)?;
    check_sharing(scenario)?;
    check_rows(scenario)?;
    check_date(scenario.data.template_date.as_deref())?;
    check_method(scenario)?;
    federated_lora::check(scenario)?;
    check_privacy::check(scenario)?;
    check_aggregation::check(scenario)?;
    check_aggregation::check_attackers(scenario)?;
    check_codec::check(scenario)?;
    check_execution(scenario)?;
    if scenario.output.save_adapter_every == Some(0) {
        return fault("output.save_adapter_every", "it must be at least 1");
    }
    Ok(())
}

fn check_execution(scenario: &ScenarioSpec) -> Result<(), Fault> {
    if scenario.execution.cohort_batch == Some(0) {
        return fault("execution.cohort_batch", "it must be at least 1");
    }
    if scenario.execution.numerics == NumericsSpec::Portable
        && (scenario.model.arithmetic() != ArithmeticSpec::F32 || scenario.model.precision == PrecisionSpec::LlmInt8)
    {
        let message =
            "Portable needs arithmetic in f32, which LLM.int8() is not: model.precision F32, or model.arithmetic F32";
        return fault("execution.numerics", message);
    }
    if scenario.execution.numerics == NumericsSpec::Portable && scenario.execution.kernels == Kernels::LibTorch {
        let message = "LibTorch's kernels are not portable: kernels Auto, or execution.numerics Fast";
        return fault("execution.kernels", message);
    }
    Ok(())
}

/// [round] -- Limit that keeps the record of a run within the size of a disk.
const ROUNDS_MAX: u32 = 10_000_000;

/// [rounds] -- Limit on the rounds of all edges together, which bounds the time of the schedule.
const EDGE_ROUNDS_MAX: u64 = 100_000_000;

/// [update] -- Limit on the updates that a round waits for, which are in memory until it ends.
const UPDATES_OF_A_ROUND_MAX: u32 = 10_000_000;

/// [update] -- Limit on the updates that a run waits for, far above any real one, that bounds the time of its schedule.
const UPDATES_MAX: u64 = 1_000_000_000;

/// Checks that a run ends: how many rounds it has, those of edges included, and how many updates its rounds wait for. Updates
/// of other protocols are as many as clients at most.
fn check_rounds(scenario: &ScenarioSpec) -> Result<(), Fault> {
    if scenario.rounds > ROUNDS_MAX {
        return fault("rounds", format!("it must be at most {ROUNDS_MAX}"));
    }
    let rounds = u64::from(scenario.rounds);
    let (field, updates) = match &scenario.server.protocol {
        Protocol::Hierarchical { edges, edge_rounds, .. } => {
            let of_edges = (rounds * u64::from(*edge_rounds)).saturating_mul(edges.len() as u64);
            if of_edges > EDGE_ROUNDS_MAX {
                let message = format!("rounds x edge_rounds x edges must be at most {EDGE_ROUNDS_MAX}");
                return fault("server.protocol.edge_rounds", message);
            }
            return Ok(());
        }
        Protocol::Buffered { buffer_size, .. } => ("buffer_size", *buffer_size),
        Protocol::SemiSynchronous { minimum, .. } => ("minimum", *minimum),
        _ => return Ok(()),
    };
    if updates > UPDATES_OF_A_ROUND_MAX {
        return fault(format!("server.protocol.{field}"), format!("it must be at most {UPDATES_OF_A_ROUND_MAX}"));
    }
    if rounds * u64::from(updates) > UPDATES_MAX {
        let message = format!("rounds x {field} must be at most {UPDATES_MAX}");
        return fault(format!("server.protocol.{field}"), message);
    }
    Ok(())
}

fn check_sharing(scenario: &ScenarioSpec) -> Result<(), Fault> {
    if let Some(LinkSharing { weights: LinkWeights::ByRoundTrip { least: Duration(0), .. }, .. }) =
        scenario.network_sharing
    {
        return fault("network_sharing.weights.ByRoundTrip.least", "it must be above 0");
    }
    Ok(())
}

/// [row] -- Limit on the rows of one task, far above any real one, that bounds its memory.
const ROWS_PER_TASK_MAX: u64 = 10_000_000;

fn check_rows(scenario: &ScenarioSpec) -> Result<(), Fault> {
    let training = &scenario.training;
    // `None` is a product that does not fit in 64 bits, which is above the limit, too.
    let tuning = scenario.evaluation.fine_tuning_steps.map_or(0, NonZeroU32::get);
    for (field, steps) in [("training.local_steps", training.local_steps), ("evaluation.fine_tuning_steps", tuning)] {
        let factors = [steps, training.gradient_accumulation, training.batch_size];
        let rows = factors.iter().try_fold(1u64, |rows, &factor| rows.checked_mul(u64::from(factor)));
        if rows.is_none_or(|rows| rows > ROWS_PER_TASK_MAX) {
            let name = field.rsplit('.').next().unwrap_or(field);
            let limit = format!("must be at most {ROWS_PER_TASK_MAX} rows a task");
            return fault(field, format!("{name} x gradient_accumulation x batch_size {limit}"));
        }
    }
    Ok(())
}

fn check_date(date: Option<&str>) -> Result<(), Fault> {
    match date.map(str::parse::<chrono::NaiveDate>) {
        Some(Err(error)) => fault("data.template_date", format!("it must be a date such as 2024-07-26: {error}")),
        _ => Ok(()),
    }
}

fn fault(field: impl Into<String>, message: impl Into<String>) -> Result<(), Fault> {
    Err((field.into(), message.into()))
}

/// Checks that a name can be the name of a folder.
pub(super) fn check_name(name: &str) -> Result<(), Fault> {
    let is_plain = name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
    if name.is_empty() || name.starts_with('.') || !is_plain {
        return fault("name", format!("`{name}` must be letters, digits, '-', '_' and '.'"));
    }
    Ok(())
}

/// Checks model and data, each of which is either real or synthetic.
fn check_sources(scenario: &ScenarioSpec) -> Result<(), Fault> {
    check_model(&scenario.model)?;
    check_data(scenario)
}

fn check_model(model: &ModelSpec) -> Result<(), Fault> {
    if model.lora.target_modules.is_empty() {
        return fault("model.lora.target_modules", "it must name at least one module");
    }
    if [model.folder.is_some(), model.hub.is_some(), model.shape.is_some()].into_iter().filter(|&is| is).count() != 1 {
        return fault("model", "it must have either `folder`, `hub` or `shape`");
    }
    if let Some(shape) = &model.shape
        && (!shape.hidden.is_multiple_of(shape.heads)
            || shape.kv_heads.is_some_and(|kv| kv == 0 || !shape.heads.is_multiple_of(kv)))
    {
        return fault("model.shape", "hidden must be a multiple of heads, and heads of kv_heads");
    }
    Ok(())
}

fn check_data(scenario: &ScenarioSpec) -> Result<(), Fault> {
    let model = &scenario.model;
    let data = &scenario.data;
    if data.file.is_some() == data.synthetic.is_some() {
        return fault("data", "it must have either `file` or `synthetic`");
    }
    if data.synthetic.is_none() && model.shape.is_some() && model.tokenizer.is_none() {
        return fault("model.tokenizer", "data from a file needs a tokenizer, of the model's folder or of its own");
    }
    if let (PrecisionSpec::F32, Some(ArithmeticSpec::Bf16)) | (PrecisionSpec::Bf16, Some(ArithmeticSpec::F32)) =
        (model.precision, model.arithmetic)
    {
        let message = format!("{:?} weights are computed in {0:?}; only quantized ones have a choice", model.precision);
        return fault("model.arithmetic", message);
    }
    if let PairFormSpec::Raw { max_prompt } = data.pairs.get()
        && matches!(scenario.training.objective, ObjectiveSpec::Dpo { .. })
        && max_prompt >= data.max_seq_length
    {
        let message = format!("{max_prompt} must be below data.max_seq_length, {}", data.max_seq_length);
        return fault("data.pairs.max_prompt", message);
    }
    if data.last_question.get() == LastQuestion::Learnt && data.template == TemplateSpec::Chat {
        return fault("data.last_question", "a chat template writes whole turns; LeftOut goes with it");
    }
    match data.synthetic.map(|synthetic| synthetic.rows) {
        Some(Counts::Fixed(0) | Counts::Uniform(0, _)) => fault("data.synthetic.rows", "it must be at least 1"),
        Some(Counts::Uniform(least, most)) if least > most => {
            fault("data.synthetic.rows", format!("{least} to {most} does not ascend"))
        }
        _ => Ok(()),
    }
}

fn check_population(scenario: &ScenarioSpec) -> Result<(), Fault> {
    let population = &scenario.population;
    if population.mix.is_empty() && population.trace.as_ref().is_none_or(|trace| trace.clients.is_none()) {
        return fault(
            "population.mix",
            "it must hold at least one group, unless population.trace.clients gives every client",
        );
    }
    check_devices(population)?;
    let regions = regions(scenario);
    for (index, group) in population.mix.iter().enumerate() {
        check_group(scenario, &format!("population.mix.{index}"), group, &regions)?;
    }
    if population.trace.is_some() {
        // A trace may bring regions of its own: they are checked when it has been read.
        return Ok(());
    }
    for (index, cut) in scenario.region_cuts.iter().enumerate() {
        if !regions.contains(&cut.region) {
            return fault(format!("region_cuts.{index}.region"), format!("no region `{}`", cut.region));
        }
    }
    Ok(())
}

/// Checks one group of clients, whose path in the scenario is `field`.
fn check_group(scenario: &ScenarioSpec, field: &str, group: &GroupSpec, regions: &[String]) -> Result<(), Fault> {
    let population = &scenario.population;
    if !population.devices.contains_key(&group.device) {
        let names = names(&population.devices);
        return fault(format!("{field}.device"), format!("no device `{}`, only {names}", group.device));
    }
    if !population.links.contains_key(&group.link) {
        let names = names(&population.links);
        return fault(format!("{field}.link"), format!("no link `{}`, only {names}", group.link));
    }
    check_region(scenario, group, regions).map_err(|message| (format!("{field}.region"), message))?;
    let Dropout { before_training, during_training, after_training } = group.dropout;
    if before_training + during_training + after_training > 1.0 {
        return fault(format!("{field}.dropout"), "its three shares add up to more than 1");
    }
    Ok(())
}

/// Returns the names of classes as a list for a message.
fn names<T>(classes: &BTreeMap<String, T>) -> String {
    classes.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// [1] -- Greatest factor by which a task may be slower than its device's speed says.
const SLOWDOWN_MAX: f64 = 1000.0;

fn check_devices(population: &Population) -> Result<(), Fault> {
    for (name, device) in &population.devices {
        check_speed(name, device)?;
        let Some(quantiles) = &device.slowdown else { continue };
        let field = format!("population.devices.{name}.slowdown");
        if device.jitter > 0.0 {
            return fault(field, "it replaces `jitter`, but both are given");
        }
        let within = quantiles.iter().all(|&factor| factor > 0.0 && factor <= SLOWDOWN_MAX);
        if quantiles.is_empty() || !within || !quantiles.is_sorted() {
            return fault(field, format!("it must hold ascending factors above 0 and at most {SLOWDOWN_MAX}"));
        }
    }
    Ok(())
}

/// Checks that a device class has times of one kind.
fn check_speed(name: &str, device: &DeviceClassSpec) -> Result<(), Fault> {
    let field = format!("population.devices.{name}");
    match (device.speed, &device.profile) {
        (None, None) => fault(field, "it needs `speed` or `profile`"),
        (Some(_), Some(_)) => fault(format!("{field}.profile"), "it replaces `speed`, but both are given"),
        (Some(_), None) if device.extrapolate => fault(format!("{field}.extrapolate"), "it is for a `profile`"),
        (None, Some(_)) if device.memory_bandwidth.is_some() => {
            fault(format!("{field}.memory_bandwidth"), "the times of a `profile` have its effect already")
        }
        _ => Ok(()),
    }
}

/// Checks that a group is in a known region, if the protocol or the network distinguishes regions.
fn check_region(scenario: &ScenarioSpec, group: &GroupSpec, regions: &[String]) -> Result<(), String> {
    // Edges define the regions of a hierarchical protocol, and otherwise the nodes of a topology do.
    let named: Vec<&String> = match (&scenario.network, &scenario.server.protocol) {
        (_, Protocol::Hierarchical { edges, .. }) => edges.iter().map(|edge| &edge.region).collect(),
        (Network::Topology { regions, .. }, _) => regions.keys().collect(),
        _ => return Ok(()),
    };
    match &group.region {
        Some(region) if named.contains(&region) => Ok(()),
        Some(region) => Err(format!("no region `{region}`, only {}", regions.join(", "))),
        // A trace may give each client's own.
        None if scenario.population.trace.is_some() => Ok(()),
        None => Err(format!("it must be one of {}", regions.join(", "))),
    }
}

fn check_server(scenario: &ScenarioSpec) -> Result<(), Fault> {
    let server = &scenario.server;
    if scenario.network == Network::ServerLink {
        for (name, capacity) in [("downlink", &server.downlink), ("uplink", &server.uplink)] {
            if capacity.is_none() {
                return fault(format!("server.{name}"), "it is missing, and `network` is the server's link");
            }
        }
    }
    let (clients_per_round, minimum, deadline) = match &server.protocol {
        Protocol::Synchronous { clients_per_round, minimum, deadline, .. }
        | Protocol::Tiered { clients_per_round, minimum, deadline, .. }
        | Protocol::Hierarchical { clients_per_round, minimum, deadline, .. } => {
            (*clients_per_round, *minimum, *deadline)
        }
        _ => return Ok(()),
    };
    if minimum > clients_per_round {
        return fault("server.protocol.minimum", format!("{minimum} is more than clients_per_round"));
    }
    if deadline.is_some_and(|deadline| deadline.0 == 0) {
        return fault("server.protocol.deadline", "it must be longer than 0");
    }
    check_edges(&server.protocol)
}

fn check_edges(protocol: &Protocol) -> Result<(), Fault> {
    let Protocol::Hierarchical { edges, .. } = protocol else { return Ok(()) };
    if edges.is_empty() {
        return fault("server.protocol.edges", "it must hold at least one edge");
    }
    for (index, edge) in edges.iter().enumerate() {
        if edges[..index].iter().any(|earlier| earlier.region == edge.region) {
            let message = format!("`{}` has an edge already", edge.region);
            return fault(format!("server.protocol.edges.{index}.region"), message);
        }
    }
    Ok(())
}

/// Returns the regions of a scenario by number: those of edges as written, then those of the network, then those of
/// groups.
pub(crate) fn regions(scenario: &ScenarioSpec) -> Vec<String> {
    let mut mentions: Vec<&String> = vec![];
    if let Protocol::Hierarchical { edges, .. } = &scenario.server.protocol {
        mentions.extend(edges.iter().map(|edge| &edge.region));
    }
    if let Network::Topology { regions, .. } = &scenario.network {
        mentions.extend(regions.keys());
    }
    mentions.extend(scenario.population.mix.iter().filter_map(|group| group.region.as_ref()));
    // The first mention of a region gives it its number.
    let mut names: Vec<String> = vec![];
    for name in mentions {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}
