// SPDX-License-Identifier: Apache-2.0
// The time-LSTM in the cluster regime, bfloat16.
#include "cuda/exchange_cluster.cuh"
#include "time_lstm.h"

int main(int count, char** arguments) {
  using namespace ltlstm::cuda;
  return cases::main_of(count, arguments, cases::run_kernels<__nv_bfloat16, ClusterExchange>);
}
