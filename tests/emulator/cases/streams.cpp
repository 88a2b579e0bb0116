// SPDX-License-Identifier: Apache-2.0
// Cases of two streams: a fork and a join by events, and a host that waits.

#include "case.h"

namespace {

constexpr int kThreads = 32;
const LaunchShape kHost{dim3(1), dim3(0)}, kBlock{dim3(1), dim3(kThreads)};

enum Fault { kNone, kNoFork, kNoJoin, kEarlyRecord, kNoHostWait };

struct Sum {
  const float *a, *b;
  float* sum;
};

void add_kernel(Sum x) {
  const unsigned k = threadIdx.x;
  x.sum[k] = x.a[k] + x.b[k];
}

// With a = 2 x: b = a + x in the side stream, c = a + a in the other, d = b + c = 7 x.
template <Fault kFault>
void fork_and_join() {
  float* x = global_floats;
  float *a = x + 32, *b = x + 64, *c = x + 96, *d = x + 128;
  cudaStream_t side;
  cudaEvent_t forked, joined;
  cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking);
  cudaEventCreateWithFlags(&forked, cudaEventDisableTiming);
  cudaEventCreateWithFlags(&joined, cudaEventDisableTiming);
  if (kFault == kEarlyRecord) cudaEventRecord(forked, nullptr);
  launch(add_kernel, kBlock, nullptr, Sum{x, x, a});
  if (kFault != kEarlyRecord) cudaEventRecord(forked, nullptr);
  if (kFault != kNoFork) cudaStreamWaitEvent(side, forked);
  launch(add_kernel, kBlock, side, Sum{a, x, b});
  cudaEventRecord(joined, side);
  launch(add_kernel, kBlock, nullptr, Sum{a, a, c});
  if (kFault != kNoJoin) cudaStreamWaitEvent(nullptr, joined);
  launch(add_kernel, kBlock, nullptr, Sum{b, c, d});
  if (kFault != kNoHostWait) cudaStreamSynchronize(nullptr);
  bool right = true;
  for (int k = 0; k < kThreads; ++k) right &= d[k] == 7 * x[k];
  answer(right);
  cudaDeviceSynchronize();
  cudaEventDestroy(forked);
  cudaEventDestroy(joined);
  cudaStreamDestroy(side);
}

template <bool kWrong>
void work_left() {
  cudaMemsetAsync(global_words, 0, 4, nullptr);
  if (!kWrong) cudaDeviceSynchronize();
  answer(true);
}

}  // namespace

std::vector<Case> stream_cases() {
  return {
      {"a fork that does not wait", kHost, fork_and_join<kNone>, fork_and_join<kNoFork>},
      {"a join that does not wait", kHost, fork_and_join<kNone>, fork_and_join<kNoJoin>},
      {"an event recorded too early", kHost, fork_and_join<kNone>, fork_and_join<kEarlyRecord>},
      {"a host that does not wait", kHost, fork_and_join<kNone>, fork_and_join<kNoHostWait>},
      {"work that nobody waits for", kHost, work_left<false>, work_left<true>},
  };
}
