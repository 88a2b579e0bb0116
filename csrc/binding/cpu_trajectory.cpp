// SPDX-License-Identifier: Apache-2.0
// The layer trajectory LSTM on the CPU: two lanes over the layers, back to back or side by side.
//
// Forward the time lane leads and the layer lane follows one layer behind; backward the layer lane
// leads. Side by side each lane is one thread.
#include "binding/cpu_stack.h"
#include "binding/cpu_trace.h"

namespace ltlstm::binding {
namespace {

// lead(i), then follow(i), for i in [0, steps); follow(i) needs what lead(i) left, lead(i + 1) does
// not need follow(i).
template <class Lead, class Follow>
void run_lanes(bool side_by_side, int64_t steps, const Lead& lead, const Follow& follow) {
  if (!side_by_side) {
    for (int64_t i = 0; i < steps; ++i) lead(i), follow(i);
    return;
  }
  cpu::Gang gang(2);
  cpu::Progress progress;
  torch::stable::parallel_for(0, 2, 1, [&](int64_t first, int64_t last) {
    const auto share = gang.join(static_cast<int>(first), static_cast<int>(last));
    if (share.first == 0 && share.last > 0) {
      try {
        for (int64_t i = 0; i < steps; ++i) {
          lead(i);
          progress.reach(static_cast<uint32_t>(i) + 1);
        }
      } catch (...) {
        progress.fail();  // or the other lane would wait for ever
        throw;
      }
    }
    if (share.last == 2) {
      for (int64_t i = 0; i < steps; ++i) {
        progress.wait_for(static_cast<uint32_t>(i) + 1);
        if (progress.failed()) return;
        follow(i);
      }
    }
  });
}

// Side by side, each lane has one of two cores. Measured: both cores on one lane after the other
// are faster, so that is the default.
bool side_by_side(const std::optional<bool>& lanes) {
  return lanes.value_or(false) && torch::stable::get_num_threads() > 1;
}

}  // namespace

void run(const TrajectoryForward& call) {
  const StackArguments& s = call.s;
  with_scalar(s.type, [&](auto zero) {
    using scalar = decltype(zero);
    const bool save = call.save;
    const int64_t G = call.G;
    const Sizes wide = {s.R, s.width()};
    TimeLaneForward<scalar> time(call);
    // Without saving, one layer's memory of the layer lane serves all.
    const Tensor gates_scratch = empty(s.input, {save ? 0 : s.R, 4 * G}),
                 m_scratch = empty(s.input, {save ? 0 : s.R, G});
    std::vector<OptionalTensor> read(s.L);  // what the layer lane reads of each time layer
    OptionalTensor g_below, m_below;
    const auto time_layer = [&](int64_t l) {
      const Traced traced(kTimeLane, l);
      const Tensor h = hidden_for(call, l);
      time.run(l, h);
      read[l] = s.drops(s.L - 1) ? time.x : h;
    };
    const auto layer_layer = [&](int64_t l) {
      const Traced traced(kLayerLane, l);
      const Tensor gates = save ? layer_of(call.traj_gates, l, {s.R, 4 * G}) : plain(gates_scratch);
      const Tensor m = save ? layer_of(call.traj_cells, l, {s.R, G}) : plain(m_scratch);
      const bool last = !save || l == s.L - 1;
      const Tensor g = last ? layer_of(call.output, 0, wide) : layer_of(call.traj_hidden, l, wide);
      LayerLane<scalar>::forward(call.lane_weights[l], *read[l], g_below, m_below, gates, m, g);
      read[l].reset();
      g_below = g;
      m_below = m;
    };
    run_lanes(side_by_side(call.wants_lanes), s.L, time_layer, layer_layer);
  });
}

std::pair<WeightGradients, WeightGradients> run(const TrajectoryBackward& call) {
  const StackArguments& s = call.s;
  return with_scalar(s.type, [&](auto zero) {
    using scalar = decltype(zero);
    const int64_t G = call.G;
    const Sizes wide = {s.R, s.width()};
    const bool dropped = s.drops(s.L - 1);
    TimeLaneBackward<scalar> time(call);
    std::vector<std::vector<Tensor>> d_lane(s.L);
    const Tensor dg = filled(empty(s.input, wide), call.d_output), dm = zeros(s.input, {s.R, G});
    std::vector<OptionalTensor> d_hidden_of(s.L);  // what the layer lane gives each time layer
    OptionalTensor d_read;                         // from the time layer above, of what it read
    const auto layer_layer = [&](int64_t done) {
      const int64_t l = s.L - 1 - done;
      const Traced traced(kLayerLane, l);
      const Tensor h = call.hidden_of(l), d_h = empty(s.input, wide);
      if (call.d_traj_cells) add<scalar>(layer_of(*call.d_traj_cells, l, {s.R, G}), dm);
      LayerLayerSaved saved = {dropped ? masked<scalar>(h, s.masks[l]) : h, std::nullopt,
                               std::nullopt, layer_of(call.traj_gates, l, {s.R, 4 * G}),
                               layer_of(call.traj_cells, l, {s.R, G})};
      if (l > 0) {
        saved.g_below = layer_of(call.traj_hidden, l - 1, wide);
        saved.m_below = layer_of(call.traj_cells, l - 1, {s.R, G});
      }
      d_lane[l] = LayerLane<scalar>::backward(call.lane_weights[l], saved, dg, dm, d_h);
      if (l > 0 && call.d_traj_hidden) add<scalar>(layer_of(*call.d_traj_hidden, l - 1, wide), dg);
      d_hidden_of[l] = d_h;
    };
    const auto time_layer = [&](int64_t done) {
      const int64_t l = s.L - 1 - done;
      const Traced traced(kTimeLane, l);
      const Tensor d_h = *d_hidden_of[l];
      d_hidden_of[l].reset();
      // Both lanes read h through the same mask, or the layer lane reads it bare.
      if (dropped && d_read) add<scalar>(*d_read, d_h);
      if (dropped) multiply<scalar>(d_h, s.masks[l], d_h, false);
      if (!dropped && d_read && s.masks.empty()) add<scalar>(*d_read, d_h);
      if (!dropped && d_read && !s.masks.empty()) multiply<scalar>(*d_read, s.masks[l], d_h, true);
      if (call.d_hidden) add<scalar>(layer_of(*call.d_hidden, l, wide), d_h);
      d_read = time.run(l, d_h);
    };
    run_lanes(side_by_side(call.wants_lanes), s.L, layer_layer, time_layer);
    return std::pair(flattened(time.d_weights), flattened(d_lane));
  });
}

}  // namespace ltlstm::binding
