// SPDX-License-Identifier: Apache-2.0
// The emulator's answers to the CUDA binding: streams are queues, tensors lie on the CPU.
#include <map>

#include "binding/cuda_device.h"
#include "cuda/residency.h"

namespace ltlstm::binding {

// An H100.
DeviceFacts device_facts(int) {
  DeviceFacts facts{90, 132, 232448, 65536, {}};
  cuda::count_clusters(facts);
  return facts;
}

void* current_stream(int) { return nullptr; }

void* side_stream(int, void*, int lane, bool) {
  static std::map<int, cudaStream_t> streams;
  cudaStream_t& stream = streams[lane];
  if (stream == nullptr) cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  return stream;
}

void run_on(int, void* stream, const std::function<void()>& f) {
  emulator::enqueue(static_cast<cudaStream_t>(stream), f);
}

// The operator's results are read by the CPU as soon as it returns. What its caller's stream does
// not wait for would be read unfinished.
void finish(void* stream) {
  cudaStreamSynchronize(static_cast<cudaStream_t>(stream));
  if (!emulator::idle()) emulator::fail("an operator leaves work behind in its lanes");
  cudaDeviceSynchronize();
}

}  // namespace ltlstm::binding
