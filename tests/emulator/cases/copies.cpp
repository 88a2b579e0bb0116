// SPDX-License-Identifier: Apache-2.0
// Cases of cp.async.

#include "case.h"

namespace {

constexpr int kThreads = 64;
const LaunchShape kBlock{dim3(1), dim3(kThreads), 4096};

enum Fault { kNone, kLaxWait, kNoBarrier, kNoWait, kMisaligned, kTooEarly, kZeros };

int me() { return static_cast<int>(threadIdx.x); }

// Two groups of copies into two buffers; the first buffer is read by other threads.
template <Fault kFault>
void pipeline() {
  SharedArrays arrays;
  float* first = arrays.take<float>(4 * kThreads);
  float* second = arrays.take<float>(4 * kThreads);
  cp_async<16>(&first[4 * me()], &global_floats[4 * me() + (kFault == kMisaligned ? 1 : 0)]);
  cp_async_commit();
  cp_async<16>(&second[4 * me()], &global_floats[4 * me()]);
  cp_async_commit();
  cp_async_wait<kFault == kLaxWait ? 2 : 1>();
  if (kFault != kNoBarrier) __syncthreads();
  const int other = 4 * (kThreads - 1 - me());
  const bool right = first[other] == static_cast<float>(other + 1);
  if (kFault != kNoWait) cp_async_wait<0>();
  answer(right);
}

// The buffer is filled again, while or after others read it.
template <Fault kFault>
void refill() {
  SharedArrays arrays;
  float* buffer = arrays.take<float>(kThreads);
  buffer[me()] = -1;
  __syncthreads();
  const bool was_right = buffer[kThreads - 1 - me()] == -1;
  if (kFault != kTooEarly) __syncthreads();
  cp_async<4>(&buffer[me()], &global_floats[me()]);
  cp_async_commit();
  if (kFault == kTooEarly) __syncthreads();
  cp_async_wait<0>();
  answer(was_right && buffer[me()] == static_cast<float>(me() + 1));
}

template <Fault kFault>
void fill_with_zeros() {
  SharedArrays arrays;
  float* buffer = arrays.take<float>(2 * kThreads);
  cp_async<8>(&buffer[2 * me()], &global_floats[2 * me()], 4);
  cp_async_commit();
  cp_async_wait<0>();
  const float filled = kFault == kZeros ? static_cast<float>(2 * me() + 2) : 0;
  answer(buffer[2 * me()] == static_cast<float>(2 * me() + 1) && buffer[2 * me() + 1] == filled);
}

}  // namespace

std::vector<Case> copy_cases() {
  return {
      {"copies waited for too laxly", kBlock, pipeline<kNone>, pipeline<kLaxWait>},
      {"copies of others with no barrier", kBlock, pipeline<kNone>, pipeline<kNoBarrier>},
      {"copies never waited for", kBlock, pipeline<kNone>, pipeline<kNoWait>},
      {"a misaligned copy", kBlock, pipeline<kNone>, pipeline<kMisaligned>},
      {"a copy into what others read", kBlock, refill<kNone>, refill<kTooEarly>},
      {"a copy filled with zeros", kBlock, fill_with_zeros<kNone>, fill_with_zeros<kZeros>},
  };
}
