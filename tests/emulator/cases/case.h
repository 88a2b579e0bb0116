// SPDX-License-Identifier: Apache-2.0
// Small kernels that show one rule of the emulator each, in a right and in a wrong form.
#pragma once

#include <vector>

#include "cuda/cluster.cuh"
#include "cuda/launch.cuh"
#include "cuda/shared.cuh"

using namespace ltlstm::cuda;

struct Case {
  const char* name;
  LaunchShape shape;  // of one launch; no threads: the two forms are host code, which answers once
  void (*right)();
  void (*wrong)();
};

// Each thread of a launch says once whether it got what it should.
void answer(bool right);

constexpr int kGlobals = 1024;
extern unsigned* global_words;  // (kGlobals), zero before a launch
extern float* global_floats;    // (kGlobals), k + 1 before a launch

// What no optimiser can know.
int opaque(int value);

std::vector<Case> block_cases();
std::vector<Case> warp_cases();
std::vector<Case> copy_cases();
std::vector<Case> grid_cases();
std::vector<Case> cluster_cases();
std::vector<Case> mbarrier_cases();
std::vector<Case> async_cases();
std::vector<Case> stream_cases();
