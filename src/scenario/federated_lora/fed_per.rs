//! FedPer: Arivazhagan et al., "Federated Learning with Personalization Layers", arXiv 1912.00818, algorithms 1 and 2. The paper's base
//! layers and personalization layers are here the adapters of the first decoder layers and of the last ones.

use super::{Averages, LoraMethod, clash_of_split, kept_layers};
use crate::adapter::Factors;

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "FedPer",
    source: "arXiv 1912.00818",
    trains: |_, _| Factors::Both,
    sends: |method, _| Factors::ButLastLayers(kept_layers(method)),
    receives: |method, _, _| Factors::ButLastLayers(kept_layers(method)),
    keeps: |method| Factors::LastLayers(kept_layers(method)),
    trains_own_adapter: false,
    averages: Averages::Factors,
    takes_mixed_ranks: false,
    clash: clash_of_split,
};
