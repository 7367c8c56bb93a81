//! FedIT: Zhang et al., "Towards Building the Federated GPT", ICASSP 2024, arXiv 2305.05644, section 3.2. Both factors are averaged
//! separately, as in FedLLM-Bench, although the product of the means is not the mean of the products.

use super::{Averages, LoraMethod};
use crate::adapter::Factors;

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "FedIT",
    source: "arXiv 2305.05644",
    trains: |_, _| Factors::Both,
    sends: |_, _| Factors::Both,
    receives: |_, _, _| Factors::Both,
    keeps: |_| Factors::None,
    trains_own_adapter: false,
    averages: Averages::Factors,
    takes_mixed_ranks: false,
    clash: |_| None,
};
