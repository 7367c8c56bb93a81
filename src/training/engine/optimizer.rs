//! Update rules on the flat vector of one job, in elementwise operations whose bits do not depend on the vector's
//! length.

use std::ops::Range;

use tch::{Kind, TchError, Tensor};

use super::job::{AdamVariant, CorrectionPlace, Hyper, Job, Moments, Optimizer};
use super::parameters::Parameters;
use crate::adapter::{Adapter, pruned_rank};
use crate::model::Base;
use crate::training::kernels::native::kernels;

type Result<T> = std::result::Result<T, TchError>;

/// State of one job's update rule.
pub struct State {
    hyper: Hyper,
    /// Center of the proximal term.
    anchor: Option<Tensor>,
    correction: Option<(Tensor, CorrectionPlace)>,
    /// Components whose size is part of the loss, and its weight; `None` without this term.
    shrunk: Option<(Range<usize>, f64)>,
    /// Which values are frozen, and the values at the start; `None` where all are trained.
    frozen: Option<(Tensor, Tensor)>,
    /// Steps until other values are trained, and which are frozen then; `None` if that is past, or never.
    next: Option<(u32, Option<Tensor>)>,
    /// Mean of gradients, or the momentum buffer.
    first: Option<Tensor>,
    /// Mean square of gradients.
    second: Option<Tensor>,
    /// Steps taken, including those of earlier jobs whose moments are continued.
    steps: i32,
}

impl State {
    /// Returns the state before the first step.
    pub fn new(base: &Base, job: &Job, parameters: &Parameters) -> Result<Self> {
        let before = job.terms.moments.as_deref();
        let first = flat_of(base, parameters, before.and_then(|moments| moments.first.as_ref()))?;
        let second = flat_of(base, parameters, before.and_then(|moments| moments.second.as_ref()))?;
        let (first, second) = match (job.hyper.optimizer, first, second) {
            (Optimizer::AdamW { .. }, Some(first), Some(second)) => (Some(first), Some(second)),
            (Optimizer::AdamW { .. }, ..) => {
                (Some(parameters.values.f_zeros_like()?), Some(parameters.values.f_zeros_like()?))
            }
            (Optimizer::Sgd { .. }, first, _) => (first, None),
        };
        let anchor = job.terms.anchor.as_ref().unwrap_or(&job.adapter);
        let anchor = job.hyper.proximal.map(|_| parameters.flat(base, anchor)).transpose()?;
        let correction = match &job.terms.correction {
            Some((by, place)) => Some((parameters.flat(base, by)?, *place)),
            None => None,
        };
        let (trains, next) = match job.hyper.first_steps {
            Some(first) => (first.trains, Some((first.count, parameters.frozen(base, job.hyper.trains)?))),
            None => (job.hyper.trains, None),
        };
        let rank = job.terms.rank.unwrap_or(job.adapter.layout.rank);
        let shrunk = job.hyper.shrinkage.map(|term| (pruned_rank(rank, term.gamma)..rank, term.lambda));
        let frozen = match parameters.frozen(base, trains)? {
            Some(frozen) => Some((frozen, copied(&parameters.values)?)),
            None => None,
        };
        let steps = before.map_or(0, |moments| moments.steps as i32);
        Ok(Self { hyper: job.hyper.clone(), anchor, correction, shrunk, frozen, next, first, second, steps })
    }

    /// Copies the moments to the host.
    pub fn moments(&self, parameters: &Parameters) -> Result<Moments> {
        Ok(Moments {
            first: self.first.as_ref().map(|first| parameters.adapter_of(first)).transpose()?,
            second: self.second.as_ref().map(|second| parameters.adapter_of(second)).transpose()?,
            steps: self.steps as u32,
        })
    }

    /// Adds the terms of the federated method to the gradient and removes that of the frozen factors, in place.
    pub fn correct(&self, parameters: &mut Parameters) -> Result<()> {
        // FedProx: g += mu (w - anchor). SCAFFOLD: g += c - c_i. HetLoRA: g += lambda times the gradient of the size.
        if let (Some(mu), Some(anchor)) = (self.hyper.proximal, &self.anchor) {
            let pull = parameters.values.f_sub(anchor)?.f_mul_scalar(mu)?;
            let _ = parameters.gradient.f_add_(&pull)?;
        }
        if let Some((by, CorrectionPlace::Gradient)) = &self.correction {
            let _ = parameters.gradient.f_add_(by)?;
        }
        if let Some((components, lambda)) = &self.shrunk {
            // Each value of A is multiplied by |B| / |A| of its module, and each of B by |A| / |B|; other factors are zero.
            let factors = parameters.size_gradient_factors(components)?;
            let pull = parameters.values.f_mul(&factors)?.f_mul_scalar(*lambda)?;
            let _ = parameters.gradient.f_add_(&pull)?;
        }
        if let Some((frozen, _)) = &self.frozen {
            let _ = parameters.gradient.f_masked_fill_(frozen, 0.0)?;
        }
        Ok(())
    }

    /// Updates the values in place with the gradient, which is clipped according to its `norm`.
    pub fn step(&mut self, parameters: &mut Parameters, norm: f64) -> Result<()> {
        self.steps += 1;
        // As in PyTorch's clip_grad_norm_: the small term avoids a division by zero.
        let scale = self.hyper.clip_norm.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
        match self.hyper.optimizer {
            Optimizer::AdamW { .. }
                if parameters.values.kind() == Kind::Float && kernels::serve(&parameters.values) =>
            {
                self.adamw_kernel(parameters, scale);
            }
            Optimizer::AdamW { .. } => self.adamw_(parameters, scale)?,
            Optimizer::Sgd { momentum } => self.sgd(parameters, scale, momentum)?,
        }
        if let Some((by, CorrectionPlace::AfterUpdate)) = &self.correction {
            let _ = parameters.values.f_sub_(&by.f_mul_scalar(self.hyper.learning_rate)?)?;
        }
        // Weight decay and corrections move values without a gradient, too.
        if let Some((frozen, start)) = &self.frozen {
            let moved = start.f_where_self(frozen, &parameters.values)?;
            parameters.values.f_copy_(&moved)?;
        }
        if let Some((left, _)) = &mut self.next {
            *left -= 1;
            if *left == 0 {
                self.turn_to_others(parameters)?;
            }
        }
        parameters.refresh()
    }

    /// Goes on with the other values, from zero moments.
    fn turn_to_others(&mut self, parameters: &Parameters) -> Result<()> {
        let (_, frozen) = self.next.take().expect("there are others");
        self.frozen = match frozen {
            Some(frozen) => Some((frozen, copied(&parameters.values)?)),
            None => None,
        };
        self.steps = 0;
        if matches!(self.hyper.optimizer, Optimizer::Sgd { .. }) {
            // The next gradient initializes the buffer.
            self.first = None;
        }
        for moment in [&mut self.first, &mut self.second].into_iter().flatten() {
            let _ = moment.f_zero_()?;
        }
        Ok(())
    }

    /// Takes an AdamW step with the program's own kernel, in one pass over memory.
    fn adamw_kernel(&mut self, parameters: &Parameters, scale: f64) {
        let Optimizer::AdamW { beta1, beta2, eps, weight_decay, variant } = self.hyper.optimizer else {
            unreachable!("called for AdamW only");
        };
        // m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, w -= step m / (root_scale sqrt(v) + eps). The
        // variants differ in whether eps is added before or after the bias correction of v.
        let rate = self.hyper.learning_rate;
        let correction1 = 1.0 - beta1.powi(self.steps);
        let correction2 = (1.0 - beta2.powi(self.steps)).sqrt();
        let (root_scale, step) = match variant {
            AdamVariant::PyTorch => (1.0 / correction2, rate / correction1),
            AdamVariant::Transformers => (1.0, rate * correction2 / correction1),
        };
        let rule = kernels::AdamW {
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            eps: eps as f32,
            step: step as f32,
            decay: (1.0 - rate * weight_decay) as f32,
            root_scale: root_scale as f32,
            decay_last: (variant == AdamVariant::Transformers).into(),
        };
        let mean = self.first.as_ref().expect("AdamW has states");
        let square = self.second.as_ref().expect("AdamW has states");
        kernels::adamw_(&rule, scale as f32, &parameters.gradient, &parameters.values, mean, square);
    }

    /// Takes an AdamW step with LibTorch's operations, in the order of operations of the variant's library.
    fn adamw_(&mut self, parameters: &mut Parameters, scale: f64) -> Result<()> {
        let Optimizer::AdamW { beta1, beta2, eps, weight_decay, variant } = self.hyper.optimizer else {
            unreachable!("called for AdamW only");
        };
        let rate = self.hyper.learning_rate;
        let gradient = parameters.gradient.f_mul_scalar(scale)?;
        let mean = self.first.as_mut().expect("AdamW has states");
        let square = self.second.as_mut().expect("AdamW has states");
        let values = &mut parameters.values;
        if variant == AdamVariant::PyTorch && weight_decay != 0.0 {
            let _ = values.f_mul_scalar_(1.0 - rate * weight_decay)?;
        }
        let _ = mean.f_lerp_(&gradient, 1.0 - beta1)?;
        let _ = square.f_mul_scalar_(beta2)?;
        let _ = square.f_add_(&gradient.f_square()?.f_mul_scalar(1.0 - beta2)?)?;
        let correction1 = 1.0 - beta1.powi(self.steps);
        let correction2 = 1.0 - beta2.powi(self.steps);
        let (root, step) = match variant {
            AdamVariant::PyTorch => (square.f_sqrt()?.f_div_scalar(correction2.sqrt())?, rate / correction1),
            AdamVariant::Transformers => (square.f_sqrt()?, rate * correction2.sqrt() / correction1),
        };
        let change = mean.f_div(&root.f_add_scalar(eps)?)?.f_mul_scalar(step)?;
        let _ = values.f_sub_(&change)?;
        if variant == AdamVariant::Transformers && weight_decay != 0.0 {
            let _ = values.f_mul_scalar_(1.0 - rate * weight_decay)?;
        }
        Ok(())
    }

    /// Takes a step of gradient descent. As in PyTorch, the first gradient initializes the momentum buffer.
    fn sgd(&mut self, parameters: &mut Parameters, scale: f64, momentum: f64) -> Result<()> {
        let gradient = &parameters.gradient.f_mul_scalar(scale)?;
        let direction = match (&mut self.first, momentum) {
            (_, 0.0) => gradient.shallow_clone(),
            (Some(buffer), _) => buffer.f_mul_scalar_(momentum)?.f_add_(gradient)?,
            (empty, _) => empty.insert(copied(gradient)?).shallow_clone(),
        };
        let change = direction.f_mul_scalar(self.hyper.learning_rate)?;
        parameters.values.f_sub_(&change).map(drop)
    }
}

/// Copies an adapter, if there is one, to a flat vector on the device.
fn flat_of(base: &Base, parameters: &Parameters, adapter: Option<&Adapter>) -> Result<Option<Tensor>> {
    adapter.map(|adapter| parameters.flat(base, adapter)).transpose()
}

/// Computes the Euclidean norm of a gradient, summed in f64 in a fixed order.
pub fn norm(gradient: &Tensor) -> Result<f64> {
    if gradient.kind() == Kind::Float && kernels::serve(gradient) {
        return Ok(kernels::sum_of_squares(gradient).sqrt());
    }
    let values = Vec::<f64>::try_from(gradient.f_to_kind(Kind::Double)?.f_to_device(tch::Device::Cpu)?)?;
    Ok(values.iter().map(|value| value * value).sum::<f64>().sqrt())
}

/// Returns a copy with its own memory.
fn copied(tensor: &Tensor) -> Result<Tensor> {
    let mut copy = tensor.f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}
