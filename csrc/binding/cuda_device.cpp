// SPDX-License-Identifier: Apache-2.0
// A GPU's answers.
#include "binding/cuda_device.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/c/shim.h>

#include <map>
#include <mutex>
#include <tuple>

#include "cuda/residency.h"

#pragma weak aoti_torch_get_current_cuda_stream
#pragma weak torch_get_cuda_stream_from_pool
#pragma weak torch_set_current_cuda_stream

namespace ltlstm::binding {
namespace {

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

DeviceFacts ask(int device) {
  DeviceFacts facts{};
  facts.capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor, device) +
                     attribute(cudaDevAttrComputeCapabilityMinor, device);
  facts.sms = attribute(cudaDevAttrMultiProcessorCount, device);
  facts.shared_per_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  facts.registers_per_sm = attribute(cudaDevAttrMaxRegistersPerMultiprocessor, device);
  const DeviceGuard here(device);
  cuda::count_clusters(facts);
  return facts;
}

}  // namespace

DeviceFacts device_facts(int device) {
  static std::mutex mutex;
  static std::map<int, DeviceFacts> known;
  const std::lock_guard<std::mutex> locked(mutex);
  const auto found = known.find(device);
  return found != known.end() ? found->second : known.emplace(device, ask(device)).first->second;
}

void* current_stream(int device) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  return stream;
}

void* side_stream(int device, int lane, bool urgent) {
  static std::mutex mutex;
  static std::map<std::tuple<int, int, bool>, void*> known;
  const std::lock_guard<std::mutex> locked(mutex);
  void*& stream = known[{device, lane, urgent}];
  if (stream == nullptr)
    STABLE_TORCH_ERROR_CODE_CHECK(torch_get_cuda_stream_from_pool(urgent, device, &stream));
  return stream;
}

void run_on(int device, void* stream, const std::function<void()>& f) {
  struct Current {
    Current(int device, void* stream) : device(device), before(current_stream(device)) {
      set(stream);
    }
    ~Current() { torch_set_current_cuda_stream(before, device); }
    void set(void* stream) const {
      if (stream != before)
        STABLE_TORCH_ERROR_CODE_CHECK(torch_set_current_cuda_stream(stream, device));
    }
    int device;
    void* before;
  };
  const Current current(device, stream);
  f();
}

void finish(void*) {}

}  // namespace ltlstm::binding
