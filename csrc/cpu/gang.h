// SPDX-License-Identifier: Apache-2.0
// Threads that work on one time loop together and meet at every step.
//
// The pieces of a gang come from somebody else's parallel loop, which may run several of them on
// one thread, or one after another. So nothing waits for a piece that may never start: the first
// piece waits a bounded time for the others, and then either all have come and are threads of their
// own, which run on whatever the load, or the first one does everything and the late ones find
// nothing to do.
#pragma once

#include <atomic>
#include <cstdint>

#include "activation.h"

namespace ltlstm::cpu {

class Gang {
 public:
  explicit Gang(int pieces) : pieces_(pieces) {}

  // A caller holds pieces [first, last). Which pieces it has to do: those, all of them, or none (an
  // empty range).
  struct Share {
    int first, last;
  };
  Share join(int first, int last);

  // Returns when callers holding all pieces have called it. Writes before it are seen by all after
  // it.
  void meet(Share share);

  LTLSTM_MEMBER int pieces() const { return pieces_; }

 private:
  enum State : int { kOpen, kTogether, kAlone };

  const int pieces_;
  std::atomic<int> arrived_{0};
  std::atomic<int> state_{kOpen};
  std::atomic<int> waiting_{0};
  std::atomic<uint32_t> phase_{0};
};

// How many processors this thread may run on: threads beyond those would only wait for each other.
int available_processors();

// How far one thread has come, for another that follows it.
class Progress {
 public:
  // `steps` are done, and what was written for them can be read by whoever has waited for them.
  void reach(int steps) { steps_.store(steps, std::memory_order_release); }
  void wait_for(int steps) const;

  // No more steps will come: whoever waits goes on and finds this true.
  void fail() { steps_.store(kFailed, std::memory_order_release); }
  bool failed() const { return steps_.load(std::memory_order_acquire) == kFailed; }

 private:
  static constexpr int kFailed = 1 << 30;
  std::atomic<int> steps_{0};
};

}  // namespace ltlstm::cpu
