// SPDX-License-Identifier: Apache-2.0
// The state of a launch: threads, warps, blocks, the grid. For the files of the runtime only.
//
// Everything runs on one OS thread and changes over at known places, so nothing here is locked.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fiber.h"
#include "host.h"
#include "runtime.h"
#include "sanitizers.h"

namespace emulator {

struct Block;
struct Cluster;
struct Grid;
struct Mbarrier;
struct ProxyView;

enum class Waits { kForNothing, kAtBarrier, kInMeeting, kExited };

struct AsyncCopy {  // cp.async
  char* shared;
  const char* global;
  int bytes, valid, group;
};

struct RemoteStore {  // st.shared::cluster, not yet performed
  char* to;
  char value[16];
  size_t bytes;
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
  const char* polled = nullptr;            // what the last poll looked at, if that has a name
  std::vector<RemoteStore> remote_stores;
  // Phases of the cluster barrier: arrived at, waited for, known to be over (by a block barrier).
  int64_t cluster_arrived = 0, cluster_waited = 0, cluster_known = 0;
};

struct OpenMeeting {
  Meeting meeting;
  Finish finish;
  uint32_t mask, arrived;
  Lane lanes[32];
  const tsan::Order* order;
};

// To ThreadSanitizer the hardware that performs a warp's asynchronous operations is two threads:
// one reads sources, in the past of the proxy fences only; one writes destinations.
struct AsyncEngine {
  void* reader = nullptr;
  void* writer = nullptr;
  tsan::Order issued = {}, has_read = {};
};

struct Warp {
  std::vector<OpenMeeting> open;
  tsan::Order orders[4];
  unsigned met = 0;
  AsyncEngine engine;
};

struct Barrier {
  int arrived = 0, expected = 0, line = 0;
  int any = 0, all = 1, count = 0;
  unsigned phase = 0;
  int64_t cluster_known[2] = {};  // what one thread knows of the cluster, all of the block learn
  tsan::Order orders[2];
};

struct SharedArray {
  char *first, *end;
};

struct Block {
  Grid* grid = nullptr;
  int index = 0;
  uint3 place{};
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<Warp> warps;
  Barrier barriers[16];
  char* shared = nullptr;           // each array at twice its offset, so that a gap follows it
  std::vector<SharedArray> arrays;  // that threads have taken
  Cluster* cluster = nullptr;
  unsigned rank = 0;
  std::vector<std::unique_ptr<Mbarrier>> mbarriers;
  std::vector<ProxyView> views;
  bool proxy_fenced = false;
  tsan::Order proxy_fence;
  std::vector<Thread*> ready;  // a ring
  size_t first_ready = 0, ready_count = 0;
  int polling = 0, alive = 0;
  tsan::Order exits;

  void enqueue(Thread* thread);
  Thread* dequeue();
};

struct Grid {
  ltlstm::cuda::LaunchShape shape;
  const std::function<void()>* body = nullptr;
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<std::unique_ptr<Cluster>> clusters;
  Fiber scheduler;  // to ThreadSanitizer it knows nothing of the kernel
  uint64_t seed = 0, random_state = 0, clock_ns = 0, clock_step_ns = 0;
  bool progress = false;

  uint64_t random();
};

extern Thread* current;  // null while the scheduler runs
extern Grid* running;

int64_t setting(const char* name, int64_t otherwise);  // of the environment
void schedule(Grid& grid);                             // until all threads have ended
void begin(Cluster& cluster);
void end(Cluster& cluster);
void wait(Waits what);  // until woken
void wake(Thread* thread);
[[noreturn]] void deadlock(const char* why);

// In memory.cpp.
bool in_array(const Block& block, const char* first, size_t bytes);
std::string shared_place(const Block& block, const void* p);

// In the files of clusters.
void end_thread_in_cluster();
void end_block_in_cluster();
void describe_cluster(const Block& block);

}  // namespace emulator
