// SPDX-License-Identifier: Apache-2.0
// What both lanes' cells have alike on a GPU: sums of biases, gradients of weights, storage types.
//
// scalar is the storage type. States that are summed over time or depth (c, m and their gradients)
// are float32 whatever it is.
#pragma once

#include "binding/arguments.h"
#include "binding/cuda_lanes.h"

namespace ltlstm::binding {

// The sum of both biases, or nothing.
template <class scalar>
OptionalTensor whole_bias(const Lane& lane, const CellWeights& w) {
  if (!w.b_ih) return std::nullopt;
  const Tensor sum = lane.empty(*w.b_ih, w.b_ih->sizes());
  lane.copy(*w.b_ih, sum);
  lane.add<scalar>(*w.b_hh, sum);
  return sum;
}

// The gradients that both lanes' cells have alike, from that of the pre-activations.
template <class scalar>
void append_gradients(const Lane& lane, const CellWeights& w, const Tensor& d_preact,
                      const Tensor& x, const OptionalTensor& h_prev, std::vector<Tensor>& list) {
  const auto of = [&](const Tensor& weight, const Tensor& d, const Tensor& from) {
    const Tensor gradient = lane.empty(weight, weight.sizes());
    lane.product(gradient, transposed(d), from, false);
    list.push_back(gradient);
  };
  of(w.w_ih, d_preact, x);
  if (h_prev) of(*w.w_hh, d_preact, *h_prev);
  if (w.b_ih) {
    for (int k = 0; k < 2; ++k) list.push_back(lane.empty(*w.b_ih, w.b_ih->sizes()));
    const Tensor &first = list[list.size() - 2], &second = list.back();
    lane.column_sums<scalar, scalar>(d_preact, first);
    lane.copy(first, second);
  }
}

// The gradient (3, G) of peepholes over R independent rows: c_prev and c (R, G) float32.
template <class scalar>
void sum_peephole_gradient(const Lane& lane, const Tensor& d_preact, const OptionalTensor& c_prev,
                           const Tensor& c, const Tensor& d_peephole) {
  constexpr int64_t kRows = 256;
  const int64_t R = c.size(0), G = c.size(1), pieces = (R + kRows - 1) / kRows;
  const Tensor sums = lane.empty_float(c, {pieces, 3 * G});
  check(cuda::peephole_gradient(
      cuda::PeepholeGradient<scalar>{R, G, kRows, data<scalar>(d_preact), 4 * G,
                                     data<float>(c_prev), data<float>(c),
                                     mutable_data<float>(sums)},
      lane.stream));
  lane.column_sums<float, scalar>(sums, d_peephole);
}

// f(scalar*) for the storage type of a tensor; the pointer is null.
template <class Function>
auto with_storage(ScalarType type, const Function& f) {
  if (type == ScalarType::BFloat16) return f(static_cast<__nv_bfloat16*>(nullptr));
  if (type == ScalarType::Half) return f(static_cast<__half*>(nullptr));
  return f(static_cast<float*>(nullptr));
}

}  // namespace ltlstm::binding
