// SPDX-License-Identifier: Apache-2.0
// What a host thread may do while a CUDA graph is being captured.
#pragma once

#include <cuda_runtime_api.h>

namespace ltlstm::cuda {

// While this lives the thread may load kernels and create streams, which a capture under way would
// else refuse: neither becomes part of the graph.
class RelaxedCapture {
 public:
  RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  ~RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;  // the other one meanwhile
};

}  // namespace ltlstm::cuda
