//! Federated methods on plain adapters, without LibTorch, with one file per family.
//!
//! A server step has two parts: [`mean_update`] averages a round's updates, and [`ServerRule::apply`] computes the next
//! model from that mean and the server's state. Whatever comes between the two, such as noise, needs to know neither.
//! [`RobustAggregation`] takes the place of the mean where a scenario asks for it.
//! [`AttackRule`] computes what clients that attack send instead of their updates. [`Method`] translates the method of a scenario.

mod adaptive;
mod aggregation_error;
mod attack;
mod averaging;
mod base_change;
mod control;
mod decomposition;
mod eigen;
mod fed_sb;
mod lora_fair;
mod method;
mod momentum;
mod own_rule;
mod products;
mod robust;
mod server;
#[cfg(test)]
mod tests;
mod truncation;

pub use adaptive::{AdaptiveOptimizer, SquareRule};
pub use aggregation_error::{
    AggregationError, ModuleError, error_of_corrected, error_of_factors, have_mean_of_products, product_norm,
};
pub use attack::{AttackRule, Perturbation, alie_z};
pub use averaging::{MeanUpdate, Update, mean_update};
pub use control::{ControlChange, correction, next_client_control, next_server_control};
pub use decomposition::{Singular, apart};
pub use fed_sb::adapter_of_first_step;
pub use lora_fair::correction_of_b;
pub use method::{ClientTerms, Method};
pub use momentum::Momentum;
pub use own_rule::{AggregationRule, OwnStep, ReceivedUpdate, RuleError, RuleInput, RuleOutput, RuleUpdate, own_step};
pub use products::products_change;
pub use robust::{RobustAggregation, RobustContext, RobustRule};
pub use server::{ServerRule, ServerState};
