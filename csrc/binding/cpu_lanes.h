// SPDX-License-Identifier: Apache-2.0
// One layer of each lane on the CPU: the time-LSTM (all directions) and the layer-LSTM, forward and
// backward. The operators in cpu.cpp say in which order the layers run and which memory they write.
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

struct TimeLayerSaved {
  Tensor x, h0, c0, hidden, gates, cells;  // as in the forward; h0, c0 of this layer
};

template <class scalar>
struct TimeLane {
  // x (R, D); hidden (R, width); gates (dirs, R, 4H) may be scratch; cells (dirs, R, H) or nothing.
  // h_n (dirs, N, P) and c_n (dirs, N, H) hold the initial state on entry.
  static void forward(const StackArguments& stack, int64_t layer, const Tensor& x,
                      const Tensor& hidden, const Tensor& gates, const OptionalTensor& cells,
                      const Tensor& h0, const Tensor& h_n, const Tensor& c_n);

  // d_hidden (R, width) and d_cells (dirs, R, H) or nothing; dh, dc (dirs, N, .) hold the gradients
  // of h_n, c_n on entry and those of h0, c0 on return; writes d_x (R, D). Returns the gradients of
  // the layer's weights, flat.
  static std::vector<Tensor> backward(const StackArguments& stack, int64_t layer,
                                      const TimeLayerSaved& saved, const OptionalTensor& d_hidden,
                                      const OptionalTensor& d_cells, const Tensor& dh,
                                      const Tensor& dc, const Tensor& d_x);
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
