// SPDX-License-Identifier: Apache-2.0
// The operators on the CPU: the stack of time-LSTMs and the bare cell.
#include "binding/cpu_stack.h"

namespace ltlstm::binding {
namespace {

using StackOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Inference in bfloat16: the state and all sums in float32, between layers rounded.
StackOutputs half_stack_forward(const StackArguments& s, const Tensor& input, const Tensor& h0,
                                const Tensor& c0) {
  require(s.masks.empty(), s.op, "masks", "be None with bfloat16", s.masks.size());
  TimeLaneForward<float> time(s, input, computable(h0), computable(c0), /*save=*/false);
  const Tensor hidden = empty_float(input, {s.R, s.width()});
  const Tensor output = empty(input, s.per_row(s.width()));
  for (int64_t l = 0; l < s.L; ++l) {
    time.run(l, hidden);
    time.x = matrix(l == s.L - 1 ? output : empty(input, {s.R, s.width()}), 0, s.R, s.width());
    copy(hidden, time.x);
  }
  const Tensor h_n = empty(input, h0.sizes()), c_n = empty(input, c0.sizes());
  copy(time.memory.h_n, h_n);
  copy(time.memory.c_n, c_n);
  return {output,
          h_n,
          c_n,
          empty(input, s.per_layer(0, s.width())),
          empty_float(input, s.per_layer(0, s.H)),
          empty(input, s.per_layer(0, 4 * s.H))};
}

StackOutputs lstm_stack_forward(const Tensor& input, const Tensor& h0, const Tensor& c0,
                                const std::vector<Tensor>& weights, const OptionalTensor& masks,
                                const OptionalTensor& batch_sizes, const OptionalTensor& reset,
                                bool bias, bool projected, bool peephole, bool bidirectional,
                                bool save) {
  std::vector<ScalarType> types = {ScalarType::Float, ScalarType::Double};
  if (!save) types.push_back(ScalarType::BFloat16);
  const StackArguments s("lstm_stack_forward", input, h0, c0, weights, masks, batch_sizes, reset,
                         {bias, projected, peephole, bidirectional}, types);
  require_masks(s, /*with_last=*/false);
  if (s.half()) return half_stack_forward(s, input, h0, c0);
  return with_scalar(s.type, [&](auto zero) -> StackOutputs {
    const Sizes wide = {s.R, s.width()};
    TimeLaneForward<decltype(zero)> time(s, input, h0, c0, save);
    const Tensor output = empty(input, s.per_row(s.width()));
    const Tensor hidden = empty(input, s.per_layer(save ? s.L - 1 : 0, s.width()));
    for (int64_t l = 0; l < s.L; ++l)
      time.run(l, l == s.L - 1 ? matrix(output, 0, s.R, s.width())
                  : save       ? layer_of(hidden, l, wide)
                               : empty(input, wide));
    return {output, time.memory.h_n, time.memory.c_n, hidden, time.cells, time.gates};
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
                         {bias, projected, peephole, bidirectional});
  require_masks(s, /*with_last=*/false);
  s.require_shape("output", output, s.per_row(s.width()));
  s.require_shape("hidden", hidden, s.per_layer(s.L - 1, s.width()));
  s.require_shape("d_output", d_output, s.per_row(s.width()));
  s.require_shape("d_hidden", d_hidden, s.per_layer(s.L - 1, s.width()));
  return with_scalar(s.type, [&](auto zero) -> StackGradients {
    using scalar = decltype(zero);
    const Sizes wide = {s.R, s.width()};
    TimeLaneBackward<scalar> time(s, input, h0, c0, cells, gates, d_h_n, d_c_n, d_cells);
    OptionalTensor d_h;
    if (d_output) d_h = matrix(*d_output, 0, s.R, s.width());
    for (int64_t l = s.L - 1; l >= 0; --l) {
      const Tensor here =
          l == s.L - 1 ? matrix(output, 0, s.R, s.width()) : layer_of(hidden, l, wide);
      const Tensor d_read = time.run(l, l > 0 ? layer_of(hidden, l - 1, wide) : here, here, d_h);
      if (l == 0) return {d_read, time.memory.h_n, time.memory.c_n, flattened(time.d_weights)};
      if (!s.masks.empty()) multiply<scalar>(d_read, s.masks[l - 1], d_read, false);
      if (d_hidden) add<scalar>(layer_of(*d_hidden, l - 1, wide), d_read);
      d_h = d_read;
    }
    STD_TORCH_CHECK(false, "unreachable: a stack has a layer");
  });
}

using CellOutputs = std::tuple<Tensor, Tensor>;

// (R, H) of the cell operators, checked.
Sizes cell_sizes(const char* op, const Tensor& preact, const Tensor& c,
                 const OptionalTensor& peephole) {
  const ScalarType type = c.scalar_type();
  require(type == ScalarType::Float || type == ScalarType::Double, op, "c", "be float32 or float64",
          name_of(type));
  require(c.dim() == 2, op, "c", "have 2 dimensions (R, H)", c.dim());
  const int64_t R = c.size(0), H = c.size(1);
  require_tensor(op, "c", c, type, {R, H});
  require_tensor(op, "preact", preact, type, {R, 4 * H});
  require_tensor(op, "peephole", peephole, type, {3, H});
  return {R, H};
}

CellOutputs cell_forward(const Tensor& preact, const Tensor& c, const OptionalTensor& peephole) {
  const Sizes sizes = cell_sizes("cell_forward", preact, c, peephole);
  return with_scalar(c.scalar_type(), [&](auto zero) -> CellOutputs {
    const Tensor h = empty(c, sizes), c_new = empty(c, sizes);
    CellRows<decltype(zero)>::forward(preact, c, peephole, empty(preact, preact.sizes()), c_new, h);
    return {h, c_new};
  });
}

using CellGradients = std::tuple<Tensor, Tensor, Tensor>;

CellGradients cell_backward(const OptionalTensor& d_h, const OptionalTensor& d_c_new,
                            const Tensor& preact, const Tensor& c, const OptionalTensor& peephole) {
  const Sizes sizes = cell_sizes("cell_backward", preact, c, peephole);
  require_tensor("cell_backward", "d_h", d_h, c.scalar_type(), sizes);
  require_tensor("cell_backward", "d_c_new", d_c_new, c.scalar_type(), sizes);
  return with_scalar(c.scalar_type(), [&](auto zero) -> CellGradients {
    using scalar = decltype(zero);
    const Tensor gates = empty(preact, preact.sizes()), c_new = empty(c, sizes),
                 h = empty(c, sizes);
    CellRows<scalar>::forward(preact, c, peephole, gates, c_new, h);
    const Tensor d_preact = empty(preact, preact.sizes()), dc = cloned_or_zeros(d_c_new, c, sizes);
    const OptionalTensor d_peephole = CellRows<scalar>::backward(
        gates, c, c_new, peephole, d_h ? *d_h : zeros(c, sizes), dc, d_preact, std::nullopt);
    return {d_preact, dc, d_peephole ? *d_peephole : empty(c, {0})};
  });
}

}  // namespace
}  // namespace ltlstm::binding

STABLE_TORCH_LIBRARY_IMPL(ltlstm, CPU, m) {
  m.impl("lstm_stack_forward", TORCH_BOX(&ltlstm::binding::lstm_stack_forward));
  m.impl("lstm_stack_backward", TORCH_BOX(&ltlstm::binding::lstm_stack_backward));
  m.impl("cell_forward", TORCH_BOX(&ltlstm::binding::cell_forward));
  m.impl("cell_backward", TORCH_BOX(&ltlstm::binding::cell_backward));
}
