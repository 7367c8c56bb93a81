//! From a scenario to the federation that virtual time plays: floats become integers here, rounded once.

use fedreplay_sim as sim;
use fedreplay_sim::{Probability, Purpose, Quantiles, Seed, Span, Stream};

use super::spec::{self, Protocol, Scenario, Selection};

/// Points of a table of log-normal quantiles: the cut tails hold 1/1024 of the tasks.
const JITTER_POINTS: u32 = 1024;
/// Median of the slowdown [10^-9].
const NOMINAL_PPB: u64 = 1_000_000_000;

/// What virtual time must know of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientFacts {
    pub id: String,
    /// Index into [`spec::Population::mix`].
    pub group: usize,
    pub train_rows: u64,
    pub held_out_rows: u64,
    pub train_tokens: u64,
    /// [FLOP] Work of one task.
    pub task_flops: u64,
}

/// The group of each client.
///
/// Each group gets its share of the clients, to the nearest whole number by largest remainders; who is in which is a
/// permutation drawn from the seed.
pub fn assign_groups(seed: Seed, clients: usize, mix: &[spec::Group]) -> Vec<usize> {
    let total: f64 = mix.iter().map(|group| group.share).sum();
    let exact: Vec<f64> = mix.iter().map(|group| group.share / total * clients as f64).collect();
    let mut counts: Vec<usize> = exact.iter().map(|count| count.floor() as usize).collect();
    let mut by_remainder: Vec<usize> = (0..mix.len()).collect();
    // Ties go to the group that is named first: the sort is stable.
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    let missing = clients - counts.iter().sum::<usize>().min(clients);
    by_remainder.iter().cycle().take(missing).for_each(|&group| counts[group] += 1);
    let mut groups: Vec<usize> =
        counts.iter().enumerate().flat_map(|(group, &count)| std::iter::repeat_n(group, count)).collect();
    groups.truncate(clients);
    Stream::new(seed, Purpose::Population, 0).shuffle(&mut groups);
    groups
}

/// The federation of a scenario with these clients; an adapter is `adapter_bytes` on the wire.
pub fn federation(scenario: &Scenario, clients: &[ClientFacts], adapter_bytes: u64) -> sim::Federation {
    let mix = &scenario.population.mix;
    sim::Federation {
        seed: Seed(scenario.seed),
        devices: mix.iter().map(|group| device(&group.device, &scenario.population.devices[&group.device])).collect(),
        links: mix.iter().map(|group| link(&scenario.population.links[&group.link])).collect(),
        works: clients.iter().map(|client| work(client, adapter_bytes)).collect(),
        dropouts: mix.iter().map(|group| dropout(&group.dropout)).collect(),
        availabilities: vec![sim::Availability::Always],
        clients: clients.iter().enumerate().map(|(index, facts)| client(index as u32, facts)).collect(),
        network: sim::Network::Server {
            egress: sim::Capacity::constant(sim::Rate::from_bits_per_s(scenario.server.downlink.0)),
            ingress: sim::Capacity::constant(sim::Rate::from_bits_per_s(scenario.server.uplink.0)),
        },
        server: server(scenario),
        interruption: sim::Interruption::default(),
        region_cuts: vec![],
        detail: sim::Detail::Events,
    }
}

fn client(index: u32, facts: &ClientFacts) -> sim::Client {
    let group = facts.group as u32;
    let samples = u32::try_from(facts.train_rows).unwrap_or(u32::MAX);
    sim::Client { device: group, link: group, work: index, dropout: group, availability: 0, region: 0, samples }
}

fn device(name: &str, device: &spec::Device) -> sim::Device {
    sim::Device {
        name: name.to_owned(),
        flops_per_s: device.speed.0,
        // Work states neither its memory nor its traffic yet, so neither bounds a task.
        memory_bytes: u64::MAX,
        memory_bytes_per_s: u64::MAX,
        idle_mw: milliwatts(device.idle_watts),
        busy_mw: milliwatts(device.busy_watts),
        crashes: None,
        slowdown: (device.jitter > 0.0)
            .then(|| Quantiles::log_normal(NOMINAL_PPB, device.jitter, JITTER_POINTS))
            .map(|table| table.expect("the scenario's range for jitter is the table's")),
    }
}

fn link(link: &spec::Link) -> sim::Link {
    sim::Link {
        down: sim::Rate::from_bits_per_s(link.down.0),
        up: sim::Rate::from_bits_per_s(link.up.0),
        latency: Span(link.latency.0),
        latency_jitter: None,
    }
}

fn work(client: &ClientFacts, adapter_bytes: u64) -> sim::Work {
    sim::Work {
        flops: client.task_flops,
        memory_traffic_bytes: 0,
        peak_memory_bytes: 0,
        download_bytes: adapter_bytes,
        upload_bytes: adapter_bytes,
        first_download_bytes: 0,
    }
}

fn dropout(dropout: &spec::Dropout) -> sim::Dropout {
    let probability = |share| Probability::from_f64(share).expect("the scenario's range is 0 to 1");
    sim::Dropout {
        before_training: probability(dropout.before_training),
        during_training: probability(dropout.during_training),
        after_training: probability(dropout.after_training),
    }
}

fn server(scenario: &Scenario) -> sim::Server {
    let Protocol::Synchronous { clients_per_round, over_selection, deadline, minimum } = scenario.server.protocol;
    sim::Server {
        rounds: scenario.rounds,
        selection: match scenario.server.selection {
            Selection::Uniform => sim::Selection::Uniform,
        },
        candidates: sim::Candidates::Online,
        memory: sim::MemoryPolicy::Ineligible,
        protocol: sim::Protocol::Synchronous(sim::Synchronous {
            cohort: clients_per_round,
            over_selection,
            deadline: deadline.map(|deadline| Span(deadline.0)),
            minimum,
            stragglers: sim::Stragglers::Stop,
        }),
        aggregation: Span(scenario.server.aggregation_time.0),
        retry: Span(60_000_000_000),
    }
}

fn milliwatts(watts: f64) -> u32 {
    (watts * 1e3).round().min(f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(shares: &[f64]) -> Vec<spec::Group> {
        let group = |&share| spec::Group { share, device: "d".into(), link: "l".into(), dropout: Default::default() };
        shares.iter().map(group).collect()
    }

    #[test]
    fn groups_get_their_shares() {
        for (shares, clients, expected) in
            [(&[1.0, 1.0][..], 5, [3, 2, 0]), (&[0.5, 0.3, 0.2], 24, [12, 7, 5]), (&[1.0, 1e-9], 3, [3, 0, 0])]
        {
            let groups = assign_groups(Seed(1), clients, &mix(shares));
            let count = |group| groups.iter().filter(|&&g| g == group).count();
            assert_eq!([count(0), count(1), count(2)], expected, "{shares:?}");
        }
        assert_ne!(assign_groups(Seed(1), 24, &mix(&[1.0, 1.0])), assign_groups(Seed(2), 24, &mix(&[1.0, 1.0])));
    }
}
