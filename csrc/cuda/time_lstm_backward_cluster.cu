// SPDX-License-Identifier: Apache-2.0
// The kernels of the time-LSTM, backward, cluster regime.
#include "cuda/exchange_cluster.cuh"
#include "cuda/kinds.cuh"
#include "cuda/time_lstm_backward.cuh"

namespace ltlstm::cuda {

template <class scalar>
Kernels<TimeLstmBackward<scalar>> backward_cluster() {
  return kernels_of<BackwardKind, TimeLstmBackward<scalar>, scalar, ClusterExchange>();
}

template Kernels<TimeLstmBackward<__nv_bfloat16>> backward_cluster();
template Kernels<TimeLstmBackward<__half>> backward_cluster();
template Kernels<TimeLstmBackward<float>> backward_cluster();

}  // namespace ltlstm::cuda
