//! A frozen base model on a device, in the precision that it is computed in.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::precision_error::{ErrorSum, RelativeError};
use super::{Config, Folder, ModelError, Precision, Rope, Weight, content_hash};

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

/// One decoder layer. Linear weights that share an input are held as one, `[out, in]`, so that one product serves them.
pub struct Block {
    /// Weight of the RMSNorm before attention, `[hidden]`.
    pub input_norm: Tensor,
    /// q, k and v below each other, `[(heads + 2 kv_heads) head_dim, hidden]`.
    pub qkv: Weight,
    /// Their biases.
    pub qkv_bias: Option<Tensor>,
    /// `[hidden, heads head_dim]`.
    pub output: Weight,
    /// Its bias.
    pub output_bias: Option<Tensor>,
    /// Weight of the RMSNorm before the MLP, `[hidden]`.
    pub inner_norm: Tensor,
    /// gate and up below each other, `[2 intermediate, hidden]`.
    pub gate_up: Weight,
    /// Their biases.
    pub gate_up_bias: Option<Tensor>,
    /// `[hidden, intermediate]`.
    pub down: Weight,
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
    /// How far the layers' linear weights are from those in bfloat16, where they are quantised.
    pub weight_error: Option<RelativeError>,
}

impl Base {
    /// Loads a Hugging Face folder.
    ///
    /// # Errors
    /// If a file or tensor does not fit, a weight is NaN or infinite, or the device is not there.
    pub fn load(path: &Path, precision: Precision, device: Device) -> Result<Self, ModelError> {
        let (mut base, layers) = Self::load_without_layers(path, precision, device)?;
        base.blocks = (0..base.config.layers).map(|layer| layers.load(layer)).collect::<Result<_, _>>()?;
        base.weight_error = precision.is_quantised().then(|| layers.0.error.borrow().relative());
        Ok(base)
    }

    /// Loads all but the layers of a Hugging Face folder, and what loads those, so that not all of them need to be in
    /// memory together.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_without_layers(
        path: &Path,
        precision: Precision,
        device: Device,
    ) -> Result<(Self, Layers), ModelError> {
        check_device(device)?;
        let folder = Folder::open(path)?;
        let hash = content_hash(&folder)?;
        let config = folder.config().clone();
        let loader = Loader { folder, precision, device: device.torch(), error: RefCell::default() };
        let embedding = loader.plain("model.embed_tokens.weight")?;
        let norm = loader.plain("model.norm.weight")?;
        let head = if config.tied { embedding.shallow_clone() } else { loader.plain("lm_head.weight")? };
        let rope = Rope::new(&config);
        let (blocks, weight_error) = (Vec::new(), None);
        let base = Self { config, precision, device, hash, embedding, blocks, norm, head, rope, weight_error };
        Ok((base, Layers(loader)))
    }

    /// Bytes that the weights take on the device.
    pub fn device_bytes(&self) -> u64 {
        let bytes = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        let head = if self.config.tied { 0 } else { bytes(&self.head) };
        let blocks = self.blocks.iter().map(|block| {
            let biases = [&block.qkv_bias, &block.output_bias, &block.gate_up_bias, &block.down_bias];
            let biases: u64 = biases.into_iter().flatten().map(bytes).sum();
            let weights: u64 = block.weights().iter().map(|weight| weight.bytes()).sum();
            weights + biases + bytes(&block.input_norm) + bytes(&block.inner_norm)
        });
        bytes(&self.embedding) + bytes(&self.norm) + head + blocks.sum::<u64>()
    }

    /// Bytes of the largest weight that is expanded at each use; 0 where all are held as they are multiplied.
    pub fn expanded_bytes(&self) -> u64 {
        let weights = self.blocks.iter().flat_map(Block::weights);
        weights.map(Weight::expanded_bytes).max().unwrap_or(0)
    }
}

impl Block {
    fn weights(&self) -> [&Weight; 4] {
        [&self.qkv, &self.output, &self.gate_up, &self.down]
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

/// The layers of a folder, to be loaded one at a time.
pub struct Layers(Loader);

impl Layers {
    /// Loads a layer, counted from 0.
    ///
    /// # Errors
    /// If a tensor does not fit, or a weight is NaN or infinite.
    pub fn load(&self, layer: usize) -> Result<Block, ModelError> {
        self.0.block(self.0.folder.config(), layer)
    }
}

struct Loader {
    folder: Folder,
    precision: Precision,
    device: tch::Device,
    /// Of the weights that were quantised so far.
    error: RefCell<ErrorSum>,
}

impl Loader {
    fn block(&self, config: &Config, layer: usize) -> Result<Block, ModelError> {
        let prefix = format!("model.layers.{layer}");
        let norm = |name: &str| self.plain(&format!("{prefix}.{name}.weight"));
        let weight = |names: &[&str]| self.weight(&prefix, names);
        let bias = |used: bool, names: &[&str]| used.then(|| self.bias(&prefix, names)).transpose();
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

    /// The weights of modules that share an input, below each other.
    fn weight(&self, prefix: &str, names: &[&str]) -> Result<Weight, ModelError> {
        let read = |name: &&str| self.read(&format!("{prefix}.{name}.weight"));
        let parts = names.iter().map(read).collect::<Result<Vec<_>, ModelError>>()?;
        let weight = Weight::new(&parts, self.precision, self.device)?;
        if self.precision.is_quantised() {
            self.error.borrow_mut().add(&Tensor::f_cat(&parts, 0)?, &weight.expanded()?)?;
        }
        Ok(weight)
    }

    fn bias(&self, prefix: &str, names: &[&str]) -> Result<Tensor, ModelError> {
        let read = |name: &&str| self.plain(&format!("{prefix}.{name}.bias"));
        Ok(Tensor::f_cat(&names.iter().map(read).collect::<Result<Vec<_>, ModelError>>()?, 0)?)
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
