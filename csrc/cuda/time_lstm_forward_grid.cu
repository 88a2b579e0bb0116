// SPDX-License-Identifier: Apache-2.0
// The kernels of the time-LSTM, forward, grid regime.
#include "cuda/kinds.cuh"
#include "cuda/time_lstm_forward.cuh"

namespace ltlstm::cuda {

template <class scalar>
Kernels<TimeLstmForward<scalar>> forward_grid() {
  return kernels_of<ForwardKind, TimeLstmForward<scalar>, scalar, GridExchange>();
}

template Kernels<TimeLstmForward<__nv_bfloat16>> forward_grid();
template Kernels<TimeLstmForward<__half>> forward_grid();
template Kernels<TimeLstmForward<float>> forward_grid();

}  // namespace ltlstm::cuda
