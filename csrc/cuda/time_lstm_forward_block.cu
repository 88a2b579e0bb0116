// SPDX-License-Identifier: Apache-2.0
// The kernels of the time-LSTM, forward, block regime.
#include "cuda/kinds.cuh"
#include "cuda/time_lstm_forward.cuh"

namespace ltlstm::cuda {

template <class scalar>
Kernels<TimeLstmForward<scalar>> forward_block() {
  return kernels_of<ForwardKind, TimeLstmForward<scalar>, scalar, BlockExchange>();
}

template Kernels<TimeLstmForward<__nv_bfloat16>> forward_block();
template Kernels<TimeLstmForward<__half>> forward_block();
template Kernels<TimeLstmForward<float>> forward_block();

}  // namespace ltlstm::cuda
