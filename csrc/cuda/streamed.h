// SPDX-License-Identifier: Apache-2.0
// The time loop whose W_hh stays in memory, on the host: for each step a product with W_hh, which
// the caller computes, and a pointwise kernel.
//
// What a product gives comes in the storage type: whole pre-activations, and dh.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cuda/sequence.h"
#include "cuda/time_step.h"

namespace ltlstm::cuda {

template <class element>
struct Matrix {
  element* data;
  int64_t rows, columns;
  int64_t row_stride, column_stride;
};

template <class element>
Matrix<element> transposed(const Matrix<element>& m) {
  return {m.data, m.columns, m.rows, m.column_stride, m.row_stride};
}

// Elements of the storage type that problem.workspace must have, of any values.
template <class Problem>
int64_t streamed_elements(int64_t N, int64_t H, int64_t P, int directions) {
  constexpr bool kBackward = std::is_same_v<Problem, TimeLstmBackward<typename Problem::Scalar>>;
  return directions * ((P < H ? N * H : 0) + (kBackward ? N * P : 0));
}

// Launches a loop. product(out, a, w, accumulate) puts out = a w, or adds it, on the stream, in
// the order of the launches.
template <class scalar, class Product>
class Streamed {
 public:
  // host: the problem's sequence with batch_sizes and offsets where the host can read them.
  Streamed(const Sequence& host, int directions, const Product& product, void* stream)
      : host_(host), directions_(directions), product_(product), stream_(stream) {}

  Status run(const TimeLstmForward<scalar>& p) {
    const int64_t H = p.H, P = p.P, N = p.seq.N;
    ForwardStep<scalar> step = {p, directions_, 0, 0, {}};
    for (int k = 0; k < directions_; ++k) {
      const ForwardDirection<scalar>& d = p.direction[k];
      if (d.w_hr != nullptr) step.r[k] = reinterpret_cast<scalar*>(p.workspace) + k * N * H;
      move(StateRows<scalar, scalar>{sequence(p, k), 0, N, P, d.h0, P, nullptr, 0, d.h_n});
      move(StateRows<float, float>{sequence(p, k), 0, N, H, d.c0, H, nullptr, 0, d.c_n});
    }
    for (; step.scanned < host_.T; ++step.scanned) {
      each(p, step.scanned, [&](const ForwardDirection<scalar>& d, int, const StepRows& rows) {
        product_(block(d.preact + rows.first * 4 * H, rows, 4 * H, 4 * H), block(d.h_n, rows, P, P),
                 transposed(weights(d.w_hh, 4 * H, P)), true);
      });
      go(step);
      each(p, step.scanned, [&](const ForwardDirection<scalar>& d, int k, const StepRows& rows) {
        if (d.w_hr == nullptr) return;
        scalar* h = d.hidden + rows.first * p.hidden_stride;
        product_(block(h, rows, P, p.hidden_stride), block(step.r[k], rows, H, H),
                 transposed(weights(d.w_hr, P, H)), false);
        move(StateRows<scalar, scalar>{sequence(p, k), step.scanned + 1, rows.active, P, h,
                                       p.hidden_stride, nullptr, 0, d.h_n});
      });
    }
    return status_;
  }

  Status run(const TimeLstmBackward<scalar>& p) {
    const int64_t H = p.H, P = p.P, N = p.seq.N, T = host_.T;
    BackwardStep<scalar> step = {p, directions_, 0, 0, {}, {}};
    scalar* dr[2] = {};
    for (int k = 0; k < directions_; ++k) {
      const BackwardDirection<scalar>& d = p.direction[k];
      scalar* const scratch = reinterpret_cast<scalar*>(p.workspace);
      step.dh[k] = scratch + k * N * P;
      if (d.w_hr != nullptr) step.dr[k] = dr[k] = scratch + directions_ * N * P + k * N * H;
      move(StateRows<float, scalar>{sequence(p, k), T, N, P, d.d_h_n, P, nullptr, 0, step.dh[k]});
      move(StateRows<float, float>{sequence(p, k), T, N, H, d.d_c_n, H, nullptr, 0, d.d_c0});
    }
    for (step.scanned = T - 1; step.scanned >= 0; --step.scanned) {
      each(p, step.scanned, [&](const BackwardDirection<scalar>& d, int k, const StepRows& rows) {
        if (d.w_hr == nullptr) return;
        const scalar* outside =
            d.d_hidden != nullptr ? d.d_hidden + rows.first * p.d_hidden_stride : nullptr;
        scalar* dh = d.d_projected + rows.first * P;
        move(StateRows<scalar, scalar>{sequence(p, k), step.scanned + 1, rows.active, P, step.dh[k],
                                       P, outside, p.d_hidden_stride, dh});
        product_(block(dr[k], rows, H, H), block(dh, rows, P, P), weights(d.w_hr, P, H), false);
      });
      go(step);
      each(p, step.scanned, [&](const BackwardDirection<scalar>& d, int k, const StepRows& rows) {
        product_(block(step.dh[k], rows, P, P),
                 block(d.d_preact + rows.first * 4 * H, rows, 4 * H, 4 * H),
                 weights(d.w_hh, 4 * H, P), false);
      });
    }
    for (int k = 0; k < directions_; ++k)
      move(StateRows<scalar, float>{sequence(p, k), 0, N, P, step.dh[k], P, nullptr, 0,
                                    p.direction[k].d_h0});
    return status_;
  }

 private:
  static Matrix<scalar> block(scalar* data, const StepRows& rows, int64_t columns, int64_t stride) {
    return {data, rows.active, columns, stride, 1};
  }
  static Matrix<const scalar> weights(const scalar* data, int64_t rows, int64_t columns) {
    return {data, rows, columns, columns, 1};
  }
  // As a direction goes through it.
  template <class Problem>
  static Sequence sequence(const Problem& p, int direction) {
    Sequence seq = p.seq;
    seq.reverse = p.direction[direction].reverse;
    return seq;
  }
  template <class Problem>
  StepRows rows_of(const Problem& p, int64_t scanned, int direction) const {
    return rows_at(host_, time_of(host_, p.direction[direction].reverse, scanned));
  }

  // visit(direction, its number, rows) for each that has rows at a step.
  template <class Problem, class Visit>
  void each(const Problem& p, int64_t scanned, const Visit& visit) const {
    for (int k = 0; k < directions_; ++k) {
      const StepRows rows = rows_of(p, scanned, k);
      if (rows.active > 0) visit(p.direction[k], k, rows);
    }
  }

  template <class Step>
  void go(Step& step) {
    step.rows = 0;
    for (int k = 0; k < directions_; ++k)
      step.rows = std::max(step.rows, rows_of(step.loop, step.scanned, k).active);
    note(time_step(step, stream_));
  }
  template <class From, class To>
  void move(const StateRows<From, To>& rows) {
    note(state_rows(rows, stream_));
  }
  void note(Status status) {
    if (status_ == Status::kOk) status_ = status;
  }

  const Sequence host_;
  const int directions_;
  const Product& product_;
  void* const stream_;
  Status status_ = Status::kOk;  // the first that was not
};

}  // namespace ltlstm::cuda
