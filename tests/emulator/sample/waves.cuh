// SPDX-License-Identifier: Apache-2.0
// A sample for planted defects, in the manner of a persistent recurrent kernel: blocks own slices
// of a state, read all of it in each step, and meet at a barrier of the grid.
#pragma once

#include "cuda/intrinsics.cuh"
#include "cuda/launch.cuh"
#include "cuda/shared.cuh"

namespace sample {

using namespace ltlstm::cuda;

constexpr int kThreads = 32, kBlocks = 3, kState = kBlocks * kThreads;

struct Waves {
  const float* in;    // (steps, kState)
  float* state;       // (2, kState), the first half given
  float* out;         // (steps, kState)
  unsigned* arrived;  // 0
  int steps;
};

inline int waves_shared() { return shared_bytes(kState * 4) + shared_bytes(kThreads * 4); }

// state'[k] = (state[k] + state[k + 1] + in[step][k]) / 2, the state being a ring.
__global__ void __launch_bounds__(kThreads) waves_kernel(Waves x) {
  SharedArrays arrays;
  float* state = arrays.take<float>(kState);
  float* in = arrays.take<float>(kThreads);
  const int me = static_cast<int>(threadIdx.x);
  const int mine = static_cast<int>(blockIdx.x) * kThreads + me;
  for (int step = 0; step < x.steps; ++step) {
    const float* now = x.state + step % 2 * kState;
    float* next = x.state + (step + 1) % 2 * kState;
    for (int k = me; k < kState; k += kThreads) cp_async<4>(&state[k], &now[k]);
    cp_async_commit();
    cp_async<4>(&in[me], &x.in[step * kState + mine]);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    const float value = (state[mine] + state[(mine + 1) % kState] + in[me]) / 2;
    next[mine] = value;
    x.out[step * kState + mine] = value;
    __syncthreads();
    if (me == 0) {
      add_release(x.arrived, 1);
      while (load_acquire(x.arrived) < (static_cast<unsigned>(step) + 1) * gridDim.x) {
      }
    }
    __syncthreads();
  }
}

inline cudaError_t waves(const Waves& x, cudaStream_t stream) {
  LaunchShape shape{dim3(kBlocks), dim3(kThreads), waves_shared()};
  shape.cooperative = true;
  return launch(waves_kernel, shape, stream, x);
}

}  // namespace sample
