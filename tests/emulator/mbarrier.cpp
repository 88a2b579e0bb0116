// SPDX-License-Identifier: Apache-2.0
// mbarriers: phases that end when all have arrived and all expected bytes have landed.
//
// Rules, checked whatever the schedule: an mbarrier is initialised once, and before asynchronous or
// remote use also fenced (fence_mbarrier_init) and, by other blocks, known of through a barrier of
// the cluster; no more arrive than the phase waits for, no more bytes land than are expected; its
// memory is not written; mbarrier_wait finds a new phase each time. Stricter than PTX: the fence is
// always asked for. An arrival too many that comes when its phase has ended counts in the next, as
// on hardware, and shows as wrong numbers or a deadlock.

#include <algorithm>

#include "cluster_state.h"

namespace emulator {
namespace {

constexpr uint64_t kMark = 0x7265697272616d62;
constexpr int64_t kMostBytes = (1 << 20) - 1, kMostThreads = (1 << 20) - 1;
constexpr int64_t kNeverWaited = -2;  // -1 is the phase before the first

void end_phase_if_complete(Mbarrier& barrier) {
  if (barrier.pending > 0 || barrier.bytes != 0) return;
  ++barrier.phase;
  barrier.pending = barrier.count;
  note_progress();
}

void expect(Mbarrier& barrier, int64_t bytes) {
  barrier.bytes += bytes;
  if (barrier.bytes > kMostBytes || barrier.bytes < -kMostBytes) {
    fail("an mbarrier: %ld bytes are more than it counts", barrier.bytes);
  }
}

void arrive(Mbarrier& barrier, const char* what) {
  if (barrier.pending == 0) {
    fail("%s: all %d threads have arrived at this mbarrier of block %d in phase %ld", what,
         barrier.count, barrier.block->index, barrier.phase);
  }
  barrier.ends[barrier.phase % 2].release();
  --barrier.pending;
  end_phase_if_complete(barrier);
}

// Whether the phase of that parity has ended, and if so which it was.
bool try_wait(const uint64_t* address, unsigned parity, int64_t* ended_phase) {
  bool ended;
  {
    const tsan::Unnoticed unnoticed;
    const Mbarrier& barrier = find_mbarrier(current->block, address, "mbarrier_try_wait");
    ended = (barrier.phase & 1) != (parity & 1);
    *ended_phase = barrier.phase - 1;
    if (!ended) land_something(running->seed == 0 ? 1 : 4);
    if (ended && *ended_phase >= 0) barrier.ends[*ended_phase % 2].acquire();
  }
  if (!ended) poll("an mbarrier");
  return ended;
}

}  // namespace

Mbarrier& find_mbarrier(Block* block, const void* address, const char* what) {
  for (auto& barrier : block->mbarriers) {
    if (barrier->address != address) continue;
    uint64_t mark;
    copy_bytes(&mark, address, sizeof mark);
    if (mark != kMark) fail("%s: the mbarrier of block %d was written over", what, block->index);
    return *barrier;
  }
  fail("%s: no mbarrier was initialised at %s of block %d", what,
       shared_place(*block, address).c_str(), block->index);
}

Mbarrier& find_published_mbarrier(ClusterAddress at, const char* what) {
  Mbarrier& barrier =
      find_mbarrier(block_of_rank(at.rank), resolve(at, sizeof kMark, 8, what), what);
  if (barrier.fenced_in < 0) {
    fail("%s: no fence_mbarrier_init since the init of this mbarrier of block %d", what,
         barrier.block->index);
  }
  if (barrier.block != current->block && current->cluster_known <= barrier.fenced_in) {
    fail("%s: no barrier of the cluster since the init of this mbarrier of block %d", what,
         barrier.block->index);
  }
  return barrier;
}

void count_landed(Mbarrier& barrier, size_t bytes) {
  expect(barrier, -static_cast<int64_t>(bytes));
  if (barrier.bytes < 0 && barrier.pending == 0) {
    fail("an mbarrier: %ld bytes landed in phase %ld that were not expected", -barrier.bytes,
         barrier.phase);
  }
  end_phase_if_complete(barrier);
}

void mbarrier_init(uint64_t* address, unsigned count) {
  const tsan::Unnoticed unnoticed;
  Block* block = current->block;
  check_shared(address, sizeof kMark, 8, "mbarrier_init");
  if (count == 0 || count > kMostThreads) fail("mbarrier_init: %u threads", count);
  for (auto& barrier : block->mbarriers) {
    if (barrier->address == address) fail("mbarrier_init: it is initialised already");
  }
  auto barrier = std::make_unique<Mbarrier>();
  barrier->block = block;
  barrier->address = address;
  barrier->count = barrier->pending = static_cast<int>(count);
  barrier->owner = current;
  barrier->waited.assign(block->threads.size(), kNeverWaited);
  block->mbarriers.push_back(std::move(barrier));
  copy_bytes(address, &kMark, sizeof kMark);
}

void mbarrier_inval(uint64_t* address) {
  const tsan::Unnoticed unnoticed;
  const Mbarrier& barrier = find_mbarrier(current->block, address, "mbarrier_inval");
  for (const AsyncOperation& operation : own_cluster().in_flight) {
    if (operation.barrier == &barrier) fail("mbarrier_inval: operations on it are in flight");
  }
  auto& all = current->block->mbarriers;
  all.erase(std::find_if(all.begin(), all.end(), [&](auto& p) { return p.get() == &barrier; }));
}

void fence_mbarrier_init() {
  for (auto& barrier : current->block->mbarriers) {
    if (barrier->owner == current && barrier->fenced_in < 0) {
      barrier->fenced_in = current->cluster_arrived;
    }
  }
}

void mbarrier_expect(uint64_t* address, unsigned bytes) {
  const tsan::Unnoticed unnoticed;
  Mbarrier& barrier = find_mbarrier(current->block, address, "mbarrier_expect_tx");
  expect(barrier, bytes);
  end_phase_if_complete(barrier);
}

void mbarrier_arrive(uint64_t* address, unsigned expected_bytes) {
  perform_remote_stores();
  const tsan::Unnoticed unnoticed;
  Mbarrier& barrier = find_mbarrier(current->block, address, "mbarrier_arrive");
  expect(barrier, expected_bytes);
  arrive(barrier, "mbarrier_arrive");
}

void mbarrier_arrive_remote(ClusterAddress at) {
  perform_remote_stores();
  const tsan::Unnoticed unnoticed;
  constexpr auto kName = "mbarrier_arrive_cluster";
  arrive(find_published_mbarrier(at, kName), kName);
}

bool mbarrier_try_wait(const uint64_t* address, unsigned parity) {
  int64_t phase;
  return try_wait(address, parity, &phase);
}

void mbarrier_wait(const uint64_t* address, unsigned parity, int64_t /*patience_ns*/) {
  int64_t phase;
  while (!try_wait(address, parity, &phase)) {
  }
  const tsan::Unnoticed unnoticed;
  Mbarrier& barrier = find_mbarrier(current->block, address, "mbarrier_wait");
  int64_t& waited = barrier.waited[static_cast<size_t>(current->index)];
  if (waited == phase) {
    fail("mbarrier_wait: a second time for phase %ld, parity %u", phase, parity);
  }
  waited = phase;
}

}  // namespace emulator
