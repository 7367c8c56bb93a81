//! What distinguishes the decoders of other families from Llama's.

use serde::{Deserialize, Serialize};

/// Differences of a decoder from Llama's; the default is Llama.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Layers that use the sliding window; `None` if all do.
    pub windowed_layers: Option<Vec<bool>>,
}
