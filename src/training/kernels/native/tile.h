// The innermost loop of a matrix product: one tile of the result, kept in registers while the inner index runs.
//
// Every instruction set has a struct of vector operations, and `Tile` is written once over them. An element of the result
// is one chain of fused multiply-adds in the order of the inner index, whatever the instruction set, the shape of the tile
// and its place. Internal linkage throughout: each file that includes this is compiled for another instruction set.
#pragma once
#include <cstdint>
#include <utility>

#include "bf16.h"

namespace fedreplay {

// One tile of c: some rows, and up to one panel's columns, `there` of which exist. a is given as three words: as a struct
// it would be copied to the stack in a width that the processor cannot forward from the stores before it.
//
// `steps` is the number of inner indices that a step of the loop takes, times the loop's length: 1 a step for f32, 2 for
// bf16, whose panels hold pairs of inner indices.
template <class A, class B>
using TileFunction = void (*)(const A* a, int64_t rows_apart, int64_t columns_apart, const B* panel, float* c,
                              int64_t stride, int64_t steps, bool load, int64_t there);

// The tiles of one instruction set and type: columns of a panel, most rows of a tile, and the function for each number of
// rows from 1 on.
template <class A, class B>
struct Tiles {
  int64_t width, rows;
  const TileFunction<A, B>* functions;
};

// f32: a and the panel as they are.
using F32Tiles = Tiles<float, float>;
// bf16 in fused multiply-adds of f32: a is widened beforehand, the panel holds pairs of bf16.
using WidenedTiles = Tiles<float, bf16>;
// bf16 in the processor's own products of pairs: both in bf16.
using PairTiles = Tiles<bf16, bf16>;

// Defined where the compiler may use AVX512F, and AVX512-BF16.
F32Tiles avx512_f32_tiles();
WidenedTiles avx512_widened_tiles();
PairTiles avx512_pair_tiles();

namespace {

// Adds each row's value times two vectors of a panel to the row's sums. `Lanes` is the instruction set: its vectors, and how they
// are loaded, stored and multiplied.
template <class Lanes, int ROWS>
void add(typename Lanes::Vector (&sum)[ROWS][2], const float* row, int64_t rows_apart, typename Lanes::Vector left,
         typename Lanes::Vector right) {
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++) {
    const typename Lanes::Vector value = Lanes::spread(row + i * rows_apart);
    sum[i][0] = Lanes::fma(value, left, sum[i][0]);
    sum[i][1] = Lanes::fma(value, right, sum[i][1]);
  }
}

// f32 times f32.
template <class Lanes>
struct F32 : Lanes {
  using A = float;
  using B = float;
  using Vector = typename Lanes::Vector;
  static constexpr int A_STEP = 1, PANEL_STEP = Lanes::WIDTH;

  template <int ROWS>
  static void step(Vector (&sum)[ROWS][2], const float* row, int64_t rows_apart, int64_t, const float* panel) {
    add<Lanes, ROWS>(sum, row, rows_apart, Lanes::aligned(panel), Lanes::aligned(panel + Lanes::WIDTH / 2));
  }
};

// bf16 in fused multiply-adds of f32: the rows are widened beforehand, the panel holds pairs of inner indices.
template <class Lanes>
struct Widened : Lanes {
  using A = float;
  using B = bf16;
  using Vector = typename Lanes::Vector;
  static constexpr int A_STEP = 2, PANEL_STEP = 2 * Lanes::WIDTH;

  // The upper half of each 32 bits is the higher inner index, which is added first.
  template <int ROWS>
  static void step(Vector (&sum)[ROWS][2], const float* row, int64_t rows_apart, int64_t columns_apart,
                   const bf16* panel) {
    const auto left = Lanes::pairs(panel), right = Lanes::pairs(panel + Lanes::WIDTH);
    add<Lanes, ROWS>(sum, row + columns_apart, rows_apart, Lanes::upper(left), Lanes::upper(right));
    add<Lanes, ROWS>(sum, row, rows_apart, Lanes::lower(left), Lanes::lower(right));
  }
};

template <class V, int ROWS>
struct Tile {
  static void run(const typename V::A* a, int64_t rows_apart, int64_t columns_apart, const typename V::B* panel, float* c,
                  int64_t stride, int64_t steps, bool load, int64_t there) {
    typename V::Vector sum[ROWS][2];
    const typename V::Mask left = V::mask(there), right = V::mask(there - V::WIDTH / 2);
    // The next tile of c is below this one: it is on its way while this one is computed.
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
      __builtin_prefetch(c + (ROWS + i) * stride);
      __builtin_prefetch(c + (ROWS + i) * stride + V::WIDTH - 1);
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
      sum[i][0] = load ? V::load(c + i * stride, left) : V::zero();
      sum[i][1] = load ? V::load(c + i * stride + V::WIDTH / 2, right) : V::zero();
    }
    const typename V::A* row = a;
    for (int64_t k = 0; k < steps; k++, panel += V::PANEL_STEP, row += V::A_STEP * columns_apart) {
      V::template step<ROWS>(sum, row, rows_apart, columns_apart, panel);
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
      V::store(c + i * stride, left, sum[i][0]);
      V::store(c + i * stride + V::WIDTH / 2, right, sum[i][1]);
    }
  }
};

// Tiles of 1 to `MOST` rows.
template <class V, int MOST>
class Table {
 public:
  static Tiles<typename V::A, typename V::B> tiles() { return {V::WIDTH, MOST, functions(std::make_integer_sequence<int, MOST>{})}; }

 private:
  template <int... ROWS>
  static const TileFunction<typename V::A, typename V::B>* functions(std::integer_sequence<int, ROWS...>) {
    static constexpr TileFunction<typename V::A, typename V::B> ALL[MOST] = {Tile<V, ROWS + 1>::run...};
    return ALL;
  }
};

}  // namespace
}  // namespace fedreplay
