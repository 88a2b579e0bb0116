// SPDX-License-Identifier: Apache-2.0
// Modelled time of a time step, from the latencies and rates of one GPU. A lower bound that ranks
// plans, not a measurement: every constant is to be replaced by what bench/gpu.sh finds.
#pragma once

#include <cstdint>

#include "time_loop.h"

namespace ltlstm {

// What a machine does, modelled. Cycles are of the SM's clock; rates are a cycle and SM where no
// other unit is named.
struct Machine {
  double clock;          // Hz, under a kernel bound by latency
  double block_hop;      // us from one step's h to the next step's product, within a block
  double cluster_hop;    // the same through the shared memory of a cluster
  double l2_hop;         // the same through L2: release, acquire, and the read that follows
  double cluster_bytes;  // that arrive from other blocks' shared memory
  double l2_bytes;       // that arrive from L2
  double l2_total;       // bytes a second that L2 gives all SMs, when all read the same
  double shared_bytes;   // that shared memory gives
  double tile_cycles;    // of a m16n8k16 product on one of the four parts of an SM
  double tile_latency;   // cycles until a product can be added to
  double fma_lanes;      // float32 products
  double memory;         // bytes a second
  double l2_capacity;    // bytes
  double product_rate;   // FLOP a second of a large half-precision product
};

// By compute capability: the figures of the newest machine that is not newer.
const Machine& machine_of(int capability);

// What the loop computes, beside how it is cut up.
struct LoopProblem {
  int64_t N, H, P;
  int directions;
  int element;  // bytes of the weights' type: 2, or 4 for float32
  bool training;
  bool backward;
};

// Microseconds a step of all groups, passes and directions, where `resident` groups run at once.
double step_us(const TimeLoop& loop, const LoopProblem& problem, const Machine& machine,
               int64_t resident);

// The same where W_hh is read from memory, by a product a step between two pointwise kernels, on a
// share of the machine: all that a step does is then slower, for one thread of the host launches
// it.
double streamed_us(const LoopProblem& problem, const Machine& machine, int sms, double share);

// Microseconds that a launch takes beside its steps: it starts, and loads the weights.
double launch_us(const TimeLoop& loop, const Machine& machine);

// Microseconds of a product of so many operations on a share of the SMs.
double product_us(double operations, double share, int element, const Machine& machine);

}  // namespace ltlstm
