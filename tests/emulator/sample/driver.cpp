// SPDX-License-Identifier: Apache-2.0
// Runs the sample and compares it with the plain loop.

#include <cstdio>
#include <vector>

#include "waves.cuh"

int main() {
  using namespace sample;
  constexpr int kSteps = 5;
  std::vector<float> in(kSteps * kState), state(2 * kState), out(kSteps * kState);
  unsigned arrived = 0;
  for (int k = 0; k < kSteps * kState; ++k) in[k] = static_cast<float>(k % 13 - 6);
  for (int k = 0; k < kState; ++k) state[k] = static_cast<float>(k % 7 - 3);
  std::vector<float> expected(state.begin(), state.begin() + kState);
  waves({in.data(), state.data(), out.data(), &arrived, kSteps}, nullptr);
  cudaDeviceSynchronize();
  int wrong = 0;
  for (int step = 0; step < kSteps; ++step) {
    std::vector<float> next(kState);
    for (int k = 0; k < kState; ++k) {
      next[k] = (expected[k] + expected[(k + 1) % kState] + in[step * kState + k]) / 2;
      wrong += !(out[step * kState + k] == next[k]);
    }
    expected = next;
  }
  if (wrong > 0) printf("wrong numbers: %d\n", wrong);
  return wrong > 0;
}
