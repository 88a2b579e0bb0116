// SPDX-License-Identifier: Apache-2.0
// The layer trajectory LSTM on a GPU: two lanes over the layers, each a stream of its own or both
// on the caller's.
//
// Forward the time lane leads and the layer lane follows a chunk of time behind; backward the layer
// lane leads.
#include "binding/cuda_layer_lane.h"
#include "binding/cuda_time_lane.h"

namespace ltlstm::binding {

void run(const TrajectoryForward& call) {
  const StackArguments& s = call.s;
  with_storage(s.type, [&](auto* storage) {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    const bool save = call.save, keep_gates = call.keep_gates;
    const int64_t G = call.G;
    const Sizes wide = {s.R, s.width()};
    Pass pass(s, save, call.wants_lanes);
    const Lane &time_lane = pass.lanes.of(0), &layer_lane = pass.lanes.of(1);
    TimeForward<scalar> stack(pass, call);
    // What is not kept is one layer's memory of the layer lane that serves all.
    const Tensor gates_scratch = layer_lane.empty(s.input, {keep_gates ? 0 : s.R, 4 * G});
    const Tensor m_scratch = layer_lane.empty_float(s.input, {save ? 0 : s.R, G});
    Tensor x = stack.input;
    OptionalTensor g_below, m_below;
    for (int64_t l = 0; l < s.L; ++l) {
      const OptionalTensor kept = call.hidden_of(l);
      const Tensor h = kept ? *kept : time_lane.empty(s.input, wide);
      const TimeLayerForward<scalar> time(stack, time_lane, l, x, h);
      const LayerRows rows = {
          s.drops(s.L - 1) ? time.read_above : h, g_below, m_below,
          keep_gates ? layer_of(call.traj_gates, l, {s.R, 4 * G}) : gates_scratch,
          save ? layer_of(call.traj_cells, l, {s.R, G}) : m_scratch};
      const bool last = !save || l == s.L - 1;
      const Tensor g = last ? layer_of(call.output, 0, wide) : layer_of(call.traj_hidden, l, wide);
      const LayerForward<scalar> layer(layer_lane, call.lane_weights[l], rows, g, keep_gates);
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
    time_lane.copy(stack.state_c, call.c_n);
  });
}

std::pair<WeightGradients, WeightGradients> run(const TrajectoryBackward& call) {
  const StackArguments& s = call.s;
  return with_storage(s.type, [&](auto* storage) {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    const int64_t G = call.G;
    const Sizes wide = {s.R, s.width()};
    const bool recompute = call.traj_gates.size(0) == 0;
    const bool dropped = s.drops(s.L - 1);
    Pass pass(s, /*training=*/true, call.wants_lanes);
    const Lane &time_lane = pass.lanes.of(0), &layer_lane = pass.lanes.of(1);
    TimeBackward<scalar> stack(pass, call);
    std::vector<std::vector<Tensor>> d_weights(s.L), d_lane(s.L);
    const Tensor dgs[] = {layer_lane.empty(s.input, wide), layer_lane.empty(s.input, wide)};
    const Tensor& dg_last = dgs[s.L % 2];
    if (call.d_output) {
      layer_lane.copy(layer_of(*call.d_output, 0, wide), dg_last);
    } else {
      layer_lane.clear(dg_last);
    }
    const Tensor dm = layer_lane.zero_float(s.input, {s.R, G});
    // Of one layer, where its gates are computed again.
    const int64_t again_rows = recompute ? s.R : 0;
    const Tensor gates_again = layer_lane.empty(s.input, {again_rows, 4 * G});
    const Tensor m_again = layer_lane.empty_float(s.input, {again_rows, G});
    const Tensor g_again = layer_lane.empty(s.input, {again_rows, s.width()});
    OptionalTensor d_read;  // from the time layer above, of what it read
    for (int64_t l = s.L - 1; l >= 0; --l) {
      const Tensor h = call.hidden_of(l), d_h = layer_lane.empty(s.input, wide);
      const Tensor &dg = dgs[(l + 1) % 2], &dg_below = dgs[l % 2];
      if (call.d_traj_cells) layer_lane.add<float>(layer_of(*call.d_traj_cells, l, {s.R, G}), dm);
      LayerRows saved = {h, std::nullopt, std::nullopt,
                         recompute ? gates_again : layer_of(call.traj_gates, l, {s.R, 4 * G}),
                         layer_of(call.traj_cells, l, {s.R, G})};
      if (dropped) {
        saved.x = layer_lane.empty(s.input, wide);
        layer_lane.multiply<scalar>(h, s.masks[l], saved.x, false);
      }
      if (l > 0) {
        saved.g_below = layer_of(call.traj_hidden, l - 1, wide);
        saved.m_below = layer_of(call.traj_cells, l - 1, {s.R, G});
      }
      std::optional<LayerForward<scalar>> again;
      if (recompute) {
        LayerRows rows = saved;
        rows.m = m_again;
        again.emplace(layer_lane, call.lane_weights[l], rows, g_again, /*keep=*/true);
      }
      const LayerBackward<scalar> layer(layer_lane, call.lane_weights[l], saved, dg, dm, dg_below,
                                        d_h);
      const Tensor below = call.hidden_of(l > 0 ? l - 1 : l);
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
        if (call.d_hidden) time_lane.add<scalar>(of(layer_of(*call.d_hidden, l, wide)), d);
        time.scan(*chunk);
      }
      d_lane[l] = layer.weights();
      if (l > 0 && call.d_traj_hidden)
        layer_lane.add<scalar>(layer_of(*call.d_traj_hidden, l - 1, wide), dg_below);
      time.multiply(pass.whole);
      d_weights[l] = time.weights();
      d_read = time.d_x;
    }
    time_lane.copy(stack.d_h0, call.d_h0);
    time_lane.copy(stack.d_c0, call.d_c0);
    return std::pair(flattened(d_weights), flattened(d_lane));
  });
}

}  // namespace ltlstm::binding
