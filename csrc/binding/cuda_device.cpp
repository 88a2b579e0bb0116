// SPDX-License-Identifier: Apache-2.0
// A GPU's answers.
#include "binding/cuda_device.h"

#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>

#include "cuda/capture.h"
#include "cuda/residency.h"

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

// By name, what of the CUDA part of torch was not found when this library was loaded.
const std::string& missing_functions() {
  static const std::string names = [] {
    std::string found;
#define LTLSTM_LOOK(name) \
  if (&name == nullptr) found += (found.empty() ? "" : ", ") + std::string(#name);
    LTLSTM_CUDA_TORCH(LTLSTM_LOOK)
#undef LTLSTM_LOOK
    return found;
  }();
  return names;
}

// The current stream of a device while this lives. The guard gives the caller's very object back:
// one made anew from the raw pointer equals no stream that the caller knows.
class CurrentStream {
 public:
  CurrentStream(int device, void* stream) {
    if (stream != current_stream(device))
      STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_create_cuda_stream_guard(stream, device, &guard_));
  }
  CurrentStream(const CurrentStream&) = delete;
  ~CurrentStream() {
    if (guard_ != nullptr) aoti_torch_delete_cuda_stream_guard(guard_);
  }

 private:
  CUDAStreamGuardHandle guard_ = nullptr;
};

}  // namespace

DeviceFacts device_facts(int device) {
  static std::mutex mutex;
  static std::map<int, DeviceFacts> known;
  const std::lock_guard<std::mutex> locked(mutex);
  const auto found = known.find(device);
  return found != known.end() ? found->second : known.emplace(device, ask(device)).first->second;
}

void* current_stream(int device) {
  require(missing_functions().empty(), "cuda", "torch", "have the functions of a CUDA build",
          "none of these: " + missing_functions());
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  return stream;
}

// The streams are this library's own, a set of them for each stream of a caller. Torch's pool would
// hand them to the user too. A set that all callers share would take one caller's work into the
// graph that another captures. torch keeps a cuBLAS workspace for each host thread and stream, so
// there are kSets at most on a device; more callers than that share them.
void* side_stream(int device, void* caller, int lane, bool urgent) {
  constexpr size_t kSets = 16, kCallers = 4096;
  static std::mutex mutex;
  static std::map<std::pair<int, void*>, size_t> sets;
  static std::map<std::tuple<int, size_t, int, bool>, cudaStream_t> streams;
  const std::lock_guard<std::mutex> locked(mutex);
  if (sets.size() == kCallers) sets.clear();  // no memory of every stream that ever was
  const size_t set = sets.emplace(std::pair{device, caller}, sets.size() % kSets).first->second;
  cudaStream_t& stream = streams[{device, set, lane, urgent}];
  if (stream == nullptr) {
    const cuda::RelaxedCapture here;
    int least, greatest;
    check(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, urgent ? greatest : least));
  }
  return stream;
}

void run_on(int device, void* stream, const std::function<void()>& f) {
  const CurrentStream here(device, stream);
  f();
}

void finish(void*) {}

}  // namespace ltlstm::binding

// For ltlstm_kernels, which asks where torch is a CUDA build: "" where nothing is missing.
extern "C" __attribute__((visibility("default"))) const char* ltlstm_missing_functions() {
  return ltlstm::binding::missing_functions().c_str();
}
