//! Small federations for tests, with round numbers.

use fedreplay_sim::*;

/// 1 GFLOP/s, 1 GB, links of 8 Mbit/s down and 4 up without latency; tasks of 2 GFLOP, 1 MB down, 1 MB up: a task
/// takes 1 s of download, 2 s of training and 2 s of upload.
pub fn federation(clients: usize, protocol: Protocol, rounds: u32) -> Federation {
    Federation {
        seed: Seed(7),
        devices: vec![device(1_000_000_000)],
        links: vec![link(8_000_000, 4_000_000)],
        works: vec![Work {
            flops: 2_000_000_000,
            memory_traffic_bytes: 0,
            peak_memory_bytes: 500_000_000,
            download_bytes: 1_000_000,
            upload_bytes: 1_000_000,
            first_download_bytes: 0,
            every_second_round: None,
            training: None,
        }],
        dropouts: vec![Dropout::default()],
        availabilities: vec![Availability::Always],
        clients: vec![Client { samples: 10, ..Client::default() }; clients],
        network: Network::Unlimited,
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
        detail: Detail::Events,
    }
}

pub fn device(flops_per_s: u64) -> Device {
    Device {
        name: "test".into(),
        flops_per_s,
        memory_bytes: 1_000_000_000,
        memory_bytes_per_s: 1_000_000_000,
        idle_mw: 1_000,
        busy_mw: 10_000,
        slowdown: None,
        crashes: None,
    }
}

pub fn link(down_bits: u64, up_bits: u64) -> Link {
    Link {
        down: Rate::from_bits_per_s(down_bits),
        up: Rate::from_bits_per_s(up_bits),
        latency: Span::ZERO,
        latency_jitter: None,
        stalls: None,
        transport: Transport::default(),
        radio: Radio::default(),
    }
}

pub fn synchronous(cohort: u32, over_selection: u32, deadline_ms: Option<u64>) -> Protocol {
    Protocol::Synchronous(Synchronous {
        cohort,
        over_selection,
        deadline: deadline_ms.map(Span::from_millis),
        minimum: 1,
        stragglers: Stragglers::Stop,
    })
}

/// What a whole run recorded.
#[derive(Debug, Default, PartialEq)]
pub struct Run {
    pub events: Vec<EventRecord>,
    pub tasks: Vec<TaskRecord>,
    pub rounds: Vec<RoundRecord>,
    pub order: [u8; 32],
    pub result: [u8; 32],
}

pub fn play(federation: Federation) -> Run {
    finish(Simulation::new(federation).unwrap())
}

/// Plays a simulation to its end.
pub fn finish(mut simulation: Simulation) -> Run {
    while simulation.step().unwrap() == Step::Advanced {}
    collect(&mut simulation)
}

/// Answers a policy that asks for a result: the loss falls with the number of the task.
pub fn supply(simulation: &mut Simulation, task: TaskId) {
    simulation.supply(task, TaskReport::from_loss(3.0 / (1.0 + task.0 as f64)));
}

/// Everything recorded so far, and the digests.
pub fn collect(simulation: &mut Simulation) -> Run {
    let mut run = Run::default();
    for record in simulation.drain() {
        match record {
            Record::Event(event) => run.events.push(event),
            Record::Task(task) => run.tasks.push(task),
            Record::Round(round) => run.rounds.push(round),
        }
    }
    (run.order, run.result) = (simulation.order_digest(), simulation.result_digest());
    run
}

/// The events as `ms:kind:client`, in order, without the seconds' fraction below a millisecond.
pub fn timeline(run: &Run) -> Vec<String> {
    let text = |event: &EventRecord| {
        let client = event.client.map_or(String::new(), |client| format!(":{client}"));
        format!("{}:{}{client}", event.at.0 / 1_000_000, event.kind.name())
    };
    run.events.iter().map(text).collect()
}
