// SPDX-License-Identifier: Apache-2.0
// The time lane of a whole stack in the course of a pass on a GPU: memory, views of it, and one
// layer after another.
#pragma once

#include <algorithm>

#include "binding/cuda_stack.h"

namespace ltlstm::binding {

template <class scalar>
struct TimeLaneForward {
  TimeLaneForward(Pass& pass, const Tensor& input, const Tensor& h0, const Tensor& c0, bool save)
      : pass(pass),
        save(save),
        lane(pass, input, h0, c0),
        x(matrix(input, 0, pass.s.R, pass.s.D)),
        cells(empty_float(input, pass.s.per_layer(save ? pass.s.L * pass.s.dirs : 0, pass.s.H))),
        gates(empty(input, pass.s.per_layer(save ? pass.s.L * pass.s.dirs : 0, 4 * pass.s.H))),
        c_n(empty(input, c0.sizes())) {}

  // Reads x, writes hidden (R, width) and leaves what the next layer reads in x.
  void run(int64_t layer, const Tensor& hidden) {
    const StackArguments& s = pass.s;
    const auto kept = [&](const Tensor& t) { return save ? OptionalTensor(t) : OptionalTensor(); };
    lane.forward(layer, x, hidden, kept(cells), kept(gates));
    x = hidden;
    if (layer < static_cast<int64_t>(s.masks.size())) {
      x = pass.lanes.time.empty(hidden, {s.R, s.width()});
      pass.lanes.time.multiply<scalar>(hidden, s.masks[layer], x, false);
    }
  }

  // c_n in the storage type; the lane has it in float32. After the last layer.
  Tensor final_c() const {
    pass.lanes.time.copy(lane.c_n, c_n);
    return c_n;
  }

  Pass& pass;
  const bool save;
  TimeLane<scalar> lane;
  Tensor x;
  const Tensor cells, gates, c_n;
};

template <class scalar>
struct TimeLaneBackward {
  TimeLaneBackward(Pass& pass, const Tensor& input, const Tensor& h0, const Tensor& c0,
                   const Tensor& cells, const Tensor& gates, const OptionalTensor& d_h_n,
                   const OptionalTensor& d_c_n, const OptionalTensor& d_cells)
      : pass(pass),
        lane(pass, input, h0, c0),
        input(matrix(input, 0, pass.s.R, pass.s.D)),
        cells(cells),
        gates(gates),
        d_input(empty(input, input.sizes())),
        d_weights(pass.s.L) {
    const StackArguments& s = pass.s;
    const Sizes per_cell = s.per_layer(s.L * s.dirs, s.H);
    require_tensor(s.op, "cells", cells, ScalarType::Float, per_cell);
    s.require_shape("gates", gates, s.per_layer(s.L * s.dirs, 4 * s.H));
    s.require_shape("d_h_n", d_h_n, h0.sizes());
    s.require_shape("d_c_n", d_c_n, c0.sizes());
    require_tensor(s.op, "d_cells", d_cells, ScalarType::Float, per_cell);
    const Lane& on = pass.lanes.time;
    gradients.d_h_n = on.as_float(d_h_n);
    gradients.d_c_n = on.as_float(d_c_n);
    gradients.d_cells = d_cells;
    gradients.d_h0 = on.empty_float(h0, h0.sizes());
    gradients.d_c0 = on.empty_float(c0, c0.sizes());
  }

  // Returns the gradient of what the layer read: of input, or of the (masked) output of the layer
  // below.
  Tensor run(int64_t layer, const Tensor& below, const Tensor& hidden,
             const OptionalTensor& d_hidden) {
    const StackArguments& s = pass.s;
    const Lane& on = pass.lanes.time;
    const bool first = layer == 0;
    Tensor x = first ? input : below;
    if (!first && layer <= static_cast<int64_t>(s.masks.size())) {
      x = on.empty(below, {s.R, s.width()});
      on.multiply<scalar>(below, s.masks[layer - 1], x, false);
    }
    const Tensor d_x = first ? matrix(d_input, 0, s.R, s.D) : on.empty(below, {s.R, s.width()});
    lane.backward(layer, x, hidden, cells, gates, d_hidden, d_x, gradients);
    d_weights[layer] = gradients.d_weights;
    return d_x;
  }

  // In the storage type.
  Tensor narrow(const Tensor& wide, const Tensor& like) const {
    const Tensor out = empty(like, like.sizes());
    pass.lanes.time.copy(wide, out);
    return out;
  }

  Pass& pass;
  TimeLane<scalar> lane;
  const Tensor input, cells, gates, d_input;
  typename TimeLane<scalar>::Gradients gradients;
  std::vector<std::vector<Tensor>> d_weights;
};

}  // namespace ltlstm::binding
