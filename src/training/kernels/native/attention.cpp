// See attention.h. Compiled with -mavx2 -mfma -ffp-contract=off.
#include "attention.h"

#include <algorithm>

#include "gemm.h"
#include "softmax.h"
#include "vector.h"

namespace fedreplay {
namespace {

// Queries of a block: a multiple of the rows of either tile of gemm.cpp.
constexpr int64_t BLOCK = 48;

// `rows` rows of one head as dense f32.
template <class T>
void widen(const T* from, int64_t stride, int64_t rows, int64_t width, float* into) {
  for (int64_t i = 0; i < rows; i++) {
    eights(width, [&](int64_t j, int64_t n) { put(into + i * width + j, get(from + i * stride + j, n), n); });
  }
}

template <class T>
void narrow(const float* from, int64_t rows, int64_t width, T* into, int64_t stride) {
  for (int64_t i = 0; i < rows; i++) {
    eights(width, [&](int64_t j, int64_t n) { put(into + i * stride + j, get(from + i * width + j, n), n); });
  }
}

// The keys that a block of queries sees: from a multiple of 32 on, so that they begin with a panel.
struct Seen {
  int64_t left, right;
};

Seen seen(const Shape& shape, int64_t first, int64_t rows) {
  int64_t left = shape.window ? std::max<int64_t>(0, first - shape.window + 1) : 0;
  return {left / 32 * 32, first + rows};
}

// The keys that query `i` sees, counted from `left`.
void own_keys(const Shape& shape, int64_t i, int64_t left, int64_t& begin, int64_t& end) {
  begin = shape.window ? std::max<int64_t>(0, i - shape.window + 1 - left) : 0;
  end = i + 1 - left;
}

struct Rooms {
  Scratch q, k, v, packed_k, packed_v, whole_k, whole_v, scores, slopes, out, d_out, packed, d_k, d_v, d_q;
};

Rooms& rooms() {
  thread_local Rooms held;
  return held;
}

// A head's keys and values as dense f32.
template <class T>
void widen_keys(const Shape& shape, int64_t head, int64_t length, const T* qkv, float* k, float* v) {
  int64_t width = shape.width;
  widen(qkv + (shape.heads + head) * width, shape.qkv_stride, length, width, k);
  widen(qkv + (shape.heads + shape.kv_heads + head) * width, shape.qkv_stride, length, width, v);
}

inline int64_t eightfold(int64_t n) { return (n + 31) / 32 * 32; }

}  // namespace

template <class T>
void attend(const Shape& shape, int64_t head, int64_t length, const T* qkv, T* out, float* sums) {
  Rooms& room = rooms();
  const int64_t width = shape.width, group = shape.heads / shape.kv_heads, room_keys = eightfold(length);
  const float scale = shape.cap > 0.0f ? 1.0f : shape.scale;
  float *k = room.k.at_least(length * width), *v = room.v.at_least(length * width);
  widen_keys(shape, head, length, qkv, k, v);
  float* turned_k = room.packed_k.at_least(packed_size(width, length));
  pack({k, 1, width}, width, length, turned_k);
  float* whole_v = room.whole_v.at_least(packed_size(length, width));
  pack({v, width, 1}, length, width, whole_v);
  float *q = room.q.at_least(BLOCK * width), *scores = room.scores.at_least(BLOCK * room_keys);
  float* result = room.out.at_least(BLOCK * width);
  for (int64_t query = head * group; query < (head + 1) * group; query++) {
    for (int64_t first = 0; first < length; first += BLOCK) {
      int64_t rows = std::min(BLOCK, length - first);
      Seen keys = seen(shape, first, rows);
      widen(qkv + first * shape.qkv_stride + query * width, shape.qkv_stride, rows, width, q);
      gemm_packed({q, width, 1}, turned_k, width, 0, width, scores, room_keys, false, rows, keys.left, keys.right);
      float denominators[BLOCK];
      for (int64_t i = 0; i < rows; i++) {
        int64_t begin, end;
        own_keys(shape, first + i, keys.left, begin, end);
        if (shape.cap > 0.0f) cap_scores(scores + i * room_keys, keys.right - keys.left, shape.scale, shape.cap);
        float top;
        denominators[i] = soften(scores + i * room_keys, keys.right - keys.left, begin, end, scale, top);
        sums[(first + i) * shape.heads + query] = top + float(log_positive(double(denominators[i])));
      }
      gemm_packed({scores, room_keys, 1}, whole_v, length, keys.left, keys.right - keys.left, result, width, false,
                  rows, 0, width);
      for (int64_t i = 0; i < rows; i++) {
        v8 share = splat(1.0f / denominators[i]);
        T* to = out + (first + i) * shape.out_stride + query * width;
        eights(width, [&](int64_t j, int64_t n) { put(to + j, mul(get(result + i * width + j, n), share), n); });
      }
    }
  }
}

template <class T>
void attend_backward(const Shape& shape, int64_t head, int64_t length, const T* qkv, const T* out, const float* sums,
                     const T* d_out, T* d_qkv) {
  Rooms& room = rooms();
  const int64_t width = shape.width, group = shape.heads / shape.kv_heads, room_keys = eightfold(length);
  const float scale = shape.cap > 0.0f ? 1.0f : shape.scale;
  float *k = room.k.at_least(length * width), *v = room.v.at_least(length * width);
  widen_keys(shape, head, length, qkv, k, v);
  float* turned_k = room.packed_k.at_least(packed_size(width, length));
  float* turned_v = room.packed_v.at_least(packed_size(width, length));
  float* whole_k = room.whole_k.at_least(packed_size(length, width));
  pack({k, 1, width}, width, length, turned_k);
  pack({v, 1, width}, width, length, turned_v);
  pack({k, width, 1}, length, width, whole_k);
  float *d_k = room.d_k.at_least(length * width), *d_v = room.d_v.at_least(length * width);
  std::fill(d_k, d_k + length * width, 0.0f);
  std::fill(d_v, d_v + length * width, 0.0f);
  float *q = room.q.at_least(BLOCK * width), *d_result = room.d_out.at_least(BLOCK * width);
  float *powers = room.scores.at_least(BLOCK * room_keys), *slopes = room.slopes.at_least(BLOCK * room_keys);
  float *packed = room.packed.at_least(packed_size(BLOCK, width)), *d_q = room.d_q.at_least(BLOCK * width);
  for (int64_t query = head * group; query < (head + 1) * group; query++) {
    for (int64_t first = 0; first < length; first += BLOCK) {
      int64_t rows = std::min(BLOCK, length - first);
      Seen keys = seen(shape, first, rows);
      int64_t count = keys.right - keys.left;
      widen(qkv + first * shape.qkv_stride + query * width, shape.qkv_stride, rows, width, q);
      widen(d_out + first * shape.out_stride + query * width, shape.out_stride, rows, width, d_result);
      gemm_packed({q, width, 1}, turned_k, width, 0, width, powers, room_keys, false, rows, keys.left, keys.right);
      gemm_packed({d_result, width, 1}, turned_v, width, 0, width, slopes, room_keys, false, rows, keys.left, keys.right);
      for (int64_t i = 0; i < rows; i++) {
        const T* result = out + (first + i) * shape.out_stride + query * width;
        LongSum products;
        eights(width, [&](int64_t j, int64_t n) {
          products.add(mul(get(result + j, n), get(d_result + i * width + j, n)));
        });
        v8 along = splat(float(products.total())), top = splat(sums[(first + i) * shape.heads + query]);
        int64_t begin, end;
        own_keys(shape, first + i, keys.left, begin, end);
        float *power = powers + i * room_keys, *slope = slopes + i * room_keys;
        if (shape.cap > 0.0f) {
          cap_scores(power, count, shape.scale, shape.cap);
          // The derivative of the bound, 1 - tanh^2, joins the slope before its score is turned into a power.
          const v8 cap = splat(shape.cap), factor = splat(shape.scale);
          by_eights(count, begin, end, [&](int64_t j, v8 lanes) {
            v8 score = keep(lanes, load(power + j)), bend = div(score, cap);
            v8 p = keep(lanes, exp<true>(sub(score, top)));
            v8 through = mul(sub(splat(1.0f), mul(bend, bend)), factor);
            store(power + j, p);
            store(slope + j, keep(lanes, mul(mul(p, sub(load(slope + j), along)), through)));
          });
          continue;
        }
        by_eights(count, begin, end, [&](int64_t j, v8 lanes) {
          v8 p = keep(lanes, exp<true>(sub(mul(keep(lanes, load(power + j)), splat(scale)), top)));
          store(power + j, p);
          store(slope + j, keep(lanes, mul(mul(p, sub(load(slope + j), along)), splat(scale))));
        });
      }
      gemm_packed({slopes, room_keys, 1}, whole_k, length, keys.left, count, d_q, width, false, rows, 0, width);
      narrow(d_q, rows, width, d_qkv + first * shape.qkv_stride + query * width, shape.qkv_stride);
      pack({d_result, width, 1}, rows, width, packed);
      gemm_packed({powers, 1, room_keys}, packed, rows, 0, rows, d_v + keys.left * width, width, true, count, 0, width);
      pack({q, width, 1}, rows, width, packed);
      gemm_packed({slopes, 1, room_keys}, packed, rows, 0, rows, d_k + keys.left * width, width, true, count, 0, width);
    }
  }
  narrow(d_k, length, width, d_qkv + (shape.heads + head) * width, shape.qkv_stride);
  narrow(d_v, length, width, d_qkv + (shape.heads + shape.kv_heads + head) * width, shape.qkv_stride);
}

#define INSTANTIATE(T)                                                                                          \
  template void attend<T>(const Shape&, int64_t, int64_t, const T*, T*, float*);                                \
  template void attend_backward<T>(const Shape&, int64_t, int64_t, const T*, const T*, const float*, const T*, \
                                   T*);

INSTANTIATE(float)
INSTANTIATE(bf16)

}  // namespace fedreplay
