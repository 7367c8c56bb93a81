//! Names of the federated methods made for LoRA. `scenario/federated_lora/` declares what each does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{hundredth, tenth};
use super::one_u32;
use crate::scenario::range;

/// Method by which LoRA's factors A and B are trained, exchanged and averaged. docs/methods/ has rules, sizes and sources. `FedIt` is not written out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum FederatedLora {
    /// FedIT (Zhang et al. 2024, arXiv 2305.05644): A and B are trained, sent and averaged separately.
    #[default]
    FedIt,
    /// FFA-LoRA (Sun et al. 2024, arXiv 2403.12313): A is the same fixed random matrix for all clients and rounds; B is trained and sent.
    FfaLora,
    /// RoLoRA (Chen et al. 2025, arXiv 2502.01755): odd rounds train and send B, even rounds A.
    RoLora,
    /// FedSA-LoRA (Guo et al. 2025, arXiv 2410.01463): both are trained, A is sent and averaged, and each client keeps its B.
    FedSaLora,
    /// FlexLoRA (Bai et al. 2024, arXiv 2402.11505): the products B A are averaged, and the mean is replaced by the nearest adapter of
    /// the server's rank; each client gets the nearest of its own rank. The same as `mean: Products`.
    FlexLora,
    /// HetLoRA (Cho et al. 2024, arXiv 2401.06432), without its pruning of ranks, which `HetLoraPruning` has: a client gets the first rows of A and columns of B,
    /// as many as its rank, and the factors are averaged with weights in proportion to the norm of B A.
    HetLora,
    /// HetLoRA with its pruning of ranks (Cho et al. 2024, section 3): as `HetLora`; a client also shrinks its last components by a term of
    /// its loss, and gives them up for the rest of the run where they have become smaller in a task.
    HetLoraPruning {
        /// [1] Part of its rank that a client keeps when it prunes, rounded down to at least 1; what is after it is shrunk -- above 0, below 1.
        #[serde(default = "nearly_one", deserialize_with = "range::open_share")]
        gamma: f64,
        /// [1] Weight in the loss of the size of the last components, the sum over modules of |B| |A| -- at least 0.
        #[serde(default = "hundredth", deserialize_with = "range::non_negative_single")]
        lambda: f64,
    },
    /// LoRA-FAIR (Bian et al. 2025, arXiv 2411.14961), with the Frobenius norm as its distance: the factors are averaged, and B is
    /// corrected so that the product comes near to the mean of the products.
    LoraFair {
        /// [1] Weight of the squared length of the correction, where that of the squared distance from the mean of the products is 1 -- above 0.
        #[serde(default = "hundredth", deserialize_with = "range::positive")]
        regularization: f64,
    },
    /// FLoRA (Wang et al. 2024, arXiv 2409.05976): the mean of the products B A is added to the base, and each round begins with a new
    /// adapter, of the same random A for all clients and B = 0.
    Flora,
    /// FedEx-LoRA (Singhal et al. 2025, arXiv 2410.09432): the factors are averaged, and what the mean of the products B A has beyond the
    /// product of the means is added to the base.
    FedExLora,
    /// Ditto (Li et al. 2021, arXiv 2012.04221): the factors are averaged as in FedIT, and in each task a client trains an adapter of its
    /// own, too, with the same rows, which is pulled toward the server's and is never sent.
    Ditto {
        /// [1] Weight of the pull: lambda/2 times the squared distance from the server's model is added to the loss -- at least 0.
        #[serde(default = "tenth", deserialize_with = "range::non_negative_single")]
        lambda: f64,
    },
    /// FedPer (Arivazhagan et al. 2019, arXiv 1912.00818): all is trained, the adapters of the first layers are sent and averaged, and
    /// each client keeps those of the last layers.
    FedPer {
        /// [layers] Last decoder layers with an adapter, whose adapters each client keeps -- at least 1, less than all.
        #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
        local_layers: u32,
    },
    /// FedRep (Collins et al. 2021, arXiv 2102.07078): as FedPer, but a task first trains what the client keeps, and then what it
    /// sends, each with the other fixed.
    FedRep {
        /// [layers] Last decoder layers with an adapter, whose adapters each client keeps -- at least 1, less than all.
        #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
        local_layers: u32,
        /// [steps] Steps at the beginning of a task, which train what the client keeps; the others train what it sends -- at least 1,
        /// less than `local_steps`.
        #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
        local_layer_steps: u32,
    },
    /// FLoRIST (Ramesh and Dass 2026, arXiv 2506.09199): as FLoRA, but of the mean of the products each module adds to the base only the
    /// fewest singular values that have a share of its energy, the sum of their squares.
    Florist {
        /// [1] Share of the energy that is kept, tau in the paper -- above 0, at most 1.
        #[serde(default = "nine_tenths", deserialize_with = "range::positive_share")]
        threshold: f64,
    },
    /// Fed-SB (Singhal et al. 2025, arXiv 2502.15436) with the initialization of LoRA-SB (arXiv 2411.19557): a module computes W0 + s B R A,
    /// and only R, of r x r, is trained, sent and averaged. B and A are the same for all clients and rounds: the first singular vectors of
    /// a first step on the whole weights, which is computed before virtual time begins from training rows of all clients, in one place.
    FedSb {
        /// [rows] Training rows, drawn from those of all clients, whose gradients the first step sums, in batches of
        /// `training.batch_size` -- at least 1, at most all. The authors use 50 to 170.
        #[serde(default = "fifty", deserialize_with = "range::at_least_one")]
        init_samples: u32,
        /// [1] Length eta of the first step, -eta sign(G), where G is the sum of gradients -- above 0. By default
        /// lr / (0.02 rounds local_steps), at most lr: the authors divide the learning rate by the steps of their warmup, 2 % of all steps.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "range::positive_or_none")]
        init_step_size: Option<f64>,
    },
}

fn fifty() -> u32 {
    50
}

fn nine_tenths() -> f64 {
    0.9
}

fn nearly_one() -> f64 {
    0.99
}

impl FederatedLora {
    /// Whether it is the method of scenarios that name none.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
