//! Settings that may change the bits of a result, and the record of the machine that computed it.

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::Kind;

use super::available::free_bytes;
use crate::model::{Base, Device, Precision, RelativeError, tensor_specs};
use crate::training::kernels::by_libtorch::blocks::BLOCK_ROWS;
use crate::training::kernels::native::{self, Switches};

/// Numeric settings of training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numerics {
    /// Threads inside one operation. Bits do not depend on it; parallel tasks use a processor better.
    pub threads: usize,
    /// Gradient checkpointing. Bits do not depend on it.
    pub checkpointing: Checkpointing,
    /// Whether only code paths are allowed that all x86-64 processors with AVX2 and FMA share.
    pub portable: bool,
    /// Whether LibTorch's operations are used even if the program's own kernels could be.
    pub by_libtorch: bool,
}

/// Conditions under which a pass saves only each layer's input and runs the layer again in the backward pass, which
/// takes a third more work and a fraction of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Checkpointing {
    /// Never.
    Never,
    /// In every pass.
    Always,
    /// [byte] -- In passes whose saved activations are predicted to exceed this.
    Above(u64),
    /// In passes whose saved activations are predicted to exceed their share of half of the memory that is free once
    /// the base is loaded.
    Fitting {
        /// Number of passes that run at the same time and share that memory.
        passes: u32,
    },
}

/// [byte] -- Limit on the saved activations of a pass if the device does not report its free memory.
const KEPT_BYTES: u64 = 4 << 30;

impl Default for Numerics {
    fn default() -> Self {
        Self { threads: 1, checkpointing: Checkpointing::Above(KEPT_BYTES), portable: false, by_libtorch: false }
    }
}

impl Numerics {
    /// Returns whether the program's own kernels are used on this device.
    pub fn use_own_kernels(&self, device: Device) -> bool {
        device == Device::Cpu && !self.by_libtorch && native::kernels::are_supported()
    }
}

impl Checkpointing {
    /// Replaces a share of the memory that is free now by a number of bytes. Half of the memory is left for adapters,
    /// logits, gradients and evaluations.
    pub fn settled(self, device: Device) -> Self {
        let Self::Fitting { passes } = self else { return self };
        Self::Above(free_bytes(device).map_or(KEPT_BYTES, |free| free / 2 / u64::from(passes.max(1))))
    }
}

/// Part of the numerics that may change bits. It enters the key of every trained result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumericsClass {
    /// Kind and model of the device; for a CPU in f32 and bf16 the class of processors that give the same bits, or else
    /// its vendor and instruction-set level.
    pub device: String,
    /// LibTorch's version.
    pub torch: String,
    /// Precision of the base. Weights held in int8 are recorded as int8 rounded at load, since their bits are the same.
    pub precision: Precision,
    /// `standard`, `portable`, or the variables that select other library paths; and whether LibTorch's operations are
    /// used instead of the program's own kernels.
    pub mode: String,
}

/// Record of the machine and its settings, for comparison between runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Part that may change bits.
    pub class: NumericsClass,
    /// Requested device.
    pub device: Device,
    /// Name of the processor.
    pub processor: String,
    /// Instruction set that LibTorch's CPU kernels use.
    pub cpu_capability: String,
    /// Driver of the GPU; `None` on a CPU.
    pub driver: Option<String>,
    /// Threads inside one operation.
    pub threads: usize,
    /// LibTorch's switches as read back.
    pub switches: Switches,
    /// Environment variables that are set and that LibTorch's libraries read.
    pub environment: Vec<(String, String)>,
    /// Representation of the base, its size, and its distance from bfloat16.
    pub base: BaseReport,
}

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
    fn of(base: &Base) -> Self {
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

/// Environment variables that select other code paths in MKL, oneDNN or ATen, and so change bits.
const MODE_VARIABLES: [&str; 4] = ["MKL_CBWR", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"];

/// Environment variables that are recorded although they change no bits on a CPU.
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
    /// Returns whether any x86-64 processor with AVX2 and FMA gives the same bits: the kernels are common to all of
    /// them, and the libraries are restricted to common paths. This was verified in f32 and is claimed only there.
    pub fn is_portable(&self) -> bool {
        self.device == PORTABLE && self.mode == PORTABLE_MODE && self.precision.kind() == Kind::Float
    }
}

impl Fingerprint {
    /// Reads the properties of the machine and the process.
    pub fn read(base: &Base, numerics: &Numerics) -> Self {
        let device = base.device;
        let precision = base.precision;
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
        Self {
            class,
            device,
            processor: cpuinfo("model name").unwrap_or_else(|| "unknown".into()),
            cpu_capability: native::cpu_capability(),
            driver: if device == Device::Cpu { None } else { gpu_driver() },
            threads: numerics.threads,
            switches: native::switches(),
            environment,
            base: BaseReport::of(base),
        }
    }
}

/// Class of all processors on which training gives the same bits: every operation is either one of the program's own
/// kernels, which call no library, or exact in LibTorch (copies, and sums and products of two numbers). The number is
/// raised with every change of the kernels' bits.
const PORTABLE: &str = "cpu x86-64 AVX2 FMA, kernels 2";

/// Class of processors whose instructions for products of bf16 pairs are used; these treat subnormal numbers as zero.
/// Processors of different vendors were not compared, so the vendor is added to the class.
const BF16_PAIRS: &str = "AVX512-BF16, kernels 2";

/// Mode in which LibTorch's libraries are restricted to paths that all of these processors have.
const PORTABLE_MODE: &str = "portable";

/// Returns whether the program's own kernels give the same bits on all processors of the class [`PORTABLE`].
fn is_portable(device: Device, precision: Precision) -> bool {
    let is_served = match precision.kind() {
        Kind::Float => true,
        Kind::BFloat16 => !native::kernels::use_bf16_pairs(),
        _ => false,
    };
    device == Device::Cpu && is_served && !matches!(precision, Precision::LlmInt8(_))
}

/// Returns the class of a device that is not portable. `precision` is `None` if LibTorch's operations are used.
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

/// Returns whether all products use the program's own kernels with the processor's instructions for bf16 pairs.
fn uses_pairs(precision: Precision) -> bool {
    precision.kind() == Kind::BFloat16
        && !matches!(precision, Precision::LlmInt8(_))
        && native::kernels::use_bf16_pairs()
}

/// Lists the settings that change bits, or returns `standard` if there are none.
fn mode(own_kernels: bool) -> String {
    let mut set = Vec::new();
    for name in MODE_VARIABLES {
        if let Some((name, value)) = variable(name) {
            set.push(format!("{name}={value}"));
        }
    }
    if !own_kernels {
        set.push(format!("LibTorch in blocks of {BLOCK_ROWS} rows"));
    }
    if set.is_empty() { "standard".into() } else { set.join(" ") }
}

/// Returns an environment variable with its name; empty counts as unset.
fn variable(name: &str) -> Option<(String, String)> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(|value| (name.to_owned(), value))
}

/// Returns a field of the first processor in /proc/cpuinfo.
fn cpuinfo(field: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Returns the first line of the driver's own description.
fn gpu_driver() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

/// Returns the model of a GPU from the driver's listing; querying the runtime would need CUDA's headers.
fn gpu_model(index: usize) -> String {
    // CUDA numbers devices by their PCI address if so configured, which is the order of the folders' names.
    let listed = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let mut folders: Vec<_> = listed.map(|entry| entry.path()).collect();
    folders.sort();
    let text = folders.get(index).and_then(|folder| std::fs::read_to_string(folder.join("information")).ok());
    let model = text.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("Model:")));
    model.map_or_else(|| "unknown".into(), |name| name.trim().to_owned())
}
