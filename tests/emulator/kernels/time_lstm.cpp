// SPDX-License-Identifier: Apache-2.0
// Every kernel of the time-LSTM, by the launchers of csrc/cuda/time_lstm.h.
#include "time_lstm.h"

namespace ltlstm::cuda::cases {
namespace {

template <class Problem>
void run_any(Records& records, const Problem& problem, const Sizes& s) {
  const TimeLoop loop = loop_of(s);
  const auto directions = static_cast<int>(s.directions);
  const int64_t bytes = workspace_bytes<Problem>(loop, directions);
  if (bytes < 0) give_up("no kernel is compiled for this loop");
  run(records, problem, bytes,
      [&](const Problem& given) { return time_lstm(given, loop, directions, nullptr); });
}

template <class scalar>
void run_storage(Records& records, const Sizes& s) {
  if (s.backward)
    run_any(records, backward_of<scalar>(records, s), s);
  else
    run_any(records, forward_of<scalar>(records, s), s);
}

void run_all(Records& records, const Sizes& s) {
  if (s.dtype == 0) return run_storage<__nv_bfloat16>(records, s);
  if (s.dtype == 1) return run_storage<__half>(records, s);
  run_storage<float>(records, s);
}

}  // namespace
}  // namespace ltlstm::cuda::cases

int main(int count, char** arguments) {
  return ltlstm::cuda::cases::main_of(count, arguments, ltlstm::cuda::cases::run_all);
}
