//! A frozen base model on a device, in the precision that it is computed in.

use std::fmt;
use std::path::Path;

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Config, Folder, ModelError, Rope, content_hash};

/// Where the model lies and is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Device {
    /// The host's processor.
    Cpu,
    /// The CUDA device of this index.
    Cuda(usize),
}

impl Device {
    /// LibTorch's name for it.
    pub fn torch(self) -> tch::Device {
        match self {
            Device::Cpu => tch::Device::Cpu,
            Device::Cuda(index) => tch::Device::Cuda(index),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// How the frozen base is held and computed. Adapters, their gradients and optimiser states stay in f32 (f64 in F64).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Precision {
    /// Single precision.
    F32,
    /// bfloat16.
    Bf16,
    /// Double precision: slow, for checks against other implementations.
    F64,
    /// Linear weights rounded to int8 with one scale an output row at load, then held as f32.
    Int8F32,
    /// Linear weights rounded to int8 with one scale an output row at load, then held as bf16.
    /// Bit-equal to weight-only int8 that is expanded at each use.
    Int8Bf16,
}

impl Precision {
    /// The type of activations and held weights.
    pub fn kind(self) -> Kind {
        match self {
            Precision::F32 | Precision::Int8F32 => Kind::Float,
            Precision::Bf16 | Precision::Int8Bf16 => Kind::BFloat16,
            Precision::F64 => Kind::Double,
        }
    }

    /// The type of adapters, losses and reductions.
    pub fn master_kind(self) -> Kind {
        if self == Precision::F64 { Kind::Double } else { Kind::Float }
    }

    fn rounds_to_int8(self) -> bool {
        matches!(self, Precision::Int8F32 | Precision::Int8Bf16)
    }
}

/// One decoder layer. Linear weights that share an input are held as one, `[out, in]`, so that one product serves them.
pub struct Block {
    /// Weight of the RMSNorm before attention, `[hidden]`.
    pub input_norm: Tensor,
    /// q, k and v below each other, `[(heads + 2 kv_heads) head_dim, hidden]`.
    pub qkv: Tensor,
    /// Their biases.
    pub qkv_bias: Option<Tensor>,
    /// `[hidden, heads head_dim]`.
    pub output: Tensor,
    /// Its bias.
    pub output_bias: Option<Tensor>,
    /// Weight of the RMSNorm before the MLP, `[hidden]`.
    pub inner_norm: Tensor,
    /// gate and up below each other, `[2 intermediate, hidden]`.
    pub gate_up: Tensor,
    /// Their biases.
    pub gate_up_bias: Option<Tensor>,
    /// `[hidden, intermediate]`.
    pub down: Tensor,
    /// Its bias.
    pub down_bias: Option<Tensor>,
}

/// A base model, frozen.
pub struct Base {
    /// Its shape.
    pub config: Config,
    /// How it is held and computed.
    pub precision: Precision,
    /// Where it lies.
    pub device: Device,
    /// BLAKE3 of the files that it was loaded from.
    pub hash: blake3::Hash,
    /// `[vocab, hidden]`.
    pub embedding: Tensor,
    /// The layers.
    pub blocks: Vec<Block>,
    /// Weight of the last RMSNorm, `[hidden]`.
    pub norm: Tensor,
    /// `[vocab, hidden]`; the embedding itself where tied.
    pub head: Tensor,
    /// The rotary embedding.
    pub rope: Rope,
}

impl Base {
    /// Loads a Hugging Face folder.
    ///
    /// # Errors
    /// If a file or tensor does not fit, a weight is NaN or infinite, or the device is not there.
    pub fn load(path: &Path, precision: Precision, device: Device) -> Result<Self, ModelError> {
        check_device(device)?;
        let folder = Folder::open(path)?;
        let hash = content_hash(&folder)?;
        let loader = Loader { folder: &folder, precision, device: device.torch() };
        let config = folder.config().clone();
        let embedding = loader.plain("model.embed_tokens.weight")?;
        let blocks = (0..config.layers).map(|layer| loader.block(&config, layer)).collect::<Result<_, _>>()?;
        let norm = loader.plain("model.norm.weight")?;
        let head = if config.tied { embedding.shallow_clone() } else { loader.plain("lm_head.weight")? };
        let rope = Rope::new(&config);
        Ok(Self { config, precision, device, hash, embedding, blocks, norm, head, rope })
    }

    /// Bytes that the weights take on the device.
    pub fn device_bytes(&self) -> u64 {
        let config = &self.config;
        let elements: usize = super::tensor_specs(config).iter().map(|s| s.shape.iter().product::<usize>()).sum();
        (elements * self.precision.kind().elt_size_in_bytes()) as u64
    }
}

fn check_device(device: Device) -> Result<(), ModelError> {
    let Device::Cuda(index) = device else { return Ok(()) };
    let found = tch::Cuda::device_count();
    if tch::Cuda::is_available() && (index as i64) < found {
        return Ok(());
    }
    let reason = match found {
        0 => "no CUDA device was found; use cpu, or check the driver and that LibTorch's CUDA libraries are installed"
            .into(),
        n => format!("the devices found are cuda:0 to cuda:{}", n - 1),
    };
    Err(ModelError::Device { device: device.to_string(), reason })
}

struct Loader<'a> {
    folder: &'a Folder,
    precision: Precision,
    device: tch::Device,
}

impl Loader<'_> {
    fn block(&self, config: &Config, layer: usize) -> Result<Block, ModelError> {
        let prefix = format!("model.layers.{layer}");
        let norm = |name: &str| self.plain(&format!("{prefix}.{name}.weight"));
        let weight = |names: &[&str]| self.stacked(&prefix, names, "weight");
        let bias = |used: bool, names: &[&str]| used.then(|| self.stacked(&prefix, names, "bias")).transpose();
        const QKV: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
        const GATE_UP: [&str; 2] = ["mlp.gate_proj", "mlp.up_proj"];
        Ok(Block {
            input_norm: norm("input_layernorm")?,
            qkv: weight(&QKV)?,
            qkv_bias: bias(config.qkv_bias, &QKV)?,
            output: weight(&["self_attn.o_proj"])?,
            output_bias: bias(config.output_bias, &["self_attn.o_proj"])?,
            inner_norm: norm("post_attention_layernorm")?,
            gate_up: weight(&GATE_UP)?,
            gate_up_bias: bias(config.mlp_bias, &GATE_UP)?,
            down: weight(&["mlp.down_proj"])?,
            down_bias: bias(config.mlp_bias, &["mlp.down_proj"])?,
        })
    }

    /// Parts below each other, each rounded to int8 first where that is asked for.
    fn stacked(&self, prefix: &str, names: &[&str], part: &str) -> Result<Tensor, ModelError> {
        let load = |name: &&str| {
            let tensor = self.read(&format!("{prefix}.{name}.{part}"))?;
            let rounded = if self.precision.rounds_to_int8() && part == "weight" { int8(&tensor)? } else { tensor };
            self.place(rounded)
        };
        let mut parts = names.iter().map(load).collect::<Result<Vec<_>, ModelError>>()?;
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => Ok(Tensor::f_cat(&parts, 0)?),
        }
    }

    fn plain(&self, name: &str) -> Result<Tensor, ModelError> {
        self.place(self.read(name)?)
    }

    fn place(&self, tensor: Tensor) -> Result<Tensor, ModelError> {
        Ok(tensor.f_to_kind(self.precision.kind())?.f_to_device(self.device)?)
    }

    /// A tensor as it is in the file, on the host, known to be finite.
    fn read(&self, name: &str) -> Result<Tensor, ModelError> {
        let raw = self.folder.read(name)?;
        let tensor = Tensor::f_from_data_size(&raw.bytes, &raw.shape, kind_of(raw.dtype))?;
        if bool::try_from(tensor.f_isfinite()?.f_all()?)? {
            return Ok(tensor);
        }
        let reason = "holds a value that is NaN or infinite".into();
        Err(ModelError::Tensor { path: self.folder.file_of(name).into(), tensor: name.into(), reason })
    }
}

/// LibTorch's name for a type of weights; the folder was checked to hold no other.
pub(super) fn kind_of(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        _ => Kind::Float,
    }
}

/// Rounds each output row of `[out, in]` to int8 codes under the row's absolute maximum, and expands it again in f32.
///
/// The codes are those of bitsandbytes: round(127 W / absmax), to even.
fn int8(weight: &Tensor) -> Result<Tensor, tch::TchError> {
    let weight = weight.f_to_kind(Kind::Float)?;
    let most = weight.f_abs()?.f_amax([1i64], true)?;
    let safe = most.f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
    let codes = weight.f_mul_scalar(127.0)?.f_div(&safe)?.f_round()?;
    codes.f_mul(&most.f_div_scalar(127.0)?)
}
