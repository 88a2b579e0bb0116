// SPDX-License-Identifier: Apache-2.0
// The kernels of the time-LSTM, backward, grid regime.
#include "cuda/kinds.cuh"
#include "cuda/time_lstm_backward.cuh"

namespace ltlstm::cuda {

template <class scalar>
Kernels<TimeLstmBackward<scalar>> backward_grid() {
  return kernels_of<BackwardKind, TimeLstmBackward<scalar>, scalar, GridExchange>();
}

template Kernels<TimeLstmBackward<__nv_bfloat16>> backward_grid();
template Kernels<TimeLstmBackward<__half>> backward_grid();
template Kernels<TimeLstmBackward<float>> backward_grid();

}  // namespace ltlstm::cuda
