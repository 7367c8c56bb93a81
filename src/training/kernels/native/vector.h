// Eight f32 values at a time: loads and stores of f32 and bf16, sums in a fixed tree, e^x and ln x without the C library.
//
// For files compiled with -mavx2 -mfma only. Everything here has internal linkage.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <limits>

#include "bf16.h"

namespace fedreplay {
namespace {

using v8 = __m256;

[[maybe_unused]] inline v8 splat(float value) { return _mm256_set1_ps(value); }
[[maybe_unused]] inline v8 add(v8 a, v8 b) { return _mm256_add_ps(a, b); }
[[maybe_unused]] inline v8 sub(v8 a, v8 b) { return _mm256_sub_ps(a, b); }
[[maybe_unused]] inline v8 mul(v8 a, v8 b) { return _mm256_mul_ps(a, b); }
[[maybe_unused]] inline v8 div(v8 a, v8 b) { return _mm256_div_ps(a, b); }
[[maybe_unused]] inline v8 fma(v8 a, v8 b, v8 c) { return _mm256_fmadd_ps(a, b, c); }

[[maybe_unused]] inline v8 load(const float* p) { return _mm256_loadu_ps(p); }
[[maybe_unused]] inline void store(float* p, v8 v) { _mm256_storeu_ps(p, v); }

[[maybe_unused]] inline v8 load(const bf16* p) {
  __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

// Rounds to nearest, ties to even; every NaN becomes the quiet one.
[[maybe_unused]] inline void store(bf16* p, v8 v) {
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
[[maybe_unused]] inline v8 load_some(const T* p, int64_t n, T fill) {
  T buffer[8] = {fill, fill, fill, fill, fill, fill, fill, fill};
  for (int64_t i = 0; i < n; i++) buffer[i] = p[i];
  return load(buffer);
}

template <class T>
[[maybe_unused]] inline void store_some(T* p, v8 v, int64_t n) {
  T buffer[8];
  store(buffer, v);
  for (int64_t i = 0; i < n; i++) p[i] = buffer[i];
}

template <class T>
[[maybe_unused]] inline T zero() {
  return T{};
}

// Calls body(offset, count) for each eight values of a row; count is below eight at most once, at the end.
template <class Body>
[[maybe_unused]] inline void eights(int64_t width, Body body) {
  int64_t i = 0;
  for (; i + 8 <= width; i += 8) body(i, int64_t(8));
  if (i < width) body(i, width - i);
}

template <class T>
[[maybe_unused]] inline v8 get(const T* p, int64_t n) {
  return n == 8 ? load(p) : load_some(p, n, zero<T>());
}

template <class T>
[[maybe_unused]] inline void put(T* p, v8 v, int64_t n) {
  n == 8 ? store(p, v) : store_some(p, v, n);
}

[[maybe_unused]] inline float largest(v8 v) {
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

// e^x with an error of about one unit in the last place: range reduction by ln 2 in two parts, then a polynomial of
// degree 6 whose coefficients are those of the Taylor series economised on [-ln2/2, ln2/2]. NaN passes through, because a
// minimum and a maximum are their second operand where one is NaN. `BOUNDED` says that no x is above 88.
template <bool BOUNDED = false>
[[maybe_unused]] inline v8 exp(v8 x) {
  v8 lowest = splat(-87.33654f), highest = splat(88.37626f);
  v8 inside = _mm256_max_ps(lowest, BOUNDED ? x : _mm256_min_ps(highest, x));
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
  if (BOUNDED) return y;
  return _mm256_blendv_ps(y, splat(std::numeric_limits<float>::infinity()), _mm256_cmp_ps(x, highest, _CMP_GT_OQ));
}

// tanh x with an error of about two units in the last place: a polynomial near zero, where e^x would cancel digits, and
// 1 - 2 / (e^2x + 1) elsewhere. NaN passes through.
[[maybe_unused]] inline v8 tanh(v8 x) {
  const v8 sign = splat(-0.0f), size = _mm256_andnot_ps(sign, x), square = mul(x, x);
  v8 p = splat(-5.70498872745e-3f);
  p = fma(p, square, splat(2.06390887954e-2f));
  p = fma(p, square, splat(-5.37397155531e-2f));
  p = fma(p, square, splat(1.33314422036e-1f));
  p = fma(p, square, splat(-3.33332819422e-1f));
  const v8 near = fma(mul(p, square), x, x);
  const v8 far = sub(splat(1.0f), div(splat(2.0f), add(exp(add(size, size)), splat(1.0f))));
  return _mm256_blendv_ps(_mm256_or_ps(far, _mm256_and_ps(sign, x)), near, _mm256_cmp_ps(size, splat(0.625f), _CMP_LT_OQ));
}

// A sum of many f32 values that keeps their digits: eight lanes of double precision, added in a fixed tree.
struct LongSum {
  __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();

  void add(v8 v) {
    low = _mm256_add_pd(low, _mm256_cvtps_pd(_mm256_castps256_ps128(v)));
    high = _mm256_add_pd(high, _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
  }

  double total() const {
    const __m256d four = _mm256_add_pd(low, high);
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
};

// e^x in double precision for x <= 0, with a relative error below 3e-10: range reduction by ln 2, then the Taylor polynomial
// of degree 8. NaN passes through; what is below the normal numbers is 0.
[[maybe_unused]] inline __m256d exp_double(__m256d x) {
  const __m256d lowest = _mm256_set1_pd(-708.0), one = _mm256_set1_pd(1.0);
  const __m256d inside = _mm256_max_pd(lowest, x);
  const __m256d n = _mm256_round_pd(_mm256_mul_pd(inside, _mm256_set1_pd(1.4426950408889634)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256d r = _mm256_fmadd_pd(n, _mm256_set1_pd(-0.6931471805599453), inside);
  __m256d p = _mm256_set1_pd(1.0 / 40320.0);
  constexpr double COEFFICIENTS[] = {1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0};
  for (double coefficient : COEFFICIENTS) p = _mm256_fmadd_pd(p, r, _mm256_set1_pd(coefficient));
  p = _mm256_fmadd_pd(p, r, one);
  const __m256i exponent = _mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(n));
  const __m256i power = _mm256_slli_epi64(_mm256_add_epi64(exponent, _mm256_set1_epi64x(1023)), 52);
  const __m256d y = _mm256_mul_pd(p, _mm256_castsi256_pd(power));
  return _mm256_andnot_pd(_mm256_cmp_pd(x, lowest, _CMP_LT_OQ), y);
}

// The natural logarithm of a finite positive double, by its exponent and the series of artanh. Used once a row.
[[maybe_unused]] inline double log_positive(double x) {
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

}  // namespace
}  // namespace fedreplay
