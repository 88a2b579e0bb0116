// SPDX-License-Identifier: Apache-2.0
// One thread that leaves its results step by step, and one that follows it.
#pragma once

#include "ways.h"

namespace ltlstm::sanitizers {

// The leader gives up before step `fails_at`, which may lie behind the last one.
inline void check_progress(int steps, int fails_at) {
  cpu::Progress progress;
  Buffer<int> left(steps, -1);
  int read = 0;
  const auto lead = [&] {
    for (int i = 0; i < steps; ++i) {
      if (i == fails_at) return progress.fail();
      left[i] = i;
      progress.reach(i + 1);
    }
  };
  const auto follow = [&] {
    for (read = 0; read < steps; ++read) {
      progress.wait_for(read + 1);
      if (progress.failed()) return;
      require(left[read] == read, "progress: a step is not there");
    }
  };
  on_threads(2, [&](int thread) { thread == 0 ? lead() : follow(); });
  require(read == steps || (read <= fails_at && progress.failed()), "progress: left too early");
}

inline void check_progress() {
  constexpr int kSteps = 40, kRepeats = 10;
  for (int i = 0; i < kRepeats; ++i)
    for (int fails_at : {0, 1, kSteps - 1, kSteps}) check_progress(kSteps, fails_at);
}

}  // namespace ltlstm::sanitizers
