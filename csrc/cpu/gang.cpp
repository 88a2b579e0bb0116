// SPDX-License-Identifier: Apache-2.0
// How the threads of a gang find each other and wait.
#include "cpu/gang.h"

#include <sched.h>

#include <chrono>
#include <thread>

namespace ltlstm::cpu {
namespace {

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins for as long as a step takes, then gives the core away each time: on an oversubscribed
// machine the thread that is waited for needs it.
template <class Condition>
void spin_until(const Condition& condition) {
  constexpr int kSpins = 300;
  for (int i = 0; !condition(); ++i) {
    if (i < kSpins)
      pause();
    else
      sched_yield();
  }
}

}  // namespace

int available_processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
#endif
  const int known = static_cast<int>(std::thread::hardware_concurrency());
  return known > 0 ? known : 1;
}

Gang::Share Gang::join(int first, int last) {
  if (last - first == pieces_) return {first, last};
  arrived_.fetch_add(last - first, std::memory_order_acq_rel);
  if (first == 0) {
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + std::chrono::milliseconds(2);
    const auto all_here = [&] { return arrived_.load(std::memory_order_acquire) == pieces_; };
    spin_until([&] { return all_here() || Clock::now() > deadline; });
    state_.store(all_here() ? kTogether : kAlone, std::memory_order_release);
  } else {
    spin_until([&] { return state_.load(std::memory_order_acquire) != kOpen; });
  }
  if (state_.load(std::memory_order_acquire) == kTogether) return {first, last};
  return first == 0 ? Share{0, pieces_} : Share{0, 0};
}

void Gang::meet(Share share) {
  const int held = share.last - share.first;
  if (held == pieces_) return;
  const uint32_t phase = phase_.load(std::memory_order_acquire);
  if (waiting_.fetch_add(held, std::memory_order_acq_rel) + held == pieces_) {
    waiting_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
  } else {
    spin_until([&] { return phase_.load(std::memory_order_acquire) != phase; });
  }
}

void Progress::wait_for(int steps) const {
  spin_until([&] { return steps_.load(std::memory_order_acquire) >= steps; });
}

}  // namespace ltlstm::cpu
