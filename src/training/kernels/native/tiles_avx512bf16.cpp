// Tiles of 12 rows and 32 columns for processors with AVX512-BF16, whose VDPBF16PS multiplies pairs of bf16 and adds both
// products to an f32: first the one of the higher index, then that of the lower, each rounded, with subnormal numbers taken
// and given as zero. Processors without it do the same in fused multiply-adds, which keep subnormal numbers. See tile.h.
#include <immintrin.h>

#include <cstring>

#include "avx512.h"
#include "tile.h"

namespace fedreplay {
namespace {

struct Pairs : Avx512 {
  using A = bf16;
  using B = bf16;
  static constexpr int A_STEP = 2, PANEL_STEP = 2 * WIDTH;

  template <int ROWS>
  static void step(Vector (&sum)[ROWS][2], const bf16* row, int64_t rows_apart, int64_t, const bf16* panel) {
    const __m512bh b0 = (__m512bh)_mm512_load_si512(panel), b1 = (__m512bh)_mm512_load_si512(panel + 32);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
      int pair;
      std::memcpy(&pair, row + i * rows_apart, sizeof pair);
      const __m512bh value = (__m512bh)_mm512_set1_epi32(pair);
      sum[i][0] = _mm512_dpbf16_ps(sum[i][0], value, b0);
      sum[i][1] = _mm512_dpbf16_ps(sum[i][1], value, b1);
    }
  }
};

}  // namespace

PairTiles avx512_pair_tiles() { return Table<Pairs, 12>::tiles(); }

}  // namespace fedreplay
