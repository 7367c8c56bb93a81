//! The base's linear modules as generation multiplies with them: packed once where the program's own products serve.

use tch::{TchError, Tensor};

use super::rows::Span;
use crate::model::{Base, Block, Weight};
use crate::training::native::decode::Packed;
use crate::training::native::kernels;
use crate::training::parameters::Site;
use crate::training::{llm_int8, ops};

type Result<T> = std::result::Result<T, TchError>;

/// The sites of a layer, in the order of their numbers.
const SITES: [Site; 4] = [Site::Attention, Site::Output, Site::Mlp, Site::Down];

/// Packed weights: none where products read the base's own.
pub struct Weights {
    layers: Vec<[Option<Packed>; 4]>,
    head: Option<Packed>,
}

impl Weights {
    /// Packs what is held as it is multiplied, on a CPU in f32 and bf16.
    pub fn new(base: &Base) -> Result<Self> {
        let pack = |weight: &Weight| match kernels::serve(&base.norm) && weight.expanded_bytes() == 0 {
            true => Packed::new(&ops::expanded(weight)?.f_tr()?).map(Some),
            false => Ok(None),
        };
        let layer = |block: &Block| {
            let [attention, output, mlp, down] = SITES.map(|site| pack(module(block, site).0));
            Ok([attention?, output?, mlp?, down?])
        };
        let layers = base.blocks.iter().map(layer).collect::<Result<_>>()?;
        let head = kernels::serve(&base.head).then(|| Packed::new(&base.head.f_tr()?)).transpose()?;
        Ok(Self { layers, head })
    }

    /// A linear module on all rows.
    pub fn linear(&self, base: &Base, layer: usize, site: Site, spans: &[Span], input: &Tensor) -> Result<Tensor> {
        let (weight, bias) = module(&base.blocks[layer], site);
        if let Some(int8) = weight.for_int8_products() {
            let parts = spans.iter().map(|span| llm_int8::product(&span.of(input)?, int8, bias));
            return Tensor::f_cat(&parts.collect::<Result<Vec<_>>>()?, 0);
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

    /// The logits of normalised rows.
    pub fn head(&self, base: &Base, h: &Tensor) -> Result<Tensor> {
        match &self.head {
            Some(packed) => packed.product(h),
            None => ops::product(h, &base.head.f_tr()?),
        }
    }
}

fn module(block: &Block, site: Site) -> (&Weight, Option<&Tensor>) {
    match site {
        Site::Attention => (&block.qkv, block.qkv_bias.as_ref()),
        Site::Output => (&block.output, block.output_bias.as_ref()),
        Site::Mlp => (&block.gate_up, block.gate_up_bias.as_ref()),
        Site::Down => (&block.down, block.down_bias.as_ref()),
    }
}
