//! What a federated method adds at the client and at the server; one file a family; on plain adapters, no torch.

mod averaging;

pub use averaging::{Update, weighted_mean};
