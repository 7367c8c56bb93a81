// Row-wise parts of a decoder layer on the CPU, for rows `first..last`. Plain pointers: no LibTorch header belongs here,
// because this file alone is compiled for AVX2 and FMA, and an inline function of LibTorch compiled so would leak into
// the rest of the program.
//
// Every row is computed by itself, in one order, so its bits depend on no other row, thread or batch. Sums are kept in
// eight lanes of double precision that are added in a fixed tree. No function of the C library is called: the same bits come from every
// processor that has AVX2 and FMA.
#pragma once
#include <cstdint>

#include "bf16.h"

namespace fedreplay {

// y = x / rms(x) * weight, inverse = 1 / rms(x); `width` values a row.
template <class T>
void rms_norm(const T* x, const T* weight, float eps, T* y, float* inverse, int64_t width, int64_t first, int64_t last);

// dx = residual + d rms_norm / dx applied to dy.
template <class T>
void rms_norm_backward(const T* dy, const T* x, const float* inverse, const T* weight, const T* residual, T* dx,
                       int64_t width, int64_t first, int64_t last);

// Turns the first `2 half` values of `heads` heads of each row in place; heads are `width` wide, rows are `stride` apart.
// `sign` is -1 for the derivative.
template <class T>
void rotate(T* x, int64_t stride, const float* cos, const float* sin, float sign, int64_t heads, int64_t width,
            int64_t half, int64_t first, int64_t last);

// product = silu(gate) * up, gate and up beside each other in a row of `2 inner` values.
template <class T>
void swiglu(const T* gate_up, T* product, int64_t inner, int64_t first, int64_t last);

// Writes the derivative over gate and up.
template <class T>
void swiglu_backward(T* gate_up, const T* d_product, int64_t inner, int64_t first, int64_t last);

// The same with gelu(gate) in its tanh form (Hendrycks and Gimpel 2016).
template <class T>
void geglu(const T* gate_up, T* product, int64_t inner, int64_t first, int64_t last);

// Writes the derivative over gate and up.
template <class T>
void geglu_backward(T* gate_up, const T* d_product, int64_t inner, int64_t first, int64_t last);

// x = cap tanh(x / cap), in place; `width` values a row.
template <class T>
void soft_cap(T* x, float cap, int64_t width, int64_t first, int64_t last);

// gradient = gradient (1 - (capped / cap)^2), in place, with the results of `soft_cap`.
template <class T>
void soft_cap_backward(T* gradient, const T* capped, float cap, int64_t width, int64_t first, int64_t last);

// nats = -log softmax(logits)[label]; if `weights` is given, logits become weight * (softmax - onehot).
template <class T>
void cross_entropy(T* logits, const int64_t* labels, const float* weights, double* nats, int64_t width, int64_t first,
                   int64_t last);

// out = codes x scale of the row: int8 as the numbers that it stands for, `width` values a row.
template <class T>
void expand_int8(const int8_t* codes, const float* scales, T* out, int64_t width, int64_t first, int64_t last);

// NormalFloat4 as the numbers that it stands for: blocks first..last of 64 codes, two a byte with the first in the upper
// half, each times its block's maximum. `values` has the sixteen numbers, `count` is the length of out.
template <class T>
void expand_nf4(const uint8_t* codes, const float* values, const float* maxima, T* out, int64_t count, int64_t first,
                int64_t last);

struct AdamW {
  float beta1, beta2, eps, step, decay, root_scale;
  int decay_last;
};

// One step of AdamW on `length` values; the gradient is scaled by `scale` first.
void adamw(const AdamW& rule, float scale, const float* gradient, float* values, float* mean, float* square,
           int64_t length);

// The sum of squares in double precision.
double sum_of_squares(const float* values, int64_t length);

}  // namespace fedreplay
