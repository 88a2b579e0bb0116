// SPDX-License-Identifier: Apache-2.0
// The time-LSTM: the whole time loop, forward and backward, over a part of the batch and of the
// units.
//
// A slice of the batch needs nothing of the other rows: threads that take slices never meet.
// Threads that share rows take slices of the units, each keeping its part of the weights in its
// core's cache, and meet at every step. The state lives in h, c (dh, dc), where a finished row of a
// ragged batch simply keeps its value. Allocates nothing.
#pragma once

#include "cpu/cell_rows.h"
#include "cpu/dot.h"
#include "cpu/gang.h"
#include "cpu/kernels.h"
#include "cpu/pairs.h"
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

// Where the state of batch row n comes from at a step. A reset at t stands between t - 1 and t,
// whichever way one goes.
LTLSTM_INLINE Previous previous_of(const Sequence& seq, const Step& s, int64_t n) {
  const bool inside = s.before >= 0 && n < seq.batch_sizes[s.before];
  if (seq.reset != nullptr) {
    if (!seq.reverse && seq.reset[seq.offsets[s.t] + n]) return Previous::kCleared;
    if (seq.reverse && inside && seq.reset[seq.offsets[s.before] + n]) return Previous::kCleared;
  }
  return inside ? Previous::kRow : Previous::kInitial;
}

// What one thread does of a problem: rows, and slices of the units and of the projected columns.
template <class Isa, class scalar>
struct Slice {
  using T = Tile<Isa, scalar>;

  // A share of `columns` in whole plain blocks, so that a slice of H is one in gate blocks as well.
  struct Range {
    int64_t first, last;              // columns
    int64_t first_block, last_block;  // plain blocks
    LTLSTM_MEMBER int64_t count() const { return last - first; }
    LTLSTM_MEMBER int64_t first_gate_block() const { return first_block * T::kVectors; }
    LTLSTM_MEMBER int64_t last_gate_block() const { return (last + T::kLanes - 1) / T::kLanes; }
  };

  LTLSTM_MEMBER static Range range_of(int64_t columns, const Part& part) {
    const int64_t blocks = (columns + T::kBlock - 1) / T::kBlock,
                  pieces = part.gang ? part.gang->pieces() : 1;
    const int64_t from = part.gang ? part.share.first : 0, to = part.gang ? part.share.last : 1;
    Range r;
    r.first_block = blocks * from / pieces;
    r.last_block = blocks * to / pieces;
    r.first = smaller(columns, r.first_block * T::kBlock);
    r.last = smaller(columns, r.last_block * T::kBlock);
    return r;
  }
};

LTLSTM_INLINE void meet(const Part& part) {
  if (part.gang) part.gang->meet(part.share);
}

// The h that enters a step, as a matrix of rows: the rows of the step before where all come from
// there, the initial state where all do, else the rows gathered one by one.
template <class scalar>
struct Rows {
  const scalar* data;
  int64_t stride;
};

template <class scalar>
LTLSTM_INLINE const scalar* previous_h(const TimeLstmForward<scalar>& p, const Step& s, int64_t n) {
  const Previous previous = previous_of(p.seq, s, n);
  if (previous == Previous::kCleared) return p.zeros;
  if (previous == Previous::kInitial) return p.h0 + n * p.P;
  return p.hidden + (p.seq.offsets[s.before] + n) * p.hidden_stride;
}

// Where the rows of this part lie in a buffer (pieces of the gang or 1, N, P).
template <class scalar>
LTLSTM_INLINE int64_t place_of_rows(const TimeLstmForward<scalar>& p, const Part& part) {
  return ((part.gang ? part.share.first : 0) * p.seq.N + part.first_row) * p.P;
}

template <class scalar>
LTLSTM_INLINE Rows<scalar> entering_h(const TimeLstmForward<scalar>& p, const Step& s,
                                      const Part& part) {
  if (!p.seq.reset && s.before < 0) return {p.h0 + part.first_row * p.P, p.P};
  if (!p.seq.reset && part.first_row + s.active <= p.seq.batch_sizes[s.before])
    return {p.hidden + (p.seq.offsets[s.before] + part.first_row) * p.hidden_stride,
            p.hidden_stride};
  scalar* gathered = p.gathered + place_of_rows(p, part);
  for (int64_t i = 0; i < s.active; ++i)
    copy_row(p.P, previous_h(p, s, part.first_row + i), gathered + i * p.P);
  return {gathered, p.P};
}

// What the inputs of a step give the gates of some units, the weights read in place.
template <class Isa, class scalar, class Range>
LTLSTM_INLINE void input_product(const TimeLstmForward<scalar>& p, const Step& s,
                                 const Range& units, scalar* preact) {
  const int64_t count = units.count();
  for (int64_t column = units.first; column < 4 * p.H; column += p.H) {
    for (int64_t i = 0; i < s.active; ++i) {
      scalar* to = preact + i * 4 * p.H + column;
      if (p.b_ih)
        copy_row(count, p.b_ih + column, to), add_row(count, p.b_hh + column, to);
      else
        zero_row(count, to);
    }
    dot_product<Isa>(s.active, p.D, p.x + s.row * p.D, p.D, p.w_ih + column * p.D, count, true,
                     preact + column, 4 * p.H);
  }
}

template <class Isa, bool kPeephole, class scalar>
LTLSTM_INLINE void time_lstm_forward(const TimeLstmForward<scalar>& p, const Part& part) {
  const int64_t H = p.H, P = p.P;
  const auto units = Slice<Isa, scalar>::range_of(H, part);
  const auto outputs = Slice<Isa, scalar>::range_of(P, part);
  for (int64_t scanned = p.first_step; scanned < p.last_step; ++scanned) {
    const Step s = step_of(p.seq, scanned, part.first_row, part.last_row);
    if (s.active <= 0) continue;
    const Rows<scalar> h = entering_h(p, s, part);
    scalar* preact = p.gates + (s.row - p.first_gates) * 4 * H;
    if (p.x) input_product<Isa>(p, s, units, preact);
    if (p.rounded) {
      if constexpr (Isa::kPairs && sizeof(scalar) == sizeof(float))
        pairs_step<Isa>(p, s.active, h.data, h.stride, p.rounded + place_of_rows(p, part) / 2,
                        units.first, units.last, units.first_gate_block(), units.last_gate_block(),
                        p.half_inputs + (s.row - p.first_gates) * 4 * H, preact);
    } else if (p.in_place)
      for (int64_t column = units.first; column < 4 * H; column += H)
        dot_product<Isa>(s.active, P, h.data, h.stride, p.w_hh + column * P, units.count(), true,
                         preact + column, 4 * H);
    else
      product<Isa>(s.active, P, h.data, h.stride, p.w_hh, Columns<Isa, scalar>{H, true},
                   units.first_gate_block(), units.last_gate_block(), true, preact, 4 * H);
    for (int64_t i = 0; i < s.active; ++i) {
      const int64_t row = s.row + i, n = part.first_row + i;
      scalar* gates = preact + i * 4 * H + units.first;
      scalar* c = p.c + n * H + units.first;
      scalar* hidden = p.hidden + row * p.hidden_stride + units.first;
      scalar* r = p.w_hr ? p.scratch + n * H + units.first : hidden;
      if (p.seq.reset && previous_of(p.seq, s, n) == Previous::kCleared) zero_row(units.count(), c);
      cell_row_forward<Isa, kPeephole>(H, units.count(), gates, c,
                                       kPeephole ? p.peephole + units.first : nullptr,
                                       p.cells ? gates : nullptr, c, r);
      if (p.cells) copy_row(units.count(), c, p.cells + row * H + units.first);
      if (!p.w_hr) copy_row(units.count(), r, p.h + n * H + units.first);
    }
    if (p.w_hr) {
      meet(part);
      scalar* hidden = p.hidden + s.row * p.hidden_stride;
      const scalar* r = p.scratch + part.first_row * H;
      if (p.in_place)
        dot_product<Isa>(s.active, H, r, H, p.w_hr + outputs.first * H, outputs.count(), false,
                         hidden + outputs.first, p.hidden_stride);
      else
        product<Isa>(s.active, H, r, H, p.w_hr, Columns<Isa, scalar>{P, false}, outputs.first_block,
                     outputs.last_block, false, hidden, p.hidden_stride);
      for (int64_t i = 0; i < s.active; ++i)
        copy_row(outputs.count(), hidden + i * p.hidden_stride + outputs.first,
                 p.h + (part.first_row + i) * P + outputs.first);
    }
    if (scanned + 1 < p.last_step) meet(part);  // after the last who called us waits for all
  }
}

// The state that entered a step in row n of the batch.
template <class scalar>
struct Entered {
  const scalar *c, *h;
};

template <class scalar>
LTLSTM_INLINE Entered<scalar> entered(const TimeLstmBackward<scalar>& p, const Step& s, int64_t n) {
  const Previous previous = previous_of(p.seq, s, n);
  if (previous == Previous::kCleared) return {p.zeros, p.zeros};
  if (previous == Previous::kInitial) return {p.c0 + n * p.H, p.h0 + n * p.P};
  const int64_t before = p.seq.offsets[s.before] + n;
  return {p.cells + before * p.H, p.hidden + before * p.hidden_stride};
}

template <class Isa, bool kPeephole, bool kProjected, class scalar>
LTLSTM_INLINE void time_lstm_backward(const TimeLstmBackward<scalar>& p, const Part& part) {
  const int64_t H = p.H, P = p.P;
  const auto units = Slice<Isa, scalar>::range_of(H, part);
  const auto outputs = Slice<Isa, scalar>::range_of(P, part);
  for (int64_t scanned = p.seq.T - 1; scanned >= 0; --scanned) {
    const Step s = step_of(p.seq, scanned, part.first_row, part.last_row);
    if (s.active <= 0) continue;
    for (int64_t i = 0; i < s.active; ++i) {
      const int64_t row = s.row + i, n = part.first_row + i;
      scalar* dh = p.dh + n * P + outputs.first;
      if (p.d_hidden)
        add_row(outputs.count(), p.d_hidden + row * p.d_hidden_stride + outputs.first, dh);
      if (p.d_cells)
        add_row(units.count(), p.d_cells + row * H + units.first, p.dc + n * H + units.first);
      if (kProjected) copy_row(outputs.count(), dh, p.d_projected + row * P + outputs.first);
    }
    if (kProjected) {
      meet(part);
      product<Isa>(s.active, P, p.dh + part.first_row * P, P, p.w_hr,
                   Columns<Isa, scalar>{H, false}, units.first_block, units.last_block, false,
                   p.scratch + part.first_row * H, H);
    }
    for (int64_t i = 0; i < s.active; ++i) {
      const int64_t row = s.row + i, n = part.first_row + i;
      const Entered<scalar> from = entered(p, s, n);
      const scalar* c_prev = from.c + units.first;
      const scalar* c = p.cells + row * H + units.first;
      const scalar* dr = (kProjected ? p.scratch : p.dh) + n * H + units.first;
      scalar* dc = p.dc + n * H + units.first;
      scalar* d_preact = p.d_preact + row * 4 * H + units.first;
      cell_row_backward<Isa, kPeephole, kProjected>(
          H, units.count(), p.gates + row * 4 * H + units.first, c_prev, c,
          kPeephole ? p.peephole + units.first : nullptr, dr, dc, d_preact, dc,
          kProjected ? p.r + row * H + units.first : nullptr);
      if (kPeephole)
        add_peephole_gradient(H, units.count(), d_preact, c_prev, c,
                              p.d_peephole + n * 3 * H + units.first);
      copy_row(outputs.count(), from.h + outputs.first, p.h_prev + row * P + outputs.first);
    }
    meet(part);
    product<Isa>(s.active, 4 * H, p.d_preact + s.row * 4 * H, 4 * H, p.w_hh,
                 Columns<Isa, scalar>{P, false}, outputs.first_block, outputs.last_block, false,
                 p.dh + part.first_row * P, P);
    for (int64_t i = 0; i < s.active && p.seq.reset; ++i) {
      const int64_t n = part.first_row + i;
      if (previous_of(p.seq, s, n) != Previous::kCleared) continue;
      zero_row(outputs.count(), p.dh + n * P + outputs.first);
      zero_row(units.count(), p.dc + n * H + units.first);
    }
  }
}

}  // namespace ltlstm::cpu
