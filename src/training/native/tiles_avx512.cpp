// Tiles of 12 rows and 32 columns for processors with AVX512F. See tile.h.
#include <immintrin.h>

#include "avx512.h"
#include "tile.h"

namespace fedreplay {
namespace {

struct F32 : Avx512 {
  using A = float;
  using B = float;
  static constexpr int A_STEP = 1, PANEL_STEP = WIDTH;

  template <int ROWS>
  static void step(Vector (&sum)[ROWS][2], const float* row, int64_t rows_apart, int64_t, const float* panel) {
    const Vector b0 = _mm512_load_ps(panel), b1 = _mm512_load_ps(panel + 16);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
      const Vector value = _mm512_set1_ps(row[i * rows_apart]);
      sum[i][0] = _mm512_fmadd_ps(value, b0, sum[i][0]);
      sum[i][1] = _mm512_fmadd_ps(value, b1, sum[i][1]);
    }
  }
};

struct Widened : Avx512 {
  using A = float;
  using B = bf16;
  static constexpr int A_STEP = 2, PANEL_STEP = 2 * WIDTH;

  static Vector high(__m512i pairs) {
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(int(0xffff0000))));
  }
  static Vector low(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }

  template <int ROWS>
  static void step(Vector (&sum)[ROWS][2], const float* row, int64_t rows_apart, int64_t columns_apart,
                   const bf16* panel) {
    const __m512i p0 = _mm512_load_si512(panel), p1 = _mm512_load_si512(panel + 32);
    const Vector high0 = high(p0), high1 = high(p1), low0 = low(p0), low1 = low(p1);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
      const Vector second = _mm512_set1_ps(row[i * rows_apart + columns_apart]);
      sum[i][0] = _mm512_fmadd_ps(second, high0, sum[i][0]);
      sum[i][1] = _mm512_fmadd_ps(second, high1, sum[i][1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
      const Vector first = _mm512_set1_ps(row[i * rows_apart]);
      sum[i][0] = _mm512_fmadd_ps(first, low0, sum[i][0]);
      sum[i][1] = _mm512_fmadd_ps(first, low1, sum[i][1]);
    }
  }
};

template <class V>
struct Table {
  static constexpr TileFunction<typename V::A, typename V::B> ALL[12] = {
      Tile<V, 1>::run, Tile<V, 2>::run, Tile<V, 3>::run, Tile<V, 4>::run,  Tile<V, 5>::run,  Tile<V, 6>::run,
      Tile<V, 7>::run, Tile<V, 8>::run, Tile<V, 9>::run, Tile<V, 10>::run, Tile<V, 11>::run, Tile<V, 12>::run};
};

}  // namespace

F32Tiles avx512_f32_tiles() { return {F32::WIDTH, 12, Table<F32>::ALL}; }

WidenedTiles avx512_widened_tiles() { return {Widened::WIDTH, 12, Table<Widened>::ALL}; }

}  // namespace fedreplay
