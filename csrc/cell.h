// SPDX-License-Identifier: Apache-2.0
// One LSTM cell, one unit: forward and backward, with or without peepholes, host and device.
//
// This is the only C++ copy of the equations. The time-LSTM and the layer-LSTM are the same cell
// with another "previous": h, c of the step before, or g, m of the layer below.
//     i = s(a_i [+ p_i c'])   f = s(a_f [+ p_f c'])   g = tanh(a_g)   c = f c' + i g
//     o = s(a_o [+ p_o c])    r = o tanh(c)
// r is the hidden state, before the projection where there is one. A scalar is float, double, or a
// vector of floats: as many units at once.
#pragma once

#include "activation.h"

namespace ltlstm {

template <class scalar>
struct Gates {
  scalar i, f, g, o;
};

template <class scalar>
struct Peephole {
  scalar i, f, o;
};

template <class scalar>
struct CellState {
  Gates<scalar> gates;
  scalar c, r;
};

// c and r from gates already activated.
template <class scalar>
LTLSTM_INLINE scalar next_cell(const Gates<scalar>& gates, scalar c_prev) {
  return gates.f * c_prev + gates.i * gates.g;
}
template <class scalar>
LTLSTM_INLINE scalar output_of(scalar o, scalar c) {
  return o * hyperbolic_tangent(c);
}

template <bool kPeephole, class scalar>
LTLSTM_INLINE CellState<scalar> cell_forward(Gates<scalar> preact, scalar c_prev,
                                             Peephole<scalar> p) {
  CellState<scalar> s;
  s.gates.i = sigmoid(kPeephole ? preact.i + p.i * c_prev : preact.i);
  s.gates.f = sigmoid(kPeephole ? preact.f + p.f * c_prev : preact.f);
  s.gates.g = hyperbolic_tangent(preact.g);
  s.c = next_cell(s.gates, c_prev);
  s.gates.o = sigmoid(kPeephole ? preact.o + p.o * s.c : preact.o);
  s.r = output_of(s.gates.o, s.c);
  return s;
}

template <class scalar>
struct CellGradient {
  Gates<scalar> preact;
  scalar c_prev;
  scalar r;  // not a gradient: r again, for the gradient of the projection
};

// dr, dc: gradients arriving at r and at c from outside this cell.
template <bool kPeephole, class scalar>
LTLSTM_INLINE CellGradient<scalar> cell_backward(Gates<scalar> gates, scalar c_prev, scalar c,
                                                 Peephole<scalar> p, scalar dr, scalar dc) {
  const scalar one = constant<scalar>(1);
  const scalar tanh_c = hyperbolic_tangent(c);
  CellGradient<scalar> d;
  d.r = gates.o * tanh_c;
  d.preact.o = dr * tanh_c * gates.o * (one - gates.o);
  dc += dr * gates.o * (one - tanh_c * tanh_c);
  if (kPeephole) dc += d.preact.o * p.o;
  d.preact.i = dc * gates.g * gates.i * (one - gates.i);
  d.preact.f = dc * c_prev * gates.f * (one - gates.f);
  d.preact.g = dc * gates.i * (one - gates.g * gates.g);
  d.c_prev = dc * gates.f;
  if (kPeephole) d.c_prev += d.preact.i * p.i + d.preact.f * p.f;
  return d;
}

}  // namespace ltlstm
