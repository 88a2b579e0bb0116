// SPDX-License-Identifier: Apache-2.0
// How an instruction set permutes a window of x within registers.
#pragma once

#include "cpu/vector.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ltlstm::cpu {

// apply: the elements of x[0 .. kWindow) that the lanes name, each by a number of one byte, which
// is taken modulo kWindow. kWindow is 0 where the instruction set cannot. By the bytes of a vector:
// all sets of that width have these instructions.
template <class Isa, class scalar, int kVectorBytes = Isa::kVectorBytes>
struct Permutation {
  static constexpr int kWindow = 0;
};

#if defined(__x86_64__)

template <class Isa>
struct Permutation<Isa, float, 32> {
  static constexpr int kWindow = 8;
  using Index = __m256i;
  LTLSTM_MEMBER static Index index(const uint8_t* lanes) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(lanes)));
  }
  LTLSTM_MEMBER static __m256 apply(const float* x, Index index) {
    return _mm256_permutevar8x32_ps(_mm256_loadu_ps(x), index);
  }
};

// Of 512 bits with masks that let all through: GCC 12 warns of the undefined operand of the plain
// functions.
template <class Isa>
struct Permutation<Isa, float, 64> {
  static constexpr int kWindow = 32;
  using Index = __m512i;
  LTLSTM_MEMBER static Index index(const uint8_t* lanes) {
    return _mm512_maskz_cvtepu8_epi32(0xffff,
                                      _mm_loadu_si128(reinterpret_cast<const __m128i*>(lanes)));
  }
  LTLSTM_MEMBER static __m512 apply(const float* x, Index index) {
    return _mm512_permutex2var_ps(_mm512_loadu_ps(x), index, _mm512_loadu_ps(x + 16));
  }
};

template <class Isa>
struct Permutation<Isa, double, 64> {
  static constexpr int kWindow = 16;
  using Index = __m512i;
  LTLSTM_MEMBER static Index index(const uint8_t* lanes) {
    return _mm512_maskz_cvtepu8_epi64(0xff,
                                      _mm_loadl_epi64(reinterpret_cast<const __m128i*>(lanes)));
  }
  LTLSTM_MEMBER static __m512d apply(const double* x, Index index) {
    return _mm512_permutex2var_pd(_mm512_loadu_pd(x), index, _mm512_loadu_pd(x + 8));
  }
};

#endif

}  // namespace ltlstm::cpu
