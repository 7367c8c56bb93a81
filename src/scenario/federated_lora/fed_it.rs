//! FedIT: Zhang et al., "Towards Building the Federated GPT", ICASSP 2024, arXiv 2305.05644, section 3.2. Both factors are averaged
//! separately, as in FedLLM-Bench, although the product of the means is not the mean of the products.

use super::LoraMethod;
use crate::adapter::Factors;
use crate::scenario::schema::Mean;

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "FedIT",
    source: "arXiv 2305.05644",
    trains: |_| Factors::Both,
    sends: |_| Factors::Both,
    receives: |_, _| Factors::Both,
    keeps: Factors::None,
    mean: Mean::Factors,
    clash: |_| None,
};
