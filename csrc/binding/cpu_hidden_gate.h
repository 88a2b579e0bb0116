// SPDX-License-Identifier: Apache-2.0
// One layer of H-LSTMs on the CPU, all directions, forward and backward. The operators in
// cpu_h_lstm.cpp say in which order the layers run and which memory they write.
#pragma once

#include "binding/arguments.h"

namespace ltlstm::binding {

// What a whole stack reads and writes, all layers (and directions) in one tensor.
struct HiddenGateMemory {
  Tensor h0, c0;              // (L * dirs, N, H)
  Tensor h_n, c_n;            // (L * dirs, N, H), the initial state until a layer has run
  OptionalTensor cells;       // (L * dirs, R, H)
  Tensor gates;               // (L * dirs, R, 4H), or without cells scratch: (dirs, 2, N, 4H)
  Tensor gate_hidden;         // (L * dirs * J, R, 4K), or without cells the same of the steps at
                              // once, of the first hidden layers of one layer: (dirs, ., 4K)
  OptionalTensor inner;       // without cells, of the other hidden layers: (dirs * (J - 1), N, 4K)
  OptionalTensor gate_masks;  // (L * dirs * J, R, 4K)
};

template <class scalar>
struct HiddenGates {
  // How many steps have their inputs multiplied at once.
  static int64_t steps_at_once(const StackArguments& stack);

  // x (R, D); writes hidden (R, width) and what is the layer's of the memory.
  static void forward(const StackArguments& stack, int64_t layer, scalar slope, const Tensor& x,
                      const Tensor& hidden, const HiddenGateMemory& memory);

  // x, hidden and memory are the forward's, except that h_n and c_n hold the gradients of the final
  // state on entry and those of the initial state on return. d_hidden (R, width) and d_cells
  // (L * dirs, R, H) may be missing. Writes d_x (R, D), returns the gradients of the layer's
  // weights, flat.
  static std::vector<Tensor> backward(const StackArguments& stack, int64_t layer, scalar slope,
                                      const Tensor& x, const Tensor& hidden,
                                      const HiddenGateMemory& memory,
                                      const OptionalTensor& d_hidden, const OptionalTensor& d_cells,
                                      const Tensor& d_x);
};

}  // namespace ltlstm::binding
