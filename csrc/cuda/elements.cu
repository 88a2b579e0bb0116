// SPDX-License-Identifier: Apache-2.0
// Element-by-element passes over arrays of any size.
#include "cuda/elements.h"
#include "cuda/launch.cuh"

namespace ltlstm::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 4096;  // enough to fill any GPU; each thread then takes several

template <class scalar>
struct Elements {
  int64_t count;
  const scalar* a;
  const scalar* b;  // or null: the sum alone
  scalar* out;
  bool accumulate;
};

template <class scalar>
__global__ void __launch_bounds__(kThreads)
    elements_kernel(const __grid_constant__ Elements<scalar> p) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < p.count; i += stride) {
    const float factor = p.b != nullptr ? static_cast<float>(p.b[i]) : 1.f;
    const float before = p.accumulate ? static_cast<float>(p.out[i]) : 0.f;
    p.out[i] = static_cast<scalar>(before + static_cast<float>(p.a[i]) * factor);
  }
}

template <class scalar>
Status run(const Elements<scalar>& p, void* stream) {
  if (p.count == 0) return Status::kOk;
  const int64_t blocks = (p.count + kThreads - 1) / kThreads;
  LaunchShape shape;
  shape.blocks = dim3(static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks));
  shape.threads = dim3(kThreads);
  const cudaError_t error =
      launch(elements_kernel<scalar>, shape, static_cast<cudaStream_t>(stream), p);
  return error == cudaSuccess ? Status::kOk : Status::kLaunchFailed;
}

}  // namespace

template <class scalar>
Status add(int64_t count, const scalar* from, scalar* to, void* stream) {
  return run<scalar>({count, from, nullptr, to, true}, stream);
}

template <class scalar>
Status multiply(int64_t count, const scalar* a, const scalar* b, scalar* out, bool accumulate,
                void* stream) {
  return run<scalar>({count, a, b, out, accumulate}, stream);
}

#define LTLSTM_ELEMENTS(scalar)                                \
  template Status add(int64_t, const scalar*, scalar*, void*); \
  template Status multiply(int64_t, const scalar*, const scalar*, scalar*, bool, void*);

LTLSTM_ELEMENTS(__nv_bfloat16)
LTLSTM_ELEMENTS(__half)
LTLSTM_ELEMENTS(float)

}  // namespace ltlstm::cuda
