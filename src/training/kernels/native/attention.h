// Causal attention of one head of one sequence on the CPU, in f32 whatever the type of the rows.
//
// Scores exist for a block of queries at a time; keys that a block cannot see are not computed. Every product is a chain
// of fused multiply-adds in the order of the keys (gemm.h), so a sequence's bits depend on that sequence alone.
#pragma once
#include <cstdint>

#include "bf16.h"

namespace fedreplay {

// What all heads of a pass share. Rows of q, k and v lie in one table, rows of the result in another.
struct Shape {
  int64_t heads, kv_heads, width;
  // Keys that a query sees, itself included; 0 where all before it are seen.
  int64_t window;
  int64_t qkv_stride, out_stride;
  // Factor of the scores.
  float scale;
  // Bound of the scores: a scaled score s counts as cap tanh(s / cap). 0 where there is none.
  float cap;
};

// One key-value head `head` of one sequence of `length` rows: `qkv` and `out` point to the sequence's first row. `sums`,
// [length, heads], gets the logarithm of each query's softmax denominator.
template <class T>
void attend(const Shape& shape, int64_t head, int64_t length, const T* qkv, T* out, float* sums);

// The gradient at q, k and v of one key-value head and the query heads that share it.
template <class T>
void attend_backward(const Shape& shape, int64_t head, int64_t length, const T* qkv, const T* out, const float* sums,
                     const T* d_out, T* d_qkv);

}  // namespace fedreplay
