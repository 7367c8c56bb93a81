//! What may change the bits of a result, and the full record of the machine that computed it.

use serde::{Deserialize, Serialize};
use tch::Kind;

use super::BaseReport;
use super::available::free_bytes;
use super::by_libtorch::blocks::BLOCK_ROWS;
use super::native::{self, Switches};
use crate::model::{Base, Device, Precision};

/// How LibTorch is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numerics {
    /// Threads inside one operation. Bits do not depend on it; tasks in parallel use a processor better.
    pub threads: usize,
    /// When layers are run again in the backward pass instead of kept. Bits do not depend on it.
    pub checkpointing: Checkpointing,
    /// Whether only paths may be taken that all x86-64 processors with AVX2 and FMA share.
    pub portable: bool,
    /// Whether LibTorch's operations compute even where the program's own kernels could.
    pub by_libtorch: bool,
}

/// When a pass keeps only each layer's input and runs the layer again in the backward pass: a third more work for a
/// fraction of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Checkpointing {
    /// Never.
    Never,
    /// In every pass.
    Always,
    /// In passes whose kept activations are predicted to take more than this [byte].
    Above(u64),
    /// In passes whose kept activations are predicted to take more than half of the memory that is free once the base is
    /// loaded, shared by so many passes at a time.
    Fitting {
        /// Passes at a time.
        passes: u32,
    },
}

/// What a pass may keep where the device does not tell what is free [byte].
const KEPT_BYTES: u64 = 4 << 30;

impl Default for Numerics {
    fn default() -> Self {
        Self { threads: 1, checkpointing: Checkpointing::Above(KEPT_BYTES), portable: false, by_libtorch: false }
    }
}

impl Numerics {
    /// Whether the program's own kernels compute on this device.
    pub(super) fn use_own_kernels(&self, device: Device) -> bool {
        device == Device::Cpu && !self.by_libtorch && native::kernels::are_supported()
    }
}

impl Checkpointing {
    /// The same with a number of bytes in place of a share of what is free now. The other half of it is for adapters,
    /// logits, gradients on their way, and evaluations.
    pub(super) fn settled(self, device: Device) -> Self {
        let Self::Fitting { passes } = self else { return self };
        Self::Above(free_bytes(device).map_or(KEPT_BYTES, |free| free / 2 / u64::from(passes.max(1))))
    }
}

/// The part of the numerics that may change bits: it enters the key of every trained result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumericsClass {
    /// Device kind and model; for a CPU in f32 and bf16 the class of processors that give the same bits, else its vendor
    /// and instruction-set level.
    pub device: String,
    /// LibTorch's version.
    pub torch: String,
    /// Precision of the base. int8 that is held stands as int8 rounded at load: their bits are the same.
    pub precision: Precision,
    /// `standard`, `portable`, or the variables that select other library paths; and where LibTorch's operations compute
    /// instead of the program's own kernels, that they do.
    pub mode: String,
}

/// Everything about the machine and its settings that a reader of a run may want to compare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The part that may change bits.
    pub class: NumericsClass,
    /// The device asked for.
    pub device: Device,
    /// The processor's name.
    pub processor: String,
    /// The instruction set that LibTorch's CPU kernels use.
    pub cpu_capability: String,
    /// The GPU's driver, on a GPU.
    pub driver: Option<String>,
    /// Threads inside one operation.
    pub threads: usize,
    /// LibTorch's switches as read back.
    pub switches: Switches,
    /// The environment variables that LibTorch's libraries read, where set.
    pub environment: Vec<(String, String)>,
    /// How the base is held, what it takes, and how far it is from bfloat16.
    pub base: BaseReport,
}

/// Variables that select other code paths in MKL, oneDNN or ATen, and so other bits.
const MODE_VARIABLES: [&str; 4] = ["MKL_CBWR", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"];

/// Variables worth recording that change no bits on a CPU.
const OTHER_VARIABLES: [&str; 9] = [
    "FEDREPLAY_PRODUCTS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_DYNAMIC",
    "MKL_DYNAMIC",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUBLASLT_WORKSPACE_SIZE",
];

impl NumericsClass {
    /// Whether any x86-64 processor with AVX2 and FMA gives the same bits: what computes is common to all of them, and the
    /// libraries around it were held to common paths. Shown in f32, and so claimed there alone.
    pub fn is_portable(&self) -> bool {
        self.device == PORTABLE && self.mode == PORTABLE_MODE && self.precision.kind() == Kind::Float
    }
}

impl Fingerprint {
    /// Reads the machine.
    pub(super) fn read(base: &Base, numerics: &Numerics) -> Self {
        let (device, precision) = (base.device, base.precision);
        let own_kernels = numerics.use_own_kernels(device);
        let portable = own_kernels && is_portable(device, precision);
        let class = NumericsClass {
            device: if portable { PORTABLE.into() } else { device_class(device, own_kernels.then_some(precision)) },
            torch: native::torch_version(),
            precision: precision.same_bits_as(),
            mode: match (portable, numerics.portable) {
                (true, true) => PORTABLE_MODE.into(),
                (true, false) => "standard".into(),
                (false, _) => mode(own_kernels),
            },
        };
        let environment = MODE_VARIABLES.iter().chain(&OTHER_VARIABLES).filter_map(|name| variable(name)).collect();
        let processor = cpuinfo("model name").unwrap_or_else(|| "unknown".into());
        let switches = native::switches();
        let cpu_capability = native::cpu_capability();
        let driver = if device == Device::Cpu { None } else { gpu_driver() };
        let (threads, base) = (numerics.threads, BaseReport::of(base));
        Self { class, device, processor, cpu_capability, driver, threads, switches, environment, base }
    }
}

/// The class of all processors on which training gives the same bits: every operation of it is either one of the program's
/// own kernels, which call no library, or exact in LibTorch (copies, and sums and products of two numbers). The number is
/// raised with every change of the kernels' bits.
const PORTABLE: &str = "cpu x86-64 AVX2 FMA, kernels 2";

/// The instructions of processors whose own products of bf16 pairs are used: they take subnormal numbers for zero. No two
/// makers' were compared, so the maker is part of the class.
const BF16_PAIRS: &str = "AVX512-BF16, kernels 2";

/// The mode in which LibTorch's libraries were started on paths that all of these processors have.
const PORTABLE_MODE: &str = "portable";

fn is_portable(device: Device, precision: Precision) -> bool {
    let is_served = match precision.kind() {
        Kind::Float => true,
        Kind::BFloat16 => !native::kernels::use_bf16_pairs(),
        _ => false,
    };
    device == Device::Cpu && is_served && !matches!(precision, Precision::LlmInt8(_))
}

/// `precision` is that of the program's own kernels; none where LibTorch computes.
fn device_class(device: Device, precision: Option<Precision>) -> String {
    match device {
        Device::Cpu => {
            let vendor = cpuinfo("vendor_id").unwrap_or_else(|| "unknown".into());
            let capability = native::cpu_capability();
            match precision {
                None => format!("cpu {vendor} {capability}"),
                Some(precision) if uses_pairs(precision) => format!("cpu {vendor} {BF16_PAIRS}"),
                Some(_) if native::kernels::use_bf16_pairs() => format!("cpu {vendor} {capability} BF16, kernels 2"),
                Some(_) => format!("cpu {vendor} {capability}, kernels 2"),
            }
        }
        Device::Cuda(index) => format!("cuda {}", gpu_model(index)),
    }
}

/// Whether all products are the program's own, in the processor's products of bf16 pairs.
fn uses_pairs(precision: Precision) -> bool {
    precision.kind() == Kind::BFloat16
        && !matches!(precision, Precision::LlmInt8(_))
        && native::kernels::use_bf16_pairs()
}

fn mode(own_kernels: bool) -> String {
    let mut set: Vec<String> = MODE_VARIABLES
        .iter()
        .filter_map(|name| variable(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if !own_kernels {
        set.push(format!("LibTorch in blocks of {BLOCK_ROWS} rows"));
    }
    if set.is_empty() { "standard".into() } else { set.join(" ") }
}

fn variable(name: &str) -> Option<(String, String)> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(|value| (name.to_owned(), value))
}

/// A field of the first processor in /proc/cpuinfo.
fn cpuinfo(field: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The driver's first line about itself.
fn gpu_driver() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

/// The model of a GPU, from the driver's own listing: the runtime's query would need CUDA's headers.
fn gpu_model(index: usize) -> String {
    let listed = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let mut folders: Vec<_> = listed.map(|entry| entry.path()).collect();
    folders.sort();
    let text = folders.get(index).and_then(|folder| std::fs::read_to_string(folder.join("information")).ok());
    let model = text.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("Model:")));
    model.map_or_else(|| "unknown".into(), |name| name.trim().to_owned())
}
