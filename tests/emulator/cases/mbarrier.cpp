// SPDX-License-Identifier: Apache-2.0
// Cases of mbarriers without asynchronous operations.

#include "ring.h"

namespace {

enum Fault {
  kNone,
  kNoWait,
  kNoInit,
  kInitTwice,
  kNoFence,
  kNoClusterBarrier,
  kSameParity,
  kOneMoreExpected,
  kOneArrivalMore,
  kOverwritten,
  kTooManyBytes,
  kUsedAfterInval,
};

// Plain stores, published by an arrival of every thread at the next block's mbarrier.
template <Fault kFault>
void ring_of_arrivals() {
  const Shared shared;
  const unsigned me = threadIdx.x;
  uint64_t* full = &shared.barriers[0];
  if (me == 0) {
    if (kFault != kNoInit) mbarrier_init(full, kRingThreads + (kFault == kOneMoreExpected ? 1 : 0));
    if (kFault != kNoFence) fence_mbarrier_init();
  }
  if (kFault == kNoClusterBarrier) cluster_barrier();
  if (kFault == kNoClusterBarrier && me == 0) {
    mbarrier_inval(full);
    mbarrier_init(full, kRingThreads);
    fence_mbarrier_init();
  }
  if (kFault == kNoClusterBarrier) {
    __syncthreads();
  } else {
    cluster_barrier();
  }
  store_cluster(map_to_rank(&shared.in[me], next_rank()), own_word(me));
  mbarrier_arrive_cluster(map_to_rank(full, next_rank()));
  if (kFault != kNoWait) mbarrier_wait(full, 0);
  answer_received(shared.in[me]);
  cluster_barrier();
}

// The first warp fills a slot, the second reads it: one mbarrier says full, the other empty. The
// first wait of the first warp, for the phase before the first, passes at once.
template <Fault kFault>
void producer_and_consumer() {
  const Shared shared;
  const unsigned me = threadIdx.x, lane = me % 32;
  uint64_t *full = &shared.barriers[0], *empty = &shared.barriers[1];
  init_barrier(full, 32);
  init_barrier(empty, 32);
  __syncthreads();
  uint32_t sum = 0;
  for (unsigned step = 0; step < 5; ++step) {
    if (me < 32) {
      mbarrier_wait(empty, step % 2 ^ 1);
      shared.in[lane] = step + lane;
      mbarrier_arrive(full);
    } else {
      mbarrier_wait(full, kFault == kSameParity ? 0 : step % 2);
      sum += shared.in[lane ^ 1];
      mbarrier_arrive(empty);
    }
  }
  answer(me < 32 || sum == 10 + 5 * (lane ^ 1));
}

template <Fault kFault>
void one_arrival() {
  const Shared shared;
  uint64_t* barrier = &shared.barriers[0];
  init_barrier(barrier, 1);
  if (kFault == kInitTwice) init_barrier(barrier, 1);
  __syncthreads();
  if (kFault == kOverwritten && threadIdx.x == 1) *barrier = 1;
  if (kFault == kUsedAfterInval && threadIdx.x == 1) mbarrier_inval(barrier);
  __syncthreads();
  if (threadIdx.x < (kFault == kOneArrivalMore ? 2 : 1)) {
    mbarrier_arrive_expect_tx(barrier, kFault == kTooManyBytes ? 1 << 20 : 64);
  }
  answer(!mbarrier_try_wait(barrier, 0));
}

}  // namespace

std::vector<Case> mbarrier_cases() {
  return {
      {"arrivals not waited for", kRingShape, ring_of_arrivals<kNone>, ring_of_arrivals<kNoWait>},
      {"an mbarrier never initialised", kRingShape, ring_of_arrivals<kNone>,
       ring_of_arrivals<kNoInit>},
      {"an mbarrier not fenced", kRingShape, ring_of_arrivals<kNone>, ring_of_arrivals<kNoFence>},
      {"an mbarrier others do not know of", kRingShape, ring_of_arrivals<kNone>,
       ring_of_arrivals<kNoClusterBarrier>},
      {"an mbarrier for one thread too many", kRingShape, ring_of_arrivals<kNone>,
       ring_of_arrivals<kOneMoreExpected>},
      {"a parity not flipped", kPairShape, producer_and_consumer<kNone>,
       producer_and_consumer<kSameParity>},
      {"an mbarrier initialised twice", kPairShape, one_arrival<kNone>, one_arrival<kInitTwice>},
      {"an arrival too many", kPairShape, one_arrival<kNone>, one_arrival<kOneArrivalMore>},
      {"an mbarrier written over", kPairShape, one_arrival<kNone>, one_arrival<kOverwritten>},
      {"more bytes than an mbarrier counts", kPairShape, one_arrival<kNone>,
       one_arrival<kTooManyBytes>},
      {"an mbarrier used after its end", kPairShape, one_arrival<kNone>,
       one_arrival<kUsedAfterInval>},
  };
}
