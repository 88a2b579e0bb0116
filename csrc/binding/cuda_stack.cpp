// SPDX-License-Identifier: Apache-2.0
// The stack of time-LSTMs on a GPU: its layers one after another, or as a wavefront over chunks of
// time, a lane for each layer that runs at once: chunk k of a layer needs its own chunk k - 1 and
// chunk k of the layer below. Backward the wavefront runs from the last layer and chunk.
#include "binding/cuda_time_lane.h"

namespace ltlstm::binding {
namespace {

// visit(layer, chunk) in an order in which what one needs comes before it: as many layers as there
// are lanes go chunk by chunk, then the next ones.
template <class Visit>
void wavefront(const Pass& pass, const Visit& visit) {
  const int64_t L = pass.s.L, chunks = static_cast<int64_t>(pass.chunks.size());
  for (int64_t first = 0; first < L; first += pass.lanes.count())
    for (int64_t k = 0; k < chunks; ++k)
      for (int64_t l = first; l < std::min(first + pass.lanes.count(), L); ++l) visit(l, k);
}

}  // namespace

void run(const StackForward& call) {
  const StackArguments& s = call.s;
  with_storage(s.type, [&](auto* storage) {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    Pass pass(s, call.save);
    TimeForward<scalar> stack(pass, call);
    std::vector<TimeLayerForward<scalar>> layers;
    layers.reserve(s.L);
    std::vector<cudaEvent_t> below(pass.chunks.size());  // of the layer below, after each chunk
    wavefront(pass, [&](int64_t l, int64_t k) {
      const Lane& lane = pass.lanes.of(l);
      const Chunk& chunk = pass.chunks[k];
      if (k == 0) {
        const OptionalTensor kept = call.hidden_of(l);
        layers.emplace_back(stack, lane, l, l == 0 ? stack.input : layers.back().read_above,
                            kept ? *kept : lane.empty(s.input, {s.R, s.width()}));
      }
      if (l > 0) pass.lanes.wait(lane, below[k]);
      if (l > 0) layers[l].multiply(chunk);
      if (l == 0 && k == 0) layers[l].multiply(pass.whole);
      layers[l].scan(chunk);
      below[k] = pass.lanes.mark(lane);
    });
    pass.lanes.of(s.L - 1).copy(stack.state_c, call.c_n);
  });
}

WeightGradients run(const StackBackward& call) {
  const StackArguments& s = call.s;
  return with_storage(s.type, [&](auto* storage) {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    const Sizes wide = {s.R, s.width()};
    Pass pass(s, /*training=*/true);
    TimeBackward<scalar> stack(pass, call);
    std::vector<TimeLayerBackward<scalar>> layers;  // from the last
    layers.reserve(s.L);
    std::vector<std::vector<Tensor>> d_weights(s.L);
    std::vector<cudaEvent_t> above(pass.chunks.size());  // of the layer above, after each chunk
    OptionalTensor d_output;
    if (call.d_output) d_output = layer_of(*call.d_output, 0, wide);
    wavefront(pass, [&](int64_t from_last, int64_t k) {
      const int64_t l = s.L - 1 - from_last;
      const Lane& lane = pass.lanes.of(from_last);
      const Chunk& chunk = pass.chunks[pass.chunks.size() - 1 - k];
      if (k == 0)
        layers.emplace_back(stack, lane, l, call.hidden_of(l > 0 ? l - 1 : l), call.hidden_of(l),
                            from_last == 0 ? d_output : layers.back().d_x);
      TimeLayerBackward<scalar>& layer = layers[from_last];
      if (from_last > 0) pass.lanes.wait(lane, above[k]);
      layer.scan(chunk);
      if (l > 0) {
        layer.multiply(chunk);
        const Tensor d_read = rows_of(layer.d_x, chunk);
        if (s.drops(l - 1))
          lane.multiply<scalar>(d_read, rows_of(s.masks[l - 1], chunk), d_read, false);
        if (call.d_hidden)
          lane.add<scalar>(rows_of(layer_of(*call.d_hidden, l - 1, wide), chunk), d_read);
      }
      above[k] = pass.lanes.mark(lane);
      if (k + 1 < static_cast<int64_t>(pass.chunks.size())) return;
      if (l == 0) layer.multiply(pass.whole);
      d_weights[l] = layer.weights();
    });
    const Lane& lane = pass.lanes.of(s.L - 1);  // of the first layer, which is the last to end
    lane.copy(stack.d_h0, call.d_h0);
    lane.copy(stack.d_c0, call.d_c0);
    return flattened(d_weights);
  });
}

}  // namespace ltlstm::binding
