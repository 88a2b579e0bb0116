// SPDX-License-Identifier: Apache-2.0
// One layer of each lane on the CPU: the time-LSTM (all directions) and the layer-LSTM, forward and
// backward. The operators say in which order the layers run and which memory
// they write.
#pragma once

#include "binding/arguments.h"

namespace ltlstm::binding {

// The gradients of one cell's weights, in the order of the flat list.
struct CellWeightGradients {
  OptionalTensor w_ih, w_hh, b_ih, b_hh, w_hr, peephole;

  void append_to(std::vector<Tensor>& list) const {
    for (const OptionalTensor* t : {&w_ih, &w_hh, &b_ih, &b_hh, &w_hr, &peephole})
      if (*t) list.push_back(**t);
  }
};

// What the time lane of a whole stack reads and writes, all layers (and directions) in one tensor.
struct TimeLaneMemory {
  Tensor h0, c0;         // (L * dirs, N, .)
  Tensor h_n, c_n;       // (L * dirs, N, .), the initial state until a layer has run
  OptionalTensor cells;  // (L * dirs, R, H)
  // (L * dirs, R, 4H), or where cells is nothing the scratch of the steps at once: (dirs, ., 4H)
  Tensor gates;
};

template <class scalar>
struct TimeLane {
  // How many steps have their inputs multiplied at once.
  static int64_t steps_at_once(const StackArguments& stack);

  // x (R, D); writes hidden (R, width) and what is the layer's of the memory.
  static void forward(const StackArguments& stack, int64_t layer, const Tensor& x,
                      const Tensor& hidden, const TimeLaneMemory& memory);

  // x, hidden and memory are the forward's, except that h_n and c_n hold the gradients of the final
  // state on entry and those of the initial state on return. d_hidden (R, width) and d_cells
  // (L * dirs, R, H) may be missing. Writes d_x (R, D), returns the gradients of the layer's
  // weights, flat.
  static std::vector<Tensor> backward(const StackArguments& stack, int64_t layer, const Tensor& x,
                                      const Tensor& hidden, const TimeLaneMemory& memory,
                                      const OptionalTensor& d_hidden, const OptionalTensor& d_cells,
                                      const Tensor& d_x);
};

struct LayerLayerSaved {
  Tensor x;
  OptionalTensor g_below, m_below;
  Tensor gates, m;
};

// G = dirs * H cells, Q = width outputs.
template <class scalar>
struct LayerLane {
  // x (R, Q) is what it reads of the time lane; g_below (R, Q), m_below (R, G) or nothing in the
  // first layer; writes gates (R, 4G), m (R, G), g (R, Q), where m may be m_below and g may be
  // g_below.
  static void forward(const CellWeights& w, const Tensor& x, const OptionalTensor& g_below,
                      const OptionalTensor& m_below, const Tensor& gates, const Tensor& m,
                      const Tensor& g);

  // dg (R, Q) holds the gradient of g on entry and that of g_below on return, dm (R, G) likewise;
  // writes d_x (R, Q).
  static std::vector<Tensor> backward(const CellWeights& w, const LayerLayerSaved& saved,
                                      const Tensor& dg, const Tensor& dm, const Tensor& d_x);
};

// The pointwise cell over R rows.
template <class scalar>
struct CellRows {
  // c_prev nothing means zeros. Writes gates (may be preact), c and r.
  static void forward(const Tensor& preact, const OptionalTensor& c_prev,
                      const OptionalTensor& peephole, const Tensor& gates, const Tensor& c,
                      const Tensor& r);

  // dc holds the gradient of c on entry and that of c_prev on return. Writes d_preact, and r where
  // asked; returns the gradient of the peephole where there is one.
  static OptionalTensor backward(const Tensor& gates, const OptionalTensor& c_prev, const Tensor& c,
                                 const OptionalTensor& peephole, const Tensor& dr, const Tensor& dc,
                                 const Tensor& d_preact, const OptionalTensor& r);
};

}  // namespace ltlstm::binding
