// SPDX-License-Identifier: Apache-2.0
// Runs one kind of time-LSTM kernel, compiled here: for the programs that are built often.
#pragma once

#include "cuda/exchange_cluster.cuh"
#include "cuda/kinds.cuh"
#include "cuda/time_lstm_backward.cuh"
#include "cuda/time_lstm_forward.cuh"
#include "time_lstm.h"

namespace ltlstm::cuda::cases {

template <class Kind>
void run_kind(Records& records, const Sizes& s) {
  using scalar = typename Kind::scalar;
  const TimeLoop loop = loop_of(s);
  const int64_t bytes = Kind::workspace(loop) * loop.groups * s.directions;
  const auto launch = [&](const auto& problem) {
    return launch_kind<Kind>(problem, loop, static_cast<int>(s.directions), nullptr);
  };
  if constexpr (Kind::kBackward)
    run(records, backward_of<scalar>(records, s), bytes, launch);
  else
    run(records, forward_of<scalar>(records, s), bytes, launch);
}

}  // namespace ltlstm::cuda::cases
