// SPDX-License-Identifier: Apache-2.0
// The kernels compiled for Avx512 with its bfloat16 products. Only a machine that has it runs them;
// elsewhere than on x86-64 there are none.
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__x86_64__)

// Everything below, and nothing above, may use these instructions.
#if defined(__clang__)
#pragma clang attribute push(                                                     \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma"))), \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")
#endif
#include "cpu/table.h"

namespace ltlstm::cpu {
namespace {

struct Avx512Bf16 {
  static constexpr const char* kName = "avx512bf16";
  static constexpr int kVectorBytes = 64;
  static constexpr int kRows = 6;  // by 4 vectors: as many sums as stay in registers
  static constexpr bool kPairs = true;

  struct Pairs {
    using Left = uint32_t;
    using Vector = Tile<Avx512Bf16, float>::Vector;
    LTLSTM_MEMBER static void multiply_add(Vector& sum, Left a, const Vector& b) {
      sum = (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(a), (__m512bh)b);
    }
  };
};

}  // namespace

template <class scalar>
const Kernels<scalar>* avx512bf16_kernels() {
  return Table<Avx512Bf16, scalar>::get();
}

#else
#include "cpu/kernels.h"

namespace ltlstm::cpu {

template <class scalar>
const Kernels<scalar>* avx512bf16_kernels() {
  return nullptr;
}

#endif

template const Kernels<float>* avx512bf16_kernels();
template const Kernels<double>* avx512bf16_kernels();

}  // namespace ltlstm::cpu

#if defined(__x86_64__) && defined(__clang__)
#pragma clang attribute pop
#endif
