// SPDX-License-Identifier: Apache-2.0
// The kernels compiled for the compiler's own default target.
#include "cpu/table.h"

namespace ltlstm::cpu {
namespace {

struct Generic {
  static constexpr const char* kName = "generic";
  static constexpr int kVectorBytes = 16;
  static constexpr int kRows = 3;  // by 4 vectors: as many sums as stay in registers
  static constexpr bool kPairs = false;
};

}  // namespace

template <class scalar>
const Kernels<scalar>* generic_kernels() {
  return Table<Generic, scalar>::get();
}

template const Kernels<float>* generic_kernels();
template const Kernels<double>* generic_kernels();

}  // namespace ltlstm::cpu
