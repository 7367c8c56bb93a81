//! Forward and backward pass of one decoder layer with LoRA adapters, without an autograd tape.
//!
//! The forward pass returns the activations that the backward pass reads, and nothing else stays in memory. Shapes: `x` is
//! `[rows, hidden]`, `qkv` is `[rows, (heads + 2 kv_heads) * head_dim]`, `gate_up` is `[rows, 2 * intermediate]`.

use tch::{TchError, Tensor};

use super::heads::{self, SavedHeads};
use super::lora::{self, Masks};
use super::pack::PackedBatch;
use super::parameters::{Parameters, Site};
use super::residual::{self, SavedNorm};
use crate::model::{Base, Weight};
use crate::training::kernels::attention;
use crate::training::kernels::llm_int8;
use crate::training::kernels::ops;

type Result<T> = std::result::Result<T, TchError>;

/// Adapter and dropout masks of one job in a pass.
pub struct PassJob<'a> {
    /// The adapter.
    pub parameters: &'a Parameters,
    /// Dropout masks; `None` without dropout.
    pub masks: Option<Masks>,
}

/// Pass of several jobs through one base model.
pub struct Pass<'a> {
    /// The frozen weights.
    pub base: &'a Base,
    /// The rows of all jobs.
    pub packed: &'a PackedBatch,
    /// The jobs, in the order of `packed.spans`.
    pub trainees: &'a [PassJob<'a>],
}

/// Activations saved by a layer's forward pass for its backward pass.
pub struct SavedActivations {
    attention: SavedAttention,
    mlp: SavedMlp,
    /// A times the input of each job's adapter, by [`Site`].
    low: [Vec<Option<Tensor>>; 4],
}

/// Activations of the attention block: its norm and projections.
struct SavedAttention {
    input_norm: Option<SavedNorm>,
    h: Tensor,
    head_norms: Option<SavedHeads>,
    qkv: Tensor,
    attended: Tensor,
    sums: Vec<Tensor>,
    result_norm: Option<SavedNorm>,
}

/// Activations of the MLP block: its norm and products.
struct SavedMlp {
    input_norm: Option<SavedNorm>,
    h2: Tensor,
    gate_up: Tensor,
    product: Option<Tensor>,
    result_norm: Option<SavedNorm>,
}

impl Pass<'_> {
    /// Runs a layer on `x` `[rows, hidden]` and returns its output with the activations for [`Self::backward`].
    ///
    /// After its attention the last layer continues with the rows that predict a token: no loss reads the others.
    pub fn forward(&self, layer: usize, x: Tensor) -> Result<(Tensor, SavedActivations)> {
        let block = &self.base.blocks[layer];
        let config = &self.base.config;

        // h = norm(x); qkv = h W + LoRA; then the positions are written into q and k, in place.
        let residual = self.select_predicted_rows(layer, &x)?;
        let (h, input_norm) = residual::normalize(self.base, x, block.input_norm.as_ref())?;
        let qkv = self.linear(layer, Site::Attention, &h, &block.qkv, block.qkv_bias.as_ref())?;
        let low_attention = self.add_lora_(layer, Site::Attention, &h, &qkv)?;
        let head_norms = heads::normalize_(self.base, block, &qkv)?;
        heads::rotate_(config, block, &qkv, &self.packed.rotary, false)?;
        let (attended, sums) = attention::forward(attention::heads_of(config, block.window), &qkv, &self.packed.runs)?;

        // x2 = x + attended W + LoRA, in the memory of the product.
        let attended_rows = self.select_predicted_rows(layer, &attended)?;
        let result = self.linear(layer, Site::Output, &attended_rows, &block.output, block.output_bias.as_ref())?;
        let low_output = self.add_lora_(layer, Site::Output, &attended_rows, &result)?;
        let (x2, result_norm) = residual::add(self.base, result, block.attention_norm.as_ref(), &residual)?;
        let attention = SavedAttention { input_norm, h, head_norms, qkv, attended, sums, result_norm };

        // y = x2 + (act(gate) * up) W + LoRA, with gate and up beside each other in one product of norm(x2).
        let (h2, input_norm) = residual::normalize(self.base, x2.shallow_clone(), block.inner_norm.as_ref())?;
        let gate_up = self.linear(layer, Site::Mlp, &h2, &block.gate_up, block.gate_up_bias.as_ref())?;
        let low_mlp = self.add_lora_(layer, Site::Mlp, &h2, &gate_up)?;
        let product = ops::gated(config.variant.activation, &gate_up)?;
        let result = self.linear(layer, Site::Down, &product, &block.down, block.down_bias.as_ref())?;
        let low_down = self.add_lora_(layer, Site::Down, &product, &result)?;
        let (y, result_norm) = residual::add(self.base, result, block.mlp_norm.as_ref(), &x2)?;

        // The product can be computed from gate and up; only an adapter on the down projection reads it again.
        let product = low_down.iter().any(Option::is_some).then_some(product);
        let mlp = SavedMlp { input_norm, h2, gate_up, product, result_norm };
        Ok((y, SavedActivations { attention, mlp, low: [low_attention, low_output, low_mlp, low_down] }))
    }

    /// Adds the layer's adapter gradients and returns the gradient of its input.
    ///
    /// Returns `None` if `is_lowest`: no adapter below the layer needs that gradient. `dy` is the gradient of the output.
    pub fn backward(
        &self,
        layer: usize,
        kept: SavedActivations,
        dy: Tensor,
        is_lowest: bool,
    ) -> Result<Option<Tensor>> {
        let SavedActivations { attention: saved, mlp, low } = kept;
        let block = &self.base.blocks[layer];
        let config = &self.base.config;
        let dx2 = self.backward_mlp(layer, mlp, &low, dy)?;

        // Through x2 = x + output(attention).
        let d_result =
            residual::add_backward(self.base, &dx2, block.attention_norm.as_ref(), saved.result_norm.as_ref())?;
        let d_attended = ops::product(&d_result, &ops::expanded(&block.output)?)?;
        let attended_rows = self.select_predicted_rows(layer, &saved.attended)?;
        self.add_lora_gradients_(layer, Site::Output, &low, &attended_rows, &d_result, Some(&d_attended))?;
        let d_attended = self.scatter_predicted_rows(layer, d_attended)?;
        let dx2 = self.scatter_predicted_rows(layer, dx2)?;

        // Through the attention and the rotation of q and k, which is undone in place.
        let runs = &self.packed.runs;
        let heads = attention::heads_of(config, block.window);
        let d_qkv = attention::backward(heads, &saved.qkv, &saved.attended, &saved.sums, &d_attended, runs)?;
        heads::rotate_(config, block, &d_qkv, &self.packed.rotary, true)?;
        heads::normalize_backward_(self.base, block, saved.head_norms.as_ref(), &d_qkv)?;
        if is_lowest {
            self.add_lora_gradients_(layer, Site::Attention, &low, &saved.h, &d_qkv, None)?;
            return Ok(None);
        }
        let dh = ops::product(&d_qkv, &ops::expanded(&block.qkv)?)?;
        self.add_lora_gradients_(layer, Site::Attention, &low, &saved.h, &d_qkv, Some(&dh))?;
        residual::normalize_backward(&dh, block.input_norm.as_ref(), saved.input_norm.as_ref(), &dx2).map(Some)
    }

    /// Returns the gradient at the sum after the attention, x2, from the gradient `dy` of the layer's output.
    fn backward_mlp(
        &self,
        layer: usize,
        saved: SavedMlp,
        low: &[Vec<Option<Tensor>>; 4],
        dy: Tensor,
    ) -> Result<Tensor> {
        let block = &self.base.blocks[layer];
        // Through y = x2 + down(gated(gate_up(norm(x2)))).
        let d_result = residual::add_backward(self.base, &dy, block.mlp_norm.as_ref(), saved.result_norm.as_ref())?;
        let d_product = ops::product(&d_result, &ops::expanded(&block.down)?)?;
        if let Some(product) = &saved.product {
            self.add_lora_gradients_(layer, Site::Down, low, product, &d_result, Some(&d_product))?;
        }
        // The gradient takes the memory of gate and up, which nothing reads after this.
        let d_gate_up = ops::gated_backward_(self.base.config.variant.activation, &d_product, saved.gate_up)?;
        let dh2 = ops::product(&d_gate_up, &ops::expanded(&block.gate_up)?)?;
        self.add_lora_gradients_(layer, Site::Mlp, low, &saved.h2, &d_gate_up, Some(&dh2))?;
        // The residual connection adds dy to the gradient that comes through the norm.
        residual::normalize_backward(&dh2, block.inner_norm.as_ref(), saved.input_norm.as_ref(), &dy)
    }

    /// Returns the rows with which `layer` continues after its attention: those that predict a token in the last layer.
    fn select_predicted_rows(&self, layer: usize, rows: &Tensor) -> Result<Tensor> {
        match self.is_last(layer) {
            true => rows.f_index_select(0, &self.packed.predictions.rows),
            false => Ok(rows.shallow_clone()),
        }
    }

    /// Reverses [`Self::select_predicted_rows`] for a gradient: rows that were left out have gradient zero.
    fn scatter_predicted_rows(&self, layer: usize, gradient: Tensor) -> Result<Tensor> {
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

    /// Computes a frozen linear module on the rows of all jobs.
    ///
    /// LLM.int8() chooses outlier columns by the rows of a product, so it computes each job's rows alone.
    fn linear(
        &self,
        layer: usize,
        site: Site,
        input: &Tensor,
        weight: &Weight,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        if let Some(int8) = weight.for_int8_products() {
            let mut parts = Vec::with_capacity(self.trainees.len());
            for index in 0..self.trainees.len() {
                parts.push(llm_int8::product(&self.rows_of(layer, site, index, input)?, int8, bias)?);
            }
            return Tensor::f_cat(&parts, 0);
        }
        let mut output = ops::product(input, &ops::expanded(weight)?.f_tr()?)?;
        match bias {
            None => Ok(output),
            Some(bias) => output.f_add_(bias),
        }
    }

    /// Adds each job's low-rank product to its rows of `output`. Returns A times the input of each job, for the backward
    /// pass; `None` for a job without an adapter at this site.
    fn add_lora_(&self, layer: usize, site: Site, input: &Tensor, output: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let mut low = Vec::with_capacity(self.trainees.len());
        for (index, trainee) in self.trainees.iter().enumerate() {
            let Some(group) = trainee.parameters.group(layer, site) else {
                low.push(None);
                continue;
            };
            let input = self.rows_of(layer, site, index, input)?;
            let output = self.rows_of(layer, site, index, output)?;
            low.push(Some(lora::add_forward_(group, &input, &output, trainee.masks.as_ref())?));
        }
        Ok(low)
    }

    /// Adds the gradients of each job's adapter at a site, and the adapter's part of the input's gradient to `d_input`.
    fn add_lora_gradients_(
        &self,
        layer: usize,
        site: Site,
        low: &[Vec<Option<Tensor>>; 4],
        input: &Tensor,
        d_output: &Tensor,
        d_input: Option<&Tensor>,
    ) -> Result<()> {
        for (index, trainee) in self.trainees.iter().enumerate() {
            let Some(group) = trainee.parameters.group(layer, site) else { continue };
            let Some(low) = &low[site as usize][index] else { continue };
            let input = self.rows_of(layer, site, index, input)?;
            let d_output = self.rows_of(layer, site, index, d_output)?;
            let d_input = d_input.map(|rows| self.rows_of(layer, site, index, rows)).transpose()?;
            lora::add_backward_(group, &input, low, &d_output, d_input.as_ref(), trainee.masks.as_ref())?;
        }
        Ok(())
    }

    /// Returns one job's rows of a table at a site, as a view.
    fn rows_of(&self, layer: usize, site: Site, index: usize, rows: &Tensor) -> Result<Tensor> {
        let span = match self.is_last(layer) && site != Site::Attention {
            true => &self.packed.predictions.spans[index],
            false => &self.packed.spans[index],
        };
        rows.f_narrow(0, span.start, span.end - span.start)
    }
}
