// SPDX-License-Identifier: Apache-2.0
// Steps of packed input as runs of as many rows: a batch of N rows has at most N runs.
#include "cuda/launch.cuh"
#include "cuda/steps.h"

namespace ltlstm::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRuns = 160;  // of a launch, whose arguments may take 4 KB

struct StepRuns {
  int count = 0;
  int64_t first[kRuns + 1];  // the step that each begins with, and the end of the last
  int64_t row[kRuns];        // the row that it begins with
  int64_t rows[kRuns];       // of each of its steps
  int64_t *batch_sizes, *offsets;
};

__global__ void __launch_bounds__(kThreads) write_steps_kernel(const __grid_constant__ StepRuns p) {
  const int64_t step = p.first[0] + int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t end = p.first[p.count];
  if (step >= end) return;
  int run = 0, beyond = p.count;
  while (beyond - run > 1) {
    const int middle = (run + beyond) / 2;
    (p.first[middle] <= step ? run : beyond) = middle;
  }
  const int64_t row = p.row[run] + (step - p.first[run]) * p.rows[run];
  p.batch_sizes[step] = p.rows[run];
  p.offsets[step] = row;
  if (step + 1 == end) p.offsets[end] = row + p.rows[run];
}

Status write(const StepRuns& runs, cudaStream_t stream) {
  const int64_t steps = runs.first[runs.count] - runs.first[0];
  LaunchShape shape;
  shape.blocks = dim3(static_cast<unsigned>((steps + kThreads - 1) / kThreads));
  shape.threads = dim3(kThreads);
  return launch(write_steps_kernel, shape, stream, runs) == cudaSuccess ? Status::kOk
                                                                        : Status::kLaunchFailed;
}

}  // namespace

Status write_steps(int64_t T, const int64_t* batch_sizes, const int64_t* offsets,
                   int64_t* to_batch_sizes, int64_t* to_offsets, void* stream) {
  if (T >= int64_t{kThreads} << 31) return Status::kBadLoop;
  StepRuns runs;
  runs.batch_sizes = to_batch_sizes;
  runs.offsets = to_offsets;
  for (int64_t t = 0; t < T; ++t) {
    if (runs.count == 0 || batch_sizes[t] != runs.rows[runs.count - 1]) {
      runs.first[runs.count] = t;
      runs.row[runs.count] = offsets[t];
      runs.rows[runs.count] = batch_sizes[t];
      ++runs.count;
    }
    runs.first[runs.count] = t + 1;
    const bool ends = t + 1 == T || (runs.count == kRuns && batch_sizes[t + 1] != batch_sizes[t]);
    if (!ends) continue;
    const Status status = write(runs, static_cast<cudaStream_t>(stream));
    if (status != Status::kOk) return status;
    runs.count = 0;
  }
  return Status::kOk;
}

}  // namespace ltlstm::cuda
