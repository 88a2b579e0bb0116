// SPDX-License-Identifier: Apache-2.0
// One layer of the time lane on the CPU: a large product for the inputs, then the time loop over
// slices of the batch.
#include "binding/cpu_lanes.h"
#include "binding/cpu_products.h"

namespace ltlstm::binding {
namespace {

// Up to so many steps times rows the weights are read in place: packing costs about as much as
// reading them four times.
constexpr int64_t kFewRows = 4;

// How threads share a time loop.
// Slices of the batch (and the two directions) need no meeting, but each thread then streams all
// the weights at every step. Slices of the units pay a meeting a step and divide the weights: they
// win where the batch has too few rows for the threads, and where the weights outgrow a core's own
// cache.
struct Threads {
  template <class scalar>
  static Threads plan(const StackArguments& s) {
    constexpr int64_t kOwnCache = 3 << 19, kWorthMeeting = 60000;
    const int threads = static_cast<int>(torch::stable::get_num_threads());
    const int64_t weights = 4 * s.H * s.P, rows = s.dirs * s.N;
    const int64_t units = cpu::kernels<scalar>().blocks(s.H, false);
    const bool large = weights * static_cast<int64_t>(sizeof(scalar)) > kOwnCache;
    const bool share_units =
        s.dirs == 1 && s.N > 0 && (s.N < threads || large) && weights * s.N >= kWorthMeeting;
    return {share_units ? static_cast<int>(std::min<int64_t>(threads, units)) : 1,
            8 * s.H * s.P * s.T, s.N, rows};
  }

  // f(direction, part) for every part of the work.
  template <class Function>
  void run(const Function& f) const {
    if (pieces > 1) {
      cpu::Gang gang(pieces);
      torch::stable::parallel_for(0, pieces, 1, [&](int64_t first, int64_t last) {
        const auto share = gang.join(static_cast<int>(first), static_cast<int>(last));
        if (share.first < share.last) f(0, cpu::Part{0, N, &gang, share});
      });
      return;
    }
    parallel(rows, work, [&](int64_t first, int64_t last) {
      for (int64_t d = first / N; d * N < last; ++d)
        f(d, cpu::Part{std::max<int64_t>(first - d * N, 0),
                       std::min<int64_t>(last - d * N, N),
                       nullptr,
                       {0, 1}});
    });
  }

  int pieces;  // of the units; 1 where threads take slices of the batch
  int64_t work, N, rows;
};

Tensor part(const Tensor& t, int64_t direction) { return torch::stable::select(t, 0, direction); }

OptionalTensor part(const OptionalTensor& t, int64_t direction) {
  return t ? OptionalTensor(part(*t, direction)) : OptionalTensor();
}

}  // namespace

template <class scalar>
void TimeLane<scalar>::forward(const StackArguments& stack, int64_t layer, const Tensor& x,
                               const Tensor& hidden, const Tensor& gates,
                               const OptionalTensor& cells, const Tensor& h0, const Tensor& h_n,
                               const Tensor& c_n) {
  const int64_t H = stack.H, P = stack.P, N = stack.N;
  const Threads threads = Threads::plan<scalar>(stack);
  const bool gathers = stack.mixes_rows(), in_place = stack.T * N <= kFewRows;
  const bool projected = stack.flags.projected;
  const Tensor zero_row = zeros(x, {H});
  std::vector<Tensor> kept;  // alive until the kernels have run
  std::vector<TimeLstmForward<scalar>> problems;
  for (int64_t d = 0; d < stack.dirs; ++d) {
    const CellWeights& w = stack.weights[layer * stack.dirs + d];
    linear(part(gates, d), x, w.w_ih, summed<scalar>(w.b_ih, w.b_hh));
    const Tensor w_hh = in_place ? *w.w_hh : packed<scalar>(*w.w_hh, true, true);
    OptionalTensor w_hr = w.w_hr;
    if (w_hr && !in_place) w_hr = packed<scalar>(*w.w_hr, true, false);
    const Tensor scratch = empty(x, {projected ? N : 0, H});
    const Tensor gathered = empty(x, {gathers ? threads.pieces : 0, N, P});
    problems.push_back({stack.sequence(d == 1), H, P, stack.width(), in_place, data<scalar>(w_hh),
                        data<scalar>(w_hr), data<scalar>(w.peephole), data<scalar>(zero_row),
                        data<scalar>(part(h0, d)), mutable_data<scalar>(part(gates, d)),
                        cells ? mutable_data<scalar>(part(*cells, d)) : nullptr,
                        mutable_data<scalar>(hidden) + d * P, mutable_data<scalar>(part(h_n, d)),
                        mutable_data<scalar>(part(c_n, d)), mutable_data<scalar>(scratch),
                        mutable_data<scalar>(gathered)});
    kept.insert(kept.end(), {w_hh, scratch, gathered});
    if (projected) kept.push_back(*w_hr);
  }
  threads.run([&](int64_t d, const cpu::Part& part) {
    cpu::kernels<scalar>().time_lstm_forward(problems[d], part);
  });
}

template <class scalar>
std::vector<Tensor> TimeLane<scalar>::backward(const StackArguments& stack, int64_t layer,
                                               const TimeLayerSaved& saved,
                                               const OptionalTensor& d_hidden,
                                               const OptionalTensor& d_cells, const Tensor& dh,
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
  const auto pointer = [](const OptionalTensor& t) {
    return t ? mutable_data<scalar>(*t) : nullptr;
  };
  std::vector<Direction> directions;
  std::vector<TimeLstmBackward<scalar>> problems;
  for (int64_t d = 0; d < stack.dirs; ++d) {
    const CellWeights& w = stack.weights[layer * stack.dirs + d];
    Direction s{packed<scalar>(*w.w_hh, false, false),
                empty(like, {R, 4 * H}),
                empty(like, {R, P}),
                w.w_hr ? OptionalTensor(packed<scalar>(*w.w_hr, false, false)) : OptionalTensor(),
                if_projected({R, H}),
                if_projected({R, P}),
                w.peephole ? OptionalTensor(zeros(like, {N, 3, H})) : OptionalTensor(),
                if_projected({N, H})};
    problems.push_back({stack.sequence(d == 1),
                        H,
                        P,
                        stack.width(),
                        stack.width(),
                        data<scalar>(s.w_hh),
                        data<scalar>(s.w_hr),
                        data<scalar>(w.peephole),
                        data<scalar>(zero_row),
                        data<scalar>(part(saved.h0, d)),
                        data<scalar>(part(saved.c0, d)),
                        data<scalar>(part(saved.gates, d)),
                        data<scalar>(part(saved.cells, d)),
                        data<scalar>(saved.hidden) + d * P,
                        d_hidden ? data<scalar>(*d_hidden) + d * P : nullptr,
                        data<scalar>(part(d_cells, d)),
                        mutable_data<scalar>(s.d_preact),
                        mutable_data<scalar>(s.h_prev),
                        pointer(s.r),
                        pointer(s.d_projected),
                        mutable_data<scalar>(part(dh, d)),
                        mutable_data<scalar>(part(dc, d)),
                        pointer(s.d_peephole),
                        pointer(s.scratch)});
    directions.push_back(s);
  }
  Threads::plan<scalar>(stack).run([&](int64_t d, const cpu::Part& part) {
    cpu::kernels<scalar>().time_lstm_backward(problems[d], part);
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
