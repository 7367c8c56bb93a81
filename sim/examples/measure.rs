//! Measures the simulation: events a second and bytes a client of growing federations, changes a second of the network
//! alone, a million tasks of FedBuff. Times are of this process on its processor, not of the wall, so that other work
//! on the machine disturbs them less. `measure` runs each case in a process of its own; `measure CASE` runs one.

use fedreplay_sim::network::{Claim, FlowWork, Mesh, SharedLink};
use fedreplay_sim::*;

/// A case and its name.
type Case = (&'static str, fn(&str));

/// The cases by name.
const CASES: [Case; 11] = [
    ("round-1k", |name| rounds(name, 1_000, 1_000, 1_000)),
    ("round-10k", |name| rounds(name, 10_000, 10_000, 100)),
    ("round-100k", |name| rounds(name, 100_000, 100_000, 10)),
    ("round-1m", |name| rounds(name, 1_000_000, 1_000_000, 1)),
    ("million-clients", |name| rounds(name, 1_000_000, 1_000, 100)),
    ("buffered-1m-tasks", buffered),
    ("link-100", |name| link(name, 100)),
    ("link-10k", |name| link(name, 10_000)),
    ("link-100k", |name| link(name, 100_000)),
    ("link-10k-own-caps", |name| link_of_own_caps(name, 10_000)),
    ("tree-1k", |name| tree(name, 1_000)),
];

fn main() {
    match std::env::args().nth(1) {
        Some(name) => match CASES.iter().find(|(known, _)| *known == name) {
            Some((name, case)) => case(name),
            None => eprintln!("failed to find case {name}"),
        },
        None => CASES.iter().for_each(|(name, _)| run_alone(name)),
    }
}

fn run_alone(name: &str) {
    let program = std::env::current_exe().expect("the running program has a path");
    std::process::Command::new(program).arg(name).status().expect("the program starts");
}

/// Synchronous rounds in which `cohort` of `clients` share the server's link, half as wide as their links together.
fn rounds(name: &str, clients: u32, cohort: u32, rounds: u32) {
    let deadline = None;
    let policy = Synchronous { cohort, over_selection: 0, deadline, minimum: 1, stragglers: Stragglers::Stop };
    play(name, federation(clients, cohort, rounds, Protocol::Synchronous(policy)));
}

/// A million tasks of FedBuff: 1,000 in flight, buffers of 100, 100,000 clients.
fn buffered(name: &str) {
    let policy = Buffered { concurrency: 1_000, buffer: 100, staleness_max: None, losses_max: 10_000 };
    play(name, federation(100_000, 1_000, 9_500, Protocol::Buffered(policy)));
}

fn play(name: &str, federation: Federation) {
    let clients = federation.clients.len() as u64;
    let before = resident_bytes();
    let started = cpu_seconds();
    let mut simulation = Simulation::new(federation).expect("the federation is valid");
    let (mut tasks, mut records) = (0u64, 0u64);
    while simulation.step().expect("time does not overflow") == Step::Advanced {
        for record in simulation.drain() {
            records += 1;
            tasks += u64::from(matches!(record, Record::Task(_)));
        }
    }
    let (seconds, events) = (cpu_seconds() - started, simulation.events());
    let rate = events as f64 / seconds / 1e6;
    // What was allocated at the peak, the description included, since the process began.
    let bytes = (peak_bytes() - before.min(peak_bytes()) + description_bytes(&simulation)) / clients;
    println!(
        "{name}: {clients} clients, {tasks} tasks, {events} events, {records} records in {seconds:.2} s: \
         {rate:.2} M events/s, {bytes} B/client at the peak; {} of virtual time",
        simulation.now()
    );
}

fn description_bytes(simulation: &Simulation) -> u64 {
    (simulation.federation().clients.len() * size_of::<Client>()) as u64
}

/// Starts and ends of flows over one link, of eight caps, `flows` at a time.
fn link(name: &str, flows: u32) {
    churn(name, flows, |stream| Rate::from_bytes_per_s(50_000 * (1 + stream.below(8))));
}

/// The same where each flow has a cap of its own.
fn link_of_own_caps(name: &str, flows: u32) {
    churn(name, flows, |stream| Rate::from_bytes_per_s(50_000 + stream.below(350_000)));
}

fn churn(name: &str, flows: u32, cap: impl Fn(&mut Stream) -> Rate) {
    let mut stream = Stream::new(Seed(1), Purpose::LinkJitter, 0);
    let mut link = SharedLink::new(Rate::from_bytes_per_s(100_000 * u64::from(flows)));
    let mut start = |link: &mut SharedLink, now, id| {
        let work = FlowWork::of_bytes(1 + stream.below(2_000_000));
        link.insert(now, id, cap(&mut stream), work);
    };
    (0..flows).for_each(|id| start(&mut link, Time::ZERO, id));
    let started = cpu_seconds();
    let (mut changes, mut ended) = (0u64, Vec::new());
    while changes < 2_000_000 {
        let now = link.next_end().expect("flows move");
        link.take_ended(now, &mut ended);
        changes += 2 * ended.len() as u64;
        ended.drain(..).for_each(|id| start(&mut link, now, id));
    }
    report_changes(name, changes, cpu_seconds() - started);
}

/// Starts and ends of flows over a tree of 1 + 10 + 100 links: server, regions, access.
fn tree(name: &str, flows: u32) {
    let wide = |share: u32| Rate::from_bytes_per_s(100_000 * u64::from(flows / share));
    let mut capacities = vec![wide(1)];
    capacities.extend([wide(10); 10]);
    capacities.extend([wide(100); 100]);
    let routes = (0..100).map(|access| vec![11 + access, 1 + access / 10, 0]).collect();
    let mut mesh = Mesh::new(capacities, routes);
    let mut stream = Stream::new(Seed(1), Purpose::LinkJitter, 0);
    let mut start = |mesh: &mut Mesh, now, id| {
        let cap = Rate::from_bytes_per_s(50_000 * (1 + stream.below(8)));
        mesh.insert(
            now,
            id,
            stream.below(100) as u32,
            Claim::equal(cap),
            FlowWork::of_bytes(1 + stream.below(2_000_000)),
        );
    };
    (0..flows).for_each(|id| start(&mut mesh, Time::ZERO, id));
    let started = cpu_seconds();
    let (mut changes, mut ended) = (0u64, Vec::new());
    while changes < 5_000 {
        let now = mesh.next_end().expect("flows move");
        mesh.take_ended(now, &mut ended);
        changes += 2 * ended.len() as u64;
        ended.drain(..).for_each(|id| start(&mut mesh, now, id));
    }
    report_changes(name, changes, cpu_seconds() - started);
}

fn report_changes(name: &str, changes: u64, seconds: f64) {
    println!("{name}: {changes} changes in {seconds:.2} s: {:.3} M changes/s", changes as f64 / seconds / 1e6);
}

/// Five speeds with jitter, eight links, 5 % dropouts; 50 TFLOP and 8 MB each way a task.
fn federation(clients: u32, cohort: u32, rounds: u32, protocol: Protocol) -> Federation {
    let device = |speed: u64| Device {
        name: format!("class {speed}"),
        flops_per_s: speed * 1_000_000_000_000,
        memory_bytes: 1 << 34,
        memory_bytes_per_s: 100_000_000_000,
        idle_mw: 1_000,
        busy_mw: 10_000,
        slowdown: Quantiles::log_normal(1_000_000_000, 0.3, 1_024),
        crashes: None,
    };
    let link = |class: u64| Link {
        down: Rate::from_bits_per_s(class * 20_000_000),
        up: Rate::from_bits_per_s(class * 5_000_000),
        latency: Span::from_millis(20 + class),
        latency_jitter: None,
        stalls: None,
        transport: Transport::default(),
        radio: Radio::default(),
    };
    let work = Work {
        flops: 50_000_000_000_000,
        memory_traffic_bytes: 0,
        peak_memory_bytes: 1 << 30,
        download_bytes: 8_000_000,
        upload_bytes: 8_000_000,
        first_download_bytes: 0,
        every_second_round: None,
        training: None,
    };
    let shared = |bits: u64| Capacity::constant(Rate::from_bits_per_s(bits * u64::from(cohort)));
    let row = |i: u32| Client { device: i % 5, link: i / 5 % 8, samples: 1 + i % 100, ..Client::default() };
    Federation {
        seed: Seed(1),
        devices: (1..=5).map(device).collect(),
        links: (1..=8).map(link).collect(),
        works: vec![work],
        dropouts: vec![Dropout { during_training: Probability::from_f64(0.05).expect("valid"), ..Dropout::default() }],
        availabilities: vec![Availability::Always],
        clients: (0..clients).map(row).collect(),
        network: Network::Server { egress: shared(20_000_000), ingress: shared(5_000_000) },
        sharing: Sharing::default(),
        region_cuts: Vec::new(),
        interruption: Interruption::Abandon,
        colluders: Default::default(),
        server: Server {
            rounds,
            selection: Selection::Uniform,
            candidates: Candidates::Online,
            memory: MemoryPolicy::Ineligible,
            protocol,
            aggregation: Span::ZERO,
            training: Span::ZERO,
            retry: Span::from_secs(60),
        },
        detail: Detail::Tasks,
    }
}

/// Time of this process on its processor [s].
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("nanoseconds") / 1e9
}

fn resident_bytes() -> u64 {
    status_bytes("VmRSS")
}

fn peak_bytes() -> u64 {
    status_bytes("VmHWM")
}

fn status_bytes(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the field is there");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("kB") * 1_024
}
