// See gemm.h. The loops are those of Goto and van de Geijn (ACM TOMS 34(3), 2008) with b packed into panels; the sum over
// the inner index is never split between accumulators.
#include "gemm.h"

#include <immintrin.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "scratch.h"
#include "tile.h"
#include "vector.h"

namespace fedreplay {
namespace {

// Inner indices of a panel of b; columns of b packed at a time; and rows of a that stay in the second-level cache while the
// panels pass. Many inner indices make for few passes over c, which is what large products wait for. INNER is even, so
// that no pair of inner indices is cut.
constexpr int64_t INNER = 768, COLUMNS = 384, ROWS_AT_A_TIME = 120;
constexpr int64_t SPACED = INNER + 16;

// Columns of the widest panel of any instruction set.
constexpr int64_t WIDEST = 32;

// The narrow tiles, for every processor that has AVX2 and FMA.
struct Avx2 {
  using Vector = __m256;
  using Mask = __m256i;
  static constexpr int WIDTH = 16;
  static Vector zero() { return _mm256_setzero_ps(); }
  static Mask mask(int64_t there) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(there)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Vector load(const float* from, Mask lanes) { return _mm256_maskload_ps(from, lanes); }
  static void store(float* to, Mask lanes, Vector v) { _mm256_maskstore_ps(to, lanes, v); }
  static Vector aligned(const float* from) { return _mm256_load_ps(from); }
  static __m256i pairs(const bf16* from) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(from)); }
  static Vector upper(__m256i pairs) {
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(int(0xffff0000))));
  }
  static Vector lower(__m256i pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)); }
  static Vector spread(const float* value) { return _mm256_broadcast_ss(value); }
  static Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
};

// FEDREPLAY_PRODUCTS chooses among instructions: `avx2` asks for the narrow tiles, `fma` for any but products of pairs.
struct Choice {
  bool wide, pairs;
};

const Choice& choice() {
  static const Choice chosen = [] {
    const char* asked = std::getenv("FEDREPLAY_PRODUCTS");
    const bool narrow = asked && std::strcmp(asked, "avx2") == 0;
    const bool fused = narrow || (asked && std::strcmp(asked, "fma") == 0);
    const bool wide = !narrow && __builtin_cpu_supports("avx512f");
    return Choice{wide, wide && !fused && __builtin_cpu_supports("avx512bf16")};
  }();
  return chosen;
}

// The tiles give the same bits, so their choice is one of speed alone.
const F32Tiles& f32_tiles(int64_t columns) {
  static const F32Tiles narrow = Table<F32<Avx2>, 6>::tiles();
  static const F32Tiles wide = choice().wide ? avx512_f32_tiles() : narrow;
  return columns > narrow.width ? wide : narrow;
}

const WidenedTiles& widened_tiles(int64_t columns) {
  static const WidenedTiles narrow = Table<Widened<Avx2>, 6>::tiles();
  static const WidenedTiles wide = choice().wide ? avx512_widened_tiles() : narrow;
  return columns > narrow.width ? wide : narrow;
}

const PairTiles& pair_tiles() {
  static const PairTiles tiles = avx512_pair_tiles();
  return tiles;
}

// Panels hold bf16 in pairs of inner indices, so an odd number of them is filled up by one.
template <class B>
constexpr int64_t INDICES_A_STEP = std::is_same_v<B, bf16> ? 2 : 1;

template <class B>
int64_t padded(int64_t inner) {
  return (inner + INDICES_A_STEP<B> - 1) / INDICES_A_STEP<B> * INDICES_A_STEP<B>;
}

// This thread's room for panels of b, for rows of a, and for sums that are to be rounded.
template <class T>
struct Room {
  ScratchOf<T> panels, rows;
  Scratch widened, sums;
};

template <class T>
Room<T>& room() {
  thread_local Room<T> held;
  return held;
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

// The same of bf16: for each pair of inner indices, `width` neighbouring pairs. An index that is not there is 0.
void pack_panels(MatrixOf<bf16> b, int64_t inner, int64_t columns, int64_t width, bf16* into) {
  const int64_t whole = inner / 2 * 2;
  for (int64_t j = 0; j < columns; j += width, into += padded<bf16>(inner) * width) {
    const bf16* from = b.data + j * b.columns;
    int64_t there = std::min(width, columns - j), k = 0;
    if (there == width && b.columns == 1) {
      // Two rows of neighbours are interleaved.
      for (; k < whole; k += 2) {
        for (int64_t n = 0; n < width; n += 16) {
          const __m256i lower = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + k * b.rows + n));
          const __m256i higher = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + (k + 1) * b.rows + n));
          const __m256i left = _mm256_unpacklo_epi16(lower, higher), right = _mm256_unpackhi_epi16(lower, higher);
          __m256i* to = reinterpret_cast<__m256i*>(into + (k * width + 2 * n));
          _mm256_store_si256(to, _mm256_permute2x128_si256(left, right, 0x20));
          _mm256_store_si256(to + 1, _mm256_permute2x128_si256(left, right, 0x31));
        }
      }
    } else if (there == width && b.rows == 1) {
      // Pairs lie beside each other already: they are moved as 32 bits.
      for (; k + 16 <= inner; k += 16) {
        for (int64_t n = 0; n < width; n += 8) {
          __m256 r[8];
          for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(reinterpret_cast<const float*>(from + (n + i) * b.columns + k));
          transpose(r);
          for (int i = 0; i < 8; i++) _mm256_store_ps(reinterpret_cast<float*>(into + (k + 2 * i) * width + 2 * n), r[i]);
        }
      }
    }
    for (; k < inner; k += 2) {
      for (int64_t n = 0; n < width; n++) {
        bf16* pair = into + k * width + 2 * n;
        pair[0] = n < there ? from[k * b.rows + n * b.columns] : bf16{0};
        pair[1] = n < there && k + 1 < inner ? from[(k + 1) * b.rows + n * b.columns] : bf16{0};
      }
    }
  }
}

// Rows of a as the tiles read them.
//
// Rows of f32 whose distance is a multiple of 2 KiB meet in the same few sets of the first-level cache and drive each other
// out; such rows are copied to where they are spaced better. All others are read in place.
MatrixOf<float> prepared(Matrix a, int64_t rows, int64_t inner, const F32Tiles&) {
  if (a.columns != 1 || a.rows % 512 != 0) return a;
  float* into = room<float>().rows.at_least(ROWS_AT_A_TIME * SPACED);
  for (int64_t i = 0; i < rows; i++) std::memcpy(into + i * SPACED, a.data + i * a.rows, sizeof(float) * inner);
  return {into, SPACED, 1};
}

// Rows of bf16 are widened, and filled up to whole pairs.
MatrixOf<float> prepared(MatrixOf<bf16> a, int64_t rows, int64_t inner, const WidenedTiles&) {
  float* into = room<bf16>().widened.at_least(ROWS_AT_A_TIME * SPACED);
  const int64_t filled = padded<bf16>(inner);
  if (a.columns != 1 && a.rows == 1) {
    // Neighbours in memory are neighbouring rows: they stay neighbours.
    for (int64_t k = 0; k < inner; k++) {
      const bf16* from = a.data + k * a.columns;
      float* to = into + k * ROWS_AT_A_TIME;
      eights(rows, [&](int64_t i, int64_t n) { put(to + i, get(from + i, n), n); });
    }
    if (filled > inner) std::fill(into + inner * ROWS_AT_A_TIME, into + filled * ROWS_AT_A_TIME, 0.0f);
    return {into, 1, ROWS_AT_A_TIME};
  }
  for (int64_t i = 0; i < rows; i++) {
    const bf16* from = a.data + i * a.rows;
    float* to = into + i * SPACED;
    if (a.columns == 1) {
      eights(inner, [&](int64_t k, int64_t n) { put(to + k, get(from + k, n), n); });
    } else {
      for (int64_t k = 0; k < inner; k++) to[k] = _mm256_cvtss_f32(load_some(from + k * a.columns, 1, bf16{0}));
    }
    if (filled > inner) to[inner] = 0.0f;
  }
  return {into, SPACED, 1};
}

// Rows of bf16 with pairs beside each other.
MatrixOf<bf16> prepared(MatrixOf<bf16> a, int64_t rows, int64_t inner, const PairTiles&) {
  bf16* into = room<bf16>().rows.at_least(ROWS_AT_A_TIME * SPACED);
  const int64_t filled = padded<bf16>(inner);
  for (int64_t i = 0; i < rows; i++) {
    const bf16* from = a.data + i * a.rows;
    bf16* to = into + i * SPACED;
    if (a.columns == 1) {
      std::memcpy(to, from, sizeof(bf16) * inner);
    } else {
      for (int64_t k = 0; k < inner; k++) to[k] = from[k * a.columns];
    }
    if (filled > inner) to[inner] = bf16{0};
  }
  return {into, SPACED, 1};
}

// Panels of b: `panel` points to the first one, and the next is `apart` values further.
template <class B>
struct Panels {
  const B* panel;
  int64_t apart;
};

// Where sums are kept while the inner index runs: in c itself where c is f32, else in f32 beside it, rounded at the end.
// Element (i, j) of a block lies at data[i * stride + j].
struct Sums {
  float* data;
  int64_t stride;
};

// Multiplies blocks of rows with panels, which `panels(j, columns, k, depth)` gives.
template <class In, class A, class B, class Out, class Source>
void multiply(const Tiles<A, B>& tiles, MatrixOf<In> a, Source panels, Out* c, int64_t stride, int64_t inner,
              bool accumulate, Part part) {
  constexpr bool ROUNDS = !std::is_same_v<Out, float>;
  const bool one_depth = inner <= INNER;
  for (int64_t j = part.left; j < part.right; j += COLUMNS) {
    const int64_t columns = std::min(COLUMNS, part.right - j);
    float* kept = nullptr;
    if constexpr (ROUNDS) kept = room<In>().sums.at_least((one_depth ? ROWS_AT_A_TIME : part.last - part.first) * COLUMNS);
    for (int64_t k = 0; k < inner; k += INNER) {
      const int64_t depth = std::min(INNER, inner - k);
      const Panels<B> source = panels(j, columns, k, depth);
      for (int64_t top = part.first; top < part.last; top += ROWS_AT_A_TIME) {
        const int64_t rows = std::min(ROWS_AT_A_TIME, part.last - top);
        Sums sums;
        if constexpr (ROUNDS) {
          sums = {kept + (one_depth ? 0 : (top - part.first) * COLUMNS), COLUMNS};
          if (accumulate && k == 0) {
            for (int64_t i = 0; i < rows; i++) {
              const Out* from = c + (top + i) * stride + j;
              eights(columns, [&](int64_t n, int64_t there) { put(sums.data + i * COLUMNS + n, get(from + n, there), there); });
            }
          }
        } else {
          sums = {c + top * stride + j, stride};
        }
        const auto block = prepared({a.data + top * a.rows + k * a.columns, a.rows, a.columns}, rows, depth, tiles);
        const int64_t steps = padded<B>(depth) / INDICES_A_STEP<B>;
        for (int64_t n = 0; n < columns; n += tiles.width) {
          const B* panel = source.panel + n / tiles.width * source.apart;
          for (int64_t i = 0; i < rows; i += tiles.rows) {
            tiles.functions[std::min(tiles.rows, rows - i) - 1](
                block.data + i * block.rows, block.rows, block.columns, panel, sums.data + i * sums.stride + n,
                sums.stride, steps, accumulate || k > 0, std::min(tiles.width, columns - n));
          }
        }
        if constexpr (ROUNDS) {
          if (k + depth == inner) {
            for (int64_t i = 0; i < rows; i++) {
              Out* to = c + (top + i) * stride + j;
              eights(columns, [&](int64_t n, int64_t there) { put(to + n, get(sums.data + i * COLUMNS + n, there), there); });
            }
          }
        }
      }
    }
  }
}

// Calls work with the tiles for this type and number of columns.
template <class Work>
void with_tiles(const float*, int64_t columns, Work work) {
  work(f32_tiles(columns));
}

template <class Work>
void with_tiles(const bf16*, int64_t columns, Work work) {
  // By the columns of the whole product: of a part, the choice would depend on how the work is shared.
  if (choice().pairs && columns > Avx2::WIDTH) {
    work(pair_tiles());
  } else {
    work(widened_tiles(columns));
  }
}

}  // namespace

bool uses_bf16_pairs() { return choice().pairs; }

template <class In, class Out>
void gemm(MatrixOf<In> a, MatrixOf<In> b, Out* c, int64_t stride, int64_t inner, int64_t columns, bool accumulate,
          Part part) {
  if (inner == 0) {
    for (int64_t i = part.first; i < part.last && !accumulate; i++) {
      std::fill(c + i * stride + part.left, c + i * stride + part.right, Out{});
    }
    return;
  }
  with_tiles(b.data, columns, [&](const auto& tiles) {
    const auto packed_now = [&](int64_t j, int64_t columns, int64_t k, int64_t depth) {
      In* into = room<In>().panels.at_least(INNER * (COLUMNS + WIDEST));
      pack_panels({b.data + k * b.rows + j * b.columns, b.rows, b.columns}, depth, columns, tiles.width, into);
      return Panels<In>{into, padded<In>(depth) * tiles.width};
    };
    multiply(tiles, a, packed_now, c, stride, inner, accumulate, part);
  });
}

int64_t packed_size(int64_t inner, int64_t columns) { return (inner + 1) * ((columns + WIDEST - 1) / WIDEST * WIDEST); }

template <class In>
void pack(MatrixOf<In> b, int64_t inner, int64_t columns, In* into) {
  // Packed for the widest tiles, as for a product of many columns: in f32 no bit depends on it.
  const int64_t many = std::is_same_v<In, float> ? WIDEST : columns;
  with_tiles(b.data, many, [&](const auto& tiles) { pack_panels(b, inner, columns, tiles.width, into); });
}

template <class In, class Out>
void gemm_with_packed(MatrixOf<In> a, const In* packed, Out* c, int64_t stride, int64_t inner, int64_t columns, Part part) {
  const int64_t many = std::is_same_v<In, float> ? WIDEST : columns;
  with_tiles(packed, many, [&](const auto& tiles) {
    const int64_t apart = padded<In>(inner) * tiles.width;
    const auto packed_before = [&](int64_t j, int64_t, int64_t k, int64_t) {
      return Panels<In>{packed + j / tiles.width * apart + k * tiles.width, apart};
    };
    multiply(tiles, a, packed_before, c, stride, inner, false, part);
  });
}

void gemm_packed(Matrix a, const float* packed, int64_t inner, int64_t from, int64_t depth, float* c, int64_t stride,
                 bool accumulate, int64_t rows, int64_t left, int64_t right) {
  const F32Tiles& tiles = f32_tiles(WIDEST);
  for (int64_t k = 0; k < depth; k += INNER) {
    int64_t some = std::min(INNER, depth - k);
    for (int64_t n = left; n < right; n += tiles.width) {
      const float* panel = packed + n * inner + (from + k) * tiles.width;
      for (int64_t i = 0; i < rows; i += tiles.rows) {
        int64_t there = std::min(tiles.rows, rows - i);
        tiles.functions[there - 1](a.data + i * a.rows + k * a.columns, a.rows, a.columns, panel, c + i * stride + n - left,
                                   stride, some, accumulate || k > 0, std::min(tiles.width, right - n));
      }
    }
  }
}

template void gemm(Matrix, Matrix, float*, int64_t, int64_t, int64_t, bool, Part);
template void gemm(MatrixOf<bf16>, MatrixOf<bf16>, bf16*, int64_t, int64_t, int64_t, bool, Part);
template void gemm(MatrixOf<bf16>, MatrixOf<bf16>, float*, int64_t, int64_t, int64_t, bool, Part);
template void gemm_with_packed(Matrix, const float*, float*, int64_t, int64_t, int64_t, Part);
template void gemm_with_packed(MatrixOf<bf16>, const bf16*, bf16*, int64_t, int64_t, int64_t, Part);
template void pack(Matrix, int64_t, int64_t, float*);
template void pack(MatrixOf<bf16>, int64_t, int64_t, bf16*);

}  // namespace fedreplay
