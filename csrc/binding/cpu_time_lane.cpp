// SPDX-License-Identifier: Apache-2.0
// One layer of the time lane on the CPU: a large product for the inputs, then the time loop over
// slices of the batch.
#include "binding/cpu_lanes.h"
#include "binding/cpu_products.h"
#include "binding/cpu_threads.h"

namespace ltlstm::binding {
namespace {

// Up to so many rows W_ih is read in place too, in the time loop; a large product reads it once for
// all rows.
constexpr int64_t kFewInputs = 2;

// The state that a reset leaves.
OptionalTensor cleared_row(const StackArguments& s, const Tensor& like) {
  return s.reset ? OptionalTensor(zeros(like, {std::max(s.H, s.P)})) : OptionalTensor();
}

}  // namespace

template <class scalar>
int64_t TimeLane<scalar>::steps_at_once(const StackArguments& s) {
  return steps_near<scalar>(s, 4 * s.H);
}

template <class scalar>
void TimeLane<scalar>::forward(const StackArguments& s, int64_t layer, const Tensor& x,
                               const Tensor& hidden, const TimeLaneMemory& memory) {
  const int64_t H = s.H, P = s.P, N = s.N, D = x.size(1);
  const Threads threads = Threads::plan<scalar>(s, 4 * H * P);
  const bool in_place = !s.half() && s.T * N <= few_rows(4 * H * P);
  const bool inputs_in_place = !s.half() && D > 0 && s.T * N <= kFewInputs;
  const bool pairs = s.half() && cpu::kernels<scalar>().pairs && !s.flags.projected && P % 2 == 0;
  const auto if_needed = [&](bool needed, const Sizes& sizes) {
    return needed ? OptionalTensor(empty(memory.h0, sizes)) : OptionalTensor();
  };
  const Tensor read = pairs ? x : computable(x);
  const OptionalTensor zero_row = cleared_row(s, memory.h0);
  struct Direction {
    TimeLstmForward<scalar> p;
    Tensor w_ih;
    OptionalTensor bias, w_hh, w_hr, peephole, scratch, gathered, half_inputs, rounded;
  };
  std::vector<Direction> directions;
  for (int64_t d = 0; d < s.dirs; ++d) {
    const int64_t index = layer * s.dirs + d;
    const CellWeights& w = s.weights[index];
    Direction here{
        {},
        pairs ? w.w_ih : computable(w.w_ih),
        inputs_in_place ? OptionalTensor() : summed<scalar>(computable(w.b_ih), computable(w.b_hh)),
        w.w_hh,
        computable(w.w_hr),
        computable(w.peephole),
        if_needed(s.flags.projected, {N, H}),
        if_needed(s.mixes_rows(), {threads.pieces, N, P}),
        {},
        if_needed(pairs, {threads.pieces, N, P / 2})};
    if (pairs) {
      here.w_hh = packed_pairs(*w.w_hh);
      here.half_inputs = empty_bfloat16(x, {std::min(s.R, N * steps_at_once(s)), 4 * H});
    } else if (!in_place) {
      here.w_hh = packed<scalar>(computable(*w.w_hh), true, true);
    }
    if (!in_place && w.w_hr) here.w_hr = packed<scalar>(*here.w_hr, true, false);
    TimeLstmForward<scalar>& p = here.p;
    p.seq = s.sequence(d == 1);
    p.H = H;
    p.P = P;
    p.hidden_stride = s.width();
    p.in_place = in_place;
    p.w_hh = data<scalar>(here.w_hh);
    p.w_hr = data<scalar>(here.w_hr);
    if (inputs_in_place) {
      p.x = data<scalar>(x);
      p.D = D;
      p.w_ih = data<scalar>(w.w_ih);
      p.b_ih = data<scalar>(w.b_ih);
      p.b_hh = data<scalar>(w.b_hh);
    }
    p.rounded = part<uint32_t>(here.rounded, 0, 0);
    p.half_inputs = part<uint16_t>(here.half_inputs, 0, 0);
    p.bias = part<scalar>(here.bias, 0, 0);
    p.peephole = data<scalar>(here.peephole);
    p.zeros = data<scalar>(zero_row);
    p.h0 = part<scalar>(memory.h0, index, N * P);
    p.cells = part<scalar>(memory.cells, index, s.R * H);
    p.hidden = part<scalar>(hidden, d, P);
    p.h = part<scalar>(memory.h_n, index, N * P);
    p.c = part<scalar>(memory.c_n, index, N * H);
    p.scratch = part<scalar>(here.scratch, 0, 0);
    p.gathered = part<scalar>(here.gathered, 0, 0);
    directions.push_back(here);
  }
  // The product for the inputs just before the steps that read it: while it is in the cache.
  const int64_t steps = steps_at_once(s);
  for (int64_t first = 0; first < s.T; first += steps) {
    const int64_t last = std::min(s.T, first + steps);
    for (int64_t d = 0; d < s.dirs; ++d) {
      Direction& here = directions[d];
      const auto [from, to] = s.rows_of_steps(first, last, d == 1);
      const bool keep = memory.cells.has_value();
      const int64_t place = keep ? (layer * s.dirs + d) * s.R + from : d * memory.gates.size(1);
      if (!inputs_in_place) {
        const Tensor inputs = matrix(read, from * D, to - from, D, D, 1);
        if (pairs)
          linear(matrix(*here.half_inputs, 0, to - from, 4 * H), inputs, here.w_ih, std::nullopt);
        else
          linear(matrix(memory.gates, place * 4 * H, to - from, 4 * H, 4 * H, 1), inputs, here.w_ih,
                 here.bias);
      }
      here.p.gates = part<scalar>(memory.gates, place, 4 * H);
      here.p.first_gates = from;
      here.p.first_step = first;
      here.p.last_step = last;
    }
    threads.run([&](int64_t d, const cpu::Part& part) {
      cpu::kernels<scalar>().time_lstm_forward(directions[d].p, part);
    });
  }
}

template <class scalar>
std::vector<Tensor> TimeLane<scalar>::backward(const StackArguments& s, int64_t layer,
                                               const Tensor& x, const Tensor& hidden,
                                               const TimeLaneMemory& memory,
                                               const OptionalTensor& d_hidden,
                                               const OptionalTensor& d_cells, const Tensor& d_x) {
  const int64_t H = s.H, P = s.P, R = s.R, N = s.N;
  const OptionalTensor zero_row = cleared_row(s, x);
  // What the kernel reads, and leaves for the products after the loop, of one direction.
  struct Direction {
    Tensor w_hh, d_preact, h_prev;
    OptionalTensor w_hr, r, d_projected, scratch, d_peephole;
  };
  std::vector<Direction> directions;
  std::vector<TimeLstmBackward<scalar>> problems;
  for (int64_t d = 0; d < s.dirs; ++d) {
    const int64_t index = layer * s.dirs + d;
    const CellWeights& w = s.weights[index];
    Direction here{packed<scalar>(*w.w_hh, false, false),
                   empty(x, {R, 4 * H}),
                   empty(x, {R, P}),
                   {},
                   {},
                   {},
                   {},
                   {}};
    if (w.w_hr) {
      here.w_hr = packed<scalar>(*w.w_hr, false, false);
      here.r = empty(x, {R, H});
      here.d_projected = empty(x, {R, P});
      here.scratch = empty(x, {N, H});
    }
    if (w.peephole) here.d_peephole = zeros(x, {N, 3, H});
    TimeLstmBackward<scalar> p;
    p.seq = s.sequence(d == 1);
    p.H = H;
    p.P = P;
    p.hidden_stride = s.width();
    p.d_hidden_stride = s.width();
    p.w_hh = data<scalar>(here.w_hh);
    p.w_hr = data<scalar>(here.w_hr);
    p.peephole = data<scalar>(w.peephole);
    p.zeros = data<scalar>(zero_row);
    p.h0 = part<scalar>(memory.h0, index, N * P);
    p.c0 = part<scalar>(memory.c0, index, N * H);
    p.gates = part<scalar>(memory.gates, index, R * 4 * H);
    p.cells = part<scalar>(memory.cells, index, R * H);
    p.hidden = part<scalar>(hidden, d, P);
    p.d_hidden = part<scalar>(d_hidden, d, P);
    p.d_cells = part<scalar>(d_cells, index, R * H);
    p.d_preact = part<scalar>(here.d_preact, 0, 0);
    p.h_prev = part<scalar>(here.h_prev, 0, 0);
    p.r = part<scalar>(here.r, 0, 0);
    p.d_projected = part<scalar>(here.d_projected, 0, 0);
    p.dh = part<scalar>(memory.h_n, index, N * P);
    p.dc = part<scalar>(memory.c_n, index, N * H);
    p.d_peephole = part<scalar>(here.d_peephole, 0, 0);
    p.scratch = part<scalar>(here.scratch, 0, 0);
    problems.push_back(p);
    directions.push_back(here);
  }
  Threads::plan<scalar>(s, 4 * s.H * s.P).run([&](int64_t d, const cpu::Part& part) {
    cpu::kernels<scalar>().time_lstm_backward(problems[d], part);
  });
  std::vector<Tensor> d_weights;
  for (int64_t d = 0; d < s.dirs; ++d) {
    const CellWeights& w = s.weights[layer * s.dirs + d];
    const Direction& here = directions[d];
    product(d_x, here.d_preact, plain(w.w_ih), d > 0);
    CellWeightGradients gradients;
    gradients.w_ih = weight_gradient<scalar>(w.w_ih, here.d_preact, x);
    gradients.w_hh = weight_gradient<scalar>(*w.w_hh, here.d_preact, here.h_prev);
    if (w.b_ih) {
      gradients.b_ih = column_sums(here.d_preact);
      gradients.b_hh = torch::stable::clone(*gradients.b_ih);
    }
    if (w.w_hr) gradients.w_hr = weight_gradient<scalar>(*w.w_hr, *here.d_projected, *here.r);
    if (w.peephole) gradients.peephole = column_sums(*here.d_peephole);
    gradients.append_to(d_weights);
  }
  return d_weights;
}

template struct TimeLane<float>;
template struct TimeLane<double>;

}  // namespace ltlstm::binding
