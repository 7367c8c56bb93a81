//! Frozen base models, loaded onto a device in a given precision.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

use super::folder::{EMBEDDING, HEAD};
use super::precision::{ErrorSum, RelativeError};
use super::tensors::{Linear, norm_names, sites};
use super::{
    Config, Folder, ModelError, Precision, QueryKeyNorm, Rope, RotaryTable, RotaryTables, Weight, content_hash,
};

/// The device that holds the model and computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Device {
    /// The CPU of the host.
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
}

impl Device {
    /// Returns the device as LibTorch names it.
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

/// One decoder layer. Linear weights with a common input are stacked into one weight `[out, in]`, so that one matrix
/// product serves them all.
pub struct Block {
    /// [token] -- Number of keys that a query attends to, including its own, if limited.
    pub window: Option<usize>,
    /// The rotary embedding, if the layer has one.
    pub rotary: Option<RotaryTable>,
    /// Weight of the RMSNorm before attention, `[hidden]`.
    pub input_norm: Option<Tensor>,
    /// Weights of q, k and v, stacked, `[(heads + 2 kv_heads) head_dim, hidden]`.
    pub qkv: Weight,
    /// Biases of q, k and v, stacked.
    pub qkv_bias: Option<Tensor>,
    /// Weights of the norms of queries and keys.
    pub head_norms: Option<HeadNorms>,
    /// Weight of the attention output, `[hidden, heads head_dim]`.
    pub output: Weight,
    /// Bias of the attention output.
    pub output_bias: Option<Tensor>,
    /// Weight of the RMSNorm of the attention output, `[hidden]`.
    pub attention_norm: Option<Tensor>,
    /// Weight of the RMSNorm before the MLP, `[hidden]`.
    pub inner_norm: Option<Tensor>,
    /// Weights of gate and up, stacked, `[2 intermediate, hidden]`.
    pub gate_up: Weight,
    /// Biases of gate and up, stacked.
    pub gate_up_bias: Option<Tensor>,
    /// Weight of the down projection, `[hidden, intermediate]`.
    pub down: Weight,
    /// Bias of the down projection.
    pub down_bias: Option<Tensor>,
    /// Weight of the RMSNorm of the MLP's result, `[hidden]`.
    pub mlp_norm: Option<Tensor>,
}

/// Weights of the RMSNorms of queries and keys, over a head or over all of them.
pub struct HeadNorms {
    /// Of queries.
    pub queries: Tensor,
    /// Of keys.
    pub keys: Tensor,
}

/// A frozen base model.
pub struct Base {
    /// The shape.
    pub config: Config,
    /// The precision in which it is stored and computed.
    pub precision: Precision,
    /// The device that holds it.
    pub device: Device,
    /// BLAKE3 of the files that it was loaded from.
    pub hash: blake3::Hash,
    /// Token embedding, `[vocab, hidden]`.
    pub embedding: Tensor,
    /// The decoder layers.
    pub blocks: Vec<Block>,
    /// Weight of the last RMSNorm, `[hidden]`.
    pub norm: Tensor,
    /// Output head, `[vocab, hidden]`; the embedding itself if tied.
    pub head: Tensor,
    /// The rotary embedding.
    pub rope: Rope,
    /// The rotary embedding of layers with a sliding window, if they have their own.
    pub local_rope: Option<Rope>,
    /// Distance of the layers' linear weights from their bfloat16 values, if they are quantized.
    pub weight_error: Option<RelativeError>,
}

impl Base {
    /// Loads a model from a Hugging Face folder.
    ///
    /// # Errors
    /// If a file or tensor does not match the config, a weight is NaN or infinite, or the device does not exist.
    pub fn load(path: &Path, precision: Precision, device: Device) -> Result<Self, ModelError> {
        let (mut base, layers) = Self::load_without_layers(path, precision, device)?;
        for layer in 0..base.config.layers {
            base.blocks.push(layers.load(layer)?);
        }
        if precision.is_quantised() {
            base.weight_error = Some(layers.0.error.borrow().relative());
        }
        Ok(base)
    }

    /// Loads everything except the layers, and returns a loader for them, so that they need not be in memory all at
    /// once.
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
        let embedding = loader.plain(EMBEDDING)?;
        let norm = loader.norm("model.norm.weight")?;
        let head = if config.tied { embedding.shallow_clone() } else { loader.plain(HEAD)? };
        Ok((Self::without_layers(config, precision, device, hash, [embedding, norm, head]), Layers(loader)))
    }

    /// Returns the same model in bfloat16 on the host without its layers, and a loader for them from the model's folder.
    /// What this model already holds in bfloat16 on the host is shared.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn bf16_without_layers(&self, path: &Path) -> Result<(Self, Layers), ModelError> {
        if (self.precision.kind(), self.device) != (Kind::BFloat16, Device::Cpu) {
            return Self::load_without_layers(path, Precision::Bf16, Device::Cpu);
        }
        let folder = Folder::open(path)?;
        let loader = Loader { folder, precision: Precision::Bf16, device: tch::Device::Cpu, error: RefCell::default() };
        let shared = [&self.embedding, &self.norm, &self.head].map(Tensor::shallow_clone);
        Ok((Self::without_layers(self.config.clone(), Precision::Bf16, Device::Cpu, self.hash, shared), Layers(loader)))
    }

    /// Creates a model without layers from its embedding, last norm and head.
    fn without_layers(
        config: Config,
        precision: Precision,
        device: Device,
        hash: blake3::Hash,
        [embedding, norm, head]: [Tensor; 3],
    ) -> Self {
        let rope = Rope::new(&config);
        let local_rope = Rope::local(&config);
        let blocks = Vec::new();
        let weight_error = None;
        Self { config, precision, device, hash, embedding, blocks, norm, head, rope, local_rope, weight_error }
    }

    /// Returns the embeddings of tokens, `[tokens, hidden]`, with the family's factor, which is rounded to the type of
    /// the arithmetic as in Transformers.
    ///
    /// # Errors
    /// If LibTorch fails.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor, TchError> {
        let rows = self.embedding.f_index_select(0, ids)?;
        let scale = self.config.variant.embedding_scale;
        if scale == 1.0 {
            return Ok(rows);
        }
        let rounded = Tensor::from(scale).f_to_kind(rows.kind())?.f_double_value(&[])?;
        rows.f_mul_scalar(rounded)
    }

    /// Returns the cosines and sines of positions for all layers.
    ///
    /// # Errors
    /// If LibTorch fails.
    pub fn rotary_tables(&self, positions: &[i64]) -> Result<RotaryTables, TchError> {
        let at = |rope: &Rope| rope.at(positions, self.precision.master_kind(), self.device.torch());
        Ok(RotaryTables { global: at(&self.rope)?, local: self.local_rope.as_ref().map(at).transpose()? })
    }

    /// Returns the memory that the weights take on the device, in bytes.
    pub fn device_bytes(&self) -> u64 {
        // A tied head shares the memory of the embedding.
        let head = if self.config.tied { 0 } else { tensor_bytes(&self.head) };
        let blocks: u64 = self.blocks.iter().map(Block::device_bytes).sum();
        tensor_bytes(&self.embedding) + tensor_bytes(&self.norm) + head + blocks
    }

    /// Returns the memory of the largest weight that is expanded at each use, in bytes; 0 if none is.
    pub fn expanded_bytes(&self) -> u64 {
        let weights = self.blocks.iter().flat_map(Block::weights);
        weights.map(Weight::expanded_bytes).max().unwrap_or(0)
    }
}

impl Block {
    fn weights(&self) -> [&Weight; 4] {
        [&self.qkv, &self.output, &self.gate_up, &self.down]
    }

    fn device_bytes(&self) -> u64 {
        let biases = [&self.qkv_bias, &self.output_bias, &self.gate_up_bias, &self.down_bias];
        let biases: u64 = biases.into_iter().flatten().map(tensor_bytes).sum();
        let weights: u64 = self.weights().iter().map(|weight| weight.bytes()).sum();
        let norms = [&self.input_norm, &self.attention_norm, &self.inner_norm, &self.mlp_norm];
        let norms: u64 = norms.into_iter().flatten().map(tensor_bytes).sum();
        let of_heads =
            self.head_norms.as_ref().map_or(0, |norms| tensor_bytes(&norms.queries) + tensor_bytes(&norms.keys));
        weights + biases + norms + of_heads
    }
}

fn tensor_bytes(tensor: &Tensor) -> u64 {
    (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64
}

fn check_device(device: Device) -> Result<(), ModelError> {
    let Device::Cuda(index) = device else { return Ok(()) };
    let found = tch::Cuda::device_count();
    if tch::Cuda::is_available() && (index as i64) < found {
        return Ok(());
    }
    // Where the kernel's driver shows itself: on Linux, and on Linux inside of Windows.
    let has_driver = ["/proc/driver/nvidia/version", "/dev/dxg"].iter().any(|path| Path::new(path).exists());
    let reason = match found {
        0 if !has_driver => "no NVIDIA driver is loaded: install one, which `nvidia-smi` shows, or use cpu".into(),
        0 => "no CUDA device was found; use cpu, or check the driver and that LibTorch's CUDA libraries are installed"
            .into(),
        n => format!("the devices found are cuda:0 to cuda:{}", n - 1),
    };
    Err(ModelError::Device { device: device.to_string(), reason })
}

/// A loader of the layers of a folder, one at a time.
pub struct Layers(Loader);

impl Layers {
    /// Loads a layer, counted from 0.
    ///
    /// # Errors
    /// If a tensor does not match the config, or a weight is NaN or infinite.
    pub fn load(&self, layer: usize) -> Result<Block, ModelError> {
        self.0.block(self.0.folder.config(), layer)
    }
}

struct Loader {
    folder: Folder,
    precision: Precision,
    device: tch::Device,
    /// Quantization error of the weights that were loaded so far.
    error: RefCell<ErrorSum>,
}

impl Loader {
    fn block(&self, config: &Config, layer: usize) -> Result<Block, ModelError> {
        let [qkv, output, gate_up, down] = sites(config);
        let names = norm_names(config);
        let prefix = format!("model.layers.{layer}");
        Ok(Block {
            window: config.window(layer),
            rotary: config.rotary(layer),
            input_norm: self.norm_if(names.input, &prefix)?,
            qkv: self.weight(&prefix, &qkv)?,
            qkv_bias: self.bias_if(config.qkv_bias, &prefix, &qkv)?,
            head_norms: self.head_norms(config, &prefix)?,
            output: self.weight(&prefix, &output)?,
            output_bias: self.bias_if(config.output_bias, &prefix, &output)?,
            attention_norm: self.norm_if(names.attention, &prefix)?,
            inner_norm: self.norm_if(names.inner, &prefix)?,
            gate_up: self.weight(&prefix, &gate_up)?,
            gate_up_bias: self.bias_if(config.mlp_bias, &prefix, &gate_up)?,
            down: self.weight(&prefix, &down)?,
            down_bias: self.bias_if(config.mlp_bias, &prefix, &down)?,
            mlp_norm: self.norm_if(names.mlp, &prefix)?,
        })
    }

    /// Loads the norms of queries and keys, if the model has them.
    fn head_norms(&self, config: &Config, prefix: &str) -> Result<Option<HeadNorms>, ModelError> {
        if config.variant.query_key_norm == QueryKeyNorm::None {
            return Ok(None);
        }
        let queries = self.norm(&format!("{prefix}.self_attn.q_norm.weight"))?;
        let keys = self.norm(&format!("{prefix}.self_attn.k_norm.weight"))?;
        Ok(Some(HeadNorms { queries, keys }))
    }

    /// Loads and stacks the weights of modules with a common input.
    fn weight(&self, prefix: &str, modules: &[Linear]) -> Result<Weight, ModelError> {
        let mut parts = Vec::with_capacity(modules.len());
        for (name, ..) in modules {
            parts.push(self.folder.tensor(&format!("{prefix}.{name}.weight"), None)?);
        }
        let weight = Weight::new(&parts, self.precision, self.device)?;
        // Compares the weight in the file with the one that matrix products will use.
        if self.precision.is_quantised() {
            self.error.borrow_mut().add(&Tensor::f_cat(&parts, 0)?, &weight.expanded()?)?;
        }
        Ok(weight)
    }

    /// Loads and stacks the biases of modules with a common input, if the model has them.
    fn bias_if(&self, is_used: bool, prefix: &str, modules: &[Linear]) -> Result<Option<Tensor>, ModelError> {
        if !is_used {
            return Ok(None);
        }
        let mut parts = Vec::with_capacity(modules.len());
        for (name, ..) in modules {
            parts.push(self.plain(&format!("{prefix}.{name}.bias"))?);
        }
        Ok(Some(Tensor::f_cat(&parts, 0)?))
    }

    /// Loads the weight of a norm of a layer, if the layer has it.
    fn norm_if(&self, name: Option<&str>, prefix: &str) -> Result<Option<Tensor>, ModelError> {
        name.map(|name| self.norm(&format!("{prefix}.{name}.weight"))).transpose()
    }

    /// Loads the weight of a norm.
    fn norm(&self, name: &str) -> Result<Tensor, ModelError> {
        if !self.folder.config().variant.norms_from_one {
            return self.plain(name);
        }
        let weight = self.folder.tensor(name, Some(Kind::Double))?.f_add_scalar(1.0)?;
        Ok(weight.f_to_kind(self.precision.kind())?.f_to_device(self.device)?)
    }

    /// Loads a tensor that is not quantized.
    fn plain(&self, name: &str) -> Result<Tensor, ModelError> {
        Ok(self.folder.tensor(name, Some(self.precision.kind()))?.f_to_device(self.device)?)
    }
}
