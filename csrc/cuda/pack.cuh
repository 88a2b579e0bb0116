// SPDX-License-Identifier: Apache-2.0
// Neighbouring elements that are loaded or stored at once.
#pragma once

#include "cuda/intrinsics.cuh"

namespace ltlstm::cuda {

template <class scalar, int kCount>
struct alignas(sizeof(scalar) * kCount > 16 ? 16 : sizeof(scalar) * kCount) Pack {
  scalar v[kCount];
};

}  // namespace ltlstm::cuda
