// SPDX-License-Identifier: Apache-2.0
// The two ways in which a launch goes wrong: a broken rule, and a deadlock.

#include <unistd.h>

#include <cstdarg>
#include <cstdio>

#include "cluster_state.h"

namespace emulator {
namespace {

constexpr int kBrokenRule = 70, kDeadlock = 71;

[[noreturn]] void end(int code) {
  fflush(nullptr);
  _exit(code);
}

void describe(const Block& block) {
  int counts[4] = {}, polling = 0;
  const Thread* examples[4] = {};
  for (const auto& thread : block.threads) {
    const int waits = static_cast<int>(thread->waits);
    if (counts[waits]++ == 0) examples[waits] = thread.get();
    polling += thread->polls;
  }
  fprintf(stderr, "  block %d: %d threads ran, of which %d polled", block.index, counts[0],
          polling);
  if (const Thread* at = examples[static_cast<int>(Waits::kAtBarrier)]) {
    fprintf(stderr, "; %d at a barrier (thread %d at barrier %d, line %d)",
            counts[static_cast<int>(Waits::kAtBarrier)], at->index, at->barrier, at->line);
  }
  if (const Thread* in = examples[static_cast<int>(Waits::kInMeeting)]) {
    fprintf(stderr, "; %d wait for lanes of their warp (thread %d, mask %08x)",
            counts[static_cast<int>(Waits::kInMeeting)], in->index, in->mask);
  }
  fprintf(stderr, "; %d have ended\n", counts[static_cast<int>(Waits::kExited)]);
  for (const auto& thread : block.threads) {
    if (!thread->polls || thread->polled == nullptr) continue;
    fprintf(stderr, "    thread %d polled %s\n", thread->index, thread->polled);
    break;
  }
  describe_cluster(block);
}

}  // namespace

void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "emulator: ");
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  if (current != nullptr) {
    fprintf(stderr, " [block %d, thread %d, seed %lu]", current->block->index, current->index,
            running->seed);
  }
  fprintf(stderr, "\n");
  end(kBrokenRule);
}

void deadlock(const char* why) {
  fprintf(stderr, "emulator: deadlock: %s [seed %lu]\n", why, running->seed);
  for (const auto& block : running->blocks) describe(*block);
  end(kDeadlock);
}

}  // namespace emulator
