// SPDX-License-Identifier: Apache-2.0
// The calls of the operators that every device has: arguments that were checked, and memory for
// what is returned. calls.cpp makes them, from what the schemas say; the device's files run them.
//
// Meaning, and the shapes in words: ltlstm_kernels/ops.py.
#pragma once

#include <utility>

#include "binding/arguments.h"

namespace ltlstm::binding {

// What the device says of itself.
Types storage_types();           // of the tensors that its kernels take
Types inference_types();         // the same of a stack that keeps nothing
bool keeps_gates();              // whether training does, at this call
bool can_compute_gates_again();  // whether a backward can do without them

struct StackForward {
  // Where the output of a layer stays, or nothing.
  OptionalTensor hidden_of(int64_t layer) const {
    if (layer == s.hidden_layers()) return matrix(output, 0, s.R, s.width());
    return save ? OptionalTensor(matrix(hidden, layer, s.R, s.width())) : OptionalTensor();
  }

  const StackArguments& s;
  const bool save;
  const bool keep_gates = save && keeps_gates();
  const Tensor output = empty(s.input, s.per_row(s.width()));
  const Tensor h_n = empty(s.input, s.h0.sizes()), c_n = empty(s.input, s.c0.sizes());
  const Tensor hidden = empty(s.input, s.per_layer(save ? s.hidden_layers() : 0, s.width()));
  const Tensor cells = s.empty_state(s.per_layer(save ? s.states() : 0, s.H));
  const Tensor gates = empty(s.input, s.per_layer(keep_gates ? s.states() : 0, 4 * s.H));
};

struct StackBackward {
  void check() const;
  Tensor hidden_of(int64_t layer) const {
    return layer == s.hidden_layers() ? matrix(output, 0, s.R, s.width())
                                      : matrix(hidden, layer, s.R, s.width());
  }

  const StackArguments& s;
  const OptionalTensor &d_output, &d_h_n, &d_c_n, &d_hidden, &d_cells;
  const Tensor &output, &hidden, &cells, &gates;
  const Tensor d_input = empty(s.input, s.input.sizes());
  const Tensor d_h0 = empty(s.input, s.h0.sizes()), d_c0 = empty(s.input, s.c0.sizes());
};

// G = dirs * H cells of a layer of the layer lane.
struct TrajectoryForward : StackForward {
  const std::vector<CellWeights>& lane_weights;
  const std::optional<bool> wants_lanes;
  const int64_t G = s.dirs * s.H;
  const Tensor traj_hidden = empty(s.input, s.per_layer(save ? s.L - 1 : 0, s.width()));
  const Tensor traj_cells = s.empty_state(s.per_layer(save ? s.L : 0, G));
  const Tensor traj_gates = empty(s.input, s.per_layer(keep_gates ? s.L : 0, 4 * G));
};

struct TrajectoryBackward : StackBackward {
  void check() const;

  const std::vector<CellWeights>& lane_weights;
  const std::optional<bool> wants_lanes;
  const OptionalTensor &d_traj_hidden, &d_traj_cells;
  const Tensor &traj_hidden, &traj_cells, &traj_gates;
  const int64_t G = s.dirs * s.H;
};

struct CellForward {
  const Tensor &preact, &c;
  const OptionalTensor& peephole;
  const Tensor h = empty(c, c.sizes()), c_new = empty(c, c.sizes());
};

struct CellBackward {
  const OptionalTensor &d_h, &d_c_new;
  const Tensor &preact, &c;
  const OptionalTensor& peephole;
  const Tensor d_preact = empty(preact, preact.sizes()), d_c = empty(c, c.sizes());
};

// What the device does. A backward returns the gradients of weights, flat.
using WeightGradients = std::vector<Tensor>;
void run(const StackForward& call);
WeightGradients run(const StackBackward& call);
void run(const TrajectoryForward& call);
std::pair<WeightGradients, WeightGradients> run(const TrajectoryBackward& call);
void run(const CellForward& call);
OptionalTensor run(const CellBackward& call);

}  // namespace ltlstm::binding
