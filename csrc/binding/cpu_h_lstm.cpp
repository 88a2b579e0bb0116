// SPDX-License-Identifier: Apache-2.0
// The operators on the CPU: the stack of H-LSTMs.
#include "binding/cpu_hidden_gate.h"
#include "binding/cpu_stack.h"

namespace ltlstm::binding {
namespace {

StackArguments arguments_of(const char* op, const Tensor& input, const Tensor& h0, const Tensor& c0,
                            const std::vector<Tensor>& weights, const OptionalTensor& masks,
                            const OptionalTensor& gate_masks, const OptionalTensor& batch_sizes,
                            const OptionalTensor& reset, bool bias, bool bidirectional,
                            double slope, bool compiled = false) {
  const StackArguments s(op, input, h0, c0, weights, masks, batch_sizes, reset,
                         {bias, false, false, bidirectional, /*mlp_gates=*/true, compiled});
  require_masks(s, /*with_last=*/false);
  s.require_shape("gate_masks", gate_masks, s.per_layer(s.L * s.dirs * s.J, 4 * s.K));
  require(slope >= 0, op, "slope", "not be negative", std::to_string(slope));
  return s;
}

using HLstmOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

HLstmOutputs forward(const StackArguments& s, const Tensor& input, const Tensor& h0,
                     const Tensor& c0, const OptionalTensor& gate_masks, double slope, bool save) {
  return with_scalar(s.type, [&](auto zero) -> HLstmOutputs {
    using scalar = decltype(zero);
    const Sizes wide = {s.R, s.width()};
    const int64_t cells_kept = save ? s.L * s.dirs : 0, width = 4 * s.K;
    const Tensor cells = empty(input, s.per_layer(cells_kept, s.H));
    const Tensor gates = empty(input, s.per_layer(cells_kept, 4 * s.H));
    const Tensor gate_hidden = empty(input, s.per_layer(cells_kept * s.J, width));
    HiddenGateMemory memory{h0,
                            c0,
                            cloned(h0, h0.sizes()),
                            cloned(c0, c0.sizes()),
                            std::nullopt,
                            gates,
                            gate_hidden,
                            std::nullopt,
                            gate_masks};
    if (save) {
      memory.cells = cells;
    } else {
      const int64_t rows = std::min(s.R, s.N * HiddenGates<scalar>::steps_at_once(s));
      memory.gates = empty(input, {s.dirs, 2 * s.N, 4 * s.H});
      memory.gate_hidden = empty(input, {s.dirs, rows, width});
      memory.inner = empty(input, {s.dirs * (s.J - 1), s.N, width});
    }
    const Tensor output = empty(input, s.per_row(s.width()));
    const Tensor hidden = empty(input, s.per_layer(save ? s.L - 1 : 0, s.width()));
    Tensor x = matrix(input, 0, s.R, s.D);
    for (int64_t l = 0; l < s.L; ++l) {
      const Tensor h = l == s.L - 1 ? matrix(output, 0, s.R, s.width())
                       : save       ? layer_of(hidden, l, wide)
                                    : empty(input, wide);
      HiddenGates<scalar>::forward(s, l, static_cast<scalar>(slope), x, h, memory);
      x = l < static_cast<int64_t>(s.masks.size()) ? masked<scalar>(h, s.masks[l]) : h;
    }
    return {output, memory.h_n, memory.c_n, hidden, cells, gates, gate_hidden};
  });
}

HLstmOutputs h_lstm_forward(const Tensor& input, const Tensor& h0, const Tensor& c0,
                            const std::vector<Tensor>& weights, const OptionalTensor& masks,
                            const OptionalTensor& gate_masks, const OptionalTensor& batch_sizes,
                            const OptionalTensor& reset, bool bias, bool bidirectional,
                            double slope, bool save) {
  const StackArguments s = arguments_of("h_lstm_forward", input, h0, c0, weights, masks, gate_masks,
                                        batch_sizes, reset, bias, bidirectional, slope);
  return forward(s, input, h0, c0, gate_masks, slope, save);
}

using HLstmSparseOutputs = std::tuple<Tensor, Tensor, Tensor>;

HLstmSparseOutputs h_lstm_sparse_forward(const Tensor& input, const Tensor& h0, const Tensor& c0,
                                         const std::vector<Tensor>& weights,
                                         const OptionalTensor& batch_sizes,
                                         const OptionalTensor& reset, bool bias, bool bidirectional,
                                         double slope) {
  const StackArguments s =
      arguments_of("h_lstm_sparse_forward", input, h0, c0, weights, std::nullopt, std::nullopt,
                   batch_sizes, reset, bias, bidirectional, slope, /*compiled=*/true);
  const HLstmOutputs all = forward(s, input, h0, c0, std::nullopt, slope, /*save=*/false);
  return {std::get<0>(all), std::get<1>(all), std::get<2>(all)};
}

using HLstmGradients = std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>>;

HLstmGradients h_lstm_backward(const OptionalTensor& d_output, const OptionalTensor& d_h_n,
                               const OptionalTensor& d_c_n, const OptionalTensor& d_hidden,
                               const OptionalTensor& d_cells, const Tensor& input, const Tensor& h0,
                               const Tensor& c0, const std::vector<Tensor>& weights,
                               const OptionalTensor& masks, const OptionalTensor& gate_masks,
                               const OptionalTensor& batch_sizes, const OptionalTensor& reset,
                               const Tensor& output, const Tensor& hidden, const Tensor& cells,
                               const Tensor& gates, const Tensor& gate_hidden, bool bias,
                               bool bidirectional, double slope) {
  const StackArguments s = arguments_of("h_lstm_backward", input, h0, c0, weights, masks,
                                        gate_masks, batch_sizes, reset, bias, bidirectional, slope);
  const int64_t states = s.L * s.dirs, width = s.width();
  s.require_shape("output", output, s.per_row(width));
  s.require_shape("hidden", hidden, s.per_layer(s.L - 1, width));
  s.require_shape("cells", cells, s.per_layer(states, s.H));
  s.require_shape("gates", gates, s.per_layer(states, 4 * s.H));
  s.require_shape("gate_hidden", gate_hidden, s.per_layer(states * s.J, 4 * s.K));
  s.require_shape("d_output", d_output, s.per_row(width));
  s.require_shape("d_h_n", d_h_n, h0.sizes());
  s.require_shape("d_c_n", d_c_n, c0.sizes());
  s.require_shape("d_hidden", d_hidden, s.per_layer(s.L - 1, width));
  s.require_shape("d_cells", d_cells, s.per_layer(states, s.H));
  return with_scalar(s.type, [&](auto zero) -> HLstmGradients {
    using scalar = decltype(zero);
    const Sizes wide = {s.R, width};
    const HiddenGateMemory memory{h0,
                                  c0,
                                  cloned_or_zeros(d_h_n, input, h0.sizes()),
                                  cloned_or_zeros(d_c_n, input, c0.sizes()),
                                  cells,
                                  gates,
                                  gate_hidden,
                                  std::nullopt,
                                  gate_masks};
    std::vector<std::vector<Tensor>> d_weights(s.L);
    OptionalTensor d_h;
    if (d_output) d_h = matrix(*d_output, 0, s.R, width);
    for (int64_t l = s.L - 1; l >= 0; --l) {
      const bool dropped = l > 0 && !s.masks.empty();
      const Tensor h = l == s.L - 1 ? matrix(output, 0, s.R, width) : layer_of(hidden, l, wide);
      const Tensor x = l == 0    ? matrix(input, 0, s.R, s.D)
                       : dropped ? masked<scalar>(layer_of(hidden, l - 1, wide), s.masks[l - 1])
                                 : layer_of(hidden, l - 1, wide);
      const Tensor d_read = empty(input, l == 0 ? s.per_row(s.D) : wide);
      d_weights[l] =
          HiddenGates<scalar>::backward(s, l, static_cast<scalar>(slope), x, h, memory, d_h,
                                        d_cells, l == 0 ? matrix(d_read, 0, s.R, s.D) : d_read);
      if (l == 0) return {d_read, memory.h_n, memory.c_n, flattened(d_weights)};
      if (dropped) multiply<scalar>(d_read, s.masks[l - 1], d_read, false);
      if (d_hidden) add<scalar>(layer_of(*d_hidden, l - 1, wide), d_read);
      d_h = d_read;
    }
    STD_TORCH_CHECK(false, "unreachable: a stack has a layer");
  });
}

}  // namespace
}  // namespace ltlstm::binding

STABLE_TORCH_LIBRARY_IMPL(ltlstm, CPU, m) {
  m.impl("h_lstm_forward", TORCH_BOX(&ltlstm::binding::h_lstm_forward));
  m.impl("h_lstm_sparse_forward", TORCH_BOX(&ltlstm::binding::h_lstm_sparse_forward));
  m.impl("h_lstm_backward", TORCH_BOX(&ltlstm::binding::h_lstm_backward));
}
