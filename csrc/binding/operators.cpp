// SPDX-License-Identifier: Apache-2.0
// The operators' schemas, once, for every device. Shapes and meaning: the docstrings of
// ltlstm_kernels/ops.py.
//
// Functional: new tensors out, nothing mutated. No integer derives from a shape (that would break
// export with dynamic sizes) and no list holds optional tensors (that would break gradients): flags
// say what a flat list holds.
#include "binding/registration.h"

LTLSTM_OPERATORS(LTLSTM_NAMESPACE, m) {
  m.def(
      "lstm_stack_forward(Tensor input, Tensor h0, Tensor c0, Tensor[] weights, Tensor? masks, "
      "Tensor? batch_sizes, Tensor? reset, "
      "bool bias, bool projected, bool peephole, bool bidirectional, bool save) -> "
      "(Tensor output, Tensor h_n, Tensor c_n, Tensor hidden, Tensor cells, Tensor gates)");
  m.def(
      "lstm_stack_backward(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor? d_hidden, "
      "Tensor? d_cells, Tensor input, Tensor h0, Tensor c0, Tensor[] weights, Tensor? masks, "
      "Tensor? batch_sizes, Tensor? reset, "
      "Tensor output, Tensor hidden, Tensor cells, Tensor gates, "
      "bool bias, bool projected, bool peephole, bool bidirectional) -> "
      "(Tensor d_input, Tensor d_h0, Tensor d_c0, Tensor[] d_weights)");
  m.def(
      "lt_lstm_forward(Tensor input, Tensor h0, Tensor c0, Tensor[] weights, "
      "Tensor[] traj_weights, Tensor? masks, Tensor? batch_sizes, Tensor? reset, "
      "bool bias, bool projected, bool peephole, bool bidirectional, bool save, "
      "bool? lanes) -> "
      "(Tensor output, Tensor h_n, Tensor c_n, Tensor hidden, Tensor cells, Tensor gates, "
      "Tensor traj_hidden, Tensor traj_cells, Tensor traj_gates)");
  m.def(
      "lt_lstm_backward(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor? d_hidden, "
      "Tensor? d_cells, Tensor? d_traj_hidden, Tensor? d_traj_cells, "
      "Tensor input, Tensor h0, Tensor c0, Tensor[] weights, "
      "Tensor[] traj_weights, Tensor? masks, Tensor? batch_sizes, Tensor? reset, "
      "Tensor output, Tensor hidden, Tensor cells, Tensor gates, "
      "Tensor traj_hidden, Tensor traj_cells, Tensor traj_gates, "
      "bool bias, bool projected, bool peephole, bool bidirectional, bool? lanes) -> "
      "(Tensor d_input, Tensor d_h0, Tensor d_c0, Tensor[] d_weights, Tensor[] d_traj_weights)");
  m.def(
      "h_lstm_forward(Tensor input, Tensor h0, Tensor c0, Tensor[] weights, Tensor? masks, "
      "Tensor? gate_masks, Tensor? batch_sizes, Tensor? reset, "
      "bool bias, bool bidirectional, float slope, bool save) -> "
      "(Tensor output, Tensor h_n, Tensor c_n, Tensor hidden, Tensor cells, Tensor gates, "
      "Tensor gate_hidden)");
  m.def(
      "h_lstm_backward(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor? d_hidden, "
      "Tensor? d_cells, Tensor input, Tensor h0, Tensor c0, Tensor[] weights, Tensor? masks, "
      "Tensor? gate_masks, Tensor? batch_sizes, Tensor? reset, "
      "Tensor output, Tensor hidden, Tensor cells, Tensor gates, Tensor gate_hidden, "
      "bool bias, bool bidirectional, float slope) -> "
      "(Tensor d_input, Tensor d_h0, Tensor d_c0, Tensor[] d_weights)");
  m.def("cell_forward(Tensor preact, Tensor c, Tensor? peephole) -> (Tensor h, Tensor c_new)");
  m.def(
      "cell_backward(Tensor? d_h, Tensor? d_c_new, Tensor preact, Tensor c, Tensor? peephole) -> "
      "(Tensor d_preact, Tensor d_c, Tensor d_peephole)");
  m.def(
      "h_lstm_sparse_forward(Tensor input, Tensor h0, Tensor c0, Tensor[] weights, "
      "Tensor? batch_sizes, Tensor? reset, bool bias, bool bidirectional, float slope) -> "
      "(Tensor output, Tensor h_n, Tensor c_n)");
  m.def("sparse_compile(Tensor weight, Tensor? mask, str? form) -> Tensor");
  m.def("sparse_linear(Tensor x, Tensor matrix, Tensor? bias) -> Tensor");
}
