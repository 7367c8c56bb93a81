//! Behaviour of whole simulations, through the public interface. Files are named by what they cover.

mod catalog;
mod synchronous;
mod world;
