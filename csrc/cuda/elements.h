// SPDX-License-Identifier: Apache-2.0
// Launchers of element-by-element passes: ATen's own would allocate, which a side stream must not.
// scalar is __nv_bfloat16, __half or float; sums are rounded once.
#pragma once

#include "cuda/time_lstm.h"

namespace ltlstm::cuda {

// to += from
template <class scalar>
Status add(int64_t count, const scalar* from, scalar* to, void* stream);

// out = a b, added to out where `accumulate`; out may be a or b.
template <class scalar>
Status multiply(int64_t count, const scalar* a, const scalar* b, scalar* out, bool accumulate,
                void* stream);

}  // namespace ltlstm::cuda
