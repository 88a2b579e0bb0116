// SPDX-License-Identifier: Apache-2.0
// The layer trajectory LSTM on a GPU: two lanes over the layers, each a stream of its own or both
// on the caller's.
//
// Forward the time lane leads and the layer lane follows a chunk of time behind; backward the layer
// lane leads.
#include "binding/cuda_layer_lane.h"
#include "binding/cuda_time_lane.h"
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
    const bool keep_gates = save && !recompute_asked();
    const Tensor traj_gates = empty(input, s.per_layer(keep_gates ? s.L : 0, 4 * G));
    Pass pass(s, input, batch_sizes, reset, save, /*trajectory=*/true, wants_lanes);
    const Lane &time_lane = pass.lanes.of(0), &layer_lane = pass.lanes.of(1);
    TimeForward<scalar> stack(pass, input, h0, c0, save, keep_gates);
    // What is not kept is one layer's memory of the layer lane that serves all.
    const Tensor gates_scratch = layer_lane.empty(input, {keep_gates ? 0 : s.R, 4 * G});
    const Tensor m_scratch = layer_lane.empty_float(input, {save ? 0 : s.R, G});
    const bool dropped = static_cast<int64_t>(s.masks.size()) == s.L;
    Tensor x = stack.input;
    OptionalTensor g_below, m_below;
    for (int64_t l = 0; l < s.L; ++l) {
      const Tensor h = save ? layer_of(hidden, l, wide) : time_lane.empty(input, wide);
      const TimeLayerForward<scalar> time(stack, time_lane, l, x, h);
      const LayerRows rows = {dropped ? time.read_above : h, g_below, m_below,
                              keep_gates ? layer_of(traj_gates, l, {s.R, 4 * G}) : gates_scratch,
                              save ? layer_of(traj_cells, l, {s.R, G}) : m_scratch};
      const bool last = !save || l == s.L - 1;
      const Tensor g = last ? matrix(output, 0, s.R, Q) : layer_of(traj_hidden, l, wide);
      const LayerForward<scalar> layer(layer_lane, lane_weights[l], rows, g, keep_gates);
      time.multiply(pass.whole);
      for (const Chunk& chunk : pass.chunks) {
        time.scan(chunk);
        pass.lanes.wait(layer_lane, pass.lanes.mark(time_lane));
        layer.run(chunk);
      }
      x = time.read_above;
      g_below = g;
      m_below = rows.m;
    }
    return {output,      stack.h_n,   stack.final_c(time_lane),
            hidden,      stack.cells, stack.gates,
            traj_hidden, traj_cells,  traj_gates};
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
  const bool recompute = traj_gates.size(0) == 0;
  s.require_shape("traj_gates", traj_gates, s.per_layer(recompute ? 0 : s.L, 4 * G));
  s.require_shape("d_output", d_output, s.per_row(Q));
  s.require_shape("d_hidden", d_hidden, s.per_layer(s.L, Q));
  s.require_shape("d_traj_hidden", d_traj_hidden, s.per_layer(s.L - 1, Q));
  require_tensor(s.op, "d_traj_cells", d_traj_cells, ScalarType::Float, s.per_layer(s.L, G));
  return with_storage(s.type, [&](auto* storage) -> TrajectoryGradients {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    const Sizes wide = {s.R, Q};
    const bool dropped = static_cast<int64_t>(s.masks.size()) == s.L;
    Pass pass(s, input, batch_sizes, reset, /*training=*/true, /*trajectory=*/true, wants_lanes);
    const Lane &time_lane = pass.lanes.of(0), &layer_lane = pass.lanes.of(1);
    TimeBackward<scalar> stack(pass, input, h0, c0, cells, gates, d_h_n, d_c_n, d_cells);
    std::vector<std::vector<Tensor>> d_weights(s.L), d_lane(s.L);
    const Tensor dgs[] = {layer_lane.empty(input, wide), layer_lane.empty(input, wide)};
    const Tensor& dg_last = dgs[s.L % 2];
    if (d_output) {
      layer_lane.copy(matrix(*d_output, 0, s.R, Q), dg_last);
    } else {
      layer_lane.clear(dg_last);
    }
    const Tensor dm = layer_lane.zero_float(input, {s.R, G});
    // Of one layer, where its gates are computed again.
    const int64_t again_rows = recompute ? s.R : 0;
    const Tensor gates_again = layer_lane.empty(input, {again_rows, 4 * G});
    const Tensor m_again = layer_lane.empty_float(input, {again_rows, G});
    const Tensor g_again = layer_lane.empty(input, {again_rows, Q});
    OptionalTensor d_read;  // from the time layer above, of what it read
    for (int64_t l = s.L - 1; l >= 0; --l) {
      const Tensor h = layer_of(hidden, l, wide), d_h = layer_lane.empty(input, wide);
      const Tensor &dg = dgs[(l + 1) % 2], &dg_below = dgs[l % 2];
      if (d_traj_cells) layer_lane.add<float>(layer_of(*d_traj_cells, l, {s.R, G}), dm);
      LayerRows saved = {h, std::nullopt, std::nullopt,
                         recompute ? gates_again : layer_of(traj_gates, l, {s.R, 4 * G}),
                         layer_of(traj_cells, l, {s.R, G})};
      if (dropped) {
        saved.x = layer_lane.empty(input, wide);
        layer_lane.multiply<scalar>(h, s.masks[l], saved.x, false);
      }
      if (l > 0) {
        saved.g_below = layer_of(traj_hidden, l - 1, wide);
        saved.m_below = layer_of(traj_cells, l - 1, {s.R, G});
      }
      std::optional<LayerForward<scalar>> again;
      if (recompute) {
        LayerRows rows = saved;
        rows.m = m_again;
        again.emplace(layer_lane, lane_weights[l], rows, g_again, /*keep=*/true);
      }
      const LayerBackward<scalar> layer(layer_lane, lane_weights[l], saved, dg, dm, dg_below, d_h);
      const Tensor below = l > 0 ? layer_of(hidden, l - 1, wide) : h;
      TimeLayerBackward<scalar> time(stack, time_lane, l, below, h, d_h);
      for (auto chunk = pass.chunks.rbegin(); chunk != pass.chunks.rend(); ++chunk) {
        if (again) again->run(*chunk);
        layer.run(*chunk);
        pass.lanes.wait(time_lane, pass.lanes.mark(layer_lane));
        const Tensor d = rows_of(d_h, *chunk);
        const auto of = [&](const Tensor& t) { return rows_of(t, *chunk); };
        // Both lanes read h through the same mask, or the layer lane reads it bare.
        if (dropped && d_read) time_lane.add<scalar>(of(*d_read), d);
        if (dropped) time_lane.multiply<scalar>(d, of(s.masks[l]), d, false);
        if (!dropped && d_read && s.masks.empty()) time_lane.add<scalar>(of(*d_read), d);
        if (!dropped && d_read && !s.masks.empty())
          time_lane.multiply<scalar>(of(*d_read), of(s.masks[l]), d, true);
        if (d_hidden) time_lane.add<scalar>(of(layer_of(*d_hidden, l, wide)), d);
        time.scan(*chunk);
      }
      d_lane[l] = layer.weights();
      if (l > 0 && d_traj_hidden)
        layer_lane.add<scalar>(layer_of(*d_traj_hidden, l - 1, wide), dg_below);
      time.multiply(pass.whole);
      d_weights[l] = time.weights();
      d_read = time.d_x;
    }
    return {stack.d_input, stack.narrow(time_lane, stack.d_h0, h0),
            stack.narrow(time_lane, stack.d_c0, c0), flattened(d_weights), flattened(d_lane)};
  });
}

}  // namespace
}  // namespace ltlstm::binding

LTLSTM_IMPLEMENT(LTLSTM_NAMESPACE, LTLSTM_CUDA_KEY, m) {
  m.impl("lt_lstm_forward", TORCH_BOX(&ltlstm::binding::lt_lstm_forward));
  m.impl("lt_lstm_backward", TORCH_BOX(&ltlstm::binding::lt_lstm_backward));
}
