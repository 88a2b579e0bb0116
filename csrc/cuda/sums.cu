// SPDX-License-Identifier: Apache-2.0
// Sums over rows. A thread takes one column of a piece: neighbours read neighbours.
#include "cuda/launch.cuh"
#include "cuda/sums.h"

namespace ltlstm::cuda {
namespace {

constexpr int kThreads = 128;

template <class From, class To>
struct RowSums {
  int64_t R, width;
  const From* t;
  To* out;
};

template <class From, class To>
__global__ void __launch_bounds__(kThreads)
    sum_rows_kernel(const __grid_constant__ RowSums<From, To> p) {
  const int64_t blocks = (p.width + kThreads - 1) / kThreads;
  const int64_t column = blockIdx.x % blocks * kThreads + threadIdx.x, piece = blockIdx.x / blocks;
  if (column >= p.width) return;
  const int64_t first = piece * kSummedRows, last = min(first + kSummedRows, p.R);
  float sum = 0.f;
  for (int64_t row = first; row < last; ++row)
    sum += static_cast<float>(p.t[row * p.width + column]);
  p.out[piece * p.width + column] = static_cast<To>(sum);
}

}  // namespace

template <class From, class To>
Status sum_rows(int64_t R, int64_t width, const From* t, To* out, void* stream) {
  const int64_t blocks = partial_sums(R) * ((width + kThreads - 1) / kThreads);
  if (blocks == 0) return Status::kOk;
  if (blocks >= int64_t{1} << 31) return Status::kBadLoop;
  LaunchShape shape;
  shape.blocks = dim3(static_cast<unsigned>(blocks));
  shape.threads = dim3(kThreads);
  const cudaError_t error =
      launch(sum_rows_kernel<From, To>, shape, static_cast<cudaStream_t>(stream),
             RowSums<From, To>{R, width, t, out});
  return error == cudaSuccess ? Status::kOk : Status::kLaunchFailed;
}

template Status sum_rows(int64_t, int64_t, const __nv_bfloat16*, float*, void*);
template Status sum_rows(int64_t, int64_t, const __half*, float*, void*);
template Status sum_rows(int64_t, int64_t, const float*, __nv_bfloat16*, void*);
template Status sum_rows(int64_t, int64_t, const float*, __half*, void*);
template Status sum_rows(int64_t, int64_t, const float*, float*, void*);

}  // namespace ltlstm::cuda
