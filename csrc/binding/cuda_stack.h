// SPDX-License-Identifier: Apache-2.0
// One layer of each lane on a GPU: the time-LSTM (all directions) and the layer-LSTM, forward and
// backward. The operators in cuda.cpp and cuda_trajectory.cpp say in which order the layers run.
//
// scalar is the storage type. States that are summed over time or depth (c, m and their gradients)
// are float32 whatever it is.
#pragma once

#include "binding/arguments.h"
#include "binding/cuda_lanes.h"

namespace ltlstm::binding {

// What every pass over a stack needs beside the arguments.
struct Pass {
  Pass(const StackArguments& s, const Tensor& input, const OptionalTensor& batch_sizes,
       const OptionalTensor& reset, bool training, bool trajectory, std::optional<bool> lanes);

  Sequence sequence() const;

  const StackArguments& s;
  const Plan plan;
  const OptionalTensor reset;
  OptionalTensor steps;  // batch_sizes and offsets on the device, of packed input
  Lanes lanes;           // last, for it joins before anything goes
};

template <class scalar>
struct TimeLane {
  // h0 (L*dirs, N, P) of the storage type, c0 float32; fills h_n and c_n alike, cells (L*dirs, R,
  // H) float32 and gates (L*dirs, R, 4H) where they are kept.
  TimeLane(Pass& pass, const Tensor& input, const Tensor& h0, const Tensor& c0);

  // hidden (R, width) from x (R, D).
  void forward(int64_t layer, const Tensor& x, const Tensor& hidden, const OptionalTensor& cells,
               const OptionalTensor& gates) const;

  // What backward reads and fills beside: gradients of the final state in, of the initial out.
  struct Gradients {
    OptionalTensor d_h_n, d_c_n;    // (L*dirs, N, .) float32
    OptionalTensor d_cells;         // (L*dirs, R, H)
    Tensor d_h0, d_c0;              // (L*dirs, N, .) float32
    std::vector<Tensor> d_weights;  // of one layer, flat
  };
  // d_x (R, D) from d_hidden (R, width) or nothing.
  void backward(int64_t layer, const Tensor& x, const Tensor& hidden, const Tensor& cells,
                const Tensor& gates, const OptionalTensor& d_hidden, const Tensor& d_x,
                Gradients& gradients) const;

  Pass& pass;
  const StackArguments& s;
  const Lane& lane;
  Tensor h0, c0, h_n, c_n;
};

// G = dirs * H cells, Q = width outputs; m and dm are float32.
template <class scalar>
struct LayerLane {
  // x (R, Q) is what it reads of the time lane; writes m (R, G), g (R, Q), and gates (R, 4G) where
  // they are kept; m may be m_below and g may be g_below.
  static void forward(const Lane& lane, const CellWeights& w, const Tensor& x,
                      const OptionalTensor& g_below, const OptionalTensor& m_below,
                      const Tensor& preact, bool keep, const Tensor& m, const Tensor& g);

  struct Saved {
    Tensor x;
    OptionalTensor g_below, m_below;
    Tensor gates, m;
  };
  // dg (R, Q) holds the gradient of g on entry and that of g_below on return, dm (R, G) likewise;
  // writes d_x (R, Q). Returns the gradients of the weights, flat.
  static std::vector<Tensor> backward(const Lane& lane, const CellWeights& w, const Saved& saved,
                                      const Tensor& dg, const Tensor& dm, const Tensor& d_x);
};

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
    lane.column_sums(d_preact, first);
    lane.copy(first, second);
  }
}

// The gradient (3, G) of peepholes over R independent rows: c_prev and c (R, G) float32.
template <class scalar>
void sum_peephole_gradient(const Lane& lane, const Tensor& d_preact, const OptionalTensor& c_prev,
                           const Tensor& c, const Tensor& d_peephole) {
  constexpr int64_t kRows = 256;
  const int64_t R = c.size(0), G = c.size(1), pieces = (R + kRows - 1) / kRows;
  const Tensor sums = lane.empty_float(c, {pieces, 3 * G}), sum = lane.empty_float(c, {3 * G});
  check(cuda::peephole_gradient(
      cuda::PeepholeGradient<scalar>{R, G, kRows, data<scalar>(d_preact), 4 * G,
                                     data<float>(c_prev), data<float>(c),
                                     mutable_data<float>(sums)},
      lane.stream));
  lane.column_sums(sums, sum);
  lane.copy(matrix(sum, 0, 3, G), d_peephole);
}

// f(scalar*) for the storage type of a tensor; the pointer is null.
template <class Function>
auto with_storage(ScalarType type, const Function& f) {
  if (type == ScalarType::BFloat16) return f(static_cast<__nv_bfloat16*>(nullptr));
  if (type == ScalarType::Half) return f(static_cast<__half*>(nullptr));
  return f(static_cast<float*>(nullptr));
}

// The storage types of a GPU.
inline std::vector<ScalarType> storage_types() {
  return {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16};
}

}  // namespace ltlstm::binding
