//! The subcommands, one file each: its options, and its `main`.

pub mod calibrate;
pub mod certify;
pub mod data;
pub mod diff;
pub mod eval;
pub mod export;
pub mod fork;
pub mod generate;
pub mod import;
pub mod ls;
pub mod model;
pub mod plan;
pub mod privacy;
pub mod replay;
pub mod report;
pub mod resume;
pub mod run;
pub mod scenario;
pub mod show;
pub mod store;
pub mod sweep;
pub mod tail;
pub mod verify;
