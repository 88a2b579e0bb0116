// SPDX-License-Identifier: Apache-2.0
// The kernels compiled for Avx512. Only a machine that has it runs them; elsewhere than on x86-64
// there are none.
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>

// Everything below, and nothing above, may use these instructions.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma")
#endif
#include "cpu/table.h"

namespace ltlstm::cpu {
namespace {

struct Avx512 {
  static constexpr const char* kName = "avx512";
  static constexpr int kVectorBytes = 64;
  static constexpr int kRows = 6;  // by 4 vectors: as many sums as stay in registers
  static constexpr bool kPairs = false;
};

}  // namespace

template <class scalar>
const Kernels<scalar>* avx512_kernels() {
  return Table<Avx512, scalar>::get();
}

#else
#include "cpu/kernels.h"

namespace ltlstm::cpu {

template <class scalar>
const Kernels<scalar>* avx512_kernels() {
  return nullptr;
}

#endif

template const Kernels<float>* avx512_kernels();
template const Kernels<double>* avx512_kernels();

}  // namespace ltlstm::cpu

#if defined(__x86_64__) && defined(__clang__)
#pragma clang attribute pop
#endif
