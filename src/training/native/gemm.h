// Matrix products in f32 whose every element is one chain of fused multiply-adds, in the order of the summed index.
//
// So an element depends on its row and column alone: not on the number of rows, on threads, on how the work is cut into
// blocks, on the vector width, or on the processor's maker. No library promises as much: oneMKL's products depend on the
// number of rows and threads, and differ between makers.
#pragma once
#include <cstdint>

namespace fedreplay {

// A matrix in memory: element (i, j) lies at data[i * rows + j * columns].
struct Matrix {
  const float* data;
  int64_t rows, columns;
};

// c = a b, or c += a b, for rows first..last and columns left..right of c. a is [.., inner], b is [inner, ..]; c has
// dense rows that are `stride` apart.
void gemm(Matrix a, Matrix b, float* c, int64_t stride, int64_t inner, bool accumulate, int64_t first, int64_t last,
          int64_t left, int64_t right);

// The same with b packed beforehand, for products that use parts of one b again and again.
//
// `pack` cuts b, [inner, columns], into panels; `into` has room for `packed_size` values and is aligned to 64 bytes.
int64_t packed_size(int64_t inner, int64_t columns);
void pack(Matrix b, int64_t inner, int64_t columns, float* into);

// c = a b or c += a b for `rows` rows, with indices from..from + depth of the `inner` packed ones summed, and panels that
// begin at column `left`, a multiple of 32, up to column `right`. a and c begin at that row, index and column.
void gemm_packed(Matrix a, const float* packed, int64_t inner, int64_t from, int64_t depth, float* c, int64_t stride,
                 bool accumulate, int64_t rows, int64_t left, int64_t right);

}  // namespace fedreplay
