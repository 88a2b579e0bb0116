// SPDX-License-Identifier: Apache-2.0
// Cases of one block: its barrier, its shared memory, memory bounds.

#include "case.h"

namespace {

constexpr int kThreads = 64;
const LaunchShape kBlock{dim3(1), dim3(kThreads), 2048};

int me() { return static_cast<int>(threadIdx.x); }

template <bool kWrong>
void missing_barrier() {
  SharedArrays arrays;
  int* numbers = arrays.take<int>(kThreads);
  numbers[me()] = me();
  if (!kWrong) __syncthreads();
  answer(numbers[kThreads - 1 - me()] == kThreads - 1 - me());
}

template <bool kWrong>
void missing_barrier_in_a_loop() {
  SharedArrays arrays;
  float* sums = arrays.take<float>(kThreads);
  sums[me()] = global_floats[me()];
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (me() < half) sums[me()] += sums[me() + half];
    if (!kWrong || half != kThreads / 2) __syncthreads();
  }
  answer(sums[0] == kThreads * (kThreads + 1) / 2);
}

template <bool kWrong>
void barriers_at_two_places() {
  if (kWrong && me() < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  answer(true);
}

template <bool kWrong>
void barrier_after_an_exit() {
  answer(true);
  if (kWrong && me() == 50) return;
  __syncthreads();
}

template <bool kWrong>
void vote() {
  const bool any = __syncthreads_or(me() == 5);
  const bool all = __syncthreads_and(me() != 5);
  const int count = __syncthreads_count(me() < (kWrong ? 9 : 10));
  answer(any && !all && count == 10);
}

template <bool kWrong>
void unwritten_shared_memory() {
  SharedArrays arrays;
  float* numbers = arrays.take<float>(kThreads);
  if (!kWrong || me() != 50) numbers[me()] = 1;
  __syncthreads();
  answer(numbers[me()] == 1);
}

template <bool kWrong>
void more_shared_memory_than_launched() {
  SharedArrays arrays;
  arrays.take<char>(1920);
  arrays.take<char>(kWrong ? 129 : 128);
  answer(true);
}

template <bool kWrong>
void past_a_shared_array() {
  SharedArrays arrays;
  int* first = arrays.take<int>(100);
  arrays.take<int>(100);
  if (me() == 0) first[opaque(kWrong ? 100 : 99)] = 1;
  answer(true);
}

template <bool kWrong>
void past_global_memory() {
  answer(global_floats[opaque(kWrong ? kGlobals : kGlobals - 1)] != 0);
}

template <bool kWrong>
void misaligned_vector() {
  const auto* four = reinterpret_cast<const float4*>(global_floats + opaque(kWrong ? 1 : 4));
  answer(four->y == four->x + 1);
}

template <bool kWrong>
void shift_past_the_width() {
  answer((1u << opaque(kWrong ? 32 : 31)) != 3);
}

}  // namespace

std::vector<Case> block_cases() {
  return {
      {"a missing barrier", kBlock, missing_barrier<false>, missing_barrier<true>},
      {"a missing barrier in a loop", kBlock, missing_barrier_in_a_loop<false>,
       missing_barrier_in_a_loop<true>},
      {"barriers at two places", kBlock, barriers_at_two_places<false>,
       barriers_at_two_places<true>},
      {"a barrier after an exit", kBlock, barrier_after_an_exit<false>,
       barrier_after_an_exit<true>},
      {"a vote of the block", kBlock, vote<false>, vote<true>},
      {"unwritten shared memory", kBlock, unwritten_shared_memory<false>,
       unwritten_shared_memory<true>},
      {"more shared memory than launched", kBlock, more_shared_memory_than_launched<false>,
       more_shared_memory_than_launched<true>},
      {"past a shared array", kBlock, past_a_shared_array<false>, past_a_shared_array<true>},
      {"past global memory", kBlock, past_global_memory<false>, past_global_memory<true>},
      {"a misaligned vector", kBlock, misaligned_vector<false>, misaligned_vector<true>},
      {"a shift past the width", kBlock, shift_past_the_width<false>, shift_past_the_width<true>},
  };
}
