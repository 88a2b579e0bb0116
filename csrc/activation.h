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

// NaN stays NaN.
template <class V>
LTLSTM_INLINE V clamped(V x, float most) {
  const V low = constant<V>(-most), high = constant<V>(most);
  x = x < low ? low : x;
  return x > high ? high : x;
}

// e^x by 2^n e^r, |r| <= ln(2)/2; a normal float from below, infinity from about e^88 on (so that a
// closed gate is 0).
template <class V>
LTLSTM_INLINE V exponential(V x) {
  constexpr float kShift =
      12582912.f;  // 1.5 * 2^23: adding it rounds to an integer held in the low bits
  const V low = constant<V>(-87.33654f), high = constant<V>(89.f);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const V shifted = x * 1.44269504f + kShift;
  const V n = shifted - kShift;
  const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.f;
  using Integer = typename Bits<V>::type;
  const Integer exponent = (bits_of<Integer>(shifted) << 23) + 0x3f800000;
  return p * bits_of<V>(exponent);
}

template <class V>
LTLSTM_INLINE V sigmoid(V x) {
  return 1.f / (1.f + exponential(-x));
}
LTLSTM_INLINE double sigmoid(double x) { return 1. / (1. + exp(-x)); }

// x P(x^2) / Q(x^2), fitted for the least relative error up to where tanh is 1.
template <class V>
LTLSTM_INLINE V hyperbolic_tangent(V x) {
  x = clamped(x, 9.02f);
  const V z = x * x;
  V p = z * 1.33190904e-8f + 2.05834965e-5f;
  p = p * z + 3.49403556e-3f;
  p = p * z + 1.33797188e-1f;
  p = p * z + 9.99999979e-1f;
  V q = z * 7.76202757e-7f + 3.28309442e-4f;
  q = q * z + 2.58710771e-2f;
  q = q * z + 4.67130341e-1f;
  q = q * z + 1.f;
  return clamped(x * p / q, 1.f);
}
LTLSTM_INLINE double hyperbolic_tangent(double x) { return tanh(x); }

}  // namespace ltlstm
