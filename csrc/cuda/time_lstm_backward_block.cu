// SPDX-License-Identifier: Apache-2.0
// The kernels of the time-LSTM, backward, block regime.
#include "cuda/kinds.cuh"
#include "cuda/time_lstm_backward.cuh"

namespace ltlstm::cuda {

template <class scalar>
Kernels<TimeLstmBackward<scalar>> backward_block() {
  return kernels_of<BackwardKind, TimeLstmBackward<scalar>, scalar, BlockExchange>();
}

template Kernels<TimeLstmBackward<__nv_bfloat16>> backward_block();
template Kernels<TimeLstmBackward<__half>> backward_block();
template Kernels<TimeLstmBackward<float>> backward_block();

}  // namespace ltlstm::cuda
