// See kernels.h. Compiled with -mavx2 -mfma -ffp-contract=off: every fused product-sum is written as one.
#include "kernels.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "scratch.h"
#include "vector.h"

namespace fedreplay {
namespace {

// The first `n` of four values, and 0 for the others.
inline __m256d first_of(__m256d values, int64_t n) {
  const __m256i lanes = _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
  return _mm256_and_pd(values, _mm256_castsi256_pd(lanes));
}

inline v8 sigmoid(v8 x) { return div(splat(1.0f), add(splat(1.0f), exp(sub(splat(0.0f), x)))); }

// The argument of the sigmoid in gelu(x) = x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)), the tanh form written with e^x.
constexpr float GELU_SLOPE = 1.5957691216f, GELU_BEND = 0.044715f;

inline v8 gelu_sigmoid(v8 x) {
  return sigmoid(mul(mul(x, splat(GELU_SLOPE)), fma(mul(x, x), splat(GELU_BEND), splat(1.0f))));
}

}  // namespace

template <class T>
void rms_norm(const T* x, const T* weight, float eps, T* y, float* inverse, int64_t width, int64_t first,
              int64_t last) {
  for (int64_t row = first; row < last; row++) {
    const T* in = x + row * width;
    T* out = y + row * width;
    LongSum squares;
    eights(width, [&](int64_t i, int64_t n) {
      v8 v = get(in + i, n);
      squares.add(mul(v, v));
    });
    float mean = float(squares.total() / double(width)) + eps;
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
    v8 scale = splat(inverse[row]);
    LongSum products;
    eights(width, [&](int64_t i, int64_t n) {
      v8 scaled = mul(get(gradient + i, n), get(weight + i, n));
      products.add(mul(scaled, mul(get(in + i, n), scale)));
    });
    v8 along = splat(float(products.total() / double(width)));
    eights(width, [&](int64_t i, int64_t n) {
      v8 scaled = mul(get(gradient + i, n), get(weight + i, n));
      v8 unit = mul(get(in + i, n), scale);
      put(out + i, add(mul(sub(scaled, mul(unit, along)), scale), get(beside + i, n)), n);
    });
  }
}

template <class T>
void rotate(T* x, int64_t stride, const float* cos, const float* sin, float sign, int64_t heads, int64_t width,
            int64_t half, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++) {
    for (int64_t head = 0; head < heads; head++) {
      T* a = x + row * stride + head * width;
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
void geglu(const T* gate_up, T* product, int64_t inner, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++) {
    const T* gate = gate_up + row * 2 * inner;
    eights(inner, [&](int64_t i, int64_t n) {
      v8 g = get(gate + i, n);
      put(product + row * inner + i, mul(mul(g, gelu_sigmoid(g)), get(gate + inner + i, n)), n);
    });
  }
}

template <class T>
void geglu_backward(T* gate_up, const T* d_product, int64_t inner, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++) {
    T* gate = gate_up + row * 2 * inner;
    eights(inner, [&](int64_t i, int64_t n) {
      v8 g = get(gate + i, n), u = get(gate + inner + i, n), d = get(d_product + row * inner + i, n);
      v8 s = gelu_sigmoid(g);
      // d/dx of x s(a(x)) is s + x s (1 - s) a'(x).
      v8 inner_slope = mul(splat(GELU_SLOPE), fma(mul(g, g), splat(3.0f * GELU_BEND), splat(1.0f)));
      v8 slope = mul(s, fma(mul(g, sub(splat(1.0f), s)), inner_slope, splat(1.0f)));
      put(gate + i, mul(mul(d, u), slope), n);
      put(gate + inner + i, mul(d, mul(g, s)), n);
    });
  }
}

template <class T>
void soft_cap(T* x, float cap, int64_t width, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++) {
    T* values = x + row * width;
    eights(width, [&](int64_t i, int64_t n) {
      put(values + i, mul(tanh(div(get(values + i, n), splat(cap))), splat(cap)), n);
    });
  }
}

template <class T>
void soft_cap_backward(T* gradient, const T* capped, float cap, int64_t width, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++) {
    T* values = gradient + row * width;
    eights(width, [&](int64_t i, int64_t n) {
      v8 bend = div(get(capped + row * width + i, n), splat(cap));
      put(values + i, mul(get(values + i, n), sub(splat(1.0f), mul(bend, bend))), n);
    });
  }
}

template <class T>
void cross_entropy(T* logits, const int64_t* labels, const float* weights, double* nats, int64_t width, int64_t first,
                   int64_t last) {
  thread_local Scratch held;
  float* powers = weights ? held.at_least(width) : nullptr;
  for (int64_t row = first; row < last; row++) {
    T* values = logits + row * width;
    v8 most = splat(-std::numeric_limits<float>::infinity());
    int64_t whole = width / 8 * 8;
    for (int64_t i = 0; i < whole; i += 8) most = _mm256_max_ps(most, load(values + i));
    // The last eight overlap those before them, which a maximum does not mind.
    if (whole < width) most = _mm256_max_ps(most, width >= 8 ? load(values + width - 8) : load_some(values, width, values[0]));
    // A logit's distance from the largest is exact in double precision, as f32 would not hold it, and so is the sum.
    const float top = largest(most);
    const __m256d highest = _mm256_set1_pd(double(top));
    __m256d totals[2] = {_mm256_setzero_pd(), _mm256_setzero_pd()};
    eights(width, [&](int64_t i, int64_t n) {
      const v8 v = get(values + i, n);
      __m256d low = exp_double(_mm256_sub_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(v)), highest));
      __m256d high = exp_double(_mm256_sub_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)), highest));
      if (n < 8) {
        low = first_of(low, n);
        high = first_of(high, n - 4);
      }
      totals[0] = _mm256_add_pd(totals[0], low);
      totals[1] = _mm256_add_pd(totals[1], high);
      if (powers) {
        put(powers + i, _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low)), n);
      }
    });
    const double denominator = LongSum{totals[0], totals[1]}.total();
    const float label = _mm256_cvtss_f32(load_some(values + labels[row], 1, zero<T>()));
    // A row that holds NaN has a denominator of NaN, whose logarithm the bit tricks above would make finite.
    nats[row] = denominator > 0.0 && denominator < std::numeric_limits<double>::infinity()
                    ? log_positive(denominator) - (double(label) - double(top))
                    : std::numeric_limits<double>::quiet_NaN();
    if (!weights) continue;
    const float scale = float(double(weights[row]) / denominator);
    const float probability = float(double(powers[labels[row]]) / denominator);
    eights(width, [&](int64_t i, int64_t n) { put(values + i, mul(get(powers + i, n), splat(scale)), n); });
    store_some(values + labels[row], splat(weights[row] * (probability - 1.0f)), 1);
  }
}

template <class T>
void expand_int8(const int8_t* codes, const float* scales, T* out, int64_t width, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++) {
    const int8_t* from = codes + row * width;
    const v8 scale = splat(scales[row]);
    eights(width, [&](int64_t i, int64_t n) {
      int8_t eight[8] = {};
      std::memcpy(eight, from + i, n);
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(eight));
      put(out + row * width + i, mul(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), scale), n);
    });
  }
}

template <class T>
void expand_nf4(const uint8_t* codes, const float* values, const float* maxima, T* out, int64_t count, int64_t first,
                int64_t last) {
  const v8 lower = load(values), upper = load(values + 8);
  for (int64_t block = first; block < last; block++) {
    const v8 scale = splat(maxima[block]);
    for (int64_t i = 64 * block; i < std::min(count, 64 * block + 64); i += 8) {
      const int64_t n = std::min<int64_t>(8, count - i);
      uint8_t four[4] = {};
      std::memcpy(four, codes + i / 2, (n + 1) / 2);
      uint8_t nibbles[8];
      for (int j = 0; j < 4; j++) {
        nibbles[2 * j] = four[j] >> 4;
        nibbles[2 * j + 1] = four[j] & 15;
      }
      const __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(nibbles)));
      // The fourth bit of a code says which half of the values it is in; moved to the sign, it chooses.
      const v8 is_upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
      const v8 value = _mm256_blendv_ps(_mm256_permutevar8x32_ps(lower, index), _mm256_permutevar8x32_ps(upper, index), is_upper);
      put(out + i, mul(value, scale), n);
    }
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
  template void rotate<T>(T*, int64_t, const float*, const float*, float, int64_t, int64_t, int64_t, int64_t,        \
                          int64_t);                                                                                  \
  template void swiglu<T>(const T*, T*, int64_t, int64_t, int64_t);                                                  \
  template void swiglu_backward<T>(T*, const T*, int64_t, int64_t, int64_t);                               \
  template void geglu<T>(const T*, T*, int64_t, int64_t, int64_t);                                                   \
  template void geglu_backward<T>(T*, const T*, int64_t, int64_t, int64_t);                                          \
  template void soft_cap<T>(T*, float, int64_t, int64_t, int64_t);                                                   \
  template void soft_cap_backward<T>(T*, const T*, float, int64_t, int64_t, int64_t);                                \
  template void cross_entropy<T>(T*, const int64_t*, const float*, double*, int64_t, int64_t, int64_t);              \
  template void expand_int8<T>(const int8_t*, const float*, T*, int64_t, int64_t, int64_t);                          \
  template void expand_nf4<T>(const uint8_t*, const float*, const float*, T*, int64_t, int64_t, int64_t);

INSTANTIATE(float)
INSTANTIATE(bf16)

}  // namespace fedreplay
