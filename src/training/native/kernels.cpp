// See kernels.h. Compiled with -mavx2 -mfma -ffp-contract=off: every fused product-sum is written as one.
#include "kernels.h"

#include <immintrin.h>

#include <limits>

#include "vector.h"

namespace fedreplay {
namespace {

inline v8 sigmoid(v8 x) { return div(splat(1.0f), add(splat(1.0f), exp(sub(splat(0.0f), x)))); }

}  // namespace

template <class T>
void rms_norm(const T* x, const T* weight, float eps, T* y, float* inverse, int64_t width, int64_t first,
              int64_t last) {
  for (int64_t row = first; row < last; row++) {
    const T* in = x + row * width;
    T* out = y + row * width;
    v8 squares = splat(0.0f);
    eights(width, [&](int64_t i, int64_t n) {
      v8 v = get(in + i, n);
      squares = fma(v, v, squares);
    });
    float mean = sum(squares) / float(width) + eps;
    float scale = 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean)));
    inverse[row] = scale;
    eights(width, [&](int64_t i, int64_t n) {
      put(out + i, mul(mul(get(in + i, n), splat(scale)), get(weight + i, n)), n);
    });
  }
}

template <class T>
void rms_norm_backward(const T* dy, const T* x, const float* inverse, const T* weight, const T* residual, T* dx,
                       int64_t width, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++) {
    const T *gradient = dy + row * width, *in = x + row * width, *beside = residual + row * width;
    T* out = dx + row * width;
    v8 scale = splat(inverse[row]), products = splat(0.0f);
    eights(width, [&](int64_t i, int64_t n) {
      v8 scaled = mul(get(gradient + i, n), get(weight + i, n));
      products = fma(scaled, mul(get(in + i, n), scale), products);
    });
    v8 along = splat(sum(products) / float(width));
    eights(width, [&](int64_t i, int64_t n) {
      v8 scaled = mul(get(gradient + i, n), get(weight + i, n));
      v8 unit = mul(get(in + i, n), scale);
      put(out + i, add(mul(sub(scaled, mul(unit, along)), scale), get(beside + i, n)), n);
    });
  }
}

template <class T>
void rotate(T* x, int64_t stride, const float* cos, const float* sin, float sign, int64_t heads, int64_t half,
            int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++) {
    for (int64_t head = 0; head < heads; head++) {
      T* a = x + row * stride + head * 2 * half;
      T* b = a + half;
      eights(half, [&](int64_t i, int64_t n) {
        v8 c = get(cos + row * half + i, n), s = mul(get(sin + row * half + i, n), splat(sign));
        v8 p = get(a + i, n), q = get(b + i, n);
        put(a + i, sub(mul(p, c), mul(q, s)), n);
        put(b + i, add(mul(q, c), mul(p, s)), n);
      });
    }
  }
}

template <class T>
void swiglu(const T* gate_up, T* product, int64_t inner, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++) {
    const T* gate = gate_up + row * 2 * inner;
    eights(inner, [&](int64_t i, int64_t n) {
      v8 g = get(gate + i, n);
      put(product + row * inner + i, mul(mul(g, sigmoid(g)), get(gate + inner + i, n)), n);
    });
  }
}

template <class T>
void swiglu_backward(T* gate_up, const T* d_product, int64_t inner, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++) {
    T* gate = gate_up + row * 2 * inner;
    eights(inner, [&](int64_t i, int64_t n) {
      v8 g = get(gate + i, n), u = get(gate + inner + i, n), d = get(d_product + row * inner + i, n);
      v8 s = sigmoid(g);
      v8 slope = mul(s, fma(g, sub(splat(1.0f), s), splat(1.0f)));
      put(gate + i, mul(mul(d, u), slope), n);
      put(gate + inner + i, mul(d, mul(g, s)), n);
    });
  }
}

template <class T>
void cross_entropy(T* logits, const int64_t* labels, const float* weights, double* nats, int64_t width, int64_t first,
                   int64_t last) {
  for (int64_t row = first; row < last; row++) {
    T* values = logits + row * width;
    v8 most = splat(-std::numeric_limits<float>::infinity());
    int64_t whole = width / 8 * 8;
    for (int64_t i = 0; i < whole; i += 8) most = _mm256_max_ps(most, load(values + i));
    // The last eight overlap those before them, which a maximum does not mind.
    if (whole < width) most = _mm256_max_ps(most, width >= 8 ? load(values + width - 8) : load_some(values, width, values[0]));
    v8 top = splat(largest(most)), total = splat(0.0f);
    eights(width, [&](int64_t i, int64_t n) {
      v8 power = exp(sub(get(values + i, n), top));
      if (n < 8) {
        float kept[8];
        store(kept, power);
        power = load_some(kept, n, 0.0f);
      }
      total = add(total, power);
    });
    float denominator = sum(total);
    float label = _mm256_cvtss_f32(load_some(values + labels[row], 1, zero<T>()));
    float highest = _mm256_cvtss_f32(top);
    // A row that holds NaN has a denominator of NaN, whose logarithm the bit tricks above would make finite.
    nats[row] = denominator > 0.0f && denominator < std::numeric_limits<float>::infinity()
                    ? log_positive(denominator) - (double(label) - double(highest))
                    : std::numeric_limits<double>::quiet_NaN();
    if (!weights) continue;
    v8 scale = splat(weights[row] / denominator);
    eights(width, [&](int64_t i, int64_t n) { put(values + i, mul(exp(sub(get(values + i, n), top)), scale), n); });
    float probability = _mm256_cvtss_f32(exp(splat(label - highest))) / denominator;
    store_some(values + labels[row], splat(weights[row] * (probability - 1.0f)), 1);
  }
}

void adamw(const AdamW& rule, float scale, const float* gradient, float* values, float* mean, float* square,
           int64_t length) {
  v8 beta1 = splat(rule.beta1), beta2 = splat(rule.beta2), rest1 = splat(1.0f - rule.beta1);
  v8 rest2 = splat(1.0f - rule.beta2), eps = splat(rule.eps), root_scale = splat(rule.root_scale);
  eights(length, [&](int64_t i, int64_t n) {
    v8 g = mul(get(gradient + i, n), splat(scale)), p = get(values + i, n);
    if (!rule.decay_last) p = mul(p, splat(rule.decay));
    v8 m = fma(get(mean + i, n), beta1, mul(g, rest1));
    v8 v = fma(get(square + i, n), beta2, mul(mul(g, g), rest2));
    v8 root = fma(_mm256_sqrt_ps(v), root_scale, eps);
    p = sub(p, mul(div(m, root), splat(rule.step)));
    if (rule.decay_last) p = mul(p, splat(rule.decay));
    put(values + i, p, n);
    put(mean + i, m, n);
    put(square + i, v, n);
  });
}

double sum_of_squares(const float* values, int64_t length) {
  __m256d lanes[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()};
  eights(length, [&](int64_t i, int64_t n) {
    v8 v = get(values + i, n);
    __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(v)), high = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
    int64_t lane = (i / 8) % 2 * 2;
    lanes[lane] = _mm256_fmadd_pd(low, low, lanes[lane]);
    lanes[lane + 1] = _mm256_fmadd_pd(high, high, lanes[lane + 1]);
  });
  double parts[4];
  _mm256_storeu_pd(parts, _mm256_add_pd(_mm256_add_pd(lanes[0], lanes[1]), _mm256_add_pd(lanes[2], lanes[3])));
  return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

#define INSTANTIATE(T)                                                                                               \
  template void rms_norm<T>(const T*, const T*, float, T*, float*, int64_t, int64_t, int64_t);                       \
  template void rms_norm_backward<T>(const T*, const T*, const float*, const T*, const T*, T*, int64_t, int64_t,     \
                                     int64_t);                                                                       \
  template void rotate<T>(T*, int64_t, const float*, const float*, float, int64_t, int64_t, int64_t, int64_t);       \
  template void swiglu<T>(const T*, T*, int64_t, int64_t, int64_t);                                                  \
  template void swiglu_backward<T>(T*, const T*, int64_t, int64_t, int64_t);                               \
  template void cross_entropy<T>(T*, const int64_t*, const float*, double*, int64_t, int64_t, int64_t);

INSTANTIATE(float)
INSTANTIATE(bf16)

}  // namespace fedreplay
