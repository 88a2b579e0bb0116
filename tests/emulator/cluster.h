// SPDX-License-Identifier: Apache-2.0
// The functions of cluster.cuh.
//
// An asynchronous operation lies in a pool of its cluster and lands in an order that the seed
// decides: some at once, most only while somebody polls an mbarrier, what goes to one slow rank
// last of all. Seed 0: oldest first, as late as possible. Plain remote stores are performed at the
// latest when their thread releases. The rules that are checked whatever the schedule head
// cluster.cpp, mbarrier.cpp and async.cpp.
#pragma once

#include "runtime.h"

namespace ltlstm::cuda {

struct ClusterAddress {
  ptrdiff_t offset;  // the same in every block
  unsigned rank;
};

}  // namespace ltlstm::cuda

namespace emulator {

using ltlstm::cuda::ClusterAddress;

unsigned cluster_rank();
unsigned cluster_size();
void cluster_arrive(bool release);
void cluster_wait();
ClusterAddress map_to_rank(const void* own, unsigned rank);
void store_remote(ClusterAddress to, const void* value, int bytes);
void load_remote(ClusterAddress from, void* value, int bytes);

void mbarrier_init(uint64_t* barrier, unsigned count);
void mbarrier_inval(uint64_t* barrier);
void fence_mbarrier_init();
void mbarrier_expect(uint64_t* barrier, unsigned bytes);
void mbarrier_arrive(uint64_t* barrier, unsigned expected_bytes);
void mbarrier_arrive_remote(ClusterAddress barrier);
bool mbarrier_try_wait(const uint64_t* barrier, unsigned parity);
void mbarrier_wait(const uint64_t* barrier, unsigned parity, int64_t patience_ns = 0);

void fence_proxy_async();
void store_async(ClusterAddress to, const void* value, int bytes, ClusterAddress barrier);
void bulk_copy(ClusterAddress to, const void* from, unsigned bytes, ClusterAddress barrier);

}  // namespace emulator

namespace ltlstm::cuda {

using emulator::bulk_copy;
using emulator::cluster_rank;
using emulator::cluster_size;
using emulator::cluster_wait;
using emulator::fence_mbarrier_init;
using emulator::fence_proxy_async;
using emulator::map_to_rank;
using emulator::mbarrier_init;
using emulator::mbarrier_inval;
using emulator::mbarrier_try_wait;
using emulator::mbarrier_wait;

inline void cluster_arrive() { emulator::cluster_arrive(true); }
inline void cluster_arrive_relaxed() { emulator::cluster_arrive(false); }

inline void store_cluster(ClusterAddress to, uint32_t value) {
  emulator::store_remote(to, &value, sizeof value);
}
inline uint32_t load_cluster(ClusterAddress from) {
  uint32_t value;
  emulator::load_remote(from, &value, sizeof value);
  return value;
}

inline void mbarrier_expect_tx(uint64_t* barrier, unsigned bytes) {
  emulator::mbarrier_expect(barrier, bytes);
}
inline void mbarrier_arrive(uint64_t* barrier) { emulator::mbarrier_arrive(barrier, 0); }
inline void mbarrier_arrive_expect_tx(uint64_t* barrier, unsigned bytes) {
  emulator::mbarrier_arrive(barrier, bytes);
}
inline void mbarrier_arrive_cluster(ClusterAddress barrier) {
  emulator::mbarrier_arrive_remote(barrier);
}

inline void store_async(ClusterAddress to, uint32_t value, ClusterAddress barrier) {
  emulator::store_async(to, &value, sizeof value, barrier);
}
inline void store_async(ClusterAddress to, uint64_t value, ClusterAddress barrier) {
  emulator::store_async(to, &value, sizeof value, barrier);
}
inline void store_async(ClusterAddress to, uint4 value, ClusterAddress barrier) {
  emulator::store_async(to, &value, sizeof value, barrier);
}

}  // namespace ltlstm::cuda
