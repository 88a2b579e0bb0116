// SPDX-License-Identifier: Apache-2.0
// Puts the steps of packed input into a GPU's memory by the arguments of a kernel: a copy from the
// host would make it wait, and could not be captured into a graph.
#pragma once

#include "cuda/time_lstm.h"

namespace ltlstm::cuda {

// batch_sizes (T), which do not increase, and offsets (T + 1): from the host's memory, read before
// this returns, to the device's.
Status write_steps(int64_t T, const int64_t* batch_sizes, const int64_t* offsets,
                   int64_t* to_batch_sizes, int64_t* to_offsets, void* stream);

}  // namespace ltlstm::cuda
