// SPDX-License-Identifier: Apache-2.0
// One layer of H-LSTMs on the CPU: a large product for the inputs, then the time loop with its
// chain of products a step.
#include "binding/cpu_hidden_gate.h"

#include "binding/cpu_sparse.h"
#include "binding/cpu_threads.h"

namespace ltlstm::binding {
namespace {

// One direction of a layer. Its problem points into itself: it must stay where it is.
template <class Problem>
struct Direction {
  Problem p{};
  std::vector<SparseMatrix<typename Problem::Scalar>> sparse;  // w_ih, w_hh, later: if compiled
  std::vector<Tensor> held;  // what p points to, and nothing else keeps
  std::vector<const typename Problem::Scalar*> later, bias, masks, read;
  std::vector<typename Problem::Scalar*> written;
  Tensor d_preact, h_prev;  // of a backward pass
};

template <class Pointer>
const Pointer* list(const std::vector<Pointer>& pointers) {
  return pointers.empty() ? nullptr : pointers.data();
}

// Multiplications by weights in a step.
int64_t weights_a_step(const StackArguments& s) { return 4 * s.K * (s.H + s.H + (s.J - 1) * s.K); }

// The same of compiled weights, counted by the time they take.
template <class Direction>
int64_t work_a_step(const Direction& direction) {
  int64_t sum = 0;
  for (size_t i = 1; i < direction.sparse.size(); ++i) sum += work_of(direction.sparse[i]);
  return sum;
}

// The weights of a layer of one gate.
Tensor gate_of(const Tensor& later, int64_t gate) {
  return matrix(later, gate, later.size(1), later.size(2));
}

// All weights but w_ih, packed as they are (backward) or transposed (forward), or in place.
template <class scalar, class Problem>
void point_to_weights(const GateWeights& w, bool transpose, bool in_place,
                      Direction<Problem>& here) {
  const auto held = [&](const Tensor& weight) -> const Tensor& {
    here.held.push_back(in_place ? weight : packed<scalar>(weight, transpose, false));
    return here.held.back();
  };
  here.p.w_hh = data<scalar>(held(w.w_hh));
  for (const Tensor& later : w.later) {
    const Tensor& all = held(later);
    for (int gate = 0; gate < 4; ++gate)
      here.later.push_back(data<scalar>(all) + gate * (all.numel() / 4));
  }
  here.p.later = list(here.later);
}

template <class scalar>
void point_to_compiled(const StackArguments& s, const GateWeights& w,
                       Direction<HiddenGateForward<scalar>>& here) {
  const auto read = [&](const Tensor& bytes) {
    here.sparse.push_back(sparse_matrix<scalar>(s.op, "weights", bytes));
  };
  read(w.w_ih);
  read(w.w_hh);
  for (const Tensor& later : w.later) read(later);
  here.p.sparse = here.sparse.data();
}

// out = x w^T + bias, each piece the columns that are its own in the time loop: then they lie in
// the cache of the core that reads them.
template <class scalar>
void linear_in_pieces(const Threads& threads, const Tensor& out, const Tensor& x, const Tensor& w,
                      const OptionalTensor& bias) {
  const auto& kernels = cpu::kernels<scalar>();
  const int64_t rows = x.size(0), inputs = w.size(1), columns = w.size(0);
  const int64_t blocks = kernels.blocks(columns, false);
  if (threads.pieces == 1) return linear(out, x, w, bias);
  threads.each_piece([&](int64_t piece) {
    const int64_t first = std::min(columns, blocks * piece / threads.pieces * kernels.block),
                  last = std::min(columns, blocks * (piece + 1) / threads.pieces * kernels.block);
    if (first == last) return;
    OptionalTensor own_bias;
    if (bias) own_bias = matrix(*bias, first, 1, last - first, last - first, 1);
    linear(matrix(out, first, rows, last - first, columns, 1), x,
           matrix(w, first * inputs, last - first, inputs, inputs, 1), own_bias);
  });
}

template <class scalar, class Problem>
void point_to_masks(const StackArguments& s, int64_t index, const OptionalTensor& gate_masks,
                    Direction<Problem>& here) {
  for (int64_t j = 0; j < s.J && gate_masks; ++j)
    here.masks.push_back(part<scalar>(gate_masks, index * s.J + j, s.R * 4 * s.K));
  here.p.masks = list(here.masks);
}

}  // namespace

template <class scalar>
int64_t HiddenGates<scalar>::steps_at_once(const StackArguments& s) {
  return steps_near<scalar>(s, 4 * s.K);
}

template <class scalar>
void HiddenGates<scalar>::forward(const StackArguments& s, int64_t layer, scalar slope,
                                  const Tensor& x, const Tensor& hidden,
                                  const HiddenGateMemory& memory) {
  const int64_t H = s.H, K = s.K, J = s.J, N = s.N, D = x.size(1);
  const bool in_place = !s.flags.compiled && s.T * N <= few_rows(weights_a_step(s));
  const bool keep = memory.cells.has_value();
  std::vector<Direction<HiddenGateForward<scalar>>> directions(s.dirs);
  for (int64_t d = 0; d < s.dirs; ++d) {
    const GateWeights& w = s.gates[layer * s.dirs + d];
    if (s.flags.compiled)
      point_to_compiled<scalar>(s, w, directions[d]);
    else
      point_to_weights<scalar>(w, /*transpose=*/true, in_place, directions[d]);
  }
  const Threads threads =
      Threads::plan<scalar>(s, s.flags.compiled ? work_a_step(directions[0]) : weights_a_step(s));
  const Tensor zero_row = zeros(x, {4 * std::max(H, K)});
  for (int64_t d = 0; d < s.dirs; ++d) {
    const int64_t index = layer * s.dirs + d;
    const GateWeights& w = s.gates[index];
    auto& here = directions[d];
    HiddenGateForward<scalar>& p = here.p;
    point_to_masks<scalar>(s, index, memory.gate_masks, here);
    for (int64_t j = 0; j < J; ++j) {
      if (w.later_b[j]) here.bias.push_back(data<scalar>(w.later_b[j]));
      here.written.push_back(
          keep     ? part<scalar>(memory.gate_hidden, index * J + j, s.R * 4 * K)
          : j == 0 ? part<scalar>(memory.gate_hidden, d, memory.gate_hidden.size(1) * 4 * K)
                   : part<scalar>(memory.inner, d * (J - 1) + j - 1, N * 4 * K));
    }
    p.bias = list(here.bias);
    p.hidden = list(here.written);
    p.gates = keep ? part<scalar>(memory.gates, index, s.R * 4 * H)
                   : part<scalar>(memory.gates, d, 2 * N * 4 * H);
    p.K = K;
    p.J = J;
    p.slope = slope;
    TimeLstmForward<scalar>& time = p.time;
    time.seq = s.sequence(d == 1);
    time.H = H;
    time.P = H;
    time.hidden_stride = s.width();
    time.in_place = in_place;
    time.zeros = data<scalar>(zero_row);
    time.h0 = part<scalar>(memory.h0, index, N * H);
    time.cells = part<scalar>(memory.cells, index, s.R * H);
    time.hidden = part<scalar>(hidden, d, H);
    time.h = part<scalar>(memory.h_n, index, N * H);
    time.c = part<scalar>(memory.c_n, index, N * H);
    const auto scratch = [&](int64_t rows) {
      here.held.push_back(empty(x, {rows, H}));
      return mutable_data<scalar>(here.held.back());
    };
    if (s.mixes_rows()) time.gathered = scratch(threads.pieces * N);
    if (threads.pieces > 1) p.states = scratch(threads.pieces * 2 * N);
  }
  // The product for the inputs just before the steps that read it: while it is in the cache.
  const int64_t steps = steps_at_once(s);
  for (int64_t first = 0; first < s.T; first += steps) {
    const int64_t last = std::min(s.T, first + steps);
    for (int64_t d = 0; d < s.dirs; ++d) {
      HiddenGateForward<scalar>& p = directions[d].p;
      const auto [from, to] = s.rows_of_steps(first, last, d == 1);
      const int64_t place =
          keep ? (layer * s.dirs + d) * J * s.R + from : d * memory.gate_hidden.size(1);
      const GateWeights& w = s.gates[layer * s.dirs + d];
      const Tensor sums = matrix(memory.gate_hidden, place * 4 * K, to - from, 4 * K, 4 * K, 1);
      const Tensor inputs = matrix(x, from * D, to - from, D, D, 1);
      if (s.flags.compiled && threads.pieces > 1) {
        p.inputs = {data<scalar>(inputs),       D,    0, w.b ? data<scalar>(w.b) : p.time.zeros, 0,
                    mutable_data<scalar>(sums), 4 * K};
        p.input_rows = to - from;
      } else if (s.flags.compiled) {
        linear(sums, inputs, directions[d].sparse[0], w.b);
      } else {
        linear_in_pieces<scalar>(threads, sums, inputs, w.w_ih, w.b);
      }
      p.first_hidden = keep ? 0 : from;
      p.time.first_step = first;
      p.time.last_step = last;
    }
    threads.run([&](int64_t d, const cpu::Part& part) {
      cpu::kernels<scalar>().hidden_gate_forward(directions[d].p, part);
    });
  }
}

template <class scalar>
std::vector<Tensor> HiddenGates<scalar>::backward(
    const StackArguments& s, int64_t layer, scalar slope, const Tensor& x, const Tensor& hidden,
    const HiddenGateMemory& memory, const OptionalTensor& d_hidden, const OptionalTensor& d_cells,
    const Tensor& d_x) {
  const int64_t H = s.H, K = s.K, J = s.J, R = s.R, N = s.N;
  const Tensor zero_row = zeros(x, {H});
  std::vector<Direction<HiddenGateBackward<scalar>>> directions(s.dirs);
  std::vector<Tensor> d_gate_hidden;  // (J, R, 4K) of each direction
  for (int64_t d = 0; d < s.dirs; ++d) {
    const int64_t index = layer * s.dirs + d;
    auto& here = directions[d];
    HiddenGateBackward<scalar>& p = here.p;
    point_to_weights<scalar>(s.gates[index], /*transpose=*/false, /*in_place=*/false, here);
    point_to_masks<scalar>(s, index, memory.gate_masks, here);
    d_gate_hidden.push_back(empty(x, {J, R, 4 * K}));
    for (int64_t j = 0; j < J; ++j) {
      here.read.push_back(part<scalar>(memory.gate_hidden, index * J + j, R * 4 * K));
      here.written.push_back(part<scalar>(d_gate_hidden[d], j, R * 4 * K));
    }
    p.hidden = list(here.read);
    p.d_hidden = list(here.written);
    p.K = K;
    p.J = J;
    p.slope = slope;
    here.d_preact = empty(x, {R, 4 * H});
    here.h_prev = empty(x, {R, H});
    TimeLstmBackward<scalar>& time = p.time;
    time.seq = s.sequence(d == 1);
    time.H = H;
    time.P = H;
    time.hidden_stride = s.width();
    time.d_hidden_stride = s.width();
    time.zeros = data<scalar>(zero_row);
    time.h0 = part<scalar>(memory.h0, index, N * H);
    time.c0 = part<scalar>(memory.c0, index, N * H);
    time.gates = part<scalar>(memory.gates, index, R * 4 * H);
    time.cells = part<scalar>(memory.cells, index, R * H);
    time.hidden = part<scalar>(hidden, d, H);
    time.d_hidden = part<scalar>(d_hidden, d, H);
    time.d_cells = part<scalar>(d_cells, index, R * H);
    time.d_preact = mutable_data<scalar>(here.d_preact);
    time.h_prev = mutable_data<scalar>(here.h_prev);
    time.dh = part<scalar>(memory.h_n, index, N * H);
    time.dc = part<scalar>(memory.c_n, index, N * H);
  }
  Threads::plan<scalar>(s, weights_a_step(s)).run([&](int64_t d, const cpu::Part& part) {
    cpu::kernels<scalar>().hidden_gate_backward(directions[d].p, part);
  });
  std::vector<Tensor> d_weights;
  for (int64_t d = 0; d < s.dirs; ++d) {
    const int64_t index = layer * s.dirs + d;
    const GateWeights& w = s.gates[index];
    const auto& here = directions[d];
    const Tensor d_first = matrix(d_gate_hidden[d], 0, R, 4 * K);
    product(d_x, d_first, plain(w.w_ih), d > 0);
    d_weights.push_back(weight_gradient<scalar>(w.w_ih, d_first, x));
    d_weights.push_back(weight_gradient<scalar>(w.w_hh, d_first, here.h_prev));
    if (w.b) d_weights.push_back(column_sums(d_first));
    for (int64_t j = 0; j < J; ++j) {
      const int64_t outputs = j == J - 1 ? H : K;
      const Tensor d_z = j == J - 1 ? here.d_preact : matrix(d_gate_hidden[d], j + 1, R, 4 * K);
      const Tensor a = matrix(memory.gate_hidden, index * J + j, R, 4 * K);
      d_weights.push_back(empty(x, w.later[j].sizes()));
      for (int gate = 0; gate < 4; ++gate)
        sum_over_rows<scalar>(gate_of(d_weights.back(), gate),
                              matrix(d_z, gate * outputs, R, outputs, 4 * outputs, 1),
                              matrix(a, gate * K, R, K, 4 * K, 1));
      if (w.later_b[j]) d_weights.push_back(torch::stable::view(column_sums(d_z), {4, outputs}));
    }
  }
  return d_weights;
}

template struct HiddenGates<float>;
template struct HiddenGates<double>;

}  // namespace ltlstm::binding
