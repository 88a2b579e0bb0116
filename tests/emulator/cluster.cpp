// SPDX-License-Identifier: Apache-2.0
// Clusters: their barrier and the shared memory of their blocks.
//
// Rules, checked whatever the schedule: a block's shared memory is used by others only after a
// barrier of the cluster, inside an array, and until the block ends; the barrier's arrive and wait
// alternate. With ThreadSanitizer a block's end is a write to all its shared memory, so that an
// access that is not known to be over is a race.

#include <cstdio>

#include "cluster_state.h"

namespace emulator {

Cluster& own_cluster() { return *current->block->cluster; }

Block* block_of_rank(unsigned rank) { return own_cluster().blocks[rank]; }

// Not memcpy, which ThreadSanitizer would watch.
void copy_bytes(void* to, const void* from, size_t bytes) {
  auto* target = static_cast<char*>(to);
  const auto* source = static_cast<const char*>(from);
  for (size_t k = 0; k < bytes; ++k) {
    target[k] = source[k];
    asm volatile("" ::: "memory");
  }
}

char* resolve(ClusterAddress at, size_t bytes, size_t alignment, const char* what) {
  Block* block = block_of_rank(at.rank);
  if (block != current->block) {
    if (current->cluster_known == 0) {
      fail("%s: shared memory of block %d is used before any barrier of the cluster", what,
           block->index);
    }
    if (block->alive == 0) fail("%s: block %d has ended", what, block->index);
  }
  char* p = block->shared + at.offset;
  if (!in_array(*block, p, bytes)) {
    fail("%s: %zu bytes at %s of block %d lie outside its arrays", what, bytes,
         shared_place(*block, p).c_str(), block->index);
  }
  check_aligned(p, alignment, what);
  return p;
}

unsigned cluster_rank() { return current->block->rank; }
unsigned cluster_size() { return static_cast<unsigned>(own_cluster().blocks.size()); }

namespace {

void end_phase_if_all_arrived(Cluster& cluster) {
  if (cluster.alive == 0 || cluster.arrived < cluster.alive) return;
  cluster.arrived = 0;
  ++cluster.phase;
  note_progress();
}

void perform(const RemoteStore& store) {
  tsan::write(store.to, store.bytes);
  copy_bytes(store.to, store.value, store.bytes);
}

}  // namespace

void cluster_arrive(bool release) {
  Cluster& cluster = own_cluster();
  if (current->cluster_arrived != current->cluster_waited) {
    fail("cluster_arrive: a second time, with no cluster_wait between");
  }
  if (release) {
    perform_remote_stores();
    cluster.ends[current->cluster_arrived % 2].release();
  }
  ++current->cluster_arrived;
  ++cluster.arrived;
  end_phase_if_all_arrived(cluster);
}

void cluster_wait() {
  const Cluster& cluster = own_cluster();
  if (current->cluster_arrived == current->cluster_waited) {
    fail("cluster_wait: with no cluster_arrive before");
  }
  while (cluster.phase < current->cluster_arrived) poll("the barrier of the cluster");
  cluster.ends[current->cluster_waited % 2].acquire();
  current->cluster_waited = current->cluster_known = current->cluster_arrived;
}

ClusterAddress map_to_rank(const void* own, unsigned rank) {
  if (rank >= cluster_size()) {
    fail("map_to_rank: rank %u in a cluster of %u", rank, cluster_size());
  }
  return {static_cast<const char*>(own) - current->block->shared, rank};
}

void store_remote(ClusterAddress to, const void* value, int bytes) {
  const auto size = static_cast<size_t>(bytes);
  RemoteStore store{resolve(to, size, size, "store_cluster"), {}, size};
  copy_bytes(store.value, value, size);
  if (to.rank == current->block->rank || chance(4)) {
    perform_remote_stores();
    perform(store);
    return;
  }
  tsan::write(store.to, size);  // it may be performed at once
  const tsan::Unnoticed unnoticed;
  current->remote_stores.push_back(store);
}

void load_remote(ClusterAddress from, void* value, int bytes) {
  perform_remote_stores();  // a thread sees its own stores
  const auto size = static_cast<size_t>(bytes);
  const char* p = resolve(from, size, size, "load_cluster");
  tsan::read(p, size);
  copy_bytes(value, p, size);
}

void perform_remote_stores() {
  if (current->remote_stores.empty()) return;
  for (const RemoteStore& store : current->remote_stores) perform(store);
  const tsan::Unnoticed unnoticed;
  current->remote_stores.clear();
}

void end_thread_in_cluster() {
  perform_remote_stores();
  Cluster& cluster = own_cluster();
  if (current->cluster_arrived > cluster.phase) --cluster.arrived;
  --cluster.alive;
  end_phase_if_all_arrived(cluster);
}

void end_block_in_cluster() {
  const Block* block = current->block;
  block->exits.acquire();
  for (const SharedArray& array : block->arrays) {
    tsan::write(array.first, static_cast<size_t>(array.end - array.first));
  }
  for (const AsyncOperation& operation : own_cluster().in_flight) {
    if (operation.to == block) {
      fail("block %d ends while %s of block %d, thread %d is on its way to it", block->index,
           operation.name, operation.from->index, operation.thread);
    }
    if (operation.from == block && operation.source != nullptr) {
      fail("block %d ends while a bulk copy still reads its shared memory", block->index);
    }
  }
}

void describe_cluster(const Block& block) {
  for (const auto& barrier : block.mbarriers) {
    fprintf(stderr, "    mbarrier at %s: phase %ld, %d of %d threads and %ld bytes missing\n",
            shared_place(block, barrier->address).c_str(), barrier->phase, barrier->pending,
            barrier->count, barrier->bytes);
  }
  const Cluster& cluster = *block.cluster;
  if (block.rank != 0 || cluster.blocks.size() == 1) return;
  fprintf(stderr, "    its cluster: %d of %d threads at the barrier, %zu operations in flight\n",
          cluster.arrived, cluster.alive, cluster.in_flight.size());
}

}  // namespace emulator
