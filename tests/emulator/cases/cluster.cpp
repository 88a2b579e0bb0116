// SPDX-License-Identifier: Apache-2.0
// Cases of clusters: the barrier, loads and stores of other blocks' shared memory.

#include "ring.h"

namespace {

enum Fault {
  kNone,
  kNoStart,
  kRelaxed,
  kNoEnd,
  kArriveTwice,
  kNoArrive,
  kBadRank,
  kPastTheArray,
};

template <Fault kFault>
void ring_of_stores() {
  const Shared shared;
  const unsigned me = threadIdx.x;
  if (kFault != kNoStart) cluster_barrier();
  const unsigned at = kFault == kPastTheArray ? me + 1 : me;
  store_cluster(map_to_rank(&shared.in[at], next_rank()), own_word(me));
  if (kFault == kRelaxed) {
    cluster_arrive_relaxed();
  } else {
    cluster_arrive();
  }
  cluster_wait();
  answer_received(shared.in[me]);
}

template <Fault kFault>
void ring_of_loads() {
  const Shared shared;
  const unsigned me = threadIdx.x;
  shared.out[me] = own_word(me);
  if (kFault == kRelaxed) {
    cluster_arrive_relaxed();
  } else {
    cluster_arrive();
  }
  cluster_wait();
  answer_received(load_cluster(map_to_rank(&shared.out[me], last_rank())));
  if (kFault != kNoEnd) cluster_barrier();
}

template <Fault kFault>
void barriers() {
  const Shared shared;
  if (kFault != kNoArrive) cluster_arrive();
  if (kFault == kArriveTwice) cluster_arrive();
  cluster_wait();
  map_to_rank(shared.in, kFault == kBadRank ? kRing : 0);
  answer(true);
}

// One block of the cluster never comes to the barrier, and does not end either.
template <bool kWrong>
void barrier_of_some_blocks() {
  if (!kWrong || cluster_rank() == 1) {
    cluster_barrier();
  } else {
    while (true) __nanosleep(1);
  }
  answer(true);
}

}  // namespace

std::vector<Case> cluster_cases() {
  return {
      {"a store before the cluster has begun", kRingShape, ring_of_stores<kNone>,
       ring_of_stores<kNoStart>},
      {"a store published by a relaxed arrival", kRingShape, ring_of_stores<kNone>,
       ring_of_stores<kRelaxed>},
      {"a store past the array", kRingShape, ring_of_stores<kNone>, ring_of_stores<kPastTheArray>},
      {"a load published by a relaxed arrival", kRingShape, ring_of_loads<kNone>,
       ring_of_loads<kRelaxed>},
      {"a load from a block that may have ended", kRingShape, ring_of_loads<kNone>,
       ring_of_loads<kNoEnd>},
      {"two arrivals at the cluster's barrier", kRingShape, barriers<kNone>,
       barriers<kArriveTwice>},
      {"a wait with no arrival", kRingShape, barriers<kNone>, barriers<kNoArrive>},
      {"a rank outside the cluster", kRingShape, barriers<kNone>, barriers<kBadRank>},
      {"a cluster's barrier of some blocks", kRingShape, barrier_of_some_blocks<false>,
       barrier_of_some_blocks<true>},
  };
}
