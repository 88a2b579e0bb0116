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
                         {bias, false, false, bidirectional, false, /*mlp_gates=*/true, compiled},
                         storage_types());
  s.require_shape("gate_masks", gate_masks, s.per_layer(s.states() * s.J, 4 * s.K));
  require(slope >= 0, op, "slope", "not be negative", std::to_string(slope));
  return s;
}

struct HLstmForward : StackForward {
  const OptionalTensor& gate_masks;
  const double slope;
  const Tensor gate_hidden = empty(s.input, s.per_layer(save ? s.states() * s.J : 0, 4 * s.K));
};

void run(const HLstmForward& call) {
  const StackArguments& s = call.s;
  with_scalar(s.type, [&](auto zero) {
    using scalar = decltype(zero);
    HiddenGateMemory memory{
        s.h0,           s.c0,       filled(call.h_n, s.h0), filled(call.c_n, s.c0),
        std::nullopt,   call.gates, call.gate_hidden,       std::nullopt,
        call.gate_masks};
    if (call.save) {
      memory.cells = call.cells;
    } else {
      const int64_t rows = std::min(s.R, s.N * HiddenGates<scalar>::steps_at_once(s));
      memory.gates = empty(s.input, {s.dirs, 2 * s.N, 4 * s.H});
      memory.gate_hidden = empty(s.input, {s.dirs, rows, 4 * s.K});
      memory.inner = empty(s.input, {s.dirs * (s.J - 1), s.N, 4 * s.K});
    }
    Tensor x = matrix(s.input, 0, s.R, s.D);
    for (int64_t l = 0; l < s.L; ++l) {
      const Tensor h = hidden_for(call, l);
      HiddenGates<scalar>::forward(s, l, static_cast<scalar>(call.slope), x, h, memory);
      x = s.drops(l) ? masked<scalar>(h, s.masks[l]) : h;
    }
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> h_lstm_forward(
    const Tensor& input, const Tensor& h0, const Tensor& c0, const std::vector<Tensor>& weights,
    const OptionalTensor& masks, const OptionalTensor& gate_masks,
    const OptionalTensor& batch_sizes, const OptionalTensor& reset, bool bias, bool bidirectional,
    double slope, bool save) {
  const StackArguments s = arguments_of("h_lstm_forward", input, h0, c0, weights, masks, gate_masks,
                                        batch_sizes, reset, bias, bidirectional, slope);
  const HLstmForward call{{s, save}, gate_masks, slope};
  run(call);
  return {call.output, call.h_n, call.c_n, call.hidden, call.cells, call.gates, call.gate_hidden};
}

std::tuple<Tensor, Tensor, Tensor> h_lstm_sparse_forward(const Tensor& input, const Tensor& h0,
                                                         const Tensor& c0,
                                                         const std::vector<Tensor>& weights,
                                                         const OptionalTensor& batch_sizes,
                                                         const OptionalTensor& reset, bool bias,
                                                         bool bidirectional, double slope) {
  const OptionalTensor no_masks;
  const StackArguments s =
      arguments_of("h_lstm_sparse_forward", input, h0, c0, weights, no_masks, no_masks, batch_sizes,
                   reset, bias, bidirectional, slope, /*compiled=*/true);
  const HLstmForward call{{s, /*save=*/false}, no_masks, slope};
  run(call);
  return {call.output, call.h_n, call.c_n};
}

std::tuple<Tensor, Tensor, Tensor, WeightGradients> h_lstm_backward(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n,
    const OptionalTensor& d_hidden, const OptionalTensor& d_cells, const Tensor& input,
    const Tensor& h0, const Tensor& c0, const std::vector<Tensor>& weights,
    const OptionalTensor& masks, const OptionalTensor& gate_masks,
    const OptionalTensor& batch_sizes, const OptionalTensor& reset, const Tensor& output,
    const Tensor& hidden, const Tensor& cells, const Tensor& gates, const Tensor& gate_hidden,
    bool bias, bool bidirectional, double slope) {
  const StackArguments s = arguments_of("h_lstm_backward", input, h0, c0, weights, masks,
                                        gate_masks, batch_sizes, reset, bias, bidirectional, slope);
  const StackBackward call{s,       d_output, d_h_n,  d_c_n, d_hidden,
                           d_cells, output,   hidden, cells, gates};
  call.check();
  s.require_shape("gate_hidden", gate_hidden, s.per_layer(s.states() * s.J, 4 * s.K));
  std::vector<WeightGradients> d_weights(s.L);
  with_scalar(s.type, [&](auto zero) {
    using scalar = decltype(zero);
    const HiddenGateMemory memory{h0,
                                  c0,
                                  filled(call.d_h0, d_h_n),
                                  filled(call.d_c0, d_c_n),
                                  cells,
                                  gates,
                                  gate_hidden,
                                  std::nullopt,
                                  gate_masks};
    run_down<scalar>(call, [&](int64_t l, const OptionalTensor& d_h) {
      const Tensor d_x = d_read_by(call, l);
      d_weights[l] =
          HiddenGates<scalar>::backward(s, l, static_cast<scalar>(slope), read_by<scalar>(call, l),
                                        call.hidden_of(l), memory, d_h, d_cells, d_x);
      return d_x;
    });
  });
  return {call.d_input, call.d_h0, call.d_c0, flattened(d_weights)};
}

}  // namespace
}  // namespace ltlstm::binding

STABLE_TORCH_LIBRARY_IMPL(ltlstm, CPU, m) {
  m.impl("h_lstm_forward", TORCH_BOX(&ltlstm::binding::h_lstm_forward));
  m.impl("h_lstm_sparse_forward", TORCH_BOX(&ltlstm::binding::h_lstm_sparse_forward));
  m.impl("h_lstm_backward", TORCH_BOX(&ltlstm::binding::h_lstm_backward));
}
