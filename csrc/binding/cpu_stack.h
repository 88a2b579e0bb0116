// SPDX-License-Identifier: Apache-2.0
// The time lane of a whole stack in the course of a pass: memory, views of it, and one layer after
// another.
#pragma once

#include <cstring>

#include "binding/cpu_lanes.h"
#include "binding/cpu_products.h"

namespace ltlstm::binding {

// f(scalar) for the scalar type of a tensor.
template <class Function>
auto with_scalar(ScalarType type, const Function& f) {
  return type == ScalarType::Double ? f(double()) : f(float());
}

// A copy of a contiguous tensor that has as many elements as `sizes` says.
inline Tensor cloned(const Tensor& t, Shape sizes) {
  Tensor copy = empty(t, sizes);
  const size_t size = t.scalar_type() == ScalarType::Double ? sizeof(double) : sizeof(float);
  if (t.numel() > 0) std::memcpy(copy.mutable_data_ptr(), t.const_data_ptr(), t.numel() * size);
  return copy;
}

inline Tensor cloned_or_zeros(const OptionalTensor& t, const Tensor& like, Shape sizes) {
  return t ? cloned(*t, sizes) : zeros(like, sizes);
}

template <class scalar>
Tensor masked(const Tensor& t, const Tensor& mask) {
  Tensor out = empty(t, t.sizes());
  multiply<scalar>(t, mask, out, false);
  return out;
}

// A stack in the course of its forward pass: what the time lane writes, layer by layer.
template <class scalar>
struct TimeLaneForward {
  TimeLaneForward(const StackArguments& s, const Tensor& input, const Tensor& h0, const Tensor& c0,
                  bool save)
      : s(s),
        x(matrix(input, 0, s.R, s.D)),
        cells(empty(h0, s.per_layer(save ? s.L * s.dirs : 0, s.H))),
        gates(empty(h0, s.per_layer(save ? s.L * s.dirs : 0, 4 * s.H))),
        memory{h0,
               c0,
               cloned(h0, h0.sizes()),
               cloned(c0, c0.sizes()),
               save ? OptionalTensor(cells) : OptionalTensor(),
               save ? gates
                    : empty(h0, {s.dirs, std::min(s.R, s.N * TimeLane<scalar>::steps_at_once(s)),
                                 4 * s.H})} {}

  void run(int64_t layer, const Tensor& hidden) {
    TimeLane<scalar>::forward(s, layer, x, hidden, memory);
    x = layer < static_cast<int64_t>(s.masks.size()) ? masked<scalar>(hidden, s.masks[layer])
                                                     : hidden;
  }

  const StackArguments& s;
  Tensor x;  // what the next layer reads
  const Tensor cells, gates;
  const TimeLaneMemory memory;
};

// The same in the backward pass: gradients of the state, and of what each layer read.
template <class scalar>
struct TimeLaneBackward {
  TimeLaneBackward(const StackArguments& s, const Tensor& input, const Tensor& h0, const Tensor& c0,
                   const Tensor& cells, const Tensor& gates, const OptionalTensor& d_h_n,
                   const OptionalTensor& d_c_n, const OptionalTensor& d_cells)
      : s(s), input(input), d_cells(d_cells), d_weights(s.L) {
    s.require_shape("cells", cells, s.per_layer(s.L * s.dirs, s.H));
    s.require_shape("gates", gates, s.per_layer(s.L * s.dirs, 4 * s.H));
    s.require_shape("d_h_n", d_h_n, h0.sizes());
    s.require_shape("d_c_n", d_c_n, c0.sizes());
    s.require_shape("d_cells", d_cells, s.per_layer(s.L * s.dirs, s.H));
    memory = {h0,
              c0,
              cloned_or_zeros(d_h_n, input, h0.sizes()),
              cloned_or_zeros(d_c_n, input, c0.sizes()),
              cells,
              gates};
  }

  // Returns the gradient of what the layer read: of input, or of the (masked) output of the layer
  // below.
  Tensor run(int64_t layer, const Tensor& below, const Tensor& hidden,
             const OptionalTensor& d_hidden) {
    const bool first = layer == 0;
    const bool dropped = !first && layer <= static_cast<int64_t>(s.masks.size());
    const Tensor x = first     ? matrix(input, 0, s.R, s.D)
                     : dropped ? masked<scalar>(below, s.masks[layer - 1])
                               : below;
    const Tensor d_x = empty(input, first ? s.per_row(s.D) : Sizes{s.R, s.width()});
    d_weights[layer] = TimeLane<scalar>::backward(s, layer, x, hidden, memory, d_hidden, d_cells,
                                                  first ? matrix(d_x, 0, s.R, s.D) : d_x);
    return d_x;
  }

  const StackArguments& s;
  const Tensor& input;
  const OptionalTensor& d_cells;
  TimeLaneMemory memory;
  std::vector<std::vector<Tensor>> d_weights;
};

}  // namespace ltlstm::binding
