// SPDX-License-Identifier: Apache-2.0
// Which kernel runs an LSTM on a GPU and how it is cut up: a pure function of the problem and of
// the device's facts. It makes no CUDA call, so it plans here for a machine that is elsewhere.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "time_loop.h"

namespace ltlstm {

enum class Dtype { kBFloat16, kFloat16, kFloat32, kFloat64 };

struct DeviceFacts {
  int capability;        // 10 * major + minor: 80, 90
  int sms;               // of the current context: fewer than the chip's under MIG or MPS
  int shared_per_block;  // bytes a block may ask for (the opt-in limit)
  int registers_per_sm;  // of 32 bits
  int clusters[5];       // resident clusters of 1, 2, 4, 8, 16 blocks that fill their SMs; 0: none
};

struct PlanProblem {
  int64_t T, N, H, P, L;  // P = H without a projection
  int directions;         // 1 or 2
  Dtype dtype;            // of the weights and of h
  bool training;          // gates and cells are stored, and a backward pass follows
  bool projection;
  bool trajectory;  // a layer-LSTM stands beside each time-LSTM
};

// `clusters` of the other facts, assumed where there is no driver to ask. An H100 with 132 SMs was
// seen to hold 15 clusters of 8 blocks and 7 of 16; the SMs of a cluster must share a part of the
// chip.
void assume_clusters(DeviceFacts& facts);

// What narrows the choice, for tests and measurements. Empty or 0: the model chooses.
struct Wanted {
  std::vector<Regime> regimes;
  int blocks = 0;     // of a group
  int columns = 0;    // of a group
  int64_t chunk = 0;  // steps, where lanes run side by side; of a stack they do if less than T
  std::optional<bool> overlap;  // of a trajectory: side by side
};

// The time lane beside the layer lane, or the layers of a stack as a wavefront over chunks of time.
struct Lanes {
  bool overlap;     // else back to back on one stream
  int at_once;      // lanes: of a wavefront a layer each, else 1 or 2
  int time_sms;     // of the recurrence of one layer
  int layer_sms;    // of what runs beside it
  int64_t chunk;    // steps after which another lane may start; T where back to back
  double us;        // modelled microseconds a step of the whole stack, as chosen
  double other_us;  // of the schedule not chosen
};

struct Plan {
  TimeLoop forward;
  TimeLoop backward;  // kAten and zeros where not training
  Lanes lanes;
  std::string reason;  // why this regime, and of each other why not
};

const char* regime_name(Regime regime);

// Every valid problem gets a plan; what no kernel serves gets kAten. Throws std::invalid_argument,
// "plan: <argument> must <contract>, got <value>", where sizes or device facts cannot be.
Plan make_plan(const PlanProblem& problem, const DeviceFacts& device, const Wanted& wanted = {});

}  // namespace ltlstm
