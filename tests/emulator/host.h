// SPDX-License-Identifier: Apache-2.0
// The host's side: error codes, streams, and the launch of launch.cuh.
#pragma once

#include <tuple>

#include "runtime.h"

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
using cudaStream_t = struct EmulatedStream*;

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

namespace ltlstm::cuda {

struct LaunchShape {
  dim3 blocks, threads;
  int shared_bytes = 0;
  int cluster = 1;
  bool cooperative = false;
};

}  // namespace ltlstm::cuda

namespace emulator {

// Runs body(context) as every CUDA thread of the launch and returns when all have ended.
void run(const ltlstm::cuda::LaunchShape& shape, void (*body)(void*), void* context);

}  // namespace emulator

namespace ltlstm::cuda {

template <class... Parameter, class... Argument>
inline cudaError_t launch(void (*kernel)(Parameter...), const LaunchShape& shape, cudaStream_t,
                          const Argument&... arguments) {
  using Arguments = std::tuple<Parameter...>;
  struct Call {
    void (*kernel)(Parameter...);
    Arguments arguments;
  } call{kernel, Arguments(arguments...)};
  emulator::run(
      shape,
      [](void* context) {
        const auto* call = static_cast<const Call*>(context);
        std::apply(call->kernel, call->arguments);
      },
      &call);
  return cudaSuccess;
}

}  // namespace ltlstm::cuda
