// SPDX-License-Identifier: Apache-2.0
// The operators that every device has, for the one that this library serves: what the schemas take
// becomes a call, checked, that the device runs, and then what they return.
#include "binding/calls.h"

#include "binding/registration.h"

namespace ltlstm::binding {
namespace {

void require_gates(const StackArguments& s, const char* argument, const Tensor& gates,
                   int64_t layers, int64_t width) {
  const bool none = can_compute_gates_again() && gates.size(0) == 0;
  s.require_shape(argument, gates, s.per_layer(none ? 0 : layers, width));
}

}  // namespace

void StackBackward::check() const {
  s.require_shape("output", output, s.per_row(s.width()));
  s.require_shape("hidden", hidden, s.per_layer(s.hidden_layers(), s.width()));
  require_tensor(s.op, "cells", cells, s.input, s.state_type(), s.per_layer(s.states(), s.H));
  require_gates(s, "gates", gates, s.states(), 4 * s.H);
  s.require_shape("d_output", d_output, s.per_row(s.width()));
  s.require_shape("d_h_n", d_h_n, s.h0.sizes());
  s.require_shape("d_c_n", d_c_n, s.c0.sizes());
  s.require_shape("d_hidden", d_hidden, s.per_layer(s.hidden_layers(), s.width()));
  require_tensor(s.op, "d_cells", d_cells, s.input, s.state_type(), s.per_layer(s.states(), s.H));
}

void TrajectoryBackward::check() const {
  StackBackward::check();
  s.require_shape("traj_hidden", traj_hidden, s.per_layer(s.L - 1, s.width()));
  require_tensor(s.op, "traj_cells", traj_cells, s.input, s.state_type(), s.per_layer(s.L, G));
  require_gates(s, "traj_gates", traj_gates, s.L, 4 * G);
  s.require_shape("d_traj_hidden", d_traj_hidden, s.per_layer(s.L - 1, s.width()));
  require_tensor(s.op, "d_traj_cells", d_traj_cells, s.input, s.state_type(), s.per_layer(s.L, G));
}

namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lstm_stack_forward(
    const Tensor& input, const Tensor& h0, const Tensor& c0, const std::vector<Tensor>& weights,
    const OptionalTensor& masks, const OptionalTensor& batch_sizes, const OptionalTensor& reset,
    bool bias, bool projected, bool peephole, bool bidirectional, bool save) {
  const StackArguments s("lstm_stack_forward", input, h0, c0, weights, masks, batch_sizes, reset,
                         {bias, projected, peephole, bidirectional},
                         save ? storage_types() : inference_types());
  const StackForward call{s, save};
  run(call);
  return {call.output, call.h_n, call.c_n, call.hidden, call.cells, call.gates};
}

std::tuple<Tensor, Tensor, Tensor, WeightGradients> lstm_stack_backward(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n,
    const OptionalTensor& d_hidden, const OptionalTensor& d_cells, const Tensor& input,
    const Tensor& h0, const Tensor& c0, const std::vector<Tensor>& weights,
    const OptionalTensor& masks, const OptionalTensor& batch_sizes, const OptionalTensor& reset,
    const Tensor& output, const Tensor& hidden, const Tensor& cells, const Tensor& gates, bool bias,
    bool projected, bool peephole, bool bidirectional) {
  const StackArguments s("lstm_stack_backward", input, h0, c0, weights, masks, batch_sizes, reset,
                         {bias, projected, peephole, bidirectional}, storage_types());
  const StackBackward call{s,       d_output, d_h_n,  d_c_n, d_hidden,
                           d_cells, output,   hidden, cells, gates};
  call.check();
  return {call.d_input, call.d_h0, call.d_c0, run(call)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lt_lstm_forward(
    const Tensor& input, const Tensor& h0, const Tensor& c0, const std::vector<Tensor>& weights,
    const std::vector<Tensor>& traj_weights, const OptionalTensor& masks,
    const OptionalTensor& batch_sizes, const OptionalTensor& reset, bool bias, bool projected,
    bool peephole, bool bidirectional, bool save, std::optional<bool> lanes) {
  const StackArguments s("lt_lstm_forward", input, h0, c0, weights, masks, batch_sizes, reset,
                         {bias, projected, peephole, bidirectional, /*trajectory=*/true},
                         storage_types());
  const std::vector<CellWeights> lane_weights = s.layer_lane_weights(traj_weights);
  const TrajectoryForward call{{s, save}, lane_weights, lanes};
  run(call);
  return {call.output, call.h_n,         call.c_n,        call.hidden,    call.cells,
          call.gates,  call.traj_hidden, call.traj_cells, call.traj_gates};
}

std::tuple<Tensor, Tensor, Tensor, WeightGradients, WeightGradients> lt_lstm_backward(
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
                         {bias, projected, peephole, bidirectional, /*trajectory=*/true},
                         storage_types());
  const std::vector<CellWeights> lane_weights = s.layer_lane_weights(traj_weights);
  const TrajectoryBackward call{
      {s, d_output, d_h_n, d_c_n, d_hidden, d_cells, output, hidden, cells, gates},
      lane_weights,
      lanes,
      d_traj_hidden,
      d_traj_cells,
      traj_hidden,
      traj_cells,
      traj_gates};
  call.check();
  const auto [d_weights, d_traj_weights] = run(call);
  return {call.d_input, call.d_h0, call.d_c0, d_weights, d_traj_weights};
}

void check_cell(const char* op, const Tensor& preact, const Tensor& c,
                const OptionalTensor& peephole) {
  const ScalarType type = c.scalar_type();
  require_type(op, "c", type, storage_types());
  require(c.dim() == 2, op, "c", "have 2 dimensions (R, H)", c.dim());
  const int64_t R = c.size(0), H = c.size(1);
  require_tensor(op, "c", c, c, type, {R, H});
  require_tensor(op, "preact", preact, c, type, {R, 4 * H});
  require_tensor(op, "peephole", peephole, c, type, {3, H});
}

std::tuple<Tensor, Tensor> cell_forward(const Tensor& preact, const Tensor& c,
                                        const OptionalTensor& peephole) {
  check_cell("cell_forward", preact, c, peephole);
  const CellForward call{preact, c, peephole};
  run(call);
  return {call.h, call.c_new};
}

std::tuple<Tensor, Tensor, Tensor> cell_backward(const OptionalTensor& d_h,
                                                 const OptionalTensor& d_c_new,
                                                 const Tensor& preact, const Tensor& c,
                                                 const OptionalTensor& peephole) {
  const char* op = "cell_backward";
  check_cell(op, preact, c, peephole);
  require_tensor(op, "d_h", d_h, c, c.scalar_type(), c.sizes());
  require_tensor(op, "d_c_new", d_c_new, c, c.scalar_type(), c.sizes());
  const CellBackward call{d_h, d_c_new, preact, c, peephole};
  const OptionalTensor d_peephole = run(call);
  return {call.d_preact, call.d_c, d_peephole ? *d_peephole : empty(c, {0})};
}

}  // namespace
}  // namespace ltlstm::binding

LTLSTM_IMPLEMENT(LTLSTM_NAMESPACE, LTLSTM_KEY, m) {
  m.impl("lstm_stack_forward", TORCH_BOX(&ltlstm::binding::lstm_stack_forward));
  m.impl("lstm_stack_backward", TORCH_BOX(&ltlstm::binding::lstm_stack_backward));
  m.impl("lt_lstm_forward", TORCH_BOX(&ltlstm::binding::lt_lstm_forward));
  m.impl("lt_lstm_backward", TORCH_BOX(&ltlstm::binding::lt_lstm_backward));
  m.impl("cell_forward", TORCH_BOX(&ltlstm::binding::cell_forward));
  m.impl("cell_backward", TORCH_BOX(&ltlstm::binding::cell_backward));
}
