// SPDX-License-Identifier: Apache-2.0
// The model of a stack: recurrences that leave SMs idle, and products that could use them.

#include "plan_lanes.h"

#include <algorithm>

#include "floor_model.h"

namespace ltlstm {

namespace {

// Steps after which another lane may start.
constexpr int64_t kChunks[] = {16, 32, 64, 128, 256, 512};
// What a product beside a recurrence loses to it: hot lines of L2, SMs that are free only in part.
constexpr double kContention = 1.15;

struct LayerTimes {
  double recurrence;  // us a step of one layer
  double input;       // us a step of its products with W_ih on all SMs
  double trajectory;  // us a step of the layer-LSTM's products on all SMs
  double launch;      // us that each chunk adds to the recurrence
  int sms;            // of the recurrence
};

int sms_of(const TimeLoop& loop, int directions) {
  return loop.blocks * loop.groups * (loop.regime == Regime::kStreamed ? 1 : directions);
}

// Whether so many launches of a loop are resident at once: they must never wait for each other.
bool fits(const TimeLoop& loop, int directions, int count, const DeviceFacts& device) {
  if (loop.regime >= Regime::kStreamed) return true;  // no block waits for another
  if (int64_t{sms_of(loop, directions)} * count > device.sms) return false;
  if (loop.regime != Regime::kCluster) return true;
  int index = 0;
  while (1 << index < loop.blocks) ++index;
  return int64_t{loop.groups} * directions * count <= device.clusters[index];
}

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
  t.launch = launch_us(loops.forward, m) + (p.training ? launch_us(loops.backward, m) : 0);
  t.sms = std::max(sms_of(loops.forward, p.directions), sms_of(loops.backward, p.directions));
  t.sms = std::min(t.sms, device.sms);
  return t;
}

}  // namespace

Lanes back_to_back(const PlanProblem& p, const DeviceFacts& device, const LayerLoops& loops) {
  const LayerTimes t = layer_times(p, device, loops);
  const double us = t.recurrence + t.input + t.trajectory + t.launch / p.T;
  return {false, 1, t.sms, 0, p.T, p.L * us, 0};
}

std::optional<Lanes> side_by_side(const PlanProblem& p, const DeviceFacts& device,
                                  const LayerLoops& loops, int count, int64_t steps) {
  const LayerTimes t = layer_times(p, device, loops);
  const double share = double(t.sms) / device.sms, layers = double(p.L);
  if (p.trajectory) {
    if (t.sms >= device.sms) return std::nullopt;
    count = 2;
  } else {
    // Both directions of a layer must be complete before the next layer starts.
    if (count < 2 || p.directions == 2) return std::nullopt;
    if (!fits(loops.forward, 1, count, device) || !fits(loops.backward, 1, count, device))
      return std::nullopt;
  }
  const int beside = p.trajectory ? device.sms - t.sms : device.sms - count * t.sms;
  const auto modelled = [&](int64_t chunk) {
    const double late = double(chunk) / p.T;  // of a layer, until what follows it may start
    const double launches = t.launch / chunk;
    if (p.trajectory) {
      // The time lane as it is; or all SMs busy; and the last layer-LSTM ends one chunk later.
      const double products = kContention * (t.input + t.trajectory);
      return std::max(layers * (t.recurrence + t.input + launches),
                      layers * (t.recurrence * share + products)) +
             late * t.trajectory;
    }
    // A wavefront: `count` layers at once, each on its share, and then the next ones. Products come
    // in chunks too.
    const double one = t.recurrence + kContention * t.input * count + 2 * launches;
    const double rounds = double((p.L - 1) / count), rest = double((p.L - 1) % count);
    return std::max(one * (rounds * std::max(1.0, count * late) + 1 + rest * late),
                    layers * (t.recurrence * share + kContention * t.input));
  };
  const auto lanes = [&](int64_t chunk) {
    return Lanes{true, count, t.sms, beside, chunk, modelled(chunk), 0};
  };
  // In reverse a direction begins at the end.
  Lanes best = lanes(steps > 0 && p.directions == 1 ? std::min(steps, p.T) : p.T);
  if (steps == 0 && p.directions == 1)
    for (const int64_t chunk : kChunks)
      if (const Lanes other = lanes(chunk); chunk < p.T && other.us < best.us) best = other;
  if (!p.trajectory && best.chunk == p.T) return std::nullopt;  // a layer after another
  return best;
}

}  // namespace ltlstm
