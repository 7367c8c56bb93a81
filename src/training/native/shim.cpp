// The few LibTorch switches and queries that `tch` does not expose. No CUDA header and no CUDA symbol is used here.
//
// Each function is called through `native/mod.rs` alone. No exception may leave this file: a switch that cannot be set
// is found by reading it back.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <torch/version.h>

#include <cstring>
#include <string>

extern "C" {

// Sets every switch that decides whether the same inputs give the same bits.
// warn_only must be false: with it, flash attention's backward pass stays nondeterministic on a GPU.
int fedreplay_set_switches(int cuda) {
  try {
    auto& context = at::globalContext();
    context.setDeterministicAlgorithms(true, /*warn_only=*/false);
    // Otherwise every uninitialised buffer is filled with NaN first, which costs a pass over memory.
    context.setDeterministicFillUninitializedMemory(false);
    context.setDeterministicCuDNN(true);
    context.setBenchmarkCuDNN(false);
    context.setDeterministicMkldnn(true);
    context.setAllowTF32CuBLAS(false);
    context.setAllowTF32CuDNN(false);
    context.setAllowBF16ReductionCuBLAS(false, false);
    context.setAllowFP16ReductionCuBLAS(false, false);
    context.setAllowFP16BF16ReductionMathSDP(false);
    context.setSDPUseCuDNN(false);
    context.setSDPUseFlash(true);
    context.setSDPUseMemEfficient(false);
    context.setSDPUseMath(true);
    if (cuda) context.setBlasPreferredBackend(at::BlasBackend::Cublaslt);
    return 0;
  } catch (...) {
    return 1;
  }
}

// Reads the switches back, one bit each, in the order of `native::Switches`.
unsigned fedreplay_read_switches() {
  try {
    auto& context = at::globalContext();
    unsigned bits = 0, place = 0;
    auto put = [&](bool on) { bits |= unsigned(on) << place++; };
    put(context.deterministicAlgorithms() && !context.deterministicAlgorithmsWarnOnly());
    put(context.deterministicFillUninitializedMemory());
    put(context.deterministicCuDNN());
    put(context.benchmarkCuDNN());
    put(context.deterministicMkldnn());
    put(context.allowTF32CuBLAS());
    put(context.allowTF32CuDNN());
    put(context.userEnabledFlashSDP());
    put(context.userEnabledMemEfficientSDP());
    put(context.userEnabledMathSDP());
    put(context.userEnabledCuDNNSDP());
    return bits;
  } catch (...) {
    return ~0u;
  }
}

// Writes a NUL-terminated text of at most `size` bytes.
static void write_text(const std::string& text, char* into, size_t size) {
  size_t length = text.size() < size - 1 ? text.size() : size - 1;
  std::memcpy(into, text.data(), length);
  into[length] = 0;
}

void fedreplay_cpu_capability(char* into, size_t size) {
  try {
    write_text(at::get_cpu_capability(), into, size);
  } catch (...) {
    write_text("unknown", into, size);
  }
}

void fedreplay_torch_version(char* into, size_t size) { write_text(TORCH_VERSION, into, size); }

}  // extern "C"
