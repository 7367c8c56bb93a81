// Matrix products in f32 and bf16 whose every element is one chain of fused multiply-adds, in the order of the summed index.
//
// So an element depends on its row and column alone: not on the number of rows, on threads, or on how the work is cut into
// blocks; in f32 not on the vector width or the processor's maker either. No library promises as much: oneMKL's and
// oneDNN's products depend on the number of rows and threads, and differ between makers.
//
// In bf16 both factors are exact in f32, the chain is of f32, and the sum is rounded once at the end. The chain takes two
// inner indices at a time, the higher one first: that is what VDPBF16PS does on processors with AVX512-BF16. That
// instruction takes subnormal numbers for zero, where fused multiply-adds keep them, so the two are different classes.
#pragma once
#include <cstdint>

#include "bf16.h"

namespace fedreplay {

// A matrix in memory: element (i, j) lies at data[i * rows + j * columns].
template <class T>
struct MatrixOf {
  const T* data;
  int64_t rows, columns;
};

using Matrix = MatrixOf<float>;

// The rows and columns of a product that one call computes.
struct Part {
  int64_t first, last, left, right;
};

// c = a b, or c += a b, for a part of c. a is [.., inner], b is [inner, columns]; c has dense rows that are `stride` apart.
// In is the type of a and b: where it is bf16, Out may be bf16 or f32, else it is f32.
template <class In, class Out>
void gemm(MatrixOf<In> a, MatrixOf<In> b, Out* c, int64_t stride, int64_t inner, int64_t columns, bool accumulate,
          Part part);

// The same with b packed beforehand, for products that use one b again and again. The part's left is a multiple of 32.
template <class In, class Out>
void gemm_with_packed(MatrixOf<In> a, const In* packed, Out* c, int64_t stride, int64_t inner, int64_t columns, Part part);

// `pack` cuts b, [inner, columns], into panels; `into` has room for `packed_size` values and is aligned to 64 bytes.
int64_t packed_size(int64_t inner, int64_t columns);
template <class In>
void pack(MatrixOf<In> b, int64_t inner, int64_t columns, In* into);

// c = a b or c += a b in f32 for `rows` rows, with indices from..from + depth of the `inner` packed ones summed, and panels
// that begin at column `left`, a multiple of 32, up to column `right`. a and c begin at that row, index and column.
void gemm_packed(Matrix a, const float* packed, int64_t inner, int64_t from, int64_t depth, float* c, int64_t stride,
                 bool accumulate, int64_t rows, int64_t left, int64_t right);

// Whether products of bf16 use the processor's own products of pairs.
bool uses_bf16_pairs();

}  // namespace fedreplay
