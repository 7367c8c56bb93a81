//! Effect of a base's precision: its size on the device, and its distance from the same base in bfloat16.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::layer::{Pass, PassJob};
use super::pack::{self, BatchPart};
use super::parameters::Parameters;
use super::{Error, Trainer, evaluate, ops};
use crate::adapter::Adapter;
use crate::model::{Base, Device, ErrorSum, Precision, RelativeError, tensor_specs};

/// Representation of a base, its size, and its distance from bfloat16. It is a record for people: no key depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaseReport {
    /// Precision of storage and computation.
    pub precision: Precision,
    /// [byte] -- Size of the weights on the device.
    pub device_bytes: u64,
    /// [byte] -- Size of the same weights in bfloat16.
    pub bf16_bytes: u64,
    /// Distance of the quantized weights from those in bfloat16; `None` if nothing is quantized.
    pub weight_error: Option<RelativeError>,
    /// Distance of the logits of some tokens from those of the base in bfloat16; `None` if it was not measured.
    pub logit_error: Option<RelativeError>,
}

impl BaseReport {
    /// Describes a base, without the error of its logits.
    pub(super) fn of(base: &Base) -> Self {
        let specs = tensor_specs(&base.config);
        let elements = specs.iter().map(|spec| spec.shape.iter().product::<usize>());
        Self {
            precision: base.precision,
            device_bytes: base.device_bytes(),
            bf16_bytes: 2 * elements.sum::<usize>() as u64,
            weight_error: base.weight_error,
            logit_error: None,
        }
    }
}

impl fmt::Display for BaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = 1048576.0;
        let bytes = self.device_bytes as f64;
        let of_bf16 = self.bf16_bytes as f64;
        write!(f, "{:?}, {:.1} MiB on the device ({:.2} of bf16's)", self.precision, bytes / MIB, bytes / of_bf16)?;
        for (what, error) in [("weights", self.weight_error), ("logits", self.logit_error)] {
            if let Some(RelativeError { max, mean }) = error {
                write!(f, "; {what} differ from bf16's by {mean:.2e} in the mean, {max:.2e} at most")?;
            }
        }
        Ok(())
    }
}

impl Trainer {
    /// Measures the distance of the logits of `ids` from those of the same base in bfloat16, and records it in the
    /// fingerprint.
    ///
    /// The layers are loaded again from the base's `folder`, on the host, two at a time.
    ///
    /// # Errors
    /// If the folder cannot be loaded, the ids do not fit the model, or LibTorch fails.
    pub fn measure_logit_error(&mut self, folder: &Path, ids: &[u32]) -> Result<RelativeError, Error> {
        let zeros = Adapter::zeros(self.layout());
        let own = self.logits(&zeros, ids)?;
        let mut sum = ErrorSum::default();
        sum.add(&self.bf16_logits(folder, &zeros, ids)?, &own)?;
        self.fingerprint.base.logit_error = Some(sum.relative());
        Ok(sum.relative())
    }

    /// Computes the logits `[ids, vocab]` of the base in `folder` in bfloat16 and returns them in f32. The adapter
    /// `zeros` changes nothing, so that its part for the lowest layer serves for every layer.
    fn bf16_logits(&self, folder: &Path, zeros: &Adapter, ids: &[u32]) -> Result<Tensor, Error> {
        let _guard = self.enter();
        let (mut base, layers) = Base::load_without_layers(folder, Precision::Bf16, Device::Cpu)?;
        let sample = evaluate::predicting_everywhere(ids);
        let packed = pack::pack(&base, &[BatchPart { samples: &[sample], weight: 0.0 }])?;
        let parameters = Parameters::new(&self.placement, &base, zeros)?;
        let trainees = [PassJob { parameters: &parameters, masks: None }];
        let mut x = base.embedding.f_index_select(0, &packed.ids)?;
        // A pass treats the last block of its base as the model's last layer, so the next layer must be loaded as well.
        base.blocks.push(layers.load(0)?);
        for next in 1..=base.config.layers {
            if next < base.config.layers {
                base.blocks.push(layers.load(next)?);
            }
            x = Pass { base: &base, packed: &packed, trainees: &trainees }.forward(0, x)?.0;
            base.blocks.remove(0);
        }
        let (h, _) = ops::rms_norm(&x, &base.norm, base.config.rms_norm_eps, base.precision.master_kind())?;
        let logits = ops::product(&h, &base.head.f_tr()?)?.f_narrow(0, 0, ids.len() as i64)?;
        Ok(logits.f_to_kind(base.precision.master_kind())?)
    }
}
