// SPDX-License-Identifier: Apache-2.0
// One kernel, grid regime, forward, weights in registers: built again for each planted defect.
#include "time_lstm.h"

int main(int count, char** arguments) {
  using namespace ltlstm::cuda;
  return cases::main_of(count, arguments, [](cases::Records& records, const cases::Sizes& s) {
    cases::run_forward<ForwardKind<__nv_bfloat16, GridExchange, 1, ltlstm::Variant::kHeld>>(records,
                                                                                            s);
    return true;
  });
}
