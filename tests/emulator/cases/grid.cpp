// SPDX-License-Identifier: Apache-2.0
// Cases of a grid: blocks that wait for each other through global memory.

#include "case.h"

namespace {

constexpr int kBlocks = 4, kThreads = 32;
const LaunchShape kGrid{dim3(kBlocks), dim3(kThreads), 0, 1, true};

enum Fault {
  kNone,
  kNoRelease,
  kNoAcquire,
  kPlainAdd,
  kNoBarrierBefore,
  kNoBarrierAfter,
  kTooMany,
  kOneBuffer,
  kNotCooperative,
};
enum class Way { kReleaseAcquire, kFences };

// `steps` barriers have been passed when the counter reaches steps * blocks.
template <Way kWay, Fault kFault>
void grid_barrier(unsigned step) {
  const unsigned target = step * gridDim.x + (kFault == kTooMany ? 1 : 0);
  unsigned* counter = &global_words[0];
  if (kFault != kNoBarrierBefore) __syncthreads();
  if (threadIdx.x == 0) {
    if (kWay == Way::kReleaseAcquire) {
      if (kFault == kNoRelease) {
        atomicAdd(counter, 1);
      } else {
        add_release(counter, 1);
      }
      while ((kFault == kNoAcquire ? load_relaxed(counter) : load_acquire(counter)) < target) {
      }
    } else {
      if (kFault != kNoRelease) __threadfence();
      if (kFault == kPlainAdd) {
        *counter += 1;
      } else {
        atomicAdd(counter, 1);
      }
      while (load_relaxed(counter) < target) {
      }
      if (kFault != kNoAcquire) __threadfence();
    }
  }
  if (kFault != kNoBarrierAfter) __syncthreads();
}

// Each step, every thread adds one to what the next block's thread of the same index holds.
template <Way kWay, Fault kFault>
void steps() {
  constexpr int kSteps = 4, kNumbers = kBlocks * kThreads;
  float* numbers[2] = {global_floats, global_floats + (kFault == kOneBuffer ? 0 : kNumbers)};
  const int mine = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  const int other = (mine + kThreads) % kNumbers;
  for (int step = 0; step < kSteps; ++step) {
    numbers[(step + 1) % 2][mine] = numbers[step % 2][other] + 1;
    grid_barrier<kWay, kFault>(static_cast<unsigned>(step + 1));
  }
  answer(numbers[kSteps % 2][mine] == static_cast<float>(mine + 1 + kSteps));
}

// The data say themselves that they are there: no number is zero.
template <bool kWrong>
void data_as_their_own_signal() {
  auto* vectors = reinterpret_cast<uint4*>(global_words);
  const unsigned mine = blockIdx.x * kThreads + threadIdx.x;
  const unsigned other = (mine + kThreads) % (kBlocks * kThreads);
  store_relaxed(&vectors[mine], make_uint4(mine + 1, mine + 2, mine + 3, mine + 4));
  uint4 got;
  do {
    got = kWrong ? vectors[other] : load_relaxed(&vectors[other]);
    if (kWrong) __nanosleep(1);
  } while (got.x == 0 || got.y == 0 || got.z == 0 || got.w == 0);
  answer(got.x == other + 1 && got.w == other + 4);
}

template <bool kWrong>
void one_word_of_two_blocks() {
  global_words[kWrong ? 0 : blockIdx.x * kThreads + threadIdx.x] = 1;
  answer(true);
}

// A wait that gives up after some time.
template <bool kWrong>
void bounded_wait() {
  if (threadIdx.x == 0) {
    add_release(&global_words[0], 1);
    const uint64_t start = global_timer_ns();
    while (load_acquire(&global_words[0]) < gridDim.x + (kWrong ? 1 : 0)) {
      if (global_timer_ns() - start > 10000) trap();
    }
  }
  answer(true);
}

LaunchShape not_cooperative() {
  LaunchShape shape = kGrid;
  shape.cooperative = false;
  return shape;
}

template <bool kWrong>
void wait_for_blocks_that_have_not_begun() {
  if (kWrong) grid_barrier<Way::kReleaseAcquire, kNone>(1);
  answer(true);
}

constexpr Way kOrdered = Way::kReleaseAcquire, kFenced = Way::kFences;

}  // namespace

std::vector<Case> grid_cases() {
  return {
      {"a grid barrier that releases nothing", kGrid, steps<kOrdered, kNone>,
       steps<kOrdered, kNoRelease>},
      {"a grid barrier that acquires nothing", kGrid, steps<kOrdered, kNone>,
       steps<kOrdered, kNoAcquire>},
      {"a grid barrier with no fence before", kGrid, steps<kFenced, kNone>,
       steps<kFenced, kNoRelease>},
      {"a grid barrier with no fence after", kGrid, steps<kFenced, kNone>,
       steps<kFenced, kNoAcquire>},
      {"a grid barrier that adds plainly", kGrid, steps<kFenced, kNone>, steps<kFenced, kPlainAdd>},
      {"a grid barrier for one thread only", kGrid, steps<kOrdered, kNone>,
       steps<kOrdered, kNoBarrierBefore>},
      {"a grid barrier that one thread waits at", kGrid, steps<kOrdered, kNone>,
       steps<kOrdered, kNoBarrierAfter>},
      {"a grid barrier for too many", kGrid, steps<kOrdered, kNone>, steps<kOrdered, kTooMany>},
      {"one buffer between blocks", kGrid, steps<kOrdered, kNone>, steps<kOrdered, kOneBuffer>},
      {"data as their own signal, loaded plainly", kGrid, data_as_their_own_signal<false>,
       data_as_their_own_signal<true>},
      {"one word of two blocks", kGrid, one_word_of_two_blocks<false>,
       one_word_of_two_blocks<true>},
      {"a wait that gives up", kGrid, bounded_wait<false>, bounded_wait<true>},
      {"a wait for blocks that have not begun", not_cooperative(),
       wait_for_blocks_that_have_not_begun<false>, wait_for_blocks_that_have_not_begun<true>},
  };
}
