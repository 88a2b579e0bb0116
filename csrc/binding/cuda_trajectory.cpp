// SPDX-License-Identifier: Apache-2.0
// The layer trajectory LSTM on a GPU: two lanes over the layers, each a stream of its own or both
// on the caller's.
//
// Forward the time lane leads and the layer lane follows one layer behind; backward the layer lane
// leads.
#include "binding/cuda_pass.h"
#include "binding/registration.h"

namespace ltlstm::binding {
namespace {

using TrajectoryOutputs =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

TrajectoryOutputs lt_lstm_forward(const Tensor& input, const Tensor& h0, const Tensor& c0,
                                  const std::vector<Tensor>& weights,
                                  const std::vector<Tensor>& traj_weights,
                                  const OptionalTensor& masks, const OptionalTensor& batch_sizes,
                                  const OptionalTensor& reset, bool bias, bool projected,
                                  bool peephole, bool bidirectional, bool save,
                                  std::optional<bool> wants_lanes) {
  const StackArguments s("lt_lstm_forward", input, h0, c0, weights, masks, batch_sizes, reset,
                         {bias, projected, peephole, bidirectional}, storage_types());
  require_masks(s, /*with_last=*/true);
  const std::vector<CellWeights> lane_weights = s.layer_lane_weights(traj_weights);
  return with_storage(s.type, [&](auto* storage) -> TrajectoryOutputs {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    const int64_t G = s.dirs * s.H, Q = s.width(), saved_layers = save ? s.L : 0;
    const Sizes wide = {s.R, Q};
    const Tensor output = empty(input, s.per_row(Q));
    const Tensor hidden = empty(input, s.per_layer(saved_layers, Q));
    const Tensor traj_hidden = empty(input, s.per_layer(save ? s.L - 1 : 0, Q));
    const Tensor traj_cells = empty_float(input, s.per_layer(saved_layers, G));
    const Tensor traj_gates = empty(input, s.per_layer(saved_layers, 4 * G));
    Pass pass(s, input, batch_sizes, reset, save, /*trajectory=*/true, wants_lanes);
    const Lane &time_lane = pass.lanes.time, &layer_lane = pass.lanes.layer;
    TimeLaneForward<scalar> time(pass, input, h0, c0, save);
    // Without saving, one layer's memory of the layer lane serves all.
    const Tensor gates_scratch = layer_lane.empty(input, {save ? 0 : s.R, 4 * G});
    const Tensor m_scratch = layer_lane.empty_float(input, {save ? 0 : s.R, G});
    const bool dropped = static_cast<int64_t>(s.masks.size()) == s.L;
    OptionalTensor g_below, m_below;
    for (int64_t l = 0; l < s.L; ++l) {
      const Tensor h = save ? layer_of(hidden, l, wide) : time_lane.empty(input, wide);
      time.run(l, h);
      pass.lanes.follow(time_lane, layer_lane);
      const Tensor gates = save ? layer_of(traj_gates, l, {s.R, 4 * G}) : plain(gates_scratch);
      const Tensor m = save ? layer_of(traj_cells, l, {s.R, G}) : plain(m_scratch);
      const bool last = !save || l == s.L - 1;
      const Tensor g = last ? matrix(output, 0, s.R, Q) : layer_of(traj_hidden, l, wide);
      LayerLane<scalar>::forward(layer_lane, lane_weights[l], dropped ? time.x : h, g_below,
                                 m_below, gates, save, m, g);
      g_below = g;
      m_below = m;
    }
    return {output,     time.lane.h_n, time.final_c(), hidden,    time.cells,
            time.gates, traj_hidden,   traj_cells,     traj_gates};
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
    bool bidirectional, std::optional<bool> wants_lanes) {
  const StackArguments s("lt_lstm_backward", input, h0, c0, weights, masks, batch_sizes, reset,
                         {bias, projected, peephole, bidirectional}, storage_types());
  require_masks(s, /*with_last=*/true);
  const std::vector<CellWeights> lane_weights = s.layer_lane_weights(traj_weights);
  const int64_t G = s.dirs * s.H, Q = s.width();
  s.require_shape("output", output, s.per_row(Q));
  s.require_shape("hidden", hidden, s.per_layer(s.L, Q));
  s.require_shape("traj_hidden", traj_hidden, s.per_layer(s.L - 1, Q));
  require_tensor(s.op, "traj_cells", traj_cells, ScalarType::Float, s.per_layer(s.L, G));
  s.require_shape("traj_gates", traj_gates, s.per_layer(s.L, 4 * G));
  s.require_shape("d_output", d_output, s.per_row(Q));
  s.require_shape("d_hidden", d_hidden, s.per_layer(s.L, Q));
  s.require_shape("d_traj_hidden", d_traj_hidden, s.per_layer(s.L - 1, Q));
  require_tensor(s.op, "d_traj_cells", d_traj_cells, ScalarType::Float, s.per_layer(s.L, G));
  return with_storage(s.type, [&](auto* storage) -> TrajectoryGradients {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    const Sizes wide = {s.R, Q};
    const bool dropped = static_cast<int64_t>(s.masks.size()) == s.L;
    Pass pass(s, input, batch_sizes, reset, /*training=*/true, /*trajectory=*/true, wants_lanes);
    const Lane &time_lane = pass.lanes.time, &layer_lane = pass.lanes.layer;
    TimeLaneBackward<scalar> time(pass, input, h0, c0, cells, gates, d_h_n, d_c_n, d_cells);
    std::vector<std::vector<Tensor>> d_lane(s.L);
    const Tensor dg = d_output ? layer_lane.empty(input, wide) : layer_lane.zero(input, wide);
    if (d_output) layer_lane.copy(matrix(*d_output, 0, s.R, Q), dg);
    const Tensor dm = layer_lane.zero_float(input, {s.R, G});
    OptionalTensor d_read;  // from the time layer above, of what it read
    for (int64_t l = s.L - 1; l >= 0; --l) {
      const Tensor h = layer_of(hidden, l, wide), d_h = layer_lane.empty(input, wide);
      if (d_traj_cells) layer_lane.add<float>(layer_of(*d_traj_cells, l, {s.R, G}), dm);
      typename LayerLane<scalar>::Saved saved = {h, std::nullopt, std::nullopt,
                                                 layer_of(traj_gates, l, {s.R, 4 * G}),
                                                 layer_of(traj_cells, l, {s.R, G})};
      if (dropped) {
        saved.x = layer_lane.empty(input, wide);
        layer_lane.multiply<scalar>(h, s.masks[l], saved.x, false);
      }
      if (l > 0) {
        saved.g_below = layer_of(traj_hidden, l - 1, wide);
        saved.m_below = layer_of(traj_cells, l - 1, {s.R, G});
      }
      d_lane[l] = LayerLane<scalar>::backward(layer_lane, lane_weights[l], saved, dg, dm, d_h);
      if (l > 0 && d_traj_hidden) layer_lane.add<scalar>(layer_of(*d_traj_hidden, l - 1, wide), dg);

      pass.lanes.follow(layer_lane, time_lane);
      // Both lanes read h through the same mask, or the layer lane reads it bare.
      if (dropped && d_read) time_lane.add<scalar>(*d_read, d_h);
      if (dropped) time_lane.multiply<scalar>(d_h, s.masks[l], d_h, false);
      if (!dropped && d_read && s.masks.empty()) time_lane.add<scalar>(*d_read, d_h);
      if (!dropped && d_read && !s.masks.empty())
        time_lane.multiply<scalar>(*d_read, s.masks[l], d_h, true);
      if (d_hidden) time_lane.add<scalar>(layer_of(*d_hidden, l, wide), d_h);
      d_read = time.run(l, l > 0 ? layer_of(hidden, l - 1, wide) : h, h, d_h);
    }
    return {time.d_input, time.narrow(time.gradients.d_h0, h0),
            time.narrow(time.gradients.d_c0, c0), flattened(time.d_weights), flattened(d_lane)};
  });
}

}  // namespace
}  // namespace ltlstm::binding

LTLSTM_IMPLEMENT(LTLSTM_NAMESPACE, LTLSTM_CUDA_KEY, m) {
  m.impl("lt_lstm_forward", TORCH_BOX(&ltlstm::binding::lt_lstm_forward));
  m.impl("lt_lstm_backward", TORCH_BOX(&ltlstm::binding::lt_lstm_backward));
}
