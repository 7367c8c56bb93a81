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

pub mod client;
mod federation;
mod intervention;
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
    ModelShape, Precision, RegionCut, Stage, Target, Work,
};
pub use federation::Federation;
pub use intervention::Intervention;
pub use kernel::{Class, Span, Time};
pub use network::{Capacity, Network, Rate, Topology, TopologyLink};
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
