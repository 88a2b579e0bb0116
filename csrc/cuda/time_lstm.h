// SPDX-License-Identifier: Apache-2.0
// The launchers of the time-LSTM. They allocate nothing and wait for nothing.
#pragma once

#include "cuda/problem.cuh"
#include "time_loop.h"

namespace ltlstm::cuda {

enum class Status {
  kOk,
  kNoKernel,      // none was compiled for this loop: the plan asked for what instances.h lacks
  kBadLoop,       // the loop does not cover the problem
  kLaunchFailed,  // the CUDA runtime refused; cudaGetLastError says why
};

// Bytes that the problem's workspace must have, all zero when the kernel starts; 0: null will do.
template <class scalar>
int64_t forward_workspace(const TimeLoop& loop, int directions);
template <class scalar>
int64_t backward_workspace(const TimeLoop& loop, int directions);

// Dynamic shared memory of a block, or -1 where there is no such kernel.
template <class scalar>
int64_t forward_shared(const TimeLoop& loop);
template <class scalar>
int64_t backward_shared(const TimeLoop& loop);

// On `stream`, a cudaStream_t. scalar: __nv_bfloat16, __half, float.
template <class scalar>
Status time_lstm_forward(const TimeLstmForward<scalar>& problem, const TimeLoop& loop,
                         int directions, void* stream);
template <class scalar>
Status time_lstm_backward(const TimeLstmBackward<scalar>& problem, const TimeLoop& loop,
                          int directions, void* stream);

}  // namespace ltlstm::cuda
