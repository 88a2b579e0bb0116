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
