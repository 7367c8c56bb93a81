//! Discrete-event simulation of federated learning in virtual time: which client does what, when, and whether its
//! update counts.
//!
//! This crate deals with clients, bytes, seconds and identifiers. It uses no tensors, files, threads or clocks. Start
//! with [`Federation`], which describes a federation, and [`Simulation`], which simulates it one event at a time.
//!
//! # Guarantees
//!
//! - Events are totally ordered by [`kernel::Key`].
//! - Every random draw is a pure function of seed, purpose, entity and number.
//! - Equal federations give equal records and digests on any machine.
//! - Every dispatched task ends exactly once.
//! - A run never hangs.
//!
//! # Examples
//!
//! A federation of four equal clients, two of which train in each of three rounds:
//!
//! ```
//! use fedreplay_sim::{
//!     Availability, Candidates, Client, Detail, Device, Dropout, Federation, Interruption, Link, MemoryPolicy, Network,
//!     Protocol, Radio, Rate, Record, Seed, Selection, Server, Sharing, Simulation, Span, Step, Stragglers, Synchronous,
//!     Transport, Work,
//! };
//!
//! let laptop = Device {
//!     name: "laptop".into(),
//!     flops_per_s: 1_000_000_000,
//!     memory_bytes: 1_000_000_000,
//!     memory_bytes_per_s: 1_000_000_000,
//!     idle_mw: 1_000,
//!     busy_mw: 10_000,
//!     slowdown: None,
//!     crashes: None,
//! };
//! let link = Link {
//!     down: Rate::from_bits_per_s(8_000_000),
//!     up: Rate::from_bits_per_s(4_000_000),
//!     latency: Span::ZERO,
//!     latency_jitter: None,
//!     stalls: None,
//!     transport: Transport::default(),
//!     radio: Radio::default(),
//! };
//! // One second of download, two of training, two of upload.
//! let work = Work {
//!     flops: 2_000_000_000,
//!     memory_traffic_bytes: 0,
//!     peak_memory_bytes: 500_000_000,
//!     download_bytes: 1_000_000,
//!     upload_bytes: 1_000_000,
//!     first_download_bytes: 0,
//!     every_second_round: None,
//!     training: None,
//! };
//! let rounds_of_two =
//!     Synchronous { cohort: 2, over_selection: 0, deadline: None, minimum: 2, stragglers: Stragglers::Stop };
//! let server = Server {
//!     rounds: 3,
//!     selection: Selection::Uniform,
//!     candidates: Candidates::Online,
//!     memory: MemoryPolicy::Ineligible,
//!     protocol: Protocol::Synchronous(rounds_of_two),
//!     aggregation: Span::from_secs(1),
//!     training: Span::ZERO,
//!     retry: Span::from_secs(60),
//! };
//! let federation = Federation {
//!     seed: Seed(7),
//!     devices: vec![laptop],
//!     links: vec![link],
//!     works: vec![work],
//!     dropouts: vec![Dropout::default()],
//!     availabilities: vec![Availability::Always],
//!     clients: vec![Client { samples: 10, ..Client::default() }; 4],
//!     network: Network::Unlimited,
//!     sharing: Sharing::default(),
//!     region_cuts: vec![],
//!     interruption: Interruption::Abandon,
//!     colluders: Default::default(),
//!     server,
//!     detail: Detail::Rounds,
//! };
//!
//! let mut simulation = Simulation::new(federation)?;
//! while simulation.step()? == Step::Advanced {}
//! let mut closed_at = Vec::new();
//! for record in simulation.drain() {
//!     if let Record::Round(round) = record {
//!         assert_eq!(round.counted, 2);
//!         closed_at.push(round.closed_at.to_string());
//!     }
//! }
//! assert_eq!(closed_at, ["5s", "11s", "17s"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod client;
mod federation;
pub mod kernel;
pub mod network;
pub mod random;
mod record;
pub mod server;
mod simulation;
mod snapshot;
mod validation;
mod world;

/// Random generators of published code, for policies that reproduce its draws. They must not be used for anything else.
pub mod published {
    pub use crate::server::{Mersenne, sample};
}

pub use client::{
    ALL_TARGETS, Availability, Client, Crashes, Device, DeviceSpec, Diurnal, Dropout, Interruption, Link, LoraTraining,
    ModelShape, Precision, Radio, RegionCut, Stage, Stalls, Target, Traffic, Work,
};
pub use federation::Federation;
pub use kernel::{Class, Span, Time};
pub use network::{Capacity, Connection, Network, Overhead, Rate, Sharing, Topology, TopologyLink, Transport, Weights};
pub use random::{Probability, Purpose, Quantiles, Seed, Stream};
pub use record::{
    CountedTask, Detail, EventKind, EventRecord, Failure, Outcome, Record, RoundRecord, RoundStatus, Tally, TaskId,
    TaskRecord,
};
pub use server::{
    Asynchronous, Buffered, Candidates, Discount, EdgeLink, Hierarchical, MemoryPolicy, Oort, Protocol, Selection,
    SemiSynchronous, Server, Stragglers, Synchronous, TaskReport, Tiered,
};
pub use simulation::{SimError, Simulation, Step};
pub use snapshot::SnapshotError;
pub use validation::{Invalid, Place};
pub use world::Intervention;
