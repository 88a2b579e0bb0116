// SPDX-License-Identifier: Apache-2.0
// The logistic function and tanh, for host and device.
//
// float: branch-free polynomials, a few ulp from the true value over the whole range, NaN stays
// NaN, infinities saturate. V is float or, in the CPU kernels, a vector of floats: the same
// expressions serve both, so that vector code rests on no compiler's willingness to find it and on
// no maths library. double: the C library, since double is for gradient checks and not for speed.
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

// The same value in every lane.
template <class V>
LTLSTM_INLINE V constant(float value) {
  return V{} + value;
}

// Integers of the width of a lane.
template <class V>
struct Bits {
  using type = decltype(V{} < V{});
};
template <>
struct Bits<float> {
  using type = uint32_t;
};

// e^x by 2^n e^r, |r| <= ln(2)/2, for -87.33654 <= x <= 89: a normal float from below, infinity
// from about 88.4 on (so that a closed gate is 0).
template <class V>
LTLSTM_INLINE V exponential_within(V x) {
  constexpr float kShift =
      12582912.f;  // 1.5 * 2^23: adding it rounds to an integer held in the low bits
  const V shifted = x * 1.44269504f + kShift;
  const V n = shifted - kShift;
  const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  V p = r * 1.38144669e-3f + 8.36878041e-3f;
  p = p * r + 4.16683942e-2f;
  p = p * r + 1.66665201e-1f;
  p = p * r + 4.99999934e-1f;
  p = p * (r * r) + r + 1.f;
  using Integer = typename Bits<V>::type;
  const Integer exponent = (bits_of<Integer>(shifted) << 23) + 0x3f800000;
  return p * bits_of<V>(exponent);
}

// Beyond what a float can hold x counts as the last that can. NaN stays NaN.
template <class V>
LTLSTM_INLINE V exponential(V x) {
  const V low = constant<V>(-87.33654f), high = constant<V>(89.f);
  x = x < low ? low : x;
  return exponential_within(x > high ? high : x);
}

template <class V>
LTLSTM_INLINE V sigmoid(V x) {
  return 1.f / (1.f + exponential(-x));
}
LTLSTM_INLINE double sigmoid(double x) { return 1. / (1. + exp(-x)); }

// Below 0.625 an odd polynomial: 1 - 2 / (e^2x + 1) loses digits there to cancellation.
template <class V>
LTLSTM_INLINE V hyperbolic_tangent(V x) {
  using Integer = typename Bits<V>::type;
  const Integer sign = bits_of<Integer>(x) & ~0x7fffffff;
  const V magnitude = bits_of<V>(bits_of<Integer>(x) ^ sign);
  const V most = constant<V>(10.f), limit = constant<V>(0.625f);  // tanh 10 is 1
  const V e = exponential_within(2.f * (magnitude > most ? most : magnitude));
  const V large = 1.f - 2.f / (e + 1.f);
  const V z = x * x;
  V small = z * -5.70498872745e-3f + 2.06390887954e-2f;
  small = small * z - 5.37397155531e-2f;
  small = small * z + 1.33314422036e-1f;
  small = small * z - 3.33332819422e-1f;
  small = small * z * magnitude + magnitude;
  const V unsigned_tangent = magnitude < limit ? small : large;
  return bits_of<V>(bits_of<Integer>(unsigned_tangent) | sign);
}
LTLSTM_INLINE double hyperbolic_tangent(double x) { return tanh(x); }

}  // namespace ltlstm
