// SPDX-License-Identifier: Apache-2.0
// One kernel, grid regime, forward, weights in registers: built again for each planted defect.
#include "time_lstm_kind.h"

int main(int count, char** arguments) {
  using namespace ltlstm::cuda;
  using Kind = ForwardKind<__nv_bfloat16, GridExchange, 1, ltlstm::Variant::kHeld>;
  return cases::main_of(count, arguments, cases::run_kind<Kind>);
}
