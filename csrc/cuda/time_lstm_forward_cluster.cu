// SPDX-License-Identifier: Apache-2.0
// The kernels of the time-LSTM, forward, cluster regime.
#include "cuda/exchange_cluster.cuh"
#include "cuda/kinds.cuh"
#include "cuda/time_lstm_forward.cuh"

namespace ltlstm::cuda {

template <class scalar>
Kernels<TimeLstmForward<scalar>> forward_cluster() {
  return kernels_of<ForwardKind, TimeLstmForward<scalar>, scalar, ClusterExchange>();
}

template Kernels<TimeLstmForward<__nv_bfloat16>> forward_cluster();
template Kernels<TimeLstmForward<__half>> forward_cluster();
template Kernels<TimeLstmForward<float>> forward_cluster();

}  // namespace ltlstm::cuda
