// SPDX-License-Identifier: Apache-2.0
// The logistic function and tanh, for host and device.
//
// float: branch-free polynomials, so that a loop over units becomes vector code with no maths
// library and no fast-math flag; a few ulp from the true value over the whole range, NaN stays NaN,
// infinities saturate. double: the C library, since double is for gradient checks and not for
// speed.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define LTLSTM_INLINE static __host__ __device__ __forceinline__
#define LTLSTM_MEMBER __host__ __device__ __forceinline__
#else
// Internal linkage and always inline: one object file per instruction set includes this header, and
// an out-of-line copy compiled for AVX-512 must never be the one the linker keeps for all of them.
#define LTLSTM_INLINE static inline __attribute__((always_inline))
#define LTLSTM_MEMBER inline __attribute__((always_inline))
#endif

namespace ltlstm {

template <class To, class From>
LTLSTM_INLINE To bits_of(From value) {
  static_assert(sizeof(To) == sizeof(From), "bits_of keeps the size");
  To result;
  memcpy(&result, &value, sizeof(result));
  return result;
}

// e^x by 2^n e^r, |r| <= ln(2)/2; a normal float from below, infinity from about e^88 on (so that a
// closed gate is 0).
LTLSTM_INLINE float exponential(float x) {
  constexpr float kShift =
      12582912.f;  // 1.5 * 2^23: adding it rounds to an integer held in the low bits
  x = x < -87.33654f ? -87.33654f : x;
  x = x > 89.f ? 89.f : x;
  const float shifted = x * 1.44269504f + kShift;
  const float n = shifted - kShift;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.f;
  const uint32_t exponent = (bits_of<uint32_t>(shifted) << 23) + 0x3f800000u;
  return p * bits_of<float>(exponent);
}

LTLSTM_INLINE float sigmoid(float x) { return 1.f / (1.f + exponential(-x)); }
LTLSTM_INLINE double sigmoid(double x) { return 1. / (1. + exp(-x)); }

LTLSTM_INLINE float hyperbolic_tangent(float x) {
  const float magnitude = fabsf(x);
  const float large = 1.f - 2.f / (exponential(2.f * magnitude) + 1.f);
  // Below 0.625 the form above loses digits to cancellation: an odd polynomial instead.
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float small = p * z * x + x;
  return magnitude < 0.625f ? small : copysignf(large, x);
}
LTLSTM_INLINE double hyperbolic_tangent(double x) { return tanh(x); }

}  // namespace ltlstm
