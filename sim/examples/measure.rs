//! Prints events a second and bytes a client for rounds of growing federations.

use fedreplay_sim::*;

fn main() {
    if std::env::args().count() > 1 {
        return rounds_of(1_000_000, 1_000_000, 1);
    }
    for (clients, cohort, rounds) in [
        (1_000, 1_000, 300),
        (10_000, 10_000, 30),
        (100_000, 100_000, 3),
        (1_000_000, 1_000_000, 1),
        (1_000_000, 1_000, 100),
    ] {
        rounds_of(clients, cohort, rounds);
    }
}

fn rounds_of(clients: usize, cohort: u32, rounds: u32) {
    let resident = resident_bytes();
    let mut simulation = Simulation::new(federation(clients, cohort, rounds)).expect("valid");
    let start = cpu_seconds();
    while simulation.step().expect("no overflow") == Step::Advanced {
        simulation.drain();
    }
    let seconds = cpu_seconds() - start;
    let events = simulation.events();
    println!(
        "{clients} clients, {rounds} rounds of {cohort}: {events} events, {seconds:.2} s, {:.2} M events/s, {} B/client, {}",
        events as f64 / seconds / 1e6,
        (resident_bytes() - resident) / clients as u64,
        simulation.now()
    );
}

fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("nanoseconds") / 1e9
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("kB") * 1024
}

fn federation(clients: usize, cohort: u32, rounds: u32) -> Federation {
    let devices = (1..=5u64)
        .map(|i| Device {
            name: format!("class {i}"),
            flops_per_s: i * 1_000_000_000_000,
            memory_bytes: 1 << 34,
            memory_bytes_per_s: 100_000_000_000,
            idle_mw: 1_000,
            busy_mw: 10_000,
            slowdown: Quantiles::log_normal(1_000_000_000, 0.3, 1024),
            crashes: None,
        })
        .collect();
    let links = (1..=8u64)
        .map(|i| Link {
            down: Rate::from_bits_per_s(i * 20_000_000),
            up: Rate::from_bits_per_s(i * 5_000_000),
            latency: Span::from_millis(20 + i),
            latency_jitter: None,
        })
        .collect();
    let work = Work {
        flops: 50_000_000_000_000,
        memory_traffic_bytes: 0,
        peak_memory_bytes: 1 << 30,
        download_bytes: 8_000_000,
        upload_bytes: 8_000_000,
        first_download_bytes: 0,
    };
    let wide = Capacity::constant(Rate::from_bits_per_s(20_000_000 * u64::from(cohort)));
    let narrow = Capacity::constant(Rate::from_bits_per_s(5_000_000 * u64::from(cohort)));
    Federation {
        seed: Seed(1),
        devices,
        links,
        works: vec![work],
        dropouts: vec![Dropout { during_training: Probability::from_f64(0.05).unwrap(), ..Dropout::default() }],
        availabilities: vec![Availability::Always],
        clients: (0..clients as u32)
            .map(|i| Client { device: i % 5, link: i / 5 % 8, samples: 1 + i % 100, ..Client::default() })
            .collect(),
        network: Network::Server { egress: wide, ingress: narrow },
        region_cuts: vec![],
        interruption: Interruption::Abandon,
        server: Server {
            rounds,
            selection: Selection::Uniform,
            candidates: Candidates::Online,
            memory: MemoryPolicy::Ineligible,
            protocol: Protocol::Synchronous(Synchronous {
                cohort,
                over_selection: 0,
                deadline: None,
                minimum: 1,
                stragglers: Stragglers::Stop,
            }),
            aggregation: Span::ZERO,
            retry: Span::from_secs(60),
        },
        detail: Detail::Tasks,
    }
}
