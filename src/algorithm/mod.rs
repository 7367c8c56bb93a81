//! What a federated method adds at the client and at the server; one file a family; on plain adapters, no torch.
//!
//! The mean of a round's updates comes first ([`mean_update`]), the server's rule is a function of that mean and of the
//! server's state ([`ServerRule::apply`]), and what stands between the two, such as noise, changes neither.

mod adaptive;
mod averaging;
mod control;
mod decomposition;
mod method;
mod momentum;
mod products;
mod server;
#[cfg(test)]
mod toy;

pub use adaptive::{Adaptive, SquareRule};
pub use averaging::{MeanUpdate, Update, mean_update};
pub use control::{ControlChange, correction, next_client_control, next_server_control};
pub use decomposition::{Singular, apart};
pub use method::{ClientTerms, Method};
pub use momentum::Momentum;
pub use products::products_change;
pub use server::{ServerRule, ServerState};
