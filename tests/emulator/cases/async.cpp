// SPDX-License-Identifier: Apache-2.0
// Cases of asynchronous stores and bulk copies.

#include "ring.h"

namespace {

enum Fault {
  kNone,
  kNoWait,
  kNoFence,
  kNoEnd,
  kNoBarrier,
  kTooFewExpected,
  kTooManyExpected,
  kOtherMbarrier,
  kMisaligned,
  kOddSize,
  kReusedSource,
};

template <int kBytes, Fault kFault>
void ring_of_async_stores() {
  const Shared shared;
  const unsigned me = threadIdx.x;
  uint64_t* full = &shared.barriers[0];
  init_barrier(full, 1);
  constexpr int kMore = kFault == kTooManyExpected ? 16 : kFault == kTooFewExpected ? -16 : 0;
  if (me == 0) mbarrier_arrive_expect_tx(full, kRingBytes + kMore);
  cluster_barrier();
  const unsigned first = me * kBytes / 4;
  if (first < kRingThreads) {
    const unsigned at = kFault == kMisaligned && me == 0 ? first + 1 : first;
    const ClusterAddress to = map_to_rank(&shared.in[at], next_rank());
    const ClusterAddress by =
        map_to_rank(full, kFault == kOtherMbarrier ? cluster_rank() : next_rank());
    uint32_t words[4];
    for (unsigned k = 0; k < 4; ++k) words[k] = own_word(first + k);
    if constexpr (kBytes == 4) store_async(to, words[0], by);
    if constexpr (kBytes == 8) {
      store_async(to, words[0] | static_cast<uint64_t>(words[1]) << 32, by);
    }
    if constexpr (kBytes == 16) {
      store_async(to, make_uint4(words[0], words[1], words[2], words[3]), by);
    }
  }
  if (kFault != kNoWait) mbarrier_wait(full, 0);
  answer_received(shared.in[me]);
  if (kFault == kNoWait) cluster_barrier();
}

template <Fault kFault>
void ring_of_bulk_copies() {
  const Shared shared;
  const unsigned me = threadIdx.x;
  uint64_t* full = &shared.barriers[0];
  init_barrier(full, 1);
  if (me == 0) mbarrier_arrive_expect_tx(full, kRingBytes);
  cluster_barrier();
  shared.out[me] = own_word(me);
  if (kFault != kNoFence) fence_proxy_async();
  if (kFault != kNoBarrier) __syncthreads();
  if (me == 0) {
    bulk_copy(map_to_rank(shared.in, next_rank()), shared.out,
              kRingBytes - (kFault == kOddSize ? 8 : 0), map_to_rank(full, next_rank()));
  }
  if (kFault == kReusedSource) {
    shared.out[me] = 0;
    fence_proxy_async();
  }
  if (kFault != kNoWait) mbarrier_wait(full, 0);
  answer_received(shared.in[me]);
  if (kFault != kNoEnd) cluster_barrier();
}

// A second phase, armed after the first has ended; the sender may be ahead of that.
template <Fault kFault>
void two_phases() {
  const Shared shared;
  const unsigned me = threadIdx.x;
  uint64_t *full = &shared.barriers[0], *second = &shared.barriers[kFault == kNoBarrier ? 0 : 1];
  init_barrier(full, 1);
  if (second != full) init_barrier(second, 1);
  if (me == 0) {
    mbarrier_arrive_expect_tx(full, kRingBytes);
    if (second != full) mbarrier_arrive_expect_tx(second, kRingBytes);
  }
  cluster_barrier();
  store_async(map_to_rank(&shared.in[me], next_rank()), own_word(me),
              map_to_rank(full, next_rank()));
  store_async(map_to_rank(&shared.out[me], next_rank()), own_word(me),
              map_to_rank(second, next_rank()));
  mbarrier_wait(full, 0);
  if (second == full && me == 0) mbarrier_arrive_expect_tx(second, kRingBytes);
  mbarrier_wait(second, second == full ? 1 : 0);
  answer(shared.in[me] == shared.out[me] && shared.in[me] == word_of(last_rank(), me));
}

}  // namespace

std::vector<Case> async_cases() {
  return {
      {"4-byte stores not waited for", kRingShape, ring_of_async_stores<4, kNone>,
       ring_of_async_stores<4, kNoWait>},
      {"8-byte stores, too many bytes expected", kRingShape, ring_of_async_stores<8, kNone>,
       ring_of_async_stores<8, kTooManyExpected>},
      {"16-byte stores, too few bytes expected", kRingShape, ring_of_async_stores<16, kNone>,
       ring_of_async_stores<16, kTooFewExpected>},
      {"a store counted in another block", kRingShape, ring_of_async_stores<4, kNone>,
       ring_of_async_stores<4, kOtherMbarrier>},
      {"a misaligned asynchronous store", kRingShape, ring_of_async_stores<16, kNone>,
       ring_of_async_stores<16, kMisaligned>},
      {"stores ahead of their phase", kRingShape, two_phases<kNone>, two_phases<kNoBarrier>},
      {"bulk copies not waited for", kRingShape, ring_of_bulk_copies<kNone>,
       ring_of_bulk_copies<kNoWait>},
      {"a bulk copy with no proxy fence", kRingShape, ring_of_bulk_copies<kNone>,
       ring_of_bulk_copies<kNoFence>},
      {"a bulk copy with no barrier before", kRingShape, ring_of_bulk_copies<kNone>,
       ring_of_bulk_copies<kNoBarrier>},
      {"a bulk copy whose source is reused", kRingShape, ring_of_bulk_copies<kNone>,
       ring_of_bulk_copies<kReusedSource>},
      {"a bulk copy whose source block ends", kRingShape, ring_of_bulk_copies<kNone>,
       ring_of_bulk_copies<kNoEnd>},
      {"a bulk copy of an odd size", kRingShape, ring_of_bulk_copies<kNone>,
       ring_of_bulk_copies<kOddSize>},
  };
}
