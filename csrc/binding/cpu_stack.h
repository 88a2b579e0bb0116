// SPDX-License-Identifier: Apache-2.0
// The time lane of a whole stack in the course of a pass: memory, views of it, and one layer after
// another.
#pragma once

#include <cstring>

#include "binding/calls.h"
#include "binding/cpu_lanes.h"
#include "binding/cpu_products.h"
#include "cpu/processors.h"

namespace ltlstm::binding {

// f(scalar) for the scalar type of a tensor: what an operator does, on no more threads than there
// are processors. The kernels are asked for first, which throws where LTLSTM_CPU_ISA names none: in
// a parallel region torch would lose the words of that.
template <class Function>
auto with_scalar(ScalarType type, const Function& f) {
  cpu::kernels<float>();
  const cpu::WithinProcessors limited(static_cast<int>(torch::stable::get_num_threads()));
  return type == ScalarType::Double ? f(double()) : f(float());
}

// A contiguous tensor, filled with as many elements of another or with zeros.
inline Tensor filled(const Tensor& t, const OptionalTensor& from) {
  const size_t size = t.scalar_type() == ScalarType::Double ? sizeof(double) : sizeof(float);
  const size_t bytes = t.numel() * size;
  if (bytes > 0 && from) std::memcpy(t.mutable_data_ptr(), from->const_data_ptr(), bytes);
  if (bytes > 0 && !from) std::memset(t.mutable_data_ptr(), 0, bytes);
  return t;
}

template <class scalar>
Tensor masked(const Tensor& t, const Tensor& mask) {
  Tensor out = empty(t, t.sizes());
  multiply<scalar>(t, mask, out, false);
  return out;
}

// Memory for the output of a layer: where it stays, or new.
inline Tensor hidden_for(const StackForward& call, int64_t layer) {
  const OptionalTensor kept = call.hidden_of(layer);
  return kept ? *kept : empty(call.s.input, {call.s.R, call.s.width()});
}

// What a layer has read: input, or of the output of the layer below what its mask leaves.
template <class scalar>
Tensor read_by(const StackBackward& call, int64_t layer) {
  const StackArguments& s = call.s;
  if (layer == 0) return matrix(s.input, 0, s.R, s.D);
  const Tensor below = call.hidden_of(layer - 1);
  return s.drops(layer - 1) ? masked<scalar>(below, s.masks[layer - 1]) : below;
}

// Memory for the gradient of that.
inline Tensor d_read_by(const StackBackward& call, int64_t layer) {
  const StackArguments& s = call.s;
  return layer == 0 ? matrix(call.d_input, 0, s.R, s.D) : empty(s.input, {s.R, s.width()});
}

// The layers of a stack from the last to the first: backward(layer, d_hidden), from the gradient of
// a layer's output, gives that of what it has read.
template <class scalar, class Backward>
void run_down(const StackBackward& call, const Backward& backward) {
  const StackArguments& s = call.s;
  const Sizes wide = {s.R, s.width()};
  OptionalTensor d_hidden;
  if (call.d_output) d_hidden = layer_of(*call.d_output, 0, wide);
  for (int64_t l = s.L - 1; l >= 0; --l) {
    const Tensor d_read = backward(l, d_hidden);
    if (l > 0 && s.drops(l - 1)) multiply<scalar>(d_read, s.masks[l - 1], d_read, false);
    if (l > 0 && call.d_hidden) add<scalar>(layer_of(*call.d_hidden, l - 1, wide), d_read);
    d_hidden = d_read;
  }
}

// A stack in the course of its forward pass: what the time lane writes, layer by layer.
template <class scalar>
struct TimeLaneForward {
  explicit TimeLaneForward(const StackForward& call)
      : s(call.s),
        x(matrix(s.input, 0, s.R, s.D)),
        memory{computable(s.h0),
               computable(s.c0),
               s.half() ? computable(s.h0) : filled(call.h_n, s.h0),
               s.half() ? computable(s.c0) : filled(call.c_n, s.c0),
               call.save ? OptionalTensor(call.cells) : OptionalTensor(),
               call.save ? call.gates : s.empty_state({s.dirs, rows_at_once(s), 4 * s.H})} {}

  void run(int64_t layer, const Tensor& hidden) {
    TimeLane<scalar>::forward(s, layer, x, hidden, memory);
    x = s.drops(layer) ? masked<scalar>(hidden, s.masks[layer]) : hidden;
  }

  static int64_t rows_at_once(const StackArguments& s) {
    return std::min(s.R, s.N * TimeLane<scalar>::steps_at_once(s));
  }

  const StackArguments& s;
  Tensor x;  // what the next layer reads
  const TimeLaneMemory memory;
};

// The same in the backward pass: gradients of the state, and of what each layer read.
template <class scalar>
struct TimeLaneBackward {
  explicit TimeLaneBackward(const StackBackward& call)
      : call(call),
        s(call.s),
        memory{s.h0,       s.c0,      filled(call.d_h0, call.d_h_n), filled(call.d_c0, call.d_c_n),
               call.cells, call.gates},
        d_weights(s.L) {}

  // Returns the gradient of what the layer read.
  Tensor run(int64_t layer, const OptionalTensor& d_hidden) {
    const Tensor d_x = d_read_by(call, layer);
    d_weights[layer] =
        TimeLane<scalar>::backward(s, layer, read_by<scalar>(call, layer), call.hidden_of(layer),
                                   memory, d_hidden, call.d_cells, d_x);
    return d_x;
  }

  const StackBackward& call;
  const StackArguments& s;
  const TimeLaneMemory memory;
  std::vector<std::vector<Tensor>> d_weights;
};

}  // namespace ltlstm::binding
