// See decode.h. Compiled with -mavx2 -mfma -ffp-contract=off.
#include "decode.h"

#include "softmax.h"

namespace fedreplay {
namespace {

// Queries whose scores are computed together: with as many more registers for sums as eight, all stay in registers.
constexpr int QUERIES = 4;

// One query: its widened components, the keys that it sees, and where its result goes.
template <class T>
struct Query {
  const float* components;
  int64_t begin, end;
  T* out;
};

struct Room {
  Scratch components, scores, result;
};

Room& room() {
  thread_local Room held;
  return held;
}

template <class T>
void append(const Shape& shape, int64_t head, int64_t rows, int64_t position, Cache<T> cache, const T* qkv) {
  const int64_t width = shape.width;
  for (int64_t i = 0; i < rows; i++) {
    const T* key = qkv + i * shape.qkv_stride + (shape.heads + head) * width;
    const T* value = key + shape.kv_heads * width;
    const int64_t at = position + i;
    T* column = cache.keys + at / KEYS_TOGETHER * KEYS_TOGETHER * width + at % KEYS_TOGETHER;
    for (int64_t d = 0; d < width; d++) column[d * KEYS_TOGETHER] = key[d];
    std::copy(value, value + width, cache.values + at * width);
  }
}

// Scores of `COUNT` queries with the keys from `left`, a multiple of 16, up to `right`.
template <class T, int COUNT>
void score(const Query<T>* queries, const T* keys, int64_t width, int64_t left, int64_t right, float* scores,
           int64_t stride) {
  for (int64_t j = left; j < right; j += KEYS_TOGETHER) {
    v8 sums[COUNT][2];
    for (int q = 0; q < COUNT; q++) sums[q][0] = sums[q][1] = splat(0.0f);
    const T* block = keys + j * width;
    for (int64_t d = 0; d < width; d++, block += KEYS_TOGETHER) {
      const v8 low = load(block), high = load(block + 8);
      for (int q = 0; q < COUNT; q++) {
        const v8 component = splat(queries[q].components[d]);
        sums[q][0] = fma(component, low, sums[q][0]);
        sums[q][1] = fma(component, high, sums[q][1]);
      }
    }
    for (int q = 0; q < COUNT; q++) {
      store(scores + q * stride + j - left, sums[q][0]);
      store(scores + q * stride + j - left + 8, sums[q][1]);
    }
  }
}

// The values weighted by `COUNT` rows of powers, for components from d on: `there` of them, at most eight.
template <class T, int COUNT>
void weigh(const T* values, int64_t width, int64_t left, int64_t right, const float* powers, int64_t stride, int64_t d,
           int64_t there, v8* sums) {
  for (int q = 0; q < COUNT; q++) sums[q] = splat(0.0f);
  for (int64_t j = left; j < right; j++) {
    const v8 value = get(values + j * width + d, there);
    for (int q = 0; q < COUNT; q++) sums[q] = fma(splat(powers[q * stride + j - left]), value, sums[q]);
  }
}

template <class T, int COUNT>
void attend_some(const Query<T>* queries, Cache<T> cache, const Shape& shape) {
  const int64_t width = shape.width;
  int64_t left = queries[0].begin, right = queries[0].end;
  for (int q = 1; q < COUNT; q++) {
    left = std::min(left, queries[q].begin);
    right = std::max(right, queries[q].end);
  }
  left = left / KEYS_TOGETHER * KEYS_TOGETHER;
  const int64_t stride = (right - left + KEYS_TOGETHER - 1) / KEYS_TOGETHER * KEYS_TOGETHER;
  float* scores = room().scores.at_least(QUERIES * stride);
  score<T, COUNT>(queries, cache.keys, width, left, right, scores, stride);
  v8 shares[COUNT];
  for (int q = 0; q < COUNT; q++) {
    float* row = scores + q * stride;
    if (shape.cap > 0.0f) cap_scores(row, right - left, shape.scale, shape.cap);
    float top;
    shares[q] = splat(1.0f / soften(row, right - left, queries[q].begin - left, queries[q].end - left,
                                    shape.cap > 0.0f ? 1.0f : shape.scale, top));
  }
  eights(width, [&](int64_t d, int64_t n) {
    v8 sums[COUNT];
    weigh<T, COUNT>(cache.values, width, left, right, scores, stride, d, n, sums);
    for (int q = 0; q < COUNT; q++) put(queries[q].out + d, mul(sums[q], shares[q]), n);
  });
}

template <class T>
void attend_up_to_four(const Query<T>* queries, int64_t count, Cache<T> cache, const Shape& shape) {
  switch (count) {
    case 1: return attend_some<T, 1>(queries, cache, shape);
    case 2: return attend_some<T, 2>(queries, cache, shape);
    case 3: return attend_some<T, 3>(queries, cache, shape);
    default: return attend_some<T, QUERIES>(queries, cache, shape);
  }
}

}  // namespace

template <class T>
void attend_cached(const Shape& shape, int64_t head, int64_t rows, int64_t position, Cache<T> cache, const T* qkv,
                   T* out) {
  append(shape, head, rows, position, cache, qkv);
  const int64_t width = shape.width, group = shape.heads / shape.kv_heads;
  float* components = room().components.at_least(QUERIES * width);
  Query<T> queries[QUERIES];
  int64_t count = 0;
  for (int64_t i = 0; i < rows; i++) {
    const int64_t end = position + i + 1;
    const int64_t begin = shape.window ? std::max<int64_t>(0, end - shape.window) : 0;
    for (int64_t member = 0; member < group; member++) {
      const int64_t column = (head * group + member) * width;
      const T* from = qkv + i * shape.qkv_stride + column;
      float* into = components + count * width;
      eights(width, [&](int64_t d, int64_t n) { put(into + d, get(from + d, n), n); });
      queries[count++] = {into, begin, end, out + i * shape.out_stride + column};
      if (count == QUERIES) {
        attend_up_to_four(queries, count, cache, shape);
        count = 0;
      }
    }
  }
  if (count > 0) attend_up_to_four(queries, count, cache, shape);
}

template void attend_cached<float>(const Shape&, int64_t, int64_t, int64_t, Cache<float>, const float*, float*);
template void attend_cached<bf16>(const Shape&, int64_t, int64_t, int64_t, Cache<bf16>, const bf16*, bf16*);

}  // namespace fedreplay
