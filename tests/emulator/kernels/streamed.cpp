// SPDX-License-Identifier: Apache-2.0
// The streamed loop of every storage type, by the launchers of csrc/cuda/time_step.h.
#include "streamed_case.h"

namespace ltlstm::cuda::cases {
namespace {

void run_all(Records& records, const Sizes& s) {
  if (s.dtype == 0) return run_streamed<__nv_bfloat16>(records, s);
  if (s.dtype == 1) return run_streamed<__half>(records, s);
  run_streamed<float>(records, s);
}

}  // namespace
}  // namespace ltlstm::cuda::cases

int main(int count, char** arguments) {
  return ltlstm::cuda::cases::main_of(count, arguments, ltlstm::cuda::cases::run_all);
}
