//! One decoder layer, forward and backward, without an autograd tape: only what the backward pass reads is kept.

use tch::{TchError, Tensor};

use super::lora::{self, Masks};
use super::pack::Packed;
use super::parameters::{Parameters, Site};
use super::{attention, llm_int8, ops};
use crate::model::{Base, Weight};

type Result<T> = std::result::Result<T, TchError>;

/// One job in a pass: its adapter and its dropout masks.
pub struct Trainee<'a> {
    /// The adapter.
    pub parameters: &'a Parameters,
    /// Its masks, if anything is dropped.
    pub masks: Option<Masks>,
}

/// A pass of several jobs through one base.
pub struct Pass<'a> {
    /// The frozen weights.
    pub base: &'a Base,
    /// The rows of all jobs.
    pub packed: &'a Packed,
    /// The jobs, in the order of `packed.spans`.
    pub trainees: &'a [Trainee<'a>],
}

/// What a layer's backward pass reads.
pub struct Kept {
    x: Tensor,
    x_inverse: Tensor,
    h: Tensor,
    qkv: Tensor,
    attended: Tensor,
    sums: Vec<Tensor>,
    x2: Tensor,
    x2_inverse: Tensor,
    h2: Tensor,
    gate_up: Tensor,
    product: Option<Tensor>,
    low: [Vec<Option<Tensor>>; 4],
}

impl Pass<'_> {
    /// Runs a layer on `x` `[rows, hidden]`. After its attention, the last layer goes on with the predicting rows alone:
    /// nothing reads the others.
    pub fn forward(&self, layer: usize, x: Tensor) -> Result<(Tensor, Kept)> {
        let (block, config) = (&self.base.blocks[layer], &self.base.config);
        let master = self.base.precision.master_kind();
        let (h, x_inverse) = ops::rms_norm(&x, &block.input_norm, config.rms_norm_eps, master)?;
        let qkv = self.linear(layer, Site::Attention, &h, &block.qkv, block.qkv_bias.as_ref())?;
        let low_attention = self.add_lora(layer, Site::Attention, &h, &qkv)?;
        self.turn(&qkv, false)?;
        let (attended, sums) = attention::forward(config, &qkv, &self.packed.runs)?;
        let (attended_rows, residual) = (self.go_on(layer, &attended)?, self.go_on(layer, &x)?);
        let mut x2 = self.linear(layer, Site::Output, &attended_rows, &block.output, block.output_bias.as_ref())?;
        let low_output = self.add_lora(layer, Site::Output, &attended_rows, &x2)?;
        let _ = x2.f_add_(&residual)?;
        let (h2, x2_inverse) = ops::rms_norm(&x2, &block.inner_norm, config.rms_norm_eps, master)?;
        let gate_up = self.linear(layer, Site::Mlp, &h2, &block.gate_up, block.gate_up_bias.as_ref())?;
        let low_mlp = self.add_lora(layer, Site::Mlp, &h2, &gate_up)?;
        let product = ops::swiglu(&gate_up)?;
        let mut y = self.linear(layer, Site::Down, &product, &block.down, block.down_bias.as_ref())?;
        let low_down = self.add_lora(layer, Site::Down, &product, &y)?;
        let _ = y.f_add_(&x2)?;
        let product = low_down.iter().any(Option::is_some).then_some(product);
        let low = [low_attention, low_output, low_mlp, low_down];
        Ok((y, Kept { x, x_inverse, h, qkv, attended, sums, x2, x2_inverse, h2, gate_up, product, low }))
    }

    /// Adds the layer's adapter gradients and returns the gradient of its input, unless `is_lowest`: then nothing below
    /// reads it.
    pub fn backward(&self, layer: usize, kept: Kept, dy: Tensor, is_lowest: bool) -> Result<Option<Tensor>> {
        let dx2 = self.backward_mlp(layer, &kept, dy)?;
        let block = &self.base.blocks[layer];
        let d_attended = ops::product(&dx2, &ops::expanded(&block.output)?)?;
        let attended_rows = self.go_on(layer, &kept.attended)?;
        self.differentiate_lora(layer, Site::Output, &kept, &attended_rows, &dx2, Some(&d_attended))?;
        let (d_attended, dx2) = (self.come_back(layer, d_attended)?, self.come_back(layer, dx2)?);
        let config = &self.base.config;
        let d_qkv = attention::backward(config, &kept.qkv, &kept.attended, &kept.sums, &d_attended, &self.packed.runs)?;
        self.turn(&d_qkv, true)?;
        if is_lowest {
            self.differentiate_lora(layer, Site::Attention, &kept, &kept.h, &d_qkv, None)?;
            return Ok(None);
        }
        let dh = ops::product(&d_qkv, &ops::expanded(&block.qkv)?)?;
        self.differentiate_lora(layer, Site::Attention, &kept, &kept.h, &d_qkv, Some(&dh))?;
        ops::rms_norm_backward(&dh, &kept.x, &kept.x_inverse, &block.input_norm, &dx2).map(Some)
    }

    /// The gradient at the attention's residual sum.
    fn backward_mlp(&self, layer: usize, kept: &Kept, dy: Tensor) -> Result<Tensor> {
        let block = &self.base.blocks[layer];
        let d_product = ops::product(&dy, &ops::expanded(&block.down)?)?;
        if let Some(product) = &kept.product {
            self.differentiate_lora(layer, Site::Down, kept, product, &dy, Some(&d_product))?;
        }
        // Gate and up are read here for the last time.
        let d_gate_up = ops::swiglu_backward(&d_product, kept.gate_up.shallow_clone())?;
        let dh2 = ops::product(&d_gate_up, &ops::expanded(&block.gate_up)?)?;
        self.differentiate_lora(layer, Site::Mlp, kept, &kept.h2, &d_gate_up, Some(&dh2))?;
        ops::rms_norm_backward(&dh2, &kept.x2, &kept.x2_inverse, &block.inner_norm, &dy)
    }

    /// The rows with which `layer` goes on after its attention.
    fn go_on(&self, layer: usize, rows: &Tensor) -> Result<Tensor> {
        match self.is_last(layer) {
            true => rows.f_index_select(0, &self.packed.predictions.rows),
            false => Ok(rows.shallow_clone()),
        }
    }

    /// The gradient of all rows from that of the rows with which `layer` went on; the others have none.
    fn come_back(&self, layer: usize, gradient: Tensor) -> Result<Tensor> {
        if !self.is_last(layer) {
            return Ok(gradient);
        }
        let predictions = &self.packed.predictions;
        let real = gradient.f_index_select(0, &predictions.real_places)?;
        let all = [self.packed.ids.size()[0], gradient.size()[1]];
        gradient.f_new_zeros(all, (gradient.kind(), gradient.device()))?.f_index_copy_(0, &predictions.real_rows, &real)
    }

    fn is_last(&self, layer: usize) -> bool {
        layer + 1 == self.base.blocks.len()
    }

    /// Turns the heads of q and k, which stand first in a row, by their positions.
    fn turn(&self, qkv: &Tensor, backwards: bool) -> Result<()> {
        let heads = self.base.config.heads + self.base.config.kv_heads;
        ops::rotate(qkv, heads, &self.packed.cos, &self.packed.sin, backwards)
    }

    /// A frozen linear module on the rows of all jobs.
    fn linear(
        &self,
        layer: usize,
        site: Site,
        input: &Tensor,
        weight: &Weight,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        if let Some(int8) = weight.for_int8_products() {
            let of_job = |index| llm_int8::product(&self.rows_of(layer, site, index, input)?, int8, bias);
            let parts = (0..self.trainees.len()).map(of_job).collect::<Result<Vec<_>>>()?;
            return Tensor::f_cat(&parts, 0);
        }
        let mut output = ops::product(input, &ops::expanded(weight)?.f_tr()?)?;
        match bias {
            None => Ok(output),
            Some(bias) => output.f_add_(bias),
        }
    }

    fn add_lora(&self, layer: usize, site: Site, input: &Tensor, output: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let one = |(index, trainee): (usize, &Trainee)| {
            let Some(group) = trainee.parameters.group(layer, site) else { return Ok(None) };
            let own = |rows: &Tensor| self.rows_of(layer, site, index, rows);
            let (input, output) = (own(input)?, own(output)?);
            lora::forward(group, &input, &output, trainee.masks.as_ref()).map(Some)
        };
        self.trainees.iter().enumerate().map(one).collect()
    }

    fn differentiate_lora(
        &self,
        layer: usize,
        site: Site,
        kept: &Kept,
        input: &Tensor,
        d_output: &Tensor,
        d_input: Option<&Tensor>,
    ) -> Result<()> {
        for (index, trainee) in self.trainees.iter().enumerate() {
            let (Some(group), Some(low)) = (trainee.parameters.group(layer, site), &kept.low[site as usize][index])
            else {
                continue;
            };
            let own = |rows: &Tensor| self.rows_of(layer, site, index, rows);
            let (input, d_output, d_input) = (own(input)?, own(d_output)?, d_input.map(own).transpose()?);
            lora::backward(group, &input, low, &d_output, d_input.as_ref(), trainee.masks.as_ref())?;
        }
        Ok(())
    }

    /// One job's share of the rows at a site.
    fn rows_of(&self, layer: usize, site: Site, index: usize, rows: &Tensor) -> Result<Tensor> {
        let span = match self.is_last(layer) && site != Site::Attention {
            true => &self.packed.predictions.spans[index],
            false => &self.packed.spans[index],
        };
        rows.f_narrow(0, span.start, span.end - span.start)
    }
}
