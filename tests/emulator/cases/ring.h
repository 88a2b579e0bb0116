// SPDX-License-Identifier: Apache-2.0
// What the cases of clusters share: every thread sends a word to the next block of the cluster.
#pragma once

#include "case.h"

constexpr unsigned kRing = 4, kRingThreads = 32, kRingBytes = kRingThreads * sizeof(uint32_t);
const LaunchShape kRingShape{dim3(kRing), dim3(kRingThreads), 1024, kRing};
const LaunchShape kPairShape{dim3(1), dim3(64), 1024};  // two warps

struct Shared {
  SharedArrays arrays;
  uint32_t* in = arrays.take<uint32_t>(kRingThreads);
  uint32_t* out = arrays.take<uint32_t>(kRingThreads);
  uint64_t* barriers = arrays.take<uint64_t>(2);
};

inline unsigned next_rank() { return (cluster_rank() + 1) % kRing; }
inline unsigned last_rank() { return (cluster_rank() + kRing - 1) % kRing; }
inline uint32_t word_of(unsigned rank, unsigned thread) { return 1000 * rank + thread; }
inline uint32_t own_word(unsigned thread) { return word_of(cluster_rank(), thread); }
inline void answer_received(uint32_t word) { answer(word == word_of(last_rank(), threadIdx.x)); }

inline void cluster_barrier() {
  cluster_arrive();
  cluster_wait();
}
inline void init_barrier(uint64_t* barrier, unsigned count) {
  if (threadIdx.x != 0) return;
  mbarrier_init(barrier, count);
  fence_mbarrier_init();
}
