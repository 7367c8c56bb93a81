//! Behaviour of whole simulations, through the public interface. Files are named by what they cover.

mod catalog;
mod colluders;
mod forks;
mod golden;
mod interruptions;
mod network;
mod protocols;
mod queueing;
mod random_world;
mod results;
mod selections;
mod sharing;
mod swarm;
mod synchronous;
mod transport;
mod weighted;
mod world;
