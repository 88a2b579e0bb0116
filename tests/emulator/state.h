// SPDX-License-Identifier: Apache-2.0
// The state of a launch: threads, warps, blocks, the grid. For the files of the runtime only.
//
// Everything runs on one OS thread and changes over at known places, so nothing here is locked.
#pragma once

#include <memory>
#include <vector>

#include "fiber.h"
#include "host.h"
#include "runtime.h"
#include "sanitizers.h"

namespace emulator {

struct Block;
struct Grid;

enum class Waits { kForNothing, kAtBarrier, kInMeeting, kExited };

struct AsyncCopy {  // cp.async
  char* shared;
  const char* global;
  int bytes, valid, group;
};

struct Thread {
  Block* block = nullptr;
  int index = 0;  // in the block
  uint3 place{};
  Fiber fiber;
  Waits waits = Waits::kForNothing;
  bool polls = false;
  bool fenced = false;
  int barrier = 0, line = 0;  // while waiting at a barrier
  Meeting meeting{};          // while waiting in a meeting
  uint32_t mask = 0;
  int group = 0;  // of the copies issued next
  std::vector<AsyncCopy> copies;
  std::vector<const void*> relaxed_loads;  // since the last fence
};

struct OpenMeeting {
  Meeting meeting;
  Finish finish;
  uint32_t mask, arrived;
  Lane lanes[32];
  const tsan::Order* order;
};
struct Warp {
  std::vector<OpenMeeting> open;
  tsan::Order orders[4];
  unsigned met = 0;
};

struct Barrier {
  int arrived = 0, expected = 0, line = 0;
  int any = 0, all = 1, count = 0;
  unsigned phase = 0;
  tsan::Order orders[2];
};

struct Block {
  Grid* grid = nullptr;
  int index = 0;
  uint3 place{};
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<Warp> warps;
  Barrier barriers[16];
  char* shared = nullptr;      // each array at twice its offset, so that a gap follows it
  std::vector<Thread*> ready;  // a ring
  size_t first_ready = 0, ready_count = 0;
  int polling = 0, alive = 0;
  tsan::Order exits;

  void enqueue(Thread* thread);
  Thread* dequeue();
};

struct Grid {
  ltlstm::cuda::LaunchShape shape;
  void (*body)(void*) = nullptr;
  void* context = nullptr;
  std::vector<std::unique_ptr<Block>> blocks;
  Fiber scheduler;
  uint64_t seed = 0, random_state = 0, clock_ns = 0, clock_step_ns = 0;
  bool progress = false;

  uint64_t random();
};

extern Thread* current;  // null while the scheduler runs
extern Grid* running;

void wait(Waits what);  // until woken
void wake(Thread* thread);
[[noreturn]] void deadlock(const char* why);

}  // namespace emulator
