// The few LibTorch switches and queries that `tch` does not expose. No CUDA header and no CUDA symbol is used here.
//
// Each function is called through `native/mod.rs` alone. No exception may leave this file: a switch that cannot be set
// is found by reading it back.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <torch/version.h>

#include "attention.h"
#include "decode.h"
#include "gemm.h"
#include "kernels.h"
#include "memory.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <optional>
#include <string>
#include <type_traits>

namespace {

using fedreplay::bf16;

template <class T>
T* data(const at::Tensor* tensor) {
  return static_cast<T*>(tensor->data_ptr());
}

// Calls work(first, last) for ranges of rows, in parallel where the rows are worth it. Rows are independent, so their
// bits do not depend on the ranges.
template <class Work>
void by_rows(int64_t rows, int64_t width, Work work) {
  at::parallel_for(0, rows, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, width)), work);
}

// Columns of a panel and rows of a tile of gemm.cpp, and product-sums that are worth a thread's waking.
constexpr int64_t PANEL = 32, TILE_ROWS = 12, WORTH_A_THREAD = 1 << 19;

// Calls work(first, last) for parts of `count` columns or rows of a product, each of which takes `sums` product-sums. Parts
// begin at multiples of `unit`.
template <class Work>
void in_parts(int64_t count, int64_t unit, int64_t sums, Work work) {
  const int64_t units = (count + unit - 1) / unit, least = WORTH_A_THREAD / std::max<int64_t>(1, sums * unit);
  at::parallel_for(0, units, std::max<int64_t>(1, least), [&](int64_t first, int64_t last) {
    work(first * unit, std::min(count, last * unit));
  });
}

// Calls work with a value of the tensor's element type: float or bf16. The caller has checked that it is one of them.
template <class Work>
void by_type(const at::Tensor* tensor, Work work) {
  tensor->scalar_type() == at::kFloat ? work(float{}) : work(bf16{});
}

template <class In, class Out>
void product(const at::Tensor* a, const at::Tensor* b, at::Tensor* out, bool accumulate) {
  const fedreplay::MatrixOf<In> left{data<In>(a), a->stride(0), a->stride(1)};
  const fedreplay::MatrixOf<In> right{data<In>(b), b->stride(0), b->stride(1)};
  const int64_t rows = a->size(0), inner = a->size(1), columns = b->size(1);
  const auto work = [&](fedreplay::Part part) {
    fedreplay::gemm<In, Out>(left, right, data<Out>(out), out->stride(0), inner, columns, accumulate, part);
  };
  if (columns >= 4 * PANEL * at::get_num_threads()) {
    in_parts(columns, PANEL, inner * rows, [&](int64_t first, int64_t last) { work({0, rows, first, last}); });
  } else {
    in_parts(rows, TILE_ROWS, inner * columns, [&](int64_t first, int64_t last) { work({first, last, 0, columns}); });
  }
}

// Writes a NUL-terminated text of at most `size` bytes.
void write_text(const std::string& text, char* into, size_t size) {
  size_t length = text.size() < size - 1 ? text.size() : size - 1;
  std::memcpy(into, text.data(), length);
  into[length] = 0;
}

}  // namespace

extern "C" {

// out = a b or out += a b, each given by its strides: a and b of one type, f32 or bf16, and out of theirs or f32. Work is
// shared by panels of columns where every thread gets several, so that no panel is packed twice, else by rows; no element
// depends on how.
void fedreplay_product(const at::Tensor* a, const at::Tensor* b, at::Tensor* out, int accumulate) {
  by_type(a, [&](auto type) {
    using In = decltype(type);
    by_type(out, [&](auto type) {
      using Out = decltype(type);
      if constexpr (std::is_same_v<Out, float> || std::is_same_v<In, Out>) product<In, Out>(a, b, out, accumulate);
    });
  });
}

// Attention of `count` sequences, which begin at row starts[i] and have lengths[i] rows.
void fedreplay_attend(const fedreplay::Shape* shape, int64_t count, const int64_t* starts, const int64_t* lengths,
                      const at::Tensor* qkv, at::Tensor* out, at::Tensor* sums) {
  by_type(qkv, [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, count * shape->kv_heads, 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i++) {
        const int64_t sequence = i / shape->kv_heads, head = i % shape->kv_heads, row = starts[sequence];
        fedreplay::attend<T>(*shape, head, lengths[sequence], data<T>(qkv) + row * shape->qkv_stride,
                             data<T>(out) + row * shape->out_stride, data<float>(sums) + row * shape->heads);
      }
    });
  });
}

void fedreplay_attend_backward(const fedreplay::Shape* shape, int64_t count, const int64_t* starts,
                               const int64_t* lengths, const at::Tensor* qkv, const at::Tensor* out,
                               const at::Tensor* sums, const at::Tensor* d_out, at::Tensor* d_qkv) {
  by_type(qkv, [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, count * shape->kv_heads, 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i++) {
        const int64_t sequence = i / shape->kv_heads, head = i % shape->kv_heads, row = starts[sequence];
        fedreplay::attend_backward<T>(*shape, head, lengths[sequence], data<T>(qkv) + row * shape->qkv_stride,
                                      data<T>(out) + row * shape->out_stride, data<float>(sums) + row * shape->heads,
                                      data<T>(d_out) + row * shape->out_stride,
                                      data<T>(d_qkv) + row * shape->qkv_stride);
      }
    });
  });
}

// Packs b, `[inner, columns]` given by its strides, for `fedreplay_product_packed`; `into` is dense and large enough.
int64_t fedreplay_packed_size(int64_t inner, int64_t columns) { return fedreplay::packed_size(inner, columns); }

void fedreplay_pack(const at::Tensor* b, at::Tensor* into) {
  by_type(b, [&](auto type) {
    using In = decltype(type);
    fedreplay::pack<In>({data<In>(b), b->stride(0), b->stride(1)}, b->size(0), b->size(1), data<In>(into));
  });
}

// out = a b, all of one type, dense a and out, b packed. Work is shared by panels of columns; no element depends on how.
void fedreplay_product_packed(const at::Tensor* a, const at::Tensor* packed, at::Tensor* out) {
  by_type(a, [&](auto type) {
    using In = decltype(type);
    const fedreplay::MatrixOf<In> left{data<In>(a), a->stride(0), a->stride(1)};
    const int64_t rows = a->size(0), inner = a->size(1), columns = out->size(1);
    in_parts(columns, PANEL, inner * rows, [&](int64_t first, int64_t last) {
      fedreplay::gemm_with_packed<In, In>(left, data<In>(packed), data<In>(out), columns, inner, columns,
                                          {0, rows, first, last});
    });
  });
}

int fedreplay_uses_bf16_pairs() { return fedreplay::uses_bf16_pairs(); }

// Attention of `count` pieces over the caches of their sequences: piece i has rows[i] new rows from starts[i] on, the first
// of them at positions[i] of the sequence in slot slots[i]. `keys` and `values` hold all slots, `capacity` positions each.
void fedreplay_attend_cached(const fedreplay::Shape* shape, int64_t count, const int64_t* starts, const int64_t* rows,
                             const int64_t* positions, const int64_t* slots, int64_t capacity, const at::Tensor* qkv,
                             at::Tensor* keys, at::Tensor* values, at::Tensor* out) {
  by_type(qkv, [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, count * shape->kv_heads, 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i++) {
        const int64_t piece = i / shape->kv_heads, head = i % shape->kv_heads;
        const int64_t at = (slots[piece] * shape->kv_heads + head) * capacity * shape->width;
        fedreplay::attend_cached<T>(*shape, head, rows[piece], positions[piece],
                                    {data<T>(keys) + at, data<T>(values) + at},
                                    data<T>(qkv) + starts[piece] * shape->qkv_stride,
                                    data<T>(out) + starts[piece] * shape->out_stride);
      }
    });
  });
}

void fedreplay_rms_norm(const at::Tensor* x, const at::Tensor* weight, double eps, at::Tensor* y, at::Tensor* inverse) {
  int64_t width = x->size(1);
  by_type(x, [&](auto type) {
    using T = decltype(type);
    by_rows(x->size(0), width, [&](int64_t first, int64_t last) {
      fedreplay::rms_norm<T>(data<T>(x), data<T>(weight), float(eps), data<T>(y), data<float>(inverse), width, first,
                             last);
    });
  });
}

void fedreplay_rms_norm_backward(const at::Tensor* dy, const at::Tensor* x, const at::Tensor* inverse,
                                 const at::Tensor* weight, const at::Tensor* residual, at::Tensor* dx) {
  int64_t width = x->size(1);
  by_type(x, [&](auto type) {
    using T = decltype(type);
    by_rows(x->size(0), width, [&](int64_t first, int64_t last) {
      fedreplay::rms_norm_backward<T>(data<T>(dy), data<T>(x), data<float>(inverse), data<T>(weight),
                                      data<T>(residual), data<T>(dx), width, first, last);
    });
  });
}

void fedreplay_rotate(at::Tensor* x, const at::Tensor* cos, const at::Tensor* sin, double sign, int64_t heads,
                      int64_t width) {
  int64_t half = cos->size(1), stride = x->stride(0);
  by_type(x, [&](auto type) {
    using T = decltype(type);
    by_rows(x->size(0), 2 * half * heads, [&](int64_t first, int64_t last) {
      fedreplay::rotate<T>(data<T>(x), stride, data<float>(cos), data<float>(sin), float(sign), heads, width,
                           half, first, last);
    });
  });
}

void fedreplay_swiglu(const at::Tensor* gate_up, at::Tensor* product) {
  int64_t inner = product->size(1);
  by_type(gate_up, [&](auto type) {
    using T = decltype(type);
    by_rows(product->size(0), inner, [&](int64_t first, int64_t last) {
      fedreplay::swiglu<T>(data<T>(gate_up), data<T>(product), inner, first, last);
    });
  });
}

void fedreplay_swiglu_backward(at::Tensor* gate_up, const at::Tensor* d_product) {
  int64_t inner = d_product->size(1);
  by_type(gate_up, [&](auto type) {
    using T = decltype(type);
    by_rows(d_product->size(0), inner, [&](int64_t first, int64_t last) {
      fedreplay::swiglu_backward<T>(data<T>(gate_up), data<T>(d_product), inner, first, last);
    });
  });
}

void fedreplay_geglu(const at::Tensor* gate_up, at::Tensor* product) {
  int64_t inner = product->size(1);
  by_type(gate_up, [&](auto type) {
    using T = decltype(type);
    by_rows(product->size(0), inner, [&](int64_t first, int64_t last) {
      fedreplay::geglu<T>(data<T>(gate_up), data<T>(product), inner, first, last);
    });
  });
}

void fedreplay_geglu_backward(at::Tensor* gate_up, const at::Tensor* d_product) {
  int64_t inner = d_product->size(1);
  by_type(gate_up, [&](auto type) {
    using T = decltype(type);
    by_rows(d_product->size(0), inner, [&](int64_t first, int64_t last) {
      fedreplay::geglu_backward<T>(data<T>(gate_up), data<T>(d_product), inner, first, last);
    });
  });
}

void fedreplay_soft_cap(at::Tensor* x, double cap) {
  int64_t width = x->size(1);
  by_type(x, [&](auto type) {
    using T = decltype(type);
    by_rows(x->size(0), width, [&](int64_t first, int64_t last) {
      fedreplay::soft_cap<T>(data<T>(x), float(cap), width, first, last);
    });
  });
}

void fedreplay_soft_cap_backward(at::Tensor* gradient, const at::Tensor* capped, double cap) {
  int64_t width = gradient->size(1);
  by_type(gradient, [&](auto type) {
    using T = decltype(type);
    by_rows(gradient->size(0), width, [&](int64_t first, int64_t last) {
      fedreplay::soft_cap_backward<T>(data<T>(gradient), data<T>(capped), float(cap), width, first, last);
    });
  });
}

// `weights` may be null: then the logits are left as they are.
void fedreplay_cross_entropy(at::Tensor* logits, const at::Tensor* labels, const at::Tensor* weights,
                             at::Tensor* nats) {
  int64_t width = logits->size(1);
  const float* scales = weights ? data<float>(weights) : nullptr;
  by_type(logits, [&](auto type) {
    using T = decltype(type);
    by_rows(logits->size(0), width, [&](int64_t first, int64_t last) {
      fedreplay::cross_entropy<T>(data<T>(logits), data<int64_t>(labels), scales, data<double>(nats), width, first,
                                  last);
    });
  });
}

void fedreplay_expand_int8(const at::Tensor* codes, const at::Tensor* scales, at::Tensor* out) {
  const int64_t width = codes->size(1);
  by_type(out, [&](auto type) {
    using T = decltype(type);
    by_rows(codes->size(0), width, [&](int64_t first, int64_t last) {
      fedreplay::expand_int8<T>(data<int8_t>(codes), data<float>(scales), data<T>(out), width, first, last);
    });
  });
}

void fedreplay_expand_nf4(const at::Tensor* codes, const float* values, const at::Tensor* maxima, at::Tensor* out) {
  by_type(out, [&](auto type) {
    using T = decltype(type);
    by_rows(maxima->numel(), 64, [&](int64_t first, int64_t last) {
      fedreplay::expand_nf4<T>(data<uint8_t>(codes), values, data<float>(maxima), data<T>(out), out->numel(), first, last);
    });
  });
}

void fedreplay_adamw(const fedreplay::AdamW* rule, float scale, const at::Tensor* gradient, at::Tensor* values,
                     at::Tensor* mean, at::Tensor* square) {
  const float* slopes = data<float>(gradient);
  float *to = data<float>(values), *first_moment = data<float>(mean), *second_moment = data<float>(square);
  const int64_t length = values->numel(), eights = (length + 7) / 8;
  at::parallel_for(0, eights, 2048, [&](int64_t first, int64_t last) {
    const int64_t begin = 8 * first, count = std::min(length, 8 * last) - begin;
    fedreplay::adamw(*rule, scale, slopes + begin, to + begin, first_moment + begin, second_moment + begin, count);
  });
}

double fedreplay_sum_of_squares(const at::Tensor* values) {
  return fedreplay::sum_of_squares(data<float>(values), values->numel());
}

// Causal attention of one sequence in LibTorch's fused kernel on CUDA, which `tch` does not expose: queries, keys and values
// `[rows, heads, width]`, `bounds` 0 and `rows` in int32 on their device, `older` the keys that a query sees before its own
// (below 0: all). Sets `out` and the logarithms of the softmax's denominators, `sums`. The call goes through LibTorch's
// dispatcher, so no CUDA symbol is needed. Returns 0, or 1 with the reason in `message`.
int fedreplay_flash_attend(const at::Tensor* q, const at::Tensor* k, const at::Tensor* v, const at::Tensor* bounds,
                           int64_t rows, int64_t older, at::Tensor* out, at::Tensor* sums, char* message, size_t size) {
  try {
    std::optional<int64_t> window;
    if (older >= 0) window = older;
    auto results = at::_flash_attention_forward(*q, *k, *v, *bounds, *bounds, rows, rows, /*dropout_p=*/0.0,
                                                /*is_causal=*/true, /*return_debug_mask=*/false, /*scale=*/std::nullopt,
                                                /*window_size_left=*/window, /*window_size_right=*/std::nullopt);
    *out = std::get<0>(results);
    *sums = std::get<1>(results);
    return 0;
  } catch (const std::exception& error) {
    write_text(error.what(), message, size);
  } catch (...) {
    write_text("an exception without a message", message, size);
  }
  return 1;
}

void fedreplay_keep_tensor_memory() { fedreplay::keep_tensor_memory(); }

size_t fedreplay_tensor_memory() { return fedreplay::tensor_memory(); }

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

void fedreplay_cpu_capability(char* into, size_t size) {
  try {
    write_text(at::get_cpu_capability(), into, size);
  } catch (...) {
    write_text("unknown", into, size);
  }
}

void fedreplay_torch_version(char* into, size_t size) { write_text(TORCH_VERSION, into, size); }

}  // extern "C"
