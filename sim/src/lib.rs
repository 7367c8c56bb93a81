//! A federation in virtual time: which client does what, when, and whether it counts.
//!
//! This crate knows clients, bytes, seconds and identifiers; never tensors, files, threads or clocks. Start at
//! [`Federation`], the description of a world, and [`Simulation`], which plays it one event at a time.
//!
//! Guarantees: events are totally ordered by [`kernel::Key`]; every draw is a pure function of seed, purpose, entity
//! and number; equal federations give equal records and digests on any machine; every dispatched task ends once; a
//! run never hangs.

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

/// Draws of published code, for rules that repeat them; nothing else may be drawn from these.
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
