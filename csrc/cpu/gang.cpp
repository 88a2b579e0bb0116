// SPDX-License-Identifier: Apache-2.0
// How the threads of a gang find each other and wait.
#include "cpu/gang.h"

#include <sched.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <chrono>

namespace ltlstm::cpu {
namespace {

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// False where the condition does not hold after about ten microseconds.
template <class Condition>
bool spin_until(const Condition& condition) {
  constexpr int kSpins = 1000, kAtOnce = 200;  // a pause may take as long as a small meeting
  for (int i = 0; i < kSpins; ++i) {
    if (condition()) return true;
    if (i >= kAtOnce) pause();
  }
  return condition();
}

// Sleeps unless the value has changed by then. May wake for no reason.
void sleep_while(const std::atomic<uint32_t>& word, uint32_t value) {
#if defined(__linux__)
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
#else
  if (word.load() == value) sched_yield();
#endif
}

void wake_all(const std::atomic<uint32_t>& word) {
#if defined(__linux__)
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
#else
  (void)word;
#endif
}

}  // namespace

void Signal::set(uint32_t value) {
  // Both sequentially consistent, as in wait_while: either the sleeper is seen here, or the value
  // there.
  value_.store(value);
  if (sleepers_.load() > 0) wake_all(value_);
}

void Signal::wait_while(uint32_t value) const {
  if (spin_until([&] { return this->value() != value; })) return;
  sleepers_.fetch_add(1);
  while (value_.load() == value) sleep_while(value_, value);
  sleepers_.fetch_sub(1);
}

Gang::Gang(int pieces) : pieces_(pieces), posts_(new Post[pieces]) {}
Gang::~Gang() = default;

Gang::Share Gang::join(int first, int last) {
  if (last - first == pieces_) return {first, last};
  arrived_.fetch_add(last - first, std::memory_order_acq_rel);
  if (first == 0) {
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + std::chrono::milliseconds(2);
    const auto all_here = [&] { return arrived_.load(std::memory_order_acquire) == pieces_; };
    while (!spin_until(all_here) && Clock::now() < deadline) sched_yield();
    state_.set(all_here() ? kTogether : kAlone);
  } else {
    state_.wait_while(kOpen);
  }
  if (state_.value() == kTogether) return {first, last};
  return first == 0 ? Share{0, pieces_} : Share{0, 0};
}

void Gang::meet(Share share) {
  const int held = share.last - share.first;
  if (held == pieces_) return;
  const uint32_t before = posts_[share.first].meetings.value();
  for (int piece = share.first; piece < share.last; ++piece) posts_[piece].meetings.set(before + 1);
  // None comes to the next meeting but one before this one has.
  for (int piece = 0; piece < pieces_; ++piece)
    if (piece < share.first || piece >= share.last) posts_[piece].meetings.wait_while(before);
}

}  // namespace ltlstm::cpu
