// SPDX-License-Identifier: Apache-2.0
// The operators on a GPU: the stack of time-LSTMs and the bare cell.
#include "binding/cuda_pass.h"
#include "binding/registration.h"

namespace ltlstm::binding {
namespace {

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
    TimeLaneForward<scalar> time(pass, input, h0, c0, save);
    for (int64_t l = 0; l < s.L; ++l)
      time.run(l, l == s.L - 1 ? matrix(output, 0, s.R, s.width())
                  : save       ? layer_of(hidden, l, wide)
                               : pass.lanes.time.empty(input, wide));
    return {output, time.lane.h_n, time.final_c(), hidden, time.cells, time.gates};
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
    const Lane& lane = pass.lanes.time;
    TimeLaneBackward<scalar> time(pass, input, h0, c0, cells, gates, d_h_n, d_c_n, d_cells);
    OptionalTensor d_h;
    if (d_output) d_h = matrix(*d_output, 0, s.R, s.width());
    for (int64_t l = s.L - 1; l >= 0; --l) {
      const Tensor here =
          l == s.L - 1 ? matrix(output, 0, s.R, s.width()) : layer_of(hidden, l, wide);
      const Tensor d_read = time.run(l, l > 0 ? layer_of(hidden, l - 1, wide) : here, here, d_h);
      if (l > 0) {
        if (!s.masks.empty()) lane.multiply<scalar>(d_read, s.masks[l - 1], d_read, false);
        if (d_hidden) lane.add<scalar>(layer_of(*d_hidden, l - 1, wide), d_read);
      }
      d_h = d_read;
    }
    return {time.d_input, time.narrow(time.gradients.d_h0, h0),
            time.narrow(time.gradients.d_c0, c0), flattened(time.d_weights)};
  });
}

using CellOutputs = std::tuple<Tensor, Tensor>;

// (R, H) of the cell operators, checked.
Sizes cell_sizes(const char* op, const Tensor& preact, const Tensor& c,
                 const OptionalTensor& peephole) {
  const ScalarType type = c.scalar_type();
  const std::vector<ScalarType> types = storage_types();
  require(std::find(types.begin(), types.end(), type) != types.end(), op, "c",
          "be float32, float16 or bfloat16", name_of(type));
  require(c.dim() == 2, op, "c", "have 2 dimensions (R, H)", c.dim());
  const int64_t R = c.size(0), H = c.size(1);
  require_tensor(op, "c", c, type, {R, H});
  require_tensor(op, "preact", preact, type, {R, 4 * H});
  require_tensor(op, "peephole", peephole, type, {3, H});
  return {R, H};
}

// The cell's forward pass with what its backward reads.
template <class scalar>
struct CellPass {
  CellPass(const Lane& lane, const Tensor& preact, const Tensor& c, const OptionalTensor& peephole)
      : c_prev(lane.as_float(c)),
        gates(lane.empty(preact, preact.sizes())),
        c_new(lane.empty_float(c, c.sizes())),
        h(lane.empty(c, c.sizes())),
        peephole(lane.as_float(peephole)) {
    const int64_t R = c.size(0), H = c.size(1);
    check(cuda::cell_rows_forward(
        cuda::CellRowsForward<scalar>{R, H, data<scalar>(preact), 4 * H, data<float>(c_prev),
                                      data<float>(this->peephole), mutable_data<scalar>(gates),
                                      mutable_data<float>(c_new), mutable_data<scalar>(h)},
        lane.stream));
  }
  Tensor c_prev, gates, c_new, h;
  OptionalTensor peephole;
};

CellOutputs cell_forward(const Tensor& preact, const Tensor& c, const OptionalTensor& peephole) {
  const Sizes sizes = cell_sizes("cell_forward", preact, c, peephole);
  return with_storage(c.scalar_type(), [&](auto* storage) -> CellOutputs {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    const Tensor c_new = empty(c, sizes);
    Lanes lanes(c, false);
    const CellPass<scalar> cell(lanes.time, preact, c, peephole);
    lanes.time.copy(cell.c_new, c_new);
    return {cell.h, c_new};
  });
}

using CellGradients = std::tuple<Tensor, Tensor, Tensor>;

CellGradients cell_backward(const OptionalTensor& d_h, const OptionalTensor& d_c_new,
                            const Tensor& preact, const Tensor& c, const OptionalTensor& peephole) {
  const Sizes sizes = cell_sizes("cell_backward", preact, c, peephole);
  require_tensor("cell_backward", "d_h", d_h, c.scalar_type(), sizes);
  require_tensor("cell_backward", "d_c_new", d_c_new, c.scalar_type(), sizes);
  return with_storage(c.scalar_type(), [&](auto* storage) -> CellGradients {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    const int64_t R = sizes[0], H = sizes[1];
    const Tensor d_preact = empty(preact, preact.sizes()), d_c = empty(c, sizes);
    const Tensor d_peephole = peephole ? empty(*peephole, {3, H}) : empty(c, {0});
    Lanes lanes(c, false);
    const Lane& lane = lanes.time;
    const CellPass<scalar> cell(lane, preact, c, peephole);
    const Tensor dr = d_h ? *d_h : lane.zero(c, sizes);
    const OptionalTensor dc = lane.as_float(d_c_new);
    const Tensor dc_prev = lane.empty_float(c, sizes);
    check(cuda::cell_rows_backward(
        cuda::CellRowsBackward<scalar>{
            R, H, data<scalar>(cell.gates), data<float>(cell.c_prev), data<float>(cell.c_new),
            data<float>(cell.peephole), data<scalar>(dr), data<float>(dc),
            mutable_data<scalar>(d_preact), 4 * H, mutable_data<float>(dc_prev), nullptr},
        lane.stream));
    lane.copy(dc_prev, d_c);
    if (peephole)
      sum_peephole_gradient<scalar>(lane, d_preact, cell.c_prev, cell.c_new, d_peephole);
    return {d_preact, d_c, d_peephole};
  });
}

}  // namespace
}  // namespace ltlstm::binding

LTLSTM_IMPLEMENT(LTLSTM_NAMESPACE, LTLSTM_CUDA_KEY, m) {
  m.impl("lstm_stack_forward", TORCH_BOX(&ltlstm::binding::lstm_stack_forward));
  m.impl("lstm_stack_backward", TORCH_BOX(&ltlstm::binding::lstm_stack_backward));
  m.impl("cell_forward", TORCH_BOX(&ltlstm::binding::cell_forward));
  m.impl("cell_backward", TORCH_BOX(&ltlstm::binding::cell_backward));
}
