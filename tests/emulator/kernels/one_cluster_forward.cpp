// SPDX-License-Identifier: Apache-2.0
// One kernel, cluster regime, forward: built again for each planted defect.
#include "cuda/exchange_cluster.cuh"
#include "time_lstm.h"

int main(int count, char** arguments) {
  using namespace ltlstm::cuda;
  return cases::main_of(count, arguments, [](cases::Records& records, const cases::Sizes& s) {
    cases::run_forward<ForwardKind<__nv_bfloat16, ClusterExchange, 1, ltlstm::Variant::kSplit>>(
        records, s);
    return true;
  });
}
