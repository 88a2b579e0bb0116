// SPDX-License-Identifier: Apache-2.0
// The time-LSTM over rows [first, last) of the batch: the whole time loop, forward and backward.
//
// A slice of the batch needs nothing of the other rows, so threads take slices and never meet. The state lives in
// h, c (dh, dc), where a finished row of a ragged batch simply keeps its value. Allocates nothing.
#pragma once

#include "cpu/cell_rows.h"
#include "cpu/product.h"
#include "problem.h"

namespace ltlstm::cpu {

// Step t as one slice of the batch sees it, in the order of the scan.
struct Step {
  int64_t t, before;    // before: the step scanned just before this one, or -1
  int64_t row, active;  // first row of the slice, and how many of the slice are alive
};

LTLSTM_INLINE Step step_of(const Sequence& seq, int64_t scanned, int64_t first, int64_t last) {
  Step s;
  s.t = seq.reverse ? seq.T - 1 - scanned : scanned;
  s.before = scanned == 0 ? -1 : (seq.reverse ? s.t + 1 : s.t - 1);
  s.row = seq.offsets[s.t] + first;
  s.active = smaller(last, seq.batch_sizes[s.t]) - first;
  return s;
}

enum class Previous { kInitial, kCleared, kRow };

// Where the state of batch row n comes from at a step. A reset at t stands between t - 1 and t, whichever way one goes.
LTLSTM_INLINE Previous previous_of(const Sequence& seq, const Step& s, int64_t n) {
  const bool inside = s.before >= 0 && n < seq.batch_sizes[s.before];
  if (seq.reset != nullptr) {
    if (!seq.reverse && seq.reset[seq.offsets[s.t] + n]) return Previous::kCleared;
    if (seq.reverse && inside && seq.reset[seq.offsets[s.before] + n]) return Previous::kCleared;
  }
  return inside ? Previous::kRow : Previous::kInitial;
}

template <class Isa, bool kPeephole, class scalar>
LTLSTM_INLINE void time_lstm_forward(const TimeLstmForward<scalar>& p, int64_t first, int64_t last) {
  const int64_t H = p.H, P = p.P;
  for (int64_t scanned = 0; scanned < p.seq.T; ++scanned) {
    const Step s = step_of(p.seq, scanned, first, last);
    if (s.active <= 0) continue;
    scalar* h = p.h + first * P;
    scalar* c = p.c + first * H;
    for (int64_t i = 0; i < s.active && p.seq.reset; ++i)
      if (previous_of(p.seq, s, first + i) == Previous::kCleared) {
        zero_row(P, h + i * P);
        zero_row(H, c + i * H);
      }
    scalar* gates = p.gates + s.row * 4 * H;
    product<Isa>(s.active, P, 4 * H, h, P, p.w_hh, true, gates, 4 * H);
    scalar* r = p.w_hr ? p.scratch + first * H : h;
    for (int64_t i = 0; i < s.active; ++i) {
      scalar* row = gates + i * 4 * H;
      cell_row_forward<kPeephole>(H, row, c + i * H, p.peephole, row, c + i * H, r + i * H);
      if (p.cells) copy_row(H, c + i * H, p.cells + (s.row + i) * H);
    }
    if (p.w_hr) product<Isa>(s.active, H, P, r, H, p.w_hr, false, h, P);
    for (int64_t i = 0; i < s.active; ++i) copy_row(P, h + i * P, p.hidden + (s.row + i) * p.hidden_stride);
  }
}

template <class Isa, bool kPeephole, bool kProjected, class scalar>
LTLSTM_INLINE void time_lstm_backward(const TimeLstmBackward<scalar>& p, int64_t first, int64_t last) {
  const int64_t H = p.H, P = p.P;
  for (int64_t scanned = p.seq.T - 1; scanned >= 0; --scanned) {
    const Step s = step_of(p.seq, scanned, first, last);
    if (s.active <= 0) continue;
    scalar* dh = p.dh + first * P;
    scalar* dc = p.dc + first * H;
    for (int64_t i = 0; i < s.active; ++i) {
      const int64_t row = s.row + i;
      if (p.d_hidden) add_row(P, p.d_hidden + row * p.d_hidden_stride, dh + i * P);
      if (p.d_cells) add_row(H, p.d_cells + row * H, dc + i * H);
      if (kProjected) copy_row(P, dh + i * P, p.d_projected + row * P);
    }
    scalar* dr = kProjected ? p.scratch + first * H : dh;
    if (kProjected) product<Isa>(s.active, P, H, dh, P, p.w_hr, false, dr, H);
    scalar* d_preact = p.d_preact + s.row * 4 * H;
    for (int64_t i = 0; i < s.active; ++i) {
      const int64_t row = s.row + i, n = first + i;
      const Previous previous = previous_of(p.seq, s, n);
      const int64_t before = previous == Previous::kRow ? p.seq.offsets[s.before] + n : 0;
      const scalar* c_prev = previous == Previous::kRow       ? p.cells + before * H
                             : previous == Previous::kInitial ? p.c0 + n * H
                                                              : p.zeros;
      const scalar* h_prev = previous == Previous::kRow       ? p.hidden + before * p.hidden_stride
                             : previous == Previous::kInitial ? p.h0 + n * P
                                                              : p.zeros;
      const scalar* c = p.cells + row * H;
      cell_row_backward<kPeephole, kProjected>(H, p.gates + row * 4 * H, c_prev, c, p.peephole, dr + i * H,
                                               dc + i * H, d_preact + i * 4 * H, dc + i * H,
                                               kProjected ? p.r + row * H : nullptr);
      if (kPeephole) add_peephole_gradient(H, d_preact + i * 4 * H, c_prev, c, p.d_peephole + n * 3 * H);
      copy_row(P, h_prev, p.h_prev + row * P);
    }
    product<Isa>(s.active, 4 * H, P, d_preact, 4 * H, p.w_hh, false, dh, P);
    for (int64_t i = 0; i < s.active && p.seq.reset; ++i)
      if (previous_of(p.seq, s, first + i) == Previous::kCleared) {
        zero_row(P, dh + i * P);
        zero_row(H, dc + i * H);
      }
  }
}

}  // namespace ltlstm::cpu
