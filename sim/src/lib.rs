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
pub mod kernel;
pub mod network;
pub mod random;
mod record;
pub mod server;
mod simulation;
mod validation;
mod world;

pub use client::{Availability, Client, Crashes, Device, Dropout, Interruption, Link, RegionCut, Stage, Work};
pub use federation::Federation;
pub use kernel::{Class, Span, Time};
pub use network::{Capacity, Network, Rate};
pub use random::{Probability, Purpose, Quantiles, Seed, Stream};
pub use record::{
    CountedTask, Detail, EventKind, EventRecord, Failure, Outcome, Record, RoundRecord, RoundStatus, Tally, TaskId,
    TaskRecord,
};
pub use server::{Candidates, MemoryPolicy, Protocol, Selection, Server, Stragglers, Synchronous, TaskReport};
pub use simulation::{SimError, Simulation, Step};
pub use validation::{Invalid, Place};
