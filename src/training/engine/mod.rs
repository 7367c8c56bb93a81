//! The LoRA step: jobs, their rows packed into passes, forward and backward through the layers, and the optimizers.

pub mod evaluate;
pub mod heads;
pub mod job;
pub mod layer;
pub mod lora;
pub mod memory;
pub mod optimizer;
pub mod pack;
pub mod parameters;
pub mod residual;
pub mod runner;
pub mod timing;
pub mod trainer;
mod weight_gradient;
