// SPDX-License-Identifier: Apache-2.0
// The streamed loop, bfloat16, both passes: built again for each planted defect.
#include "cuda/time_step.cuh"
#include "streamed_case.h"

int main(int count, char** arguments) {
  using namespace ltlstm::cuda;
  return cases::main_of(count, arguments, cases::run_streamed<__nv_bfloat16>);
}
