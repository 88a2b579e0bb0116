// SPDX-License-Identifier: Apache-2.0
// The little that the CUDA binding asks of a device and of torch's side of it. cuda_device.cpp
// answers for a GPU; the tests answer with emulated streams over CPU tensors, and then all that
// stands above this header, and the kernels, are the very same sources.
#pragma once

#include <functional>

#include "binding/tensors.h"
#include "plan.h"

#ifdef LTLSTM_EMULATED
#include "binding/emulated_aten.h"
#include "emulator.h"
#define LTLSTM_ATEN(name) emulated_##name
constexpr bool kDeferred = true;  // work runs when the host waits for it, after memory may be freed
inline const char* cudaGetErrorString(cudaError_t) { return "the emulator refuses"; }
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cuda.h>
#include <torch/csrc/stable/accelerator.h>
#define LTLSTM_ATEN(name) aoti_torch_cuda_##name
constexpr bool kDeferred = false;
// All that this library takes from the CUDA part of torch. Weak: a torch without CUDA lacks them,
// and the library has to load there.
#define LTLSTM_CUDA_TORCH(take)                                                      \
  take(aoti_torch_get_current_cuda_stream) take(aoti_torch_create_cuda_stream_guard) \
      take(aoti_torch_delete_cuda_stream_guard) take(aoti_torch_cuda_mm_out)         \
          take(aoti_torch_cuda_addmm_out) take(aoti_torch_cuda_fill__Scalar)
#define LTLSTM_WEAK(name) extern "C" __attribute__((weak)) decltype(name) name;
LTLSTM_CUDA_TORCH(LTLSTM_WEAK)
#undef LTLSTM_WEAK
#endif

namespace ltlstm::binding {

// Clears the error, so that the next cudaGetLastError does not report it again.
inline void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  STD_TORCH_CHECK(false, "cuda: ", cudaGetErrorString(error));
}

// Makes a device the current one for as long as it lives.
#ifdef LTLSTM_EMULATED
struct DeviceGuard {
  explicit DeviceGuard(int) {}
};
#else
using torch::stable::accelerator::DeviceGuard;
#endif

DeviceFacts device_facts(int device);

// The stream that torch's caller works on. An error where torch has no CUDA after all.
void* current_stream(int device);

// Stream `lane` beside a caller's stream of the current device, the same at every call.
void* side_stream(int device, void* caller, int lane, bool urgent);

// f's ATen calls go to this stream. Nothing in f may allocate: it would be from the stream's pool.
void run_on(int device, void* stream, const std::function<void()>& f);

// After the last work of an operator: on a GPU nothing waits.
void finish(void* stream);

}  // namespace ltlstm::binding
