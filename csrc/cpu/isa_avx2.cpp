// SPDX-License-Identifier: Apache-2.0
// The kernels compiled for Avx2. Only a machine that has it runs them; elsewhere than on x86-64
// there are none.
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>

// Everything below, and nothing above, may use these instructions.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#include "cpu/table.h"

namespace ltlstm::cpu {
namespace {

struct Avx2 {
  static constexpr const char* kName = "avx2";
  static constexpr int kVectorBytes = 32;
  static constexpr int kRows = 3;  // by 4 vectors: as many sums as stay in registers
  static constexpr bool kPairs = false;
};

}  // namespace

template <>
struct Permutation<Avx2, float> {
  static constexpr int kWindow = 8;
  using Index = __m256i;
  LTLSTM_MEMBER static Index index(const uint8_t* lanes) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(lanes)));
  }
  LTLSTM_MEMBER static __m256 apply(const float* x, Index index) {
    return _mm256_permutevar8x32_ps(_mm256_loadu_ps(x), index);
  }
};

template <class scalar>
const Kernels<scalar>* avx2_kernels() {
  return Table<Avx2, scalar>::get();
}

#else
#include "cpu/kernels.h"

namespace ltlstm::cpu {

template <class scalar>
const Kernels<scalar>* avx2_kernels() {
  return nullptr;
}

#endif

template const Kernels<float>* avx2_kernels();
template const Kernels<double>* avx2_kernels();

}  // namespace ltlstm::cpu

#if defined(__x86_64__) && defined(__clang__)
#pragma clang attribute pop
#endif
