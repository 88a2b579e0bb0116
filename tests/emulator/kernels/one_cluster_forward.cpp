// SPDX-License-Identifier: Apache-2.0
// One kernel, cluster regime, forward: built again for each planted defect.
#include "time_lstm_kind.h"

int main(int count, char** arguments) {
  using namespace ltlstm::cuda;
  using Kind = ForwardKind<__nv_bfloat16, ClusterExchange, 1, ltlstm::Variant::kSplit>;
  return cases::main_of(count, arguments, cases::run_kind<Kind>);
}
