//! Linear modules of the base for generation, packed once if the program's own kernels are used.

use tch::{TchError, Tensor};

use super::rows::Span;
use crate::model::{Base, Block, Weight};
use crate::training::engine::parameters::Site;
use crate::training::kernels::llm_int8;
use crate::training::kernels::native::decode::PackedWeights;
use crate::training::kernels::native::kernels;
use crate::training::kernels::ops;

type Result<T> = std::result::Result<T, TchError>;

/// Sites of a layer, in the order of their numbers.
const SITES: [Site; 4] = [Site::Attention, Site::Output, Site::Mlp, Site::Down];

/// Packed weights; `None` for weights that are read from the base.
pub struct DecoderWeights {
    layers: Vec<[Option<PackedWeights>; 4]>,
    head: Option<PackedWeights>,
}

impl DecoderWeights {
    /// Packs the weights that need no expansion, on a CPU in f32 and bf16.
    pub fn new(base: &Base) -> Result<Self> {
        let mut layers = Vec::with_capacity(base.blocks.len());
        for block in &base.blocks {
            let mut packed = [const { None }; 4];
            for (packed, site) in packed.iter_mut().zip(SITES) {
                let (weight, _) = module(block, site);
                // A quantized weight is not packed: that would hold it expanded.
                if kernels::serve(&base.norm) && weight.expanded_bytes() == 0 {
                    *packed = Some(PackedWeights::new(&ops::expanded(weight)?.f_tr()?)?);
                }
            }
            layers.push(packed);
        }
        let head = if kernels::serve(&base.head) { Some(PackedWeights::new(&base.head.f_tr()?)?) } else { None };
        Ok(Self { layers, head })
    }

    /// Applies a linear module to all rows.
    pub fn linear(&self, base: &Base, layer: usize, site: Site, spans: &[Span], input: &Tensor) -> Result<Tensor> {
        let (weight, bias) = module(&base.blocks[layer], site);
        if let Some(int8) = weight.for_int8_products() {
            // Each span is a product of its own, since the rows of a product decide each other's outliers.
            let mut parts = Vec::with_capacity(spans.len());
            for span in spans {
                parts.push(llm_int8::product(&span.of(input)?, int8, bias)?);
            }
            return Tensor::f_cat(&parts, 0);
        }
        let mut output = match &self.layers[layer][site as usize] {
            Some(packed) => packed.product(input)?,
            None => ops::product(input, &ops::expanded(weight)?.f_tr()?)?,
        };
        match bias {
            None => Ok(output),
            Some(bias) => output.f_add_(bias),
        }
    }

    /// Computes the logits of normalized rows.
    pub fn head(&self, base: &Base, h: &Tensor) -> Result<Tensor> {
        match &self.head {
            Some(packed) => packed.product(h),
            None => ops::product(h, &base.head.f_tr()?),
        }
    }
}

/// Returns weight and bias of the linear modules at a site.
fn module(block: &Block, site: Site) -> (&Weight, Option<&Tensor>) {
    match site {
        Site::Attention => (&block.qkv, block.qkv_bias.as_ref()),
        Site::Output => (&block.output, block.output_bias.as_ref()),
        Site::Mlp => (&block.gate_up, block.gate_up_bias.as_ref()),
        Site::Down => (&block.down, block.down_bias.as_ref()),
    }
}
