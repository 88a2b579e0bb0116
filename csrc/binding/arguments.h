// SPDX-License-Identifier: Apache-2.0
// The arguments of the stack operators, checked for what memory safety needs, with their shapes
// worked out once.
#pragma once

#include <utility>

#include "binding/tensors.h"
#include "problem.h"

namespace ltlstm::binding {

struct Flags {
  bool bias, projected, peephole, bidirectional;
  bool trajectory = false;  // a layer-LSTM reads the layers
  bool mlp_gates = false;
  bool compiled = false;  // the weights of such gates are sparse matrices in bytes
};

// The weights of one layer and direction of the time-LSTM, or of one layer of the layer-LSTM. w_hh
// is absent in the layer-LSTM's first layer, which has nothing below it.
struct CellWeights {
  Tensor w_ih;
  OptionalTensor w_hh, b_ih, b_hh, w_hr, peephole;
};

// The same where the gates are MLPs: w_ih (4K, .), w_hh (4K, H), b (4K), and J times what follows a
// hidden layer: w (4, K or H, K), b (4, K or H). A compiled weight is a tensor of bytes whose shape
// is so far only what it says of itself.
struct GateWeights {
  Tensor w_ih, w_hh;
  OptionalTensor b;
  std::vector<Tensor> later;
  std::vector<OptionalTensor> later_b;
};

// Refuses a type that is none of these.
void require_type(const char* op, const char* argument, ScalarType type, Types types);

// Shape letters as in problem.h; `rows` is the leading shape of everything that has one entry a
// row: (T, N), or (S) for packed input. It refers to the arguments, which the caller keeps.
class StackArguments {
 public:
  StackArguments(const char* op, const Tensor& input, const Tensor& h0, const Tensor& c0,
                 const std::vector<Tensor>& weights, const OptionalTensor& masks,
                 const OptionalTensor& batch_sizes, const OptionalTensor& reset, Flags flags,
                 Types types);

  // The weights of the layer-LSTM above this stack: G = dirs * H cells, Q = dirs * P outputs a
  // layer.
  std::vector<CellWeights> layer_lane_weights(const std::vector<Tensor>& traj_weights) const;

  void require_shape(const char* argument, const Tensor& t, Shape sizes) const {
    require_tensor(op, argument, t, input, type, sizes);
  }
  void require_shape(const char* argument, const OptionalTensor& t, Shape sizes) const {
    require_tensor(op, argument, t, input, type, sizes);
  }
  Sizes per_row(int64_t width) const { return joined(rows, {width}); }
  Sizes per_layer(int64_t layers, int64_t width) const {
    return joined(joined({layers}, rows), {width});
  }
  Sequence sequence(bool reverse) const;
  // The rows alive at each step, (T), and the row that each step begins with, (T + 1).
  const std::vector<int64_t>& batch_sizes() const { return batch_sizes_; }
  const std::vector<int64_t>& offsets() const { return offsets_; }
  // [first, last) of the rows of steps [first, last) of a scan.
  std::pair<int64_t, int64_t> rows_of_steps(int64_t first, int64_t last, bool reverse) const {
    return reverse ? std::pair(offsets_[T - last], offsets_[T - first])
                   : std::pair(offsets_[first], offsets_[last]);
  }
  int64_t width() const { return dirs * P; }
  int64_t states() const { return L * dirs; }
  // The layers whose outputs are kept: where the last one's is the stack's, not that.
  int64_t hidden_layers() const { return flags.trajectory ? L : L - 1; }
  bool drops(int64_t layer) const { return layer < static_cast<int64_t>(masks.size()); }
  // What c and m of every step are kept in: half types are too narrow for what is summed.
  ScalarType state_type() const {
    return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  }
  Tensor empty_state(Shape sizes) const {
    return type == ScalarType::Double ? empty(input, sizes) : empty_float(input, sizes);
  }
  bool half() const { return type == ScalarType::BFloat16; }
  // Whether the rows of one step may take their state from different places: the row before, h0, or
  // a reset.
  bool mixes_rows() const { return reset || (flags.bidirectional && rows.size() == 1); }

  const char* op;
  const Tensor &input, &h0, &c0;
  const OptionalTensor &packing, &reset;  // packing: batch_sizes as given
  Flags flags;
  ScalarType type;
  int64_t T, N, D, H, P, L, dirs, R;
  int64_t K = 0, J = 0;  // of gates that are MLPs
  Sizes rows;
  std::vector<CellWeights> weights;  // layer-major, forward then reverse
  std::vector<GateWeights> gates;    // instead, where they are MLPs
  std::vector<Tensor> masks;         // (R, width) each

 private:
  std::vector<int64_t> batch_sizes_, offsets_;
};

}  // namespace ltlstm::binding
