// SPDX-License-Identifier: Apache-2.0
// One kernel, grid regime, backward: built again for each planted defect.
#include "time_lstm_kind.h"

int main(int count, char** arguments) {
  using namespace ltlstm::cuda;
  using Kind = BackwardKind<__nv_bfloat16, GridExchange, 1, ltlstm::Variant::kSplit>;
  return cases::main_of(count, arguments, cases::run_kind<Kind>);
}
