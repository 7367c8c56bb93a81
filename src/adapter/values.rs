//! Values of an adapter: initialization, hash, difference, and serialization for the store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fedreplay_sim::{Purpose, Seed, Stream};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::{AdapterError, BaseChange, Layout};
use crate::store::{parse_json, without_panic};

/// Name of the bytes of an adapter in messages.
const BYTES: &str = "the bytes of an adapter";

/// Key of the layout in the header of a stored adapter.
const LAYOUT_KEY: &str = "fedreplay.layout";

/// LoRA adapter, or the difference of two, in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Modules and shapes of the matrices.
    pub layout: Arc<Layout>,
    /// All matrices, flattened in the layout's order.
    pub values: Vec<f32>,
    /// Change of the base model that the adapter belongs to; `None` for the base as it is.
    pub base_change: Option<Arc<BaseChange>>,
}

impl Adapter {
    /// Creates an adapter of the base as it is.
    pub fn new(layout: Arc<Layout>, values: Vec<f32>) -> Self {
        Self { layout, values, base_change: None }
    }

    /// Returns the same adapter with a change of the base; `None`, and a change of nothing, are the base as it is.
    pub fn on(self, base_change: Option<Arc<BaseChange>>) -> Self {
        Self { base_change: base_change.filter(|change| !change.is_zero()), ..self }
    }

    /// Creates an adapter that changes nothing yet: A is uniform in ±1/sqrt(in) (PEFT's Kaiming-uniform), and B is
    /// zero.
    ///
    /// Element n of A of module i is draw n of the stream (seed, LoraInit, i).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use fedreplay::adapter::{Adapter, Layout, Module};
    /// use fedreplay_sim::Seed;
    ///
    /// let q_proj = Module { path: "model.layers.0.self_attn.q_proj".into(), in_features: 16, out_features: 8 };
    /// let layout = Layout { rank: 2, alpha: 4.0, rank_stabilized: false, has_core: false, modules: vec![q_proj] };
    /// let adapter = Adapter::initial(Arc::new(layout), Seed(1));
    /// let (a, b) = adapter.values.split_at(2 * 16);
    /// assert!(a.iter().all(|value| value.abs() <= 0.25));
    /// assert_eq!(b, [0.0; 8 * 2]);
    /// ```
    pub fn initial(layout: Arc<Layout>, seed: Seed) -> Self {
        Self::initial_of(layout, seed, 0)
    }

    /// Creates the adapter with which a method begins again after its step number `step` of the server, from 1. It is drawn as
    /// [`Self::initial`] draws that of step 0, from streams of its own: (seed, LoraInit, step x modules + i).
    pub fn initial_of(layout: Arc<Layout>, seed: Seed, step: u32) -> Self {
        let mut values = vec![0.0; layout.parameters()];
        let first = u64::from(step) * layout.modules.len() as u64;
        for (index, (a, _)) in layout.ranges().into_iter().enumerate() {
            let bound = 1.0 / (layout.modules[index].in_features as f64).sqrt();
            let mut stream = Stream::new(seed, Purpose::LoraInit, first + index as u64);
            for value in &mut values[a] {
                *value = ((2.0 * stream.unit() - 1.0) * bound) as f32;
            }
        }
        Self::new(layout, values)
    }

    /// Creates an adapter of zeros.
    pub fn zeros(layout: Arc<Layout>) -> Self {
        let values = vec![0.0; layout.parameters()];
        Self::new(layout, values)
    }

    /// Returns the adapter with only the first `rank` rows of each A and columns of each B; the others are zero, and stay zero in
    /// training, since each is the other's factor in its gradient.
    pub fn truncated(&self, rank: usize) -> Adapter {
        let mut values = self.values.clone();
        for (module, (a, b)) in self.layout.modules.iter().zip(self.layout.ranges()) {
            values[a].chunks_exact_mut(module.in_features).skip(rank).for_each(|row| row.fill(0.0));
            values[b].chunks_exact_mut(self.layout.rank).for_each(|row| row[rank..].fill(0.0));
        }
        Adapter::new(self.layout.clone(), values).on(self.base_change.clone())
    }

    /// Computes `self - base`, the update of a client that started from `base`.
    ///
    /// # Panics
    /// If the layouts differ.
    pub fn difference(&self, base: &Adapter) -> Adapter {
        assert_eq!(self.layout, base.layout, "a difference of adapters of two layouts was asked for");
        let values = self.values.iter().zip(&base.values).map(|(a, b)| a - b).collect();
        Self::new(self.layout.clone(), values)
    }

    /// Computes the Euclidean norm of all values as one vector, summed in f64 in order.
    pub fn norm(&self) -> f64 {
        self.values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
    }

    /// Returns whether no value is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
            && self.base_change.as_ref().is_none_or(|change| change.is_finite())
    }

    /// Computes the BLAKE3 hash of the layout, the bits of the values, and the change of the base if there is one.
    pub fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_derive_key("fedreplay adapter v1");
        let layout = serde_json::to_vec(&*self.layout).expect("a layout is plain data");
        // The length separates the layout from the values, so that no two adapters give the same input.
        hasher.update(&(layout.len() as u64).to_le_bytes()).update(&layout);
        hasher.update(&self.value_bytes());
        if let Some(change) = &self.base_change {
            hasher.update(change.hash().as_bytes());
        }
        hasher.finalize()
    }

    /// Serializes the adapter for the store: as a safetensors file with the layout in its header, and the change of the base, if
    /// there is one, next to PEFT's tensors.
    pub fn to_bytes(&self) -> Vec<u8> {
        let layout = serde_json::to_string(&*self.layout).expect("a layout is plain data");
        let header = Some(HashMap::from([(LAYOUT_KEY.to_owned(), layout)]));
        let values = self.value_bytes();
        let changes = self.base_change.as_ref().map(|change| change.tensors(&self.layout)).unwrap_or_default();
        let views = self.views(&values).chain(changes.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("the bytes have the shape's size");
            (name.clone(), view)
        }));
        safetensors::serialize(views, header).expect("names are distinct and sizes agree")
    }

    /// Deserializes an adapter from the bytes of [`Adapter::to_bytes`].
    ///
    /// # Errors
    /// If the bytes are not such a file, are incomplete, or have a value that is not finite.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AdapterError> {
        let adapter = Self::from_recorded_bytes(bytes)?;
        match adapter.is_finite() {
            true => Ok(adapter),
            false => Err(AdapterError::content(BYTES, "a value is NaN or infinite")),
        }
    }

    /// Deserializes an adapter like [`Adapter::from_bytes`], whose values may be NaN or infinite: a run records a model that has
    /// diverged too.
    ///
    /// # Errors
    /// As [`Adapter::from_bytes`], but for the values.
    pub(super) fn from_recorded_bytes(bytes: &[u8]) -> Result<Self, AdapterError> {
        let read = without_panic(|| SafeTensors::read_metadata(bytes).map_err(|error| error.to_string()));
        let (_, header) = read.flatten().map_err(|reason| AdapterError::safetensors(BYTES, reason))?;
        let text = header.metadata().as_ref().and_then(|entries| entries.get(LAYOUT_KEY));
        let text = text.ok_or_else(|| AdapterError::content(BYTES, format!("no {LAYOUT_KEY} in the header")))?;
        let layout: Layout = parse_json(text.as_bytes())
            .map_err(|e| AdapterError::content(BYTES, format!("{LAYOUT_KEY} is not a layout: {e}")))?;
        // Memory is taken by the layout, so it may not be of more values than the file can have.
        let values = layout.modules.iter().try_fold(0_usize, |sum, module| {
            let core = if layout.has_core { layout.rank } else { 0 };
            let widths = module.in_features.checked_add(module.out_features)?.checked_add(core)?;
            widths.checked_mul(layout.rank)?.checked_add(sum)
        });
        if values.is_none_or(|values| values > bytes.len()) {
            return Err(AdapterError::content(BYTES, format!("{LAYOUT_KEY} is of more values than the file has")));
        }
        Self::from_safetensors(BYTES, bytes, Arc::new(layout))
    }

    /// Serializes the tensors as a safetensors file under PEFT's names.
    pub(super) fn serialize(&self, header: Option<HashMap<String, String>>) -> Vec<u8> {
        safetensors::serialize(self.views(&self.value_bytes()), header).expect("names are distinct and sizes agree")
    }

    /// Returns the tensors under PEFT's names. `bytes` are those of the values.
    fn views<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = (String, TensorView<'b>)> {
        self.layout.tensors().into_iter().map(move |(name, shape, range)| {
            let data = &bytes[4 * range.start..4 * range.end];
            (name, TensorView::new(Dtype::F32, shape.to_vec(), data).expect("the range has the shape's size"))
        })
    }

    /// Reads tensors under PEFT's names into the order of `layout`, with a change of the base if there is one. The types F32, F16
    /// and BF16 are accepted.
    ///
    /// # Errors
    /// If the file is damaged, or its tensors are not those of the layout.
    fn from_safetensors(what: &str, bytes: &[u8], layout: Arc<Layout>) -> Result<Self, AdapterError> {
        let file = opened(what, bytes)?;
        let mut adapter = Self::zeros(layout.clone());
        let change = BaseChange::read(&file, &layout).map_err(|reason| AdapterError::content(what, reason))?;
        let names_of_change: Vec<String> = change.iter().flat_map(|change| change.names(&layout)).collect();
        adapter = adapter.on(change.map(Arc::new));
        let tensors = layout.tensors();
        for (name, shape, range) in &tensors {
            read_tensor(&file, name, shape, &mut adapter.values[range.clone()])
                .map_err(|reason| AdapterError::content(what, reason))?;
        }
        // A tensor that is not part of the layout would be ignored silently. The smallest name makes the error stable.
        let names = tensors.iter().map(|(name, ..)| name).chain(&names_of_change);
        let known: HashSet<&str> = names.map(String::as_str).collect();
        let extra = file.names().into_iter().filter(|name| !known.contains(name)).min();
        if let Some(extra) = extra {
            return Err(AdapterError::content(what, format!("tensor {extra} belongs to no adapted module")));
        }
        Ok(adapter)
    }

    fn value_bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}

/// Opens a safetensors file.
///
/// # Errors
/// If it is damaged or incomplete.
pub(super) fn opened<'a>(what: &str, bytes: &'a [u8]) -> Result<SafeTensors<'a>, AdapterError> {
    let opened = without_panic(|| SafeTensors::deserialize(bytes).map_err(|error| error.to_string()));
    opened.flatten().map_err(|reason| AdapterError::safetensors(what, reason))
}

/// Reads a tensor of a file as f32. The types F32, F16 and BF16 are accepted.
///
/// # Errors
/// If the tensor is missing or has another shape or type, as a clause that names it.
pub(super) fn read_tensor(file: &SafeTensors, name: &str, shape: &[usize], into: &mut [f32]) -> Result<(), String> {
    let view = file.tensor(name).map_err(|_| format!("tensor {name} of shape {shape:?} is missing"))?;
    if view.shape() != shape {
        return Err(format!("tensor {name}: expected {shape:?}, found {:?}", view.shape()));
    }
    read_values(&view, into).ok_or_else(|| format!("tensor {name}: type {} is not supported", view.dtype()))
}

/// Converts a tensor's bytes to f32. `None` if its type is not F32, F16 or BF16.
fn read_values(view: &TensorView, into: &mut [f32]) -> Option<()> {
    let data = view.data();
    match view.dtype() {
        Dtype::F32 => {
            for (value, bytes) in into.iter_mut().zip(data.chunks_exact(4)) {
                *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
        Dtype::F16 => {
            for (value, bytes) in into.iter_mut().zip(data.chunks_exact(2)) {
                *value = half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
            }
        }
        Dtype::BF16 => {
            for (value, bytes) in into.iter_mut().zip(data.chunks_exact(2)) {
                *value = half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
            }
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::adapter::Module;

    /// A small layout whose module order is not the alphabetical order of names.
    pub fn layout() -> Arc<Layout> {
        let module = |path: &str, i, o| Module { path: path.into(), in_features: i, out_features: o };
        let modules = vec![
            module("model.layers.0.self_attn.v_proj", 8, 4),
            module("model.layers.0.self_attn.q_proj", 8, 8),
            module("model.layers.0.mlp.down_proj", 12, 8),
        ];
        Arc::new(Layout { rank: 2, alpha: 3.0, rank_stabilized: false, has_core: false, modules })
    }

    /// An adapter of which every value is non-zero and distinct.
    pub fn filled() -> Adapter {
        let mut adapter = Adapter::initial(layout(), Seed(1));
        adapter.values.iter_mut().enumerate().for_each(|(n, value)| *value = (n as f32 - 20.5) / 16.0);
        adapter
    }

    #[test]
    fn a_fresh_adapter_has_zero_b_and_bounded_a() {
        let adapter = Adapter::initial(layout(), Seed(3));
        for ((a, b), module) in adapter.layout.ranges().into_iter().zip(&adapter.layout.modules) {
            let bound = 1.0 / (module.in_features as f32).sqrt();
            assert!(adapter.values[a.clone()].iter().all(|v| v.abs() <= bound && *v != 0.0));
            assert!(adapter.values[a].iter().any(|v| v.abs() > bound / 4.0));
            assert!(adapter.values[b].iter().all(|v| *v == 0.0));
        }
        assert_ne!(adapter, Adapter::initial(layout(), Seed(4)));
        assert_eq!(adapter.hash(), Adapter::initial(layout(), Seed(3)).hash());
    }

    #[test]
    fn bytes_return_the_same_adapter_and_no_shorter_ones_do() {
        let adapter = filled();
        let bytes = adapter.to_bytes();
        let back = Adapter::from_bytes(&bytes).unwrap();
        assert_eq!((back.hash(), &back), (adapter.hash(), &adapter));
        for length in [0, 7, 40, bytes.len() / 2, bytes.len() - 1] {
            assert!(Adapter::from_bytes(&bytes[..length]).is_err(), "{length} bytes were read as an adapter");
        }
    }

    #[test]
    fn a_layout_of_more_values_than_the_file_has_is_refused() {
        for rank in [usize::MAX, 1 << 40, 1000] {
            let layout = Layout { rank, ..Layout::clone(&filled().layout) };
            let text = serde_json::to_string(&layout).unwrap();
            let bytes = filled().serialize(Some(HashMap::from([(LAYOUT_KEY.to_owned(), text)])));
            let said = Adapter::from_bytes(&bytes).unwrap_err().to_string();
            assert!(said.ends_with("is of more values than the file has"), "{said}");
        }
    }

    #[test]
    fn a_difference_has_the_norm_of_its_change() {
        let base = filled();
        let mut changed = base.clone();
        changed.values[0] += 3.0;
        changed.values[9] -= 4.0;
        assert_eq!(changed.difference(&base).norm(), 5.0);
        assert_ne!(changed.hash(), base.hash());
    }
}
