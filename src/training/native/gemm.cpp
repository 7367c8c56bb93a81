// See gemm.h. The loops are those of Goto and van de Geijn (ACM TOMS 34(3), 2008) with b packed into panels and a read
// in place; the sum over the inner index is never split between accumulators.
#include "gemm.h"

#include <immintrin.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace fedreplay {
namespace {

// Inner indices of a panel of b; columns of b packed at a time; and rows of a that stay in the second-level cache while the
// panels pass. Many inner indices make for few passes over c, which is what large products wait for.
constexpr int64_t INNER = 768, COLUMNS = 384, ROWS_AT_A_TIME = 120;
constexpr int64_t SPACED = INNER + 16;

struct Free {
  void operator()(float* p) const { std::free(p); }
};

float* allocate(int64_t floats) {
  return static_cast<float*>(std::aligned_alloc(64, (sizeof(float) * floats + 63) / 64 * 64));
}

// This thread's room for panels of b and for rows of a.
struct Room {
  std::unique_ptr<float, Free> panels{allocate(INNER * (COLUMNS + 32))}, rows{allocate(ROWS_AT_A_TIME * SPACED)};
};

Room& room() {
  thread_local Room held;
  return held;
}

// Rows whose distance is a multiple of 2 KiB meet in the same few sets of the first-level cache and drive each other out;
// such rows are copied to where they are spaced better.
Matrix spaced(Matrix a, int64_t rows, int64_t inner, float* into) {
  if (a.columns != 1 || a.rows % 512 != 0) return a;
  for (int64_t i = 0; i < rows; i++) std::memcpy(into + i * SPACED, a.data + i * a.rows, sizeof(float) * inner);
  return {into, SPACED, 1};
}

inline void transpose(__m256 (&r)[8]) {
  __m256 t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  __m256 u[8];
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}

// Packs columns of b into panels of `width`: for each inner index, `width` neighbours. Columns that are not there are 0.
void pack_panels(Matrix b, int64_t inner, int64_t columns, int64_t width, float* into) {
  for (int64_t j = 0; j < columns; j += width, into += inner * width) {
    const float* from = b.data + j * b.columns;
    int64_t there = std::min(width, columns - j), k = 0;
    if (there == width && b.columns == 1) {
      for (; k < inner; k++) {
        for (int64_t n = 0; n < width; n += 8) _mm256_store_ps(into + k * width + n, _mm256_loadu_ps(from + k * b.rows + n));
      }
    } else if (there == width && b.rows == 1) {
      for (; k + 8 <= inner; k += 8) {
        for (int64_t n = 0; n < width; n += 8) {
          __m256 r[8];
          for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(from + (n + i) * b.columns + k);
          transpose(r);
          for (int i = 0; i < 8; i++) _mm256_store_ps(into + (k + i) * width + n, r[i]);
        }
      }
    }
    for (; k < inner; k++) {
      for (int64_t n = 0; n < width; n++) into[k * width + n] = n < there ? from[k * b.rows + n * b.columns] : 0.0f;
    }
  }
}

// One tile of c: ROWS rows and up to one panel's columns, `there` of which exist. a is given as three words: as a struct
// it would be copied to the stack in a width that the processor cannot forward from the stores before it.
using Tile = void (*)(const float* a, int64_t rows_apart, int64_t columns_apart, const float* panel, float* c,
                      int64_t stride, int64_t inner, bool load, int64_t there);

template <int ROWS>
void tile_avx2(const float* a, int64_t rows_apart, int64_t columns_apart, const float* panel, float* c, int64_t stride,
               int64_t inner, bool load, int64_t there) {
  __m256 sum[ROWS][2];
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i left = _mm256_cmpgt_epi32(_mm256_set1_epi32(int(there)), lanes);
  const __m256i right = _mm256_cmpgt_epi32(_mm256_set1_epi32(int(there) - 8), lanes);
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++) {
    sum[i][0] = load ? _mm256_maskload_ps(c + i * stride, left) : _mm256_setzero_ps();
    sum[i][1] = load ? _mm256_maskload_ps(c + i * stride + 8, right) : _mm256_setzero_ps();
  }
  const float* row = a;
  for (int64_t k = 0; k < inner; k++, panel += 16, row += columns_apart) {
    __m256 b0 = _mm256_load_ps(panel), b1 = _mm256_load_ps(panel + 8);
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
      __m256 value = _mm256_broadcast_ss(row + i * rows_apart);
      sum[i][0] = _mm256_fmadd_ps(value, b0, sum[i][0]);
      sum[i][1] = _mm256_fmadd_ps(value, b1, sum[i][1]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++) {
    _mm256_maskstore_ps(c + i * stride, left, sum[i][0]);
    _mm256_maskstore_ps(c + i * stride + 8, right, sum[i][1]);
  }
}

template <int ROWS>
__attribute__((target("avx512f"))) void tile_avx512(const float* a, int64_t rows_apart, int64_t columns_apart,
                                                    const float* panel, float* c, int64_t stride, int64_t inner,
                                                    bool load, int64_t there) {
  __m512 sum[ROWS][2];
  // The next tile of c is below this one: it is on its way while this one is computed.
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++) {
    _mm_prefetch(reinterpret_cast<const char*>(c + (ROWS + i) * stride), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(c + (ROWS + i) * stride + 31), _MM_HINT_T0);
  }
  const uint32_t all = there >= 32 ? 0xffffffffu : (1u << there) - 1;
  const __mmask16 left = __mmask16(all), right = __mmask16(all >> 16);
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++) {
    sum[i][0] = load ? _mm512_maskz_loadu_ps(left, c + i * stride) : _mm512_setzero_ps();
    sum[i][1] = load ? _mm512_maskz_loadu_ps(right, c + i * stride + 16) : _mm512_setzero_ps();
  }
  const float* row = a;
  for (int64_t k = 0; k < inner; k++, panel += 32, row += columns_apart) {
    __m512 b0 = _mm512_load_ps(panel), b1 = _mm512_load_ps(panel + 16);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
      __m512 value = _mm512_set1_ps(row[i * rows_apart]);
      sum[i][0] = _mm512_fmadd_ps(value, b0, sum[i][0]);
      sum[i][1] = _mm512_fmadd_ps(value, b1, sum[i][1]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++) {
    _mm512_mask_storeu_ps(c + i * stride, left, sum[i][0]);
    _mm512_mask_storeu_ps(c + i * stride + 16, right, sum[i][1]);
  }
}

// The tiles of one instruction set: panel width, most rows, and the tile for each number of rows.
struct Kernels {
  int64_t width, rows;
  const Tile* tiles;
};

const Tile AVX2[] = {tile_avx2<1>, tile_avx2<2>, tile_avx2<3>, tile_avx2<4>, tile_avx2<5>, tile_avx2<6>};
const Tile AVX512[] = {tile_avx512<1>,  tile_avx512<2>,  tile_avx512<3>,  tile_avx512<4>, tile_avx512<5>,
                       tile_avx512<6>,  tile_avx512<7>,  tile_avx512<8>,  tile_avx512<9>, tile_avx512<10>,
                       tile_avx512<11>, tile_avx512<12>};

const Kernels NARROW{16, 6, AVX2};

// The tiles give the same bits, so the choice is one of speed alone. FEDREPLAY_GEMM=avx2 asks for the narrow ones.
const Kernels& kernels() {
  static const Kernels chosen = [] {
    const char* asked = std::getenv("FEDREPLAY_GEMM");
    bool narrow = asked && asked[0] == 'a' && asked[3] == '2';
    if (!narrow && __builtin_cpu_supports("avx512f")) return Kernels{32, 12, AVX512};
    return NARROW;
  }();
  return chosen;
}

}  // namespace

void gemm(Matrix a, Matrix b, float* c, int64_t stride, int64_t inner, bool accumulate, int64_t first, int64_t last,
          int64_t left, int64_t right) {
  const Kernels& tiles = right - left > 16 ? kernels() : NARROW;
  float* panels = room().panels.get();
  if (inner == 0 && !accumulate) {
    for (int64_t i = first; i < last; i++) std::fill(c + i * stride + left, c + i * stride + right, 0.0f);
  }
  for (int64_t j = left; j < right; j += COLUMNS) {
    int64_t columns = std::min(COLUMNS, right - j);
    for (int64_t k = 0; k < inner; k += INNER) {
      int64_t depth = std::min(INNER, inner - k);
      pack_panels({b.data + k * b.rows + j * b.columns, b.rows, b.columns}, depth, columns, tiles.width, panels);
      for (int64_t top = first; top < last; top += ROWS_AT_A_TIME) {
        int64_t bottom = std::min(last, top + ROWS_AT_A_TIME);
        Matrix block = spaced({a.data + top * a.rows + k * a.columns, a.rows, a.columns}, bottom - top, depth,
                              room().rows.get());
        for (int64_t n = 0; n < columns; n += tiles.width) {
          for (int64_t i = top; i < bottom; i += tiles.rows) {
            int64_t rows = std::min(tiles.rows, bottom - i);
            tiles.tiles[rows - 1](block.data + (i - top) * block.rows, block.rows, block.columns, panels + n * depth,
                                  c + i * stride + j + n, stride, depth, accumulate || k > 0,
                                  std::min(tiles.width, columns - n));
          }
        }
      }
    }
  }
}

int64_t packed_size(int64_t inner, int64_t columns) { return inner * ((columns + 31) / 32 * 32); }

void pack(Matrix b, int64_t inner, int64_t columns, float* into) {
  pack_panels(b, inner, columns, kernels().width, into);
}

void gemm_packed(Matrix a, const float* packed, int64_t inner, int64_t from, int64_t depth, float* c, int64_t stride,
                 bool accumulate, int64_t rows, int64_t left, int64_t right) {
  const Kernels& tiles = kernels();
  for (int64_t k = 0; k < depth; k += INNER) {
    int64_t some = std::min(INNER, depth - k);
    for (int64_t n = left; n < right; n += tiles.width) {
      const float* panel = packed + n * inner + (from + k) * tiles.width;
      for (int64_t i = 0; i < rows; i += tiles.rows) {
        int64_t there = std::min(tiles.rows, rows - i);
        tiles.tiles[there - 1](a.data + i * a.rows + k * a.columns, a.rows, a.columns, panel,
                               c + i * stride + n - left, stride, some, accumulate || k > 0,
                               std::min(tiles.width, right - n));
      }
    }
  }
}

}  // namespace fedreplay
