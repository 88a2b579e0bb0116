// SPDX-License-Identifier: Apache-2.0
// The state of a cluster: its barrier, the mbarriers of its blocks, operations in flight.
#pragma once

#include "cluster.h"
#include "state.h"

namespace emulator {

// One object of 8 bytes in shared memory, which hold no more than a mark: overwriting it shows.
struct Mbarrier {
  Block* block;
  const uint64_t* address;
  int count, pending;   // threads that have yet to arrive
  int64_t bytes = 0;    // that have yet to land; below 0 if they landed before they were expected
  int64_t phase = 0;    // phases that have ended
  const Thread* owner;  // who initialised it
  int64_t fenced_in = -1;       // its phase of the cluster barrier then, or -1
  std::vector<int64_t> waited;  // the last phase that each thread waited for
  tsan::Order ends[2] = {};
};

// What the asynchronous proxy sees of the source of bulk copies: as it was at the last proxy fence.
struct ProxyView {
  const char* source;
  std::vector<char> bytes;
};

// st.async, or a piece of a bulk copy.
struct AsyncOperation {
  const char* name;
  Block *from, *to;
  int thread;
  AsyncEngine* engine;
  char* destination;
  size_t bytes;
  char value[16];      // of st.async
  const char* source;  // of a bulk copy, else null
  size_t view, view_offset;
  Mbarrier* barrier;
  int64_t phase;  // of the mbarrier when it was issued
};

struct Cluster {
  std::vector<Block*> blocks;  // by rank
  int arrived = 0, alive = 0;  // threads
  int64_t phase = 0;           // of the barrier: how many have ended
  tsan::Order ends[2] = {};
  std::vector<AsyncOperation> in_flight;
};

// Shared by the files of the cluster runtime.
Cluster& own_cluster();
Block* block_of_rank(unsigned rank);
void copy_bytes(void* to, const void* from, size_t bytes);
// The place in its block, after the checks that each use of a ClusterAddress must pass.
char* resolve(ClusterAddress at, size_t bytes, size_t alignment, const char* what);
Mbarrier& find_mbarrier(Block* block, const void* address, const char* what);
// One that is known to be initialised, not by luck only.
Mbarrier& find_published_mbarrier(ClusterAddress at, const char* what);
void count_landed(Mbarrier& barrier, size_t bytes);
void land_something(unsigned one_in);

}  // namespace emulator
