// The softmax of a row of scores, which both kinds of attention share, so that a query has the same bits in either.
//
// For files compiled with -mavx2 -mfma only. Everything here has internal linkage.
#pragma once
#include <algorithm>
#include <limits>

#include "scratch.h"
#include "vector.h"

namespace fedreplay {
namespace {

// Lanes of eight keys from j on that lie in begin..end.
[[maybe_unused]] inline v8 visible(int64_t j, int64_t begin, int64_t end) {
  __m256i key = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(int(j)));
  __m256i after = _mm256_cmpgt_epi32(key, _mm256_set1_epi32(int(begin) - 1));
  __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32(int(end)), key);
  return _mm256_castsi256_ps(_mm256_and_si256(after, before));
}

[[maybe_unused]] inline v8 keep(v8 lanes, v8 values) { return _mm256_and_ps(lanes, values); }

// Calls body(j, lanes) for each eight keys of 0..keys: with all lanes where all eight lie in begin..end, which is most of
// the time and then costs no mask.
template <class Body>
void by_eights(int64_t keys, int64_t begin, int64_t end, Body body) {
  const v8 all = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
  for (int64_t j = 0; j < keys; j += 8) {
    if (j >= begin && j + 8 <= end) {
      body(j, all);
    } else {
      body(j, visible(j, begin, end));
    }
  }
}

// Bounds `keys` scores, in place: scale score becomes cap tanh(scale score / cap). The row has room for a multiple of
// eight values.
[[maybe_unused]] inline void cap_scores(float* row, int64_t keys, float scale, float cap) {
  for (int64_t j = 0; j < keys; j += 8) store(row + j, mul(tanh(mul(load(row + j), splat(scale / cap))), splat(cap)));
}

// Turns a row of scores into e^(scale score - top) for the keys that are seen and 0 for the others; returns the sum and
// the top. The row has room for a multiple of eight values.
[[maybe_unused]] inline float soften(float* row, int64_t keys, int64_t begin, int64_t end, float scale, float& top) {
  const v8 lowest = splat(-std::numeric_limits<float>::infinity());
  v8 most = lowest;
  by_eights(std::min(keys, end), begin, end, [&](int64_t j, v8 lanes) {
    most = _mm256_max_ps(most, _mm256_blendv_ps(lowest, mul(load(row + j), splat(scale)), lanes));
  });
  top = largest(most);
  LongSum total;
  by_eights(keys, begin, end, [&](int64_t j, v8 lanes) {
    v8 power = keep(lanes, exp<true>(sub(mul(keep(lanes, load(row + j)), splat(scale)), splat(top))));
    store(row + j, power);
    total.add(power);
  });
  return float(total.total());
}

}  // namespace
}  // namespace fedreplay
