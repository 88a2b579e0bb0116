// SPDX-License-Identifier: Apache-2.0
// The model of a stack: recurrences that leave SMs idle, and products that could use them.

#include "plan_lanes.h"

#include <algorithm>

#include "floor_model.h"

namespace ltlstm {

namespace {

// Steps after which the other lane may start: a product of so many rows fills its tiles.
constexpr int64_t kChunk = 64;
// What a product beside a recurrence loses to it: hot lines of L2, SMs that are free only in part.
constexpr double kContention = 1.15;

struct LayerTimes {
  double recurrence;  // us a step of one layer
  double input;       // us a step of its products with W_ih on all SMs
  double trajectory;  // us a step of the layer-LSTM's products on all SMs
  int sms;            // of the recurrence
};

int sms_of(const TimeLoop& loop, int directions) { return loop.blocks * loop.groups * directions; }

LayerTimes layer_times(const PlanProblem& p, const DeviceFacts& device, const LayerLoops& loops) {
  const Machine& m = machine_of(device.capability);
  const int element = p.dtype == Dtype::kFloat32 ? 4 : 2;
  const double share = std::min(1.0, device.sms / 132.0);
  const double d = p.directions, hidden = d * p.H, output = d * p.P;
  LayerTimes t;
  const double input = 2 * 4 * hidden * output * p.N;
  const double recurrent = 2 * 4 * hidden * p.P * p.N;
  const double trajectory = p.trajectory ? 2 * 2 * 4 * hidden * output * p.N : 0;
  // Backward each product comes twice more, for the gradients of its two operands.
  t.input = product_us(p.training ? 3 * input + recurrent : input, share, element, m);
  t.trajectory = product_us((p.training ? 3 : 1) * trajectory, share, element, m);
  t.recurrence = loops.forward.us + (p.training ? loops.backward.us : 0);
  t.sms = std::max(sms_of(loops.forward, p.directions), sms_of(loops.backward, p.directions));
  t.sms = std::min(t.sms, device.sms);
  return t;
}

}  // namespace

Lanes back_to_back(const PlanProblem& p, const DeviceFacts& device, const LayerLoops& loops) {
  const LayerTimes t = layer_times(p, device, loops);
  return {false, t.sms, 0, p.T, p.L * (t.recurrence + t.input + t.trajectory), 0};
}

std::optional<Lanes> side_by_side(const PlanProblem& p, const DeviceFacts& device,
                                  const LayerLoops& loops) {
  const LayerTimes t = layer_times(p, device, loops);
  const double share = double(t.sms) / device.sms, layers = double(p.L);
  // Both directions of a layer must be complete before the next layer starts.
  const int64_t chunk = p.directions == 2 ? p.T : std::min(p.T, kChunk);
  const double late = double(chunk) / p.T;  // of a layer, until what follows it may start
  Lanes lanes{true, t.sms, device.sms - t.sms, chunk, 0, 0};
  if (lanes.layer_sms <= 0) return std::nullopt;
  if (p.trajectory) {
    // The time lane as it is; or all SMs busy; and the last layer-LSTM ends one chunk later.
    const double products = kContention * (t.input + t.trajectory);
    lanes.us =
        std::max(layers * (t.recurrence + t.input), layers * (t.recurrence * share + products));
    lanes.us += late * t.trajectory;
    return lanes;
  }
  if (p.L == 1 || p.directions == 2) return std::nullopt;
  // A wavefront: all layers at once, each on its share.
  if (t.sms * p.L > device.sms) return std::nullopt;
  const double one = t.recurrence + kContention * t.input * layers;
  lanes.us = std::max(one * (1 + (layers - 1) * late),
                      layers * (t.recurrence * share + kContention * t.input));
  return lanes;
}

}  // namespace ltlstm
