//! The process and the machine: preparation of LibTorch, free memory, hashes of libraries, and the settings that may
//! change bits.

pub mod available;
mod hash_cache;
pub mod init;
pub mod libraries;
pub mod numerics;
