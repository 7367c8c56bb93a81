// Vectors of sixteen f32 values for tiles of 32 columns, with lanes left out at a ragged edge. See tile.h.
//
// For files compiled with -mavx512f only. Everything here has internal linkage.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace fedreplay {
namespace {

struct Avx512 {
  using Vector = __m512;
  using Mask = __mmask16;
  static constexpr int WIDTH = 32;
  static Vector zero() { return _mm512_setzero_ps(); }
  static Mask mask(int64_t there) { return there >= 16 ? 0xffff : there <= 0 ? 0 : Mask((1u << there) - 1); }
  static Vector load(const float* from, Mask lanes) { return _mm512_maskz_loadu_ps(lanes, from); }
  static void store(float* to, Mask lanes, Vector v) { _mm512_mask_storeu_ps(to, lanes, v); }
};

}  // namespace
}  // namespace fedreplay
