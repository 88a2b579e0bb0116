// SPDX-License-Identifier: Apache-2.0
// A time-LSTM with random inputs, run in any way of sharing its work.
#pragma once

#include <algorithm>

#include "layout.h"
#include "pairs.h"

namespace ltlstm::sanitizers {

struct Case {
  int64_t T, N, H, P;
  bool projected, peephole, ragged, reset, reverse, in_place, saves, strided;
  int64_t D = 0;       // width of the inputs where the loop reads them, or 0
  bool bias = false;   // of those inputs, or of pairs
  bool pairs = false;  // weights in pairs of bfloat16

  std::string name() const {
    std::string text = "T" + std::to_string(T) + " N" + std::to_string(N) + " H" +
                       std::to_string(H) + " P" + std::to_string(P);
    const std::pair<bool, const char*> options[] = {
        {projected, " projected"}, {peephole, " peephole"}, {ragged, " ragged"},
        {reset, " reset"},         {reverse, " reverse"},   {in_place, " in place"},
        {saves, " saves"},         {strided, " strided"},   {bias, " bias"},
        {pairs, " pairs"}};
    for (const auto& [on, option] : options) text += on ? option : "";
    return text + (D > 0 ? " D" + std::to_string(D) : "");
  }
};

template <class scalar>
class TimeLane {
 public:
  TimeLane(const Case& of, uint32_t seed)
      : of_(of),
        numbers_(seed),
        layout_(of.T, of.N, of.ragged, of.reset, of.reverse, numbers_),
        rows_(layout_.rows()),
        stride_(of.strided ? 2 * of.P : of.P),
        peephole_(numbers_.drawn(3 * of.H)),
        zeros_(of.H, 0),
        preact_(numbers_.drawn(rows_ * 4 * of.H)),
        h0_(numbers_.drawn(of.N * of.P)),
        c0_(numbers_.drawn(of.N * of.H)),
        d_hidden_(numbers_.drawn(extent(stride_))),
        d_cells_(numbers_.drawn(rows_ * of.H)),
        dh_(numbers_.drawn(of.N * of.P)),
        dc_(numbers_.drawn(of.N * of.H)),
        x_(numbers_.drawn(rows_ * of.D)),
        w_ih_(numbers_.drawn(4 * of.H * of.D)),
        b_ih_(numbers_.drawn(4 * of.H)),
        b_hh_(numbers_.drawn(4 * of.H)),
        half_inputs_(halves(preact_)) {
    const Buffer<scalar> w_hh = numbers_.drawn(4 * of.H * of.P), w_hr = numbers_.drawn(of.P * of.H);
    w_hh_forward_ = of.pairs      ? packed_pairs(w_hh)
                    : of.in_place ? w_hh.copy()
                                  : packed(w_hh.data(), 4 * of.H, of.P, true, true, kernels_);
    w_hr_forward_ =
        of.in_place ? w_hr.copy() : packed(w_hr.data(), of.P, of.H, true, false, kernels_);
    w_hh_backward_ = packed(w_hh.data(), 4 * of.H, of.P, false, false, kernels_);
    w_hr_backward_ = packed(w_hr.data(), of.P, of.H, false, false, kernels_);
  }

  // gates, cells, hidden, h, c
  Results<scalar> forward(const Way& way, bool& met) const {
    const int64_t N = of_.N, H = of_.H, P = of_.P;
    const bool gathers = of_.reset || (of_.reverse && of_.ragged);
    const bool reads_inputs = of_.D > 0 || of_.pairs;
    Buffer<scalar> gates = reads_inputs ? unwritten(preact_.size()) : preact_.copy();
    Buffer<scalar> cells = unwritten(of_.saves ? rows_ * H : 0);
    Buffer<scalar> hidden = unwritten(extent(stride_)), h = h0_.copy(), c = c0_.copy();
    Buffer<scalar> scratch = unwritten(of_.projected ? N * H : 0);
    Buffer<scalar> gathered = unwritten(gathers ? way.pieces * N * P : 0);
    Buffer<uint32_t> rounded(of_.pairs ? way.pieces * N * P / 2 : 0);
    TimeLstmForward<scalar> problem{};
    problem.seq = layout_.sequence();
    problem.H = H;
    problem.P = P;
    problem.hidden_stride = stride_;
    problem.in_place = of_.in_place;
    problem.w_hh = w_hh_forward_.data();
    problem.w_hr = pointer_if(of_.projected, w_hr_forward_);
    problem.peephole = pointer_if(of_.peephole, peephole_);
    problem.zeros = zeros_.data();
    problem.h0 = h0_.data();
    problem.gates = gates.data();
    problem.cells = pointer_if(of_.saves, cells);
    problem.hidden = hidden.data();
    problem.h = h.data();
    problem.c = c.data();
    problem.scratch = pointer_if(of_.projected, scratch);
    problem.gathered = pointer_if(gathers, gathered);
    problem.x = pointer_if(of_.D > 0, x_);
    problem.D = of_.D;
    problem.w_ih = w_ih_.data();
    problem.b_ih = pointer_if(of_.bias, b_ih_);
    problem.b_hh = pointer_if(of_.bias, b_hh_);
    problem.rounded = pointer_if(of_.pairs, rounded);
    problem.half_inputs = half_inputs_.data();
    problem.bias = pointer_if(of_.bias, b_ih_);
    // A gang takes the steps in two runs, the others in one: that must not matter.
    const int64_t middle = way.pieces > 1 ? of_.T / 2 : of_.T;
    problem.last_step = middle;
    met = way.run(N, [&](const Part& part) { kernels_.time_lstm_forward(problem, part); });
    problem.first_step = middle;
    problem.last_step = of_.T;
    if (middle < of_.T)
      met = way.run(N, [&](const Part& part) { kernels_.time_lstm_forward(problem, part); });
    require_written(hidden, P, stride_, name() + ": hidden");
    return results(std::move(gates), std::move(cells), std::move(hidden), std::move(h),
                   std::move(c));
  }

  // d_preact, h_prev, r, d_projected, dh, dc, d_peephole; `saved` is what forward returned.
  Results<scalar> backward(const Way& way, const Results<scalar>& saved, bool& met) const {
    const int64_t N = of_.N, H = of_.H, P = of_.P, projected = of_.projected;
    Buffer<scalar> d_preact = unwritten(rows_ * 4 * H), h_prev = unwritten(rows_ * P);
    Buffer<scalar> r = unwritten(projected * rows_ * H);
    Buffer<scalar> d_projected = unwritten(projected * rows_ * P);
    Buffer<scalar> dh = dh_.copy(), dc = dc_.copy(), d_peephole(of_.peephole * N * 3 * H, 0);
    Buffer<scalar> scratch = unwritten(projected * N * H);
    const bool from_cells = of_.reset != of_.strided;  // every gradient comes alone as well
    TimeLstmBackward<scalar> problem{};
    problem.seq = layout_.sequence();
    problem.H = H;
    problem.P = P;
    problem.hidden_stride = stride_;
    problem.d_hidden_stride = stride_;
    problem.w_hh = w_hh_backward_.data();
    problem.w_hr = pointer_if(projected, w_hr_backward_);
    problem.peephole = pointer_if(of_.peephole, peephole_);
    problem.zeros = zeros_.data();
    problem.h0 = h0_.data();
    problem.c0 = c0_.data();
    problem.gates = saved[0].data();
    problem.cells = saved[1].data();
    problem.hidden = saved[2].data();
    problem.d_hidden = pointer_if(!of_.reset, d_hidden_);
    problem.d_cells = pointer_if(from_cells, d_cells_);
    problem.d_preact = d_preact.data();
    problem.h_prev = h_prev.data();
    problem.r = pointer_if(projected, r);
    problem.d_projected = pointer_if(projected, d_projected);
    problem.dh = dh.data();
    problem.dc = dc.data();
    problem.d_peephole = pointer_if(of_.peephole, d_peephole);
    problem.scratch = pointer_if(projected, scratch);
    met = way.run(N, [&](const Part& part) { kernels_.time_lstm_backward(problem, part); });
    return results(std::move(d_preact), std::move(h_prev), std::move(r), std::move(d_projected),
                   std::move(dh), std::move(dc), std::move(d_peephole));
  }

  std::string name() const { return std::string(kernels_.isa) + ", " + of_.name(); }

 private:
  // Of rows of P elements: the last one has nothing behind it.
  int64_t extent(int64_t stride) const { return (rows_ - 1) * stride + of_.P; }

  static Buffer<scalar> unwritten(int64_t size) { return Numbers<scalar>::unwritten(size); }

  // The same weights rounded and in pairs, from memory aligned for no more than one of a pair.
  Buffer<scalar> packed_pairs(const Buffer<scalar>& w) const {
    const Buffer<uint16_t> values = halves(w);
    Buffer<uint16_t> odd(values.size() + 1);
    memcpy(odd.data() + 1, values.data(), values.size() * sizeof(uint16_t));
    const int64_t K = of_.P / 2, blocks = kernels_.blocks(of_.H, true);
    Buffer<scalar> to = unwritten(blocks * kernels_.block * K);
    kernels_.pack(static_cast<const scalar*>(static_cast<const void*>(odd.data() + 1)), 1, K, K,
                  of_.H, true, 0, blocks, to.data());
    return to;
  }

  const Case of_;
  const cpu::Kernels<scalar>& kernels_ = kernels_of<scalar>(of_.pairs);
  Numbers<scalar> numbers_;
  const Layout layout_;
  const int64_t rows_, stride_;
  const Buffer<scalar> peephole_, zeros_, preact_, h0_, c0_, d_hidden_, d_cells_, dh_, dc_, x_,
      w_ih_, b_ih_, b_hh_;
  const Buffer<uint16_t> half_inputs_;
  Buffer<scalar> w_hh_forward_, w_hr_forward_, w_hh_backward_, w_hr_backward_;
};

}  // namespace ltlstm::sanitizers
