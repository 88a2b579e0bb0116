// SPDX-License-Identifier: Apache-2.0
// The layer trajectory LSTM on the CPU: two lanes over the layers, back to back or side by side.
//
// Forward the time lane leads and the layer lane follows one layer behind; backward the layer lane
// leads. Side by side each lane is one thread.
#include "binding/cpu_stack.h"

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

// Side by side is what two cores could do, and each lane then has one of them; measured, both cores
// on one lane after the other are faster, so that is what nobody's word gets.
bool side_by_side(const std::optional<bool>& lanes) {
  return lanes.value_or(false) && torch::stable::get_num_threads() > 1 &&
         cpu::available_processors() > 1;
}

using TrajectoryOutputs =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

TrajectoryOutputs lt_lstm_forward(const Tensor& input, const Tensor& h0, const Tensor& c0,
                                  const std::vector<Tensor>& weights,
                                  const std::vector<Tensor>& traj_weights,
                                  const OptionalTensor& masks, const OptionalTensor& batch_sizes,
                                  const OptionalTensor& reset, bool bias, bool projected,
                                  bool peephole, bool bidirectional, bool save,
                                  std::optional<bool> lanes) {
  const StackArguments s("lt_lstm_forward", input, h0, c0, weights, masks, batch_sizes, reset,
                         {bias, projected, peephole, bidirectional});
  require_masks(s, /*with_last=*/true);
  const std::vector<CellWeights> lane = s.layer_lane_weights(traj_weights);
  return with_scalar(s.type, [&](auto zero) -> TrajectoryOutputs {
    using scalar = decltype(zero);
    const int64_t G = s.dirs * s.H, Q = s.width(), saved_layers = save ? s.L : 0;
    const Sizes wide = {s.R, Q};
    TimeLaneForward<scalar> time(s, input, h0, c0, save);
    const Tensor output = empty(input, s.per_row(Q));
    const Tensor hidden = empty(input, s.per_layer(saved_layers, Q));
    const Tensor traj_hidden = empty(input, s.per_layer(save ? s.L - 1 : 0, Q));
    const Tensor traj_cells = empty(input, s.per_layer(saved_layers, G));
    const Tensor traj_gates = empty(input, s.per_layer(saved_layers, 4 * G));
    // Without saving, one layer's memory of the layer lane serves all.
    const Tensor gates_scratch = empty(input, {save ? 0 : s.R, 4 * G}),
                 m_scratch = empty(input, {save ? 0 : s.R, G});
    const bool dropped = static_cast<int64_t>(s.masks.size()) == s.L;
    std::vector<OptionalTensor> read(s.L);  // what the layer lane reads of each time layer
    OptionalTensor g_below, m_below;
    const auto time_layer = [&](int64_t l) {
      const Tensor h = save ? layer_of(hidden, l, wide) : empty(input, wide);
      time.run(l, h);
      read[l] = dropped ? time.x : h;
    };
    const auto layer_layer = [&](int64_t l) {
      const Tensor gates = save ? layer_of(traj_gates, l, {s.R, 4 * G}) : plain(gates_scratch);
      const Tensor m = save ? layer_of(traj_cells, l, {s.R, G}) : plain(m_scratch);
      const bool last = !save || l == s.L - 1;
      const Tensor g = last ? matrix(output, 0, s.R, Q) : layer_of(traj_hidden, l, wide);
      LayerLane<scalar>::forward(lane[l], *read[l], g_below, m_below, gates, m, g);
      read[l].reset();
      g_below = g;
      m_below = m;
    };
    run_lanes(side_by_side(lanes), s.L, time_layer, layer_layer);
    return {output,     time.memory.h_n, time.memory.c_n, hidden,    time.cells,
            time.gates, traj_hidden,     traj_cells,      traj_gates};
  });
}

using TrajectoryGradients =
    std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>, std::vector<Tensor>>;

TrajectoryGradients lt_lstm_backward(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n,
    const OptionalTensor& d_hidden, const OptionalTensor& d_cells,
    const OptionalTensor& d_traj_hidden, const OptionalTensor& d_traj_cells, const Tensor& input,
    const Tensor& h0, const Tensor& c0, const std::vector<Tensor>& weights,
    const std::vector<Tensor>& traj_weights, const OptionalTensor& masks,
    const OptionalTensor& batch_sizes, const OptionalTensor& reset, const Tensor& output,
    const Tensor& hidden, const Tensor& cells, const Tensor& gates, const Tensor& traj_hidden,
    const Tensor& traj_cells, const Tensor& traj_gates, bool bias, bool projected, bool peephole,
    bool bidirectional, std::optional<bool> lanes) {
  const StackArguments s("lt_lstm_backward", input, h0, c0, weights, masks, batch_sizes, reset,
                         {bias, projected, peephole, bidirectional});
  require_masks(s, /*with_last=*/true);
  const std::vector<CellWeights> lane = s.layer_lane_weights(traj_weights);
  const int64_t G = s.dirs * s.H, Q = s.width();
  s.require_shape("output", output, s.per_row(Q));
  s.require_shape("hidden", hidden, s.per_layer(s.L, Q));
  s.require_shape("traj_hidden", traj_hidden, s.per_layer(s.L - 1, Q));
  s.require_shape("traj_cells", traj_cells, s.per_layer(s.L, G));
  s.require_shape("traj_gates", traj_gates, s.per_layer(s.L, 4 * G));
  s.require_shape("d_output", d_output, s.per_row(Q));
  s.require_shape("d_hidden", d_hidden, s.per_layer(s.L, Q));
  s.require_shape("d_traj_hidden", d_traj_hidden, s.per_layer(s.L - 1, Q));
  s.require_shape("d_traj_cells", d_traj_cells, s.per_layer(s.L, G));
  return with_scalar(s.type, [&](auto zero) -> TrajectoryGradients {
    using scalar = decltype(zero);
    const Sizes wide = {s.R, Q};
    const bool dropped = static_cast<int64_t>(s.masks.size()) == s.L;
    TimeLaneBackward<scalar> time(s, input, h0, c0, cells, gates, d_h_n, d_c_n, d_cells);
    std::vector<std::vector<Tensor>> d_lane(s.L);
    const Tensor dg = cloned_or_zeros(d_output, input, wide), dm = zeros(input, {s.R, G});
    std::vector<OptionalTensor> d_hidden_of(s.L);  // what the layer lane gives each time layer
    OptionalTensor d_read;                         // from the time layer above, of what it read
    const auto layer_layer = [&](int64_t done) {
      const int64_t l = s.L - 1 - done;
      const Tensor h = layer_of(hidden, l, wide), d_h = empty(input, wide);
      if (d_traj_cells) add<scalar>(layer_of(*d_traj_cells, l, {s.R, G}), dm);
      LayerLayerSaved saved = {dropped ? masked<scalar>(h, s.masks[l]) : h, std::nullopt,
                               std::nullopt, layer_of(traj_gates, l, {s.R, 4 * G}),
                               layer_of(traj_cells, l, {s.R, G})};
      if (l > 0) {
        saved.g_below = layer_of(traj_hidden, l - 1, wide);
        saved.m_below = layer_of(traj_cells, l - 1, {s.R, G});
      }
      d_lane[l] = LayerLane<scalar>::backward(lane[l], saved, dg, dm, d_h);
      if (l > 0 && d_traj_hidden) add<scalar>(layer_of(*d_traj_hidden, l - 1, wide), dg);
      d_hidden_of[l] = d_h;
    };
    const auto time_layer = [&](int64_t done) {
      const int64_t l = s.L - 1 - done;
      const Tensor h = layer_of(hidden, l, wide), d_h = *d_hidden_of[l];
      d_hidden_of[l].reset();
      // Both lanes read h through the same mask, or the layer lane reads it bare.
      if (dropped && d_read) add<scalar>(*d_read, d_h);
      if (dropped) multiply<scalar>(d_h, s.masks[l], d_h, false);
      if (!dropped && d_read && s.masks.empty()) add<scalar>(*d_read, d_h);
      if (!dropped && d_read && !s.masks.empty()) multiply<scalar>(*d_read, s.masks[l], d_h, true);
      if (d_hidden) add<scalar>(layer_of(*d_hidden, l, wide), d_h);
      d_read = time.run(l, l > 0 ? layer_of(hidden, l - 1, wide) : h, h, d_h);
    };
    run_lanes(side_by_side(lanes), s.L, layer_layer, time_layer);
    return {*d_read, time.memory.h_n, time.memory.c_n, flattened(time.d_weights),
            flattened(d_lane)};
  });
}

}  // namespace
}  // namespace ltlstm::binding

STABLE_TORCH_LIBRARY_IMPL(ltlstm, CPU, m) {
  m.impl("lt_lstm_forward", TORCH_BOX(&ltlstm::binding::lt_lstm_forward));
  m.impl("lt_lstm_backward", TORCH_BOX(&ltlstm::binding::lt_lstm_backward));
}
