// SPDX-License-Identifier: Apache-2.0
// The stack of time-LSTMs on a GPU: its layers one after another, or as a wavefront over chunks of
// time, a lane for each layer that runs at once: chunk k of a layer needs its own chunk k - 1 and
// chunk k of the layer below. Backward the wavefront runs from the last layer and chunk.
#include "binding/cuda_time_lane.h"
#include "binding/registration.h"

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

using StackOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

StackOutputs lstm_stack_forward(const Tensor& input, const Tensor& h0, const Tensor& c0,
                                const std::vector<Tensor>& weights, const OptionalTensor& masks,
                                const OptionalTensor& batch_sizes, const OptionalTensor& reset,
                                bool bias, bool projected, bool peephole, bool bidirectional,
                                bool save) {
  const StackArguments s("lstm_stack_forward", input, h0, c0, weights, masks, batch_sizes, reset,
                         {bias, projected, peephole, bidirectional}, storage_types());
  require_masks(s, /*with_last=*/false);
  return with_storage(s.type, [&](auto* storage) -> StackOutputs {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    const Sizes wide = {s.R, s.width()};
    const Tensor output = empty(input, s.per_row(s.width()));
    const Tensor hidden = empty(input, s.per_layer(save ? s.L - 1 : 0, s.width()));
    Pass pass(s, input, batch_sizes, reset, save, /*trajectory=*/false, std::nullopt);
    TimeForward<scalar> stack(pass, input, h0, c0, save, save && !recompute_asked());
    std::vector<TimeLayerForward<scalar>> layers;
    layers.reserve(s.L);
    std::vector<cudaEvent_t> below(pass.chunks.size());  // of the layer below, after each chunk
    wavefront(pass, [&](int64_t l, int64_t k) {
      const Lane& lane = pass.lanes.of(l);
      const Chunk& chunk = pass.chunks[k];
      if (k == 0)
        layers.emplace_back(stack, lane, l, l == 0 ? stack.input : layers.back().read_above,
                            l == s.L - 1 ? matrix(output, 0, s.R, s.width())
                            : save       ? layer_of(hidden, l, wide)
                                         : lane.empty(input, wide));
      if (l > 0) pass.lanes.wait(lane, below[k]);
      if (l > 0) layers[l].multiply(chunk);
      if (l == 0 && k == 0) layers[l].multiply(pass.whole);
      layers[l].scan(chunk);
      below[k] = pass.lanes.mark(lane);
    });
    return {output, stack.h_n,   stack.final_c(pass.lanes.of(s.L - 1)),
            hidden, stack.cells, stack.gates};
  });
}

using StackGradients = std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>>;

StackGradients lstm_stack_backward(const OptionalTensor& d_output, const OptionalTensor& d_h_n,
                                   const OptionalTensor& d_c_n, const OptionalTensor& d_hidden,
                                   const OptionalTensor& d_cells, const Tensor& input,
                                   const Tensor& h0, const Tensor& c0,
                                   const std::vector<Tensor>& weights, const OptionalTensor& masks,
                                   const OptionalTensor& batch_sizes, const OptionalTensor& reset,
                                   const Tensor& output, const Tensor& hidden, const Tensor& cells,
                                   const Tensor& gates, bool bias, bool projected, bool peephole,
                                   bool bidirectional) {
  const StackArguments s("lstm_stack_backward", input, h0, c0, weights, masks, batch_sizes, reset,
                         {bias, projected, peephole, bidirectional}, storage_types());
  require_masks(s, /*with_last=*/false);
  s.require_shape("output", output, s.per_row(s.width()));
  s.require_shape("hidden", hidden, s.per_layer(s.L - 1, s.width()));
  s.require_shape("d_output", d_output, s.per_row(s.width()));
  s.require_shape("d_hidden", d_hidden, s.per_layer(s.L - 1, s.width()));
  return with_storage(s.type, [&](auto* storage) -> StackGradients {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    const Sizes wide = {s.R, s.width()};
    Pass pass(s, input, batch_sizes, reset, /*training=*/true, /*trajectory=*/false, std::nullopt);
    TimeBackward<scalar> stack(pass, input, h0, c0, cells, gates, d_h_n, d_c_n, d_cells);
    std::vector<TimeLayerBackward<scalar>> layers;  // from the last
    layers.reserve(s.L);
    std::vector<std::vector<Tensor>> d_weights(s.L);
    std::vector<cudaEvent_t> above(pass.chunks.size());  // of the layer above, after each chunk
    OptionalTensor d_output_rows;
    if (d_output) d_output_rows = matrix(*d_output, 0, s.R, s.width());
    wavefront(pass, [&](int64_t from_last, int64_t k) {
      const int64_t l = s.L - 1 - from_last;
      const Lane& lane = pass.lanes.of(from_last);
      const Chunk& chunk = pass.chunks[pass.chunks.size() - 1 - k];
      if (k == 0) {
        const Tensor here =
            l == s.L - 1 ? matrix(output, 0, s.R, s.width()) : layer_of(hidden, l, wide);
        layers.emplace_back(stack, lane, l, l > 0 ? layer_of(hidden, l - 1, wide) : here, here,
                            from_last == 0 ? d_output_rows : layers.back().d_x);
      }
      TimeLayerBackward<scalar>& layer = layers[from_last];
      if (from_last > 0) pass.lanes.wait(lane, above[k]);
      layer.scan(chunk);
      if (l > 0) {
        layer.multiply(chunk);
        const Tensor d_read = rows_of(layer.d_x, chunk);
        if (!s.masks.empty())
          lane.multiply<scalar>(d_read, rows_of(s.masks[l - 1], chunk), d_read, false);
        if (d_hidden) lane.add<scalar>(rows_of(layer_of(*d_hidden, l - 1, wide), chunk), d_read);
      }
      above[k] = pass.lanes.mark(lane);
      if (k + 1 < static_cast<int64_t>(pass.chunks.size())) return;
      if (l == 0) layer.multiply(pass.whole);
      d_weights[l] = layer.weights();
    });
    const Lane& lane = pass.lanes.of(s.L - 1);  // of the first layer, which is the last to end
    return {stack.d_input, stack.narrow(lane, stack.d_h0, h0), stack.narrow(lane, stack.d_c0, c0),
            flattened(d_weights)};
  });
}

}  // namespace
}  // namespace ltlstm::binding

LTLSTM_IMPLEMENT(LTLSTM_NAMESPACE, LTLSTM_CUDA_KEY, m) {
  m.impl("lstm_stack_forward", TORCH_BOX(&ltlstm::binding::lstm_stack_forward));
  m.impl("lstm_stack_backward", TORCH_BOX(&ltlstm::binding::lstm_stack_backward));
}
