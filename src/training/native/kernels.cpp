// See kernels.h. Compiled with -mavx2 -mfma -ffp-contract=off: every fused product-sum is written as one.
#include "kernels.h"

#include <immintrin.h>

#include <limits>

namespace fedreplay {
namespace {

using v8 = __m256;

inline v8 splat(float value) { return _mm256_set1_ps(value); }
inline v8 add(v8 a, v8 b) { return _mm256_add_ps(a, b); }
inline v8 sub(v8 a, v8 b) { return _mm256_sub_ps(a, b); }
inline v8 mul(v8 a, v8 b) { return _mm256_mul_ps(a, b); }
inline v8 div(v8 a, v8 b) { return _mm256_div_ps(a, b); }
inline v8 fma(v8 a, v8 b, v8 c) { return _mm256_fmadd_ps(a, b, c); }

inline v8 load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, v8 v) { _mm256_storeu_ps(p, v); }

inline v8 load(const bf16* p) {
  __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

// Rounds to nearest, ties to even; every NaN becomes the quiet one.
inline void store(bf16* p, v8 v) {
  __m256i bits = _mm256_castps_si256(v);
  __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
  __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), is_nan);
  __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded, rounded), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}

// The last `n` < 8 values of a row; absent ones are `fill`.
template <class T>
inline v8 load_some(const T* p, int64_t n, T fill) {
  T buffer[8] = {fill, fill, fill, fill, fill, fill, fill, fill};
  for (int64_t i = 0; i < n; i++) buffer[i] = p[i];
  return load(buffer);
}

template <class T>
inline void store_some(T* p, v8 v, int64_t n) {
  T buffer[8];
  store(buffer, v);
  for (int64_t i = 0; i < n; i++) p[i] = buffer[i];
}

template <class T>
inline T zero() {
  return T{};
}

// Calls body(offset, count) for each eight values of a row; count is below eight at most once, at the end.
template <class Body>
inline void eights(int64_t width, Body body) {
  int64_t i = 0;
  for (; i + 8 <= width; i += 8) body(i, int64_t(8));
  if (i < width) body(i, width - i);
}

template <class T>
inline v8 get(const T* p, int64_t n) {
  return n == 8 ? load(p) : load_some(p, n, zero<T>());
}

template <class T>
inline void put(T* p, v8 v, int64_t n) {
  n == 8 ? store(p, v) : store_some(p, v, n);
}

inline float sum(v8 v) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

inline float largest(v8 v) {
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

// e^x with an error of about one unit in the last place: range reduction by ln 2 in two parts, then a polynomial of
// degree 6 whose coefficients are those of the Taylor series economised on [-ln2/2, ln2/2].
inline v8 exp(v8 x) {
  v8 lowest = splat(-87.33654f), highest = splat(88.37626f);
  v8 is_nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  v8 inside = _mm256_min_ps(_mm256_max_ps(x, lowest), highest);
  v8 n = _mm256_round_ps(mul(inside, splat(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  v8 r = fma(n, splat(-0.693359375f), inside);
  r = fma(n, splat(2.12194440e-4f), r);
  v8 p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = add(fma(p, mul(r, r), r), splat(1.0f));
  __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  v8 y = mul(p, _mm256_castsi256_ps(exponent));
  y = _mm256_andnot_ps(_mm256_cmp_ps(x, lowest, _CMP_LT_OQ), y);
  y = _mm256_blendv_ps(y, splat(std::numeric_limits<float>::infinity()), _mm256_cmp_ps(x, highest, _CMP_GT_OQ));
  return _mm256_blendv_ps(y, x, is_nan);
}

// The natural logarithm of a finite positive double, by its exponent and the series of artanh. Used once a row.
inline double log_positive(double x) {
  int64_t bits;
  __builtin_memcpy(&bits, &x, 8);
  int64_t exponent = ((bits >> 52) & 0x7ff) - 1023;
  bits = (bits & 0xfffffffffffffLL) | 0x3ff0000000000000LL;
  double m;
  __builtin_memcpy(&m, &bits, 8);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    exponent += 1;
  }
  double s = (m - 1.0) / (m + 1.0), s2 = s * s, term = s, total = 0.0;
  for (int k = 1; k < 24; k += 2) {
    total += term / k;
    term *= s2;
  }
  return 2.0 * total + double(exponent) * 0.6931471805599453;
}

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
void swiglu_backward(const T* gate_up, const T* d_product, T* d_gate_up, int64_t inner, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++) {
    const T* gate = gate_up + row * 2 * inner;
    T* d_gate = d_gate_up + row * 2 * inner;
    eights(inner, [&](int64_t i, int64_t n) {
      v8 g = get(gate + i, n), u = get(gate + inner + i, n), d = get(d_product + row * inner + i, n);
      v8 s = sigmoid(g);
      v8 slope = mul(s, fma(g, sub(splat(1.0f), s), splat(1.0f)));
      put(d_gate + i, mul(mul(d, u), slope), n);
      put(d_gate + inner + i, mul(d, mul(g, s)), n);
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
  template void swiglu_backward<T>(const T*, const T*, T*, int64_t, int64_t, int64_t);                               \
  template void cross_entropy<T>(T*, const int64_t*, const float*, double*, int64_t, int64_t, int64_t);

INSTANTIATE(float)
INSTANTIATE(bf16)

}  // namespace fedreplay
