// SPDX-License-Identifier: Apache-2.0
// The time lane of a whole stack in the course of a pass: memory, views of it, and one layer after
// another.
#pragma once

#include "binding/cpu_lanes.h"
#include "binding/cpu_products.h"

namespace ltlstm::binding {

inline Tensor layer_of(const Tensor& t, int64_t layer, const Sizes& sizes) {
  return torch::stable::view(torch::stable::select(t, 0, layer), sizes);
}

// The directions of one layer out of (L * dirs, ...), each with `sizes`.
inline Tensor directions_of(const StackArguments& s, const Tensor& t, int64_t layer,
                            const Sizes& sizes) {
  Tensor part = t;
  part = torch::stable::narrow(part, 0, layer * s.dirs, s.dirs);
  return torch::stable::view(part, joined({s.dirs}, sizes));
}

inline Tensor cloned_or_zeros(const OptionalTensor& t, const Tensor& like, const Sizes& sizes) {
  return t ? torch::stable::view(torch::stable::clone(*t), sizes) : zeros(like, sizes);
}

template <class scalar>
Tensor masked(const Tensor& t, const Tensor& mask) {
  Tensor out = empty(t, sizes_of(t));
  multiply<scalar>(t, mask, out, false);
  return out;
}

inline void require_masks(const StackArguments& s, bool with_last) {
  const int64_t count = static_cast<int64_t>(s.masks.size());
  require(count == 0 || count == s.L - 1 || (with_last && count == s.L), s.op, "masks",
          with_last ? "hold L - 1 or L layers" : "hold L - 1 layers", std::to_string(count));
}

// A stack in the course of its forward pass: what the time lane writes, layer by layer.
template <class scalar>
struct TimeLaneForward {
  TimeLaneForward(const StackArguments& s, const Tensor& input, const Tensor& h0, const Tensor& c0,
                  bool save)
      : s(s),
        save(save),
        x(torch::stable::view(input, {s.R, s.D})),
        h0(h0),
        h_n(torch::stable::clone(h0)),
        c_n(torch::stable::clone(c0)),
        cells(empty(input, s.per_layer(save ? s.L * s.dirs : 0, s.H))),
        gates(empty(input, s.per_layer(save ? s.L * s.dirs : 0, 4 * s.H))),
        scratch(empty(input, {save ? 0 : s.dirs, s.R, 4 * s.H})) {}

  void run(int64_t layer, const Tensor& hidden) {
    TimeLane<scalar>::forward(
        s, layer, x, hidden, save ? directions_of(s, gates, layer, {s.R, 4 * s.H}) : scratch,
        save ? OptionalTensor(directions_of(s, cells, layer, {s.R, s.H})) : OptionalTensor(),
        directions_of(s, h0, layer, {s.N, s.P}), directions_of(s, h_n, layer, {s.N, s.P}),
        directions_of(s, c_n, layer, {s.N, s.H}));
    x = layer < static_cast<int64_t>(s.masks.size()) ? masked<scalar>(hidden, s.masks[layer])
                                                     : hidden;
  }

  const StackArguments& s;
  const bool save;
  Tensor x;  // what the next layer reads
  Tensor h0, h_n, c_n, cells, gates, scratch;
};

// The same in the backward pass: gradients of the state, and of what each layer read.
template <class scalar>
struct TimeLaneBackward {
  TimeLaneBackward(const StackArguments& s, const Tensor& input, const Tensor& h0, const Tensor& c0,
                   const Tensor& cells, const Tensor& gates, const OptionalTensor& d_h_n,
                   const OptionalTensor& d_c_n, const OptionalTensor& d_cells)
      : s(s), input(input), h0(h0), c0(c0), cells(cells), gates(gates), d_cells(d_cells) {
    s.require_shape("cells", cells, s.per_layer(s.L * s.dirs, s.H));
    s.require_shape("gates", gates, s.per_layer(s.L * s.dirs, 4 * s.H));
    s.require_shape("d_h_n", d_h_n, sizes_of(h0));
    s.require_shape("d_c_n", d_c_n, sizes_of(c0));
    s.require_shape("d_cells", d_cells, s.per_layer(s.L * s.dirs, s.H));
    dh = cloned_or_zeros(d_h_n, input, sizes_of(h0));
    dc = cloned_or_zeros(d_c_n, input, sizes_of(c0));
    d_weights.resize(s.L);
  }

  // Returns the gradient of what the layer read: of input, or of the (masked) output of the layer
  // below.
  Tensor run(int64_t layer, const Tensor& below, const Tensor& hidden,
             const OptionalTensor& d_hidden) {
    const bool first = layer == 0;
    const bool dropped = !first && layer <= static_cast<int64_t>(s.masks.size());
    const Tensor x = first     ? torch::stable::view(input, {s.R, s.D})
                     : dropped ? masked<scalar>(below, s.masks[layer - 1])
                               : below;
    const TimeLayerSaved saved = {x,
                                  directions_of(s, h0, layer, {s.N, s.P}),
                                  directions_of(s, c0, layer, {s.N, s.H}),
                                  hidden,
                                  directions_of(s, gates, layer, {s.R, 4 * s.H}),
                                  directions_of(s, cells, layer, {s.R, s.H})};
    const OptionalTensor d_cells_here =
        d_cells ? OptionalTensor(directions_of(s, *d_cells, layer, {s.R, s.H})) : OptionalTensor();
    const Tensor d_x = empty(input, sizes_of(x));
    d_weights[layer] = TimeLane<scalar>::backward(s, layer, saved, d_hidden, d_cells_here,
                                                  directions_of(s, dh, layer, {s.N, s.P}),
                                                  directions_of(s, dc, layer, {s.N, s.H}), d_x);
    return first ? torch::stable::view(d_x, s.per_row(s.D)) : d_x;
  }

  const StackArguments& s;
  const Tensor &input, &h0, &c0, &cells, &gates;
  const OptionalTensor& d_cells;
  Tensor dh, dc;
  std::vector<std::vector<Tensor>> d_weights;
};

inline std::vector<Tensor> flattened(const std::vector<std::vector<Tensor>>& lists) {
  std::vector<Tensor> all;
  for (const auto& list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}

}  // namespace ltlstm::binding
