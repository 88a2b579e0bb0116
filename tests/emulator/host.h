// SPDX-License-Identifier: Apache-2.0
// The host's side: the launch of launch.cuh, and streams and events as queues.
//
// Nothing runs before the host synchronises. Then the order of what lies in different streams is
// that of the seed, within what the events allow: seed 0 runs the oldest first, others run one
// stream as far ahead as it gets, or mix them. A process that ends with work nobody waited for ends
// with an error. The null stream is a stream like the others, as it is beside non-blocking ones.
// To ThreadSanitizer each stream is a thread, ordered by events and by synchronising only.
#pragma once

#include <functional>
#include <tuple>

#include "runtime.h"

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice = 3, cudaMemcpyDefault = 4 };
using cudaStream_t = struct EmulatedStream*;
using cudaEvent_t = struct EmulatedEvent*;

constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream = nullptr);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

namespace ltlstm::cuda {

struct LaunchShape {
  dim3 blocks, threads;
  int shared_bytes = 0;
  int cluster = 1;
  bool cooperative = false;
};

}  // namespace ltlstm::cuda

namespace emulator {

// Runs `body` as every CUDA thread of the launch and returns when all have ended.
void run(const ltlstm::cuda::LaunchShape& shape, const std::function<void()>& body);
// For the host's part of what lies in a stream.
void enqueue(cudaStream_t stream, std::function<void()> work);
// Whether all streams are empty.
bool idle();

}  // namespace emulator

namespace ltlstm::cuda {

template <class... Parameter, class... Argument>
inline cudaError_t launch(void (*kernel)(Parameter...), const LaunchShape& shape,
                          cudaStream_t stream, const Argument&... arguments) {
  const std::tuple<Parameter...> values(arguments...);
  emulator::enqueue(stream, [=] { emulator::run(shape, [&] { std::apply(kernel, values); }); });
  return cudaSuccess;
}

// An H100's, whose SMs share parts of the chip: of blocks that fill an SM each.
template <class... Parameter>
inline int resident_clusters(void (*)(Parameter...), const LaunchShape& shape) {
  return shape.cluster == 16 ? 7 : shape.cluster == 8 ? 15 : 132 / shape.cluster;
}

}  // namespace ltlstm::cuda
