// SPDX-License-Identifier: Apache-2.0
// Threads that work on one time loop together and meet at every step.
//
// The pieces of a gang come from a parallel loop of torch's, which may run several of them on one
// thread, or one after another. So nothing waits for a piece that may never start: the first piece
// waits a bounded time for the others, and then either all have come and are threads of their
// own, which run on whatever the load, or the first one does everything and the late ones find
// nothing to do.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "activation.h"

namespace ltlstm::cpu {

// A number that one thread writes and others wait for: they spin for about as long as a step takes,
// then sleep, because on a busy machine the thread that is waited for needs the processor, and one
// that wakes up gets it back sooner than one that has only yielded.
class Signal {
 public:
  explicit Signal(uint32_t value) : value_(value) {}
  uint32_t value() const { return value_.load(std::memory_order_acquire); }
  void set(uint32_t value);
  void wait_while(uint32_t value) const;

 private:
  std::atomic<uint32_t> value_;
  mutable std::atomic<int> sleepers_{0};
};

class Gang {
 public:
  explicit Gang(int pieces);
  ~Gang();

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
  enum State : uint32_t { kOpen, kTogether, kAlone };

  // How many meetings a piece has come to. Two cache lines apart, for processors fetch pairs: a
  // piece that arrives writes its own line, and takes no line from those that wait.
  struct alignas(128) Post {
    Signal meetings{0};
  };

  const int pieces_;
  std::atomic<int> arrived_{0};
  Signal state_{kOpen};
  std::unique_ptr<Post[]> posts_;
};

// How far one thread has come, for another that follows it.
class Progress {
 public:
  // `steps` are done, and what was written for them can be read by a thread that has waited for
  // them.
  void reach(uint32_t steps) { steps_.set(steps); }
  void wait_for(uint32_t steps) const {
    for (uint32_t now = steps_.value(); now < steps; now = steps_.value()) steps_.wait_while(now);
  }

  // No more steps will come: a thread that waits goes on and finds this true.
  void fail() { steps_.set(kFailed); }
  bool failed() const { return steps_.value() == kFailed; }

 private:
  static constexpr uint32_t kFailed = UINT32_MAX;
  Signal steps_{0};
};

}  // namespace ltlstm::cpu
