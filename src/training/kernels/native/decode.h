// Attention of new rows over what their sequences have read before, on the CPU, and products with weights that are packed
// once: what generation does at each token.
//
// A query's bits are those that attention.h gives it in the whole sequence: scores and weighted values are chains of fused
// multiply-adds in the same order, and the softmax is the same code.
#pragma once
#include <cstdint>

#include "attention.h"

namespace fedreplay {

// Positions whose keys lie beside each other: a cache's length is a multiple of it.
constexpr int64_t KEYS_TOGETHER = 16;

// Keys and values of one key-value head of one sequence. Value p is row p of `width` values; component d of key p lies at
// keys[(p / 16) * 16 * width + d * 16 + p % 16], so that the scores of neighbouring keys are computed together.
template <class T>
struct Cache {
  T *keys, *values;
};

// Appends keys and values of `rows` new rows, of which the first is at `position`, for key-value head `head`, and writes
// the attention of all query heads that share it. `qkv` and `out` point to the first new row.
template <class T>
void attend_cached(const Shape& shape, int64_t head, int64_t rows, int64_t position, Cache<T> cache, const T* qkv, T* out);

}  // namespace fedreplay
