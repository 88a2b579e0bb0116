// SPDX-License-Identifier: Apache-2.0
// The launchers of the time-LSTM. They allocate nothing and wait for nothing.
//
// Problem is TimeLstmForward<scalar> or TimeLstmBackward<scalar>; scalar is __nv_bfloat16, __half
// or float. A plan's loop of several passes is launched once for each, with first_row moved on by
// groups * columns.
#pragma once

#include "cuda/problem.cuh"
#include "time_loop.h"

namespace ltlstm::cuda {

enum class Status {
  kOk,
  kNoKernel,      // none is compiled for this loop: see kernel_exists in time_loop.h
  kBadLoop,       // the loop does not cover the problem, or is more than the kernel's launch bound
  kLaunchFailed,  // the CUDA runtime refused; cudaGetLastError says why
};

// Bytes that problem.workspace must have, all zero when the kernel starts, spent afterwards. 0:
// null will do. -1: no kernel.
template <class Problem>
int64_t workspace_bytes(const TimeLoop& loop, int directions);

// Dynamic shared memory of a block; -1: no kernel.
template <class Problem>
int64_t shared_bytes_of(const TimeLoop& loop);

// On `stream`, a cudaStream_t, with 1 or 2 directions.
template <class Problem>
Status time_lstm(const Problem& problem, const TimeLoop& loop, int directions, void* stream);

}  // namespace ltlstm::cuda
