// Vectors of sixteen f32 values for tiles of 32 columns, with lanes left out at a ragged edge. See tile.h.
//
// For files compiled with -mavx512f only. Everything here has internal linkage.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "bf16.h"

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
  static Vector aligned(const float* from) { return _mm512_load_ps(from); }
  static __m512i pairs(const bf16* from) { return _mm512_load_si512(from); }
  static Vector upper(__m512i pairs) {
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(int(0xffff0000))));
  }
  static Vector lower(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
  static Vector spread(const float* value) { return _mm512_set1_ps(*value); }
  static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
};

}  // namespace
}  // namespace fedreplay
