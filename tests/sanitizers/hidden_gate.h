// SPDX-License-Identifier: Apache-2.0
// An H-LSTM with random inputs, run in any way of sharing its work.
#pragma once

#include <algorithm>

#include "layout.h"
#include "sparse.h"

namespace ltlstm::sanitizers {

struct GateCase {
  int64_t T, N, H, K, J;
  bool bias, dropout, ragged, reset, reverse, in_place, saves, compiled;

  std::string name() const {
    std::string text = "hidden gates: T" + std::to_string(T) + " N" + std::to_string(N) + " H" +
                       std::to_string(H) + " K" + std::to_string(K) + " J" + std::to_string(J);
    const std::pair<bool, const char*> options[] = {{bias, " bias"},       {dropout, " dropout"},
                                                    {ragged, " ragged"},   {reset, " reset"},
                                                    {reverse, " reverse"}, {in_place, " in place"},
                                                    {saves, " saves"},     {compiled, " compiled"}};
    for (const auto& [on, option] : options) text += on ? option : "";
    return text;
  }
};

template <class scalar>
class HiddenGates {
 public:
  HiddenGates(const GateCase& of, uint32_t seed)
      : of_(of),
        numbers_(seed),
        layout_(of.T, of.N, of.ragged, of.reset, of.reverse, numbers_),
        rows_(layout_.rows()),
        zeros_(of.compiled ? 4 * std::max(of.H, of.K) : of.H, 0),
        inputs_(numbers_.drawn(rows_ * 4 * of.K)),
        x_(numbers_.drawn(rows_ * of.H)),
        h0_(numbers_.drawn(of.N * of.H)),
        c0_(numbers_.drawn(of.N * of.H)),
        d_h_(numbers_.drawn(rows_ * of.H)),
        d_cells_(numbers_.drawn(rows_ * of.H)),
        dh_(numbers_.drawn(of.N * of.H)),
        dc_(numbers_.drawn(of.N * of.H)) {
    if (of.compiled) add_compiled({1, 4 * of.K, of.H}), add_compiled({1, 4 * of.K, of.H});
    add_weights(numbers_.drawn(4 * of.K * of.H), 4 * of.K, of.H);
    for (int64_t j = 0; j < of.J; ++j) {
      if (of.compiled) add_compiled({4, outputs(j), of.K});
      for (int gate = 0; gate < 4; ++gate)
        add_weights(numbers_.drawn(outputs(j) * of.K), outputs(j), of.K);
      biases_.push_back(numbers_.drawn(4 * outputs(j)));
      masks_.push_back(numbers_.drawn(rows_ * 4 * of.K));
      for (int64_t i = 0; i < masks_[j].size(); ++i) masks_[j][i] = masks_[j][i] > 0 ? 1.25 : 0;
    }
  }

  // h, c, hidden, cells, gates, and the hidden layers
  Results<scalar> forward(const Way& way, bool& met) const {
    const int64_t N = of_.N, H = of_.H, K = of_.K;
    const bool gathers = of_.reset || (of_.reverse && of_.ragged);
    Buffer<scalar> h = h0_.copy(), c = c0_.copy(), hidden = unwritten(rows_ * H);
    Buffer<scalar> cells = unwritten(of_.saves * rows_ * H);
    Buffer<scalar> gates = unwritten((of_.saves ? rows_ : 2 * N) * 4 * H);
    Buffer<scalar> states = unwritten((way.pieces > 1) * way.pieces * 2 * N * H);
    Buffer<scalar> gathered = unwritten(gathers * way.pieces * N * H);
    Results<scalar> layers;
    for (int64_t j = 0; j < of_.J; ++j)
      layers.push_back(j == 0 ? inputs_.copy() : unwritten((of_.saves ? rows_ : N) * 4 * K));
    SparseOperands<scalar> inputs = {x_.data(), H, 0, zeros_.data(), 0, layers[0].data(), 4 * K};
    if (of_.compiled && way.pieces == 1) kernels_.sparse_product(sparse_[0], inputs, rows_);
    std::vector<scalar*> written = pointers<scalar*>(layers);
    const std::vector<const scalar*> later = pointers<const scalar*>(forward_, 1),
                                     bias = pointers<const scalar*>(biases_),
                                     masks = pointers<const scalar*>(masks_);
    HiddenGateForward<scalar> problem{};
    problem.K = K;
    problem.J = of_.J;
    problem.slope = scalar(0.25);
    problem.sparse = of_.compiled ? sparse_.data() : nullptr;
    if (of_.compiled && way.pieces > 1) problem.inputs = inputs, problem.input_rows = rows_;
    problem.w_hh = forward_[0].data();
    problem.later = later.data();
    problem.bias = of_.bias ? bias.data() : nullptr;
    problem.masks = of_.dropout ? masks.data() : nullptr;
    problem.hidden = written.data();
    problem.gates = gates.data();
    problem.states = states.data();
    TimeLstmForward<scalar>& time = problem.time;
    time.seq = layout_.sequence();
    time.last_step = of_.T;
    time.H = H;
    time.P = H;
    time.hidden_stride = H;
    time.in_place = of_.in_place;
    time.zeros = zeros_.data();
    time.h0 = h0_.data();
    time.cells = pointer_if(of_.saves, cells);
    time.hidden = hidden.data();
    time.h = h.data();
    time.c = c.data();
    time.gathered = pointer_if(gathers, gathered);
    met = way.run(N, [&](const Part& part) { kernels_.hidden_gate_forward(problem, part); });
    for (const auto* each : {&h, &c, &hidden, &cells})
      require_written(*each, 1, 1, name() + ": forward");
    // Without saving the last two are scratch.
    if (!of_.saves) return results(std::move(h), std::move(c), std::move(hidden), std::move(cells));
    Results<scalar> all =
        results(std::move(h), std::move(c), std::move(hidden), std::move(cells), std::move(gates));
    for (auto& layer : layers) all.push_back(std::move(layer));
    return all;
  }

  // dh, dc, d_preact, h_prev, and the gradients of the hidden layers; `saved` is what forward
  // returned.
  Results<scalar> backward(const Way& way, const Results<scalar>& saved, bool& met) const {
    const int64_t N = of_.N, H = of_.H, K = of_.K;
    Buffer<scalar> dh = dh_.copy(), dc = dc_.copy(), d_preact = unwritten(rows_ * 4 * H);
    Buffer<scalar> h_prev = unwritten(rows_ * H);
    Results<scalar> layers;
    for (int64_t j = 0; j < of_.J; ++j) layers.push_back(unwritten(rows_ * 4 * K));
    std::vector<scalar*> written = pointers<scalar*>(layers);
    const std::vector<const scalar*> later = pointers<const scalar*>(backward_, 1),
                                     masks = pointers<const scalar*>(masks_),
                                     hidden = pointers<const scalar*>(saved, 5);
    HiddenGateBackward<scalar> problem{};
    problem.K = K;
    problem.J = of_.J;
    problem.slope = scalar(0.25);
    problem.w_hh = backward_[0].data();
    problem.later = later.data();
    problem.masks = of_.dropout ? masks.data() : nullptr;
    problem.hidden = hidden.data();
    problem.d_hidden = written.data();
    TimeLstmBackward<scalar>& time = problem.time;
    time.seq = layout_.sequence();
    time.H = H;
    time.P = H;
    time.hidden_stride = H;
    time.d_hidden_stride = H;
    time.zeros = zeros_.data();
    time.h0 = h0_.data();
    time.c0 = c0_.data();
    time.gates = saved[4].data();
    time.cells = saved[3].data();
    time.hidden = saved[2].data();
    time.d_hidden = pointer_if(!of_.reset, d_h_);
    time.d_cells = pointer_if(of_.reset != of_.dropout, d_cells_);
    time.d_preact = d_preact.data();
    time.h_prev = h_prev.data();
    time.dh = dh.data();
    time.dc = dc.data();
    met = way.run(N, [&](const Part& part) { kernels_.hidden_gate_backward(problem, part); });
    Results<scalar> all =
        results(std::move(dh), std::move(dc), std::move(d_preact), std::move(h_prev));
    for (auto& layer : layers) all.push_back(std::move(layer));
    for (const auto& each : all) require_written(each, 1, 1, name() + ": backward");
    return all;
  }

  std::string name() const { return std::string(kernels_.isa) + ", " + of_.name(); }

 private:
  int64_t outputs(int64_t j) const { return j == of_.J - 1 ? of_.H : of_.K; }

  void add_weights(const Buffer<scalar>& w, int64_t rows, int64_t columns) {
    forward_.push_back(of_.in_place ? w.copy() : packed(w.data(), rows, columns, true, false));
    backward_.push_back(packed(w.data(), rows, columns, false, false));
  }

  void add_compiled(cpu::SparseShape shape) {
    const int64_t size = shape.gates * shape.width * shape.columns;
    bytes_.push_back(compiled(numbers_.drawn(size), numbers_.flags(size), shape, std::nullopt));
    sparse_.push_back(read_matrix<scalar>(bytes_.back()));
  }

  static Buffer<scalar> unwritten(int64_t size) { return Numbers<scalar>::unwritten(size); }

  // Of the buffers from number `first` on.
  template <class Pointer, class Buffers>
  static std::vector<Pointer> pointers(Buffers& buffers, size_t first = 0) {
    std::vector<Pointer> found;
    for (size_t i = first; i < buffers.size(); ++i) found.push_back(buffers[i].data());
    return found;
  }

  const GateCase of_;
  const cpu::Kernels<scalar>& kernels_ = cpu::kernels<scalar>();
  Numbers<scalar> numbers_;
  const Layout layout_;
  const int64_t rows_;
  const Buffer<scalar> zeros_, inputs_, x_, h0_, c0_, d_h_, d_cells_, dh_, dc_;
  Results<scalar> forward_, backward_;  // w_hh, and what follows each hidden layer gate by gate
  Results<scalar> biases_, masks_;
  std::vector<Buffer<uint8_t>> bytes_;
  std::vector<SparseMatrix<scalar>> sparse_;  // instead of forward_: they point into bytes_
};

}  // namespace ltlstm::sanitizers
