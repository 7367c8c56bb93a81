//! FFA-LoRA: Sun et al., "Improving LoRA in Privacy-preserving Federated Learning", ICLR 2024, arXiv 2403.12313, section 4. A is
//! drawn from the run's seed, so no client needs to be sent it. With one A for all, the mean of the products is the product of the
//! means, and noise on B stays linear in the product.

use super::{Averages, LoraMethod, apart};
use crate::adapter::Factors;

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "FFA-LoRA",
    source: "arXiv 2403.12313",
    trains: |_, _| Factors::B,
    sends: |_, _| Factors::B,
    receives: |_, _, _| Factors::B,
    keeps: |_| Factors::None,
    trains_own_adapter: false,
    averages: Averages::Factors,
    takes_mixed_ranks: false,
    clash: apart,
};
