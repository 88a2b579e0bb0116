// SPDX-License-Identifier: Apache-2.0
// One layer of the time lane on the CPU: a large product for the inputs, then the time loop over slices of the batch.
#include "binding/cpu_lanes.h"
#include "binding/cpu_products.h"

namespace ltlstm::binding {
namespace {

// Both directions side by side: slices of [0, dirs * N), each within one direction.
template <class Function>
void for_batch_slices(const StackArguments& stack, const Function& f) {
  const int64_t N = stack.N, work = 8 * stack.H * stack.P * stack.T;
  parallel(stack.dirs * N, work, [&](int64_t first, int64_t last) {
    for (int64_t d = first / N; d * N < last; ++d)
      f(d, std::max<int64_t>(first - d * N, 0), std::min<int64_t>(last - d * N, N));
  });
}

Tensor part(const Tensor& t, int64_t direction) { return torch::stable::select(t, 0, direction); }

OptionalTensor part(const OptionalTensor& t, int64_t direction) {
  return t ? OptionalTensor(part(*t, direction)) : OptionalTensor();
}

}  // namespace

template <class scalar>
void TimeLane<scalar>::forward(const StackArguments& stack, int64_t layer, const Tensor& x, const Tensor& hidden,
                        const Tensor& gates, const OptionalTensor& cells, const Tensor& h_n, const Tensor& c_n) {
  const int64_t H = stack.H, P = stack.P;
  const bool projected = stack.flags.projected;
  std::vector<Tensor> kept;  // alive until the kernels have run
  std::vector<TimeLstmForward<scalar>> problems;
  for (int64_t d = 0; d < stack.dirs; ++d) {
    const CellWeights& w = stack.weights[layer * stack.dirs + d];
    linear(part(gates, d), x, w.w_ih, summed<scalar>(w.b_ih, w.b_hh));
    const Tensor w_hh = packed<scalar>(*w.w_hh, true);
    const OptionalTensor w_hr = projected ? OptionalTensor(packed<scalar>(*w.w_hr, true)) : OptionalTensor();
    const OptionalTensor scratch = projected ? OptionalTensor(empty(x, {stack.N, H})) : OptionalTensor();
    problems.push_back({stack.sequence(d == 1), H, P, stack.width(), data<scalar>(w_hh), data<scalar>(w_hr),
                        data<scalar>(w.peephole), mutable_data<scalar>(part(gates, d)),
                        cells ? mutable_data<scalar>(part(*cells, d)) : nullptr, mutable_data<scalar>(hidden) + d * P,
                        mutable_data<scalar>(part(h_n, d)), mutable_data<scalar>(part(c_n, d)),
                        scratch ? mutable_data<scalar>(*scratch) : nullptr});
    kept.push_back(w_hh);
    if (projected) kept.insert(kept.end(), {*w_hr, *scratch});
  }
  for_batch_slices(stack, [&](int64_t d, int64_t first, int64_t last) {
    cpu::kernels<scalar>().time_lstm_forward(problems[d], first, last);
  });
}

template <class scalar>
std::vector<Tensor> TimeLane<scalar>::backward(const StackArguments& stack, int64_t layer, const TimeLayerSaved& saved,
                         const OptionalTensor& d_hidden, const OptionalTensor& d_cells, const Tensor& dh,
                         const Tensor& dc, const Tensor& d_x) {
  const int64_t H = stack.H, P = stack.P, R = stack.R, N = stack.N;
  const Tensor& like = saved.x;
  const Tensor zero_row = zeros(like, {H});
  // What the kernel leaves for the products after the loop, of one direction.
  struct Direction {
    Tensor w_hh, d_preact, h_prev;
    OptionalTensor w_hr, r, d_projected, d_peephole, scratch;
  };
  const auto if_projected = [&](const Sizes& sizes) {
    return stack.flags.projected ? OptionalTensor(empty(like, sizes)) : OptionalTensor();
  };
  const auto pointer = [](const OptionalTensor& t) { return t ? mutable_data<scalar>(*t) : nullptr; };
  std::vector<Direction> directions;
  std::vector<TimeLstmBackward<scalar>> problems;
  for (int64_t d = 0; d < stack.dirs; ++d) {
    const CellWeights& w = stack.weights[layer * stack.dirs + d];
    Direction s{packed<scalar>(*w.w_hh, false), empty(like, {R, 4 * H}), empty(like, {R, P}),
                w.w_hr ? OptionalTensor(packed<scalar>(*w.w_hr, false)) : OptionalTensor(),
                if_projected({R, H}), if_projected({R, P}),
                w.peephole ? OptionalTensor(zeros(like, {N, 3, H})) : OptionalTensor(), if_projected({N, H})};
    problems.push_back({stack.sequence(d == 1), H, P, stack.width(), stack.width(), data<scalar>(s.w_hh),
                        data<scalar>(s.w_hr), data<scalar>(w.peephole), data<scalar>(zero_row),
                        data<scalar>(part(saved.h0, d)), data<scalar>(part(saved.c0, d)),
                        data<scalar>(part(saved.gates, d)), data<scalar>(part(saved.cells, d)),
                        data<scalar>(saved.hidden) + d * P, d_hidden ? data<scalar>(*d_hidden) + d * P : nullptr,
                        data<scalar>(part(d_cells, d)), mutable_data<scalar>(s.d_preact),
                        mutable_data<scalar>(s.h_prev), pointer(s.r), pointer(s.d_projected),
                        mutable_data<scalar>(part(dh, d)), mutable_data<scalar>(part(dc, d)), pointer(s.d_peephole),
                        pointer(s.scratch)});
    directions.push_back(s);
  }
  for_batch_slices(stack, [&](int64_t d, int64_t first, int64_t last) {
    cpu::kernels<scalar>().time_lstm_backward(problems[d], first, last);
  });
  std::vector<Tensor> d_weights;
  for (int64_t d = 0; d < stack.dirs; ++d) {
    const CellWeights& w = stack.weights[layer * stack.dirs + d];
    const Direction& s = directions[d];
    product(d_x, s.d_preact, w.w_ih, d > 0);
    CellWeightGradients gradients;
    gradients.w_ih = empty(like, sizes_of(w.w_ih));
    product(*gradients.w_ih, transposed(s.d_preact), saved.x, false);
    gradients.w_hh = empty(like, sizes_of(*w.w_hh));
    product(*gradients.w_hh, transposed(s.d_preact), s.h_prev, false);
    if (w.b_ih) {
      gradients.b_ih = column_sums(s.d_preact);
      gradients.b_hh = torch::stable::clone(*gradients.b_ih);
    }
    if (w.w_hr) {
      gradients.w_hr = empty(like, sizes_of(*w.w_hr));
      product(*gradients.w_hr, transposed(*s.d_projected), *s.r, false);
    }
    if (w.peephole) gradients.peephole = column_sums(*s.d_peephole);
    gradients.append_to(d_weights);
  }
  return d_weights;
}

template struct TimeLane<float>;
template struct TimeLane<double>;

}  // namespace ltlstm::binding
