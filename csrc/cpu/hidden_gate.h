// SPDX-License-Identifier: Apache-2.0
// The H-LSTM: the whole time loop, forward and backward, over a part of the batch and of the units.
//
// A step is a chain of products, J + 1 of them where a gate has J hidden layers. Threads that share
// rows take slices of the outputs of each and meet after it; all else is as in the time-LSTM.
#pragma once

#include "cpu/sparse.h"
#include "cpu/time_lstm.h"

namespace ltlstm::cpu {

// phi and its slope, which the value alone tells: phi keeps the sign, and NaN. ReLU of minus
// infinity is zero.
template <class scalar>
LTLSTM_INLINE scalar leaky(scalar z, scalar slope) {
  const scalar below = slope == 0 ? 0 : slope * z;
  return z < 0 ? below : z;
}
template <class scalar>
LTLSTM_INLINE scalar leaky_slope(scalar a, scalar slope) {
  return a > 0 ? scalar(1) : slope;
}

// `count` hidden units of one row, in place; mask may be null.
template <class scalar>
LTLSTM_INLINE void activate_row(int64_t count, scalar slope, const scalar* mask, scalar* z) {
  if (mask) {
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) z[j] = leaky(z[j], slope) * mask[j];
  } else {
    for (int64_t j = 0; j < count; ++j) z[j] = leaky(z[j], slope);
  }
}

// d in: the gradient of what a step passed on; out: of what entered phi. Where a mask is zero the
// sign of a is lost, and nothing is left that it could scale.
template <class scalar>
LTLSTM_INLINE void deactivate_row(int64_t count, scalar slope, const scalar* mask, const scalar* a,
                                  scalar* d) {
  if (mask) {
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) d[j] = d[j] * mask[j] * leaky_slope(a[j], slope);
  } else {
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) d[j] *= leaky_slope(a[j], slope);
  }
}

// The outputs `range` of a layer of one gate, for the active rows: c += a w^T.
template <class Isa, class scalar, class Range>
LTLSTM_INLINE void gate_product(int64_t active, int64_t inputs, Rows<scalar> a, const scalar* w,
                                bool in_place, int64_t outputs, const Range& range, scalar* c,
                                int64_t c_stride) {
  if (in_place)
    dot_product<Isa>(active, inputs, a.data, a.stride, w + range.first * inputs, range.count(),
                     true, c + range.first, c_stride);
  else
    product<Isa>(active, inputs, a.data, a.stride, w, Columns<Isa, scalar>{outputs, false},
                 range.first_block, range.last_block, true, c, c_stride);
}

// The part of the layer after hidden layer j that is the caller's: of the active rows z (., 4 out).
template <class Isa, class scalar, class Range>
LTLSTM_INLINE void later_layer(const HiddenGateForward<scalar>& p, int64_t j, int64_t active,
                               const scalar* a, int64_t outputs, const Range& range, scalar* z) {
  if (p.sparse) {
    const scalar* base = p.bias ? p.bias[j] : p.time.zeros;
    sparse_product<Isa>(p.sparse[j + 1],
                        SparseOperands<scalar>{a, 4 * p.K, p.K, base, 0, z, 4 * outputs}, active,
                        range.first, range.last);
    return;
  }
  for (int gate = 0; gate < 4; ++gate) {
    scalar* of_gate = z + gate * outputs;
    for (int64_t i = 0; i < active; ++i) {
      scalar* to = of_gate + i * 4 * outputs + range.first;
      if (p.bias)
        copy_row(range.count(), p.bias[j] + gate * outputs + range.first, to);
      else
        zero_row(range.count(), to);
    }
    gate_product<Isa>(active, p.K, Rows<scalar>{a + gate * p.K, 4 * p.K}, p.later[4 * j + gate],
                      p.time.in_place, outputs, range, of_gate, 4 * outputs);
  }
}

template <class Isa, class scalar>
LTLSTM_INLINE void hidden_gate_forward(const HiddenGateForward<scalar>& p, const Part& part) {
  const TimeLstmForward<scalar>& time = p.time;
  const int64_t H = time.H, K = p.K, last = p.J - 1;
  const auto units = Slice<Isa, scalar>::range_of(H, part);
  const auto first_layer = Slice<Isa, scalar>::range_of(4 * K, part);
  const auto of_gate = Slice<Isa, scalar>::range_of(K, part);
  for (int64_t scanned = time.first_step; scanned < time.last_step; ++scanned) {
    const Step s = step_of(time.seq, scanned, part.first_row, part.last_row);
    if (s.active <= 0) continue;
    // Where the first row of the slice lies in what has a row for each, or else one for each of N.
    const int64_t place = time.cells ? s.row : part.first_row;
    scalar* a = p.hidden[0] + (s.row - p.first_hidden) * 4 * K;
    const Rows<scalar> entering = entering_h(time, s, part);
    if (p.sparse)
      sparse_product<Isa>(
          p.sparse[0],
          SparseOperands<scalar>{entering.data, entering.stride, 0, a, 4 * K, a, 4 * K}, s.active,
          first_layer.first, first_layer.last);
    else
      gate_product<Isa>(s.active, H, entering, p.w_hh, time.in_place, 4 * K, first_layer, a, 4 * K);
    for (int64_t i = 0; i < s.active; ++i)
      activate_row(first_layer.count(), p.slope,
                   p.masks ? p.masks[0] + (s.row + i) * 4 * K + first_layer.first : nullptr,
                   a + i * 4 * K + first_layer.first);
    meet(part);
    for (int64_t j = 0; j < last; ++j) {
      scalar* z = p.hidden[j + 1] + place * 4 * K;
      later_layer<Isa>(p, j, s.active, a, K, of_gate, z);
      for (int64_t row = 0; row < 4 * s.active; ++row)  // gates of rows
        activate_row(of_gate.count(), p.slope,
                     p.masks ? p.masks[j + 1] + (4 * s.row + row) * K + of_gate.first : nullptr,
                     z + row * K + of_gate.first);
      a = z;
      meet(part);
    }
    scalar* preact = p.gates + place * 4 * H;
    later_layer<Isa>(p, last, s.active, a, H, units, preact);
    for (int64_t i = 0; i < s.active; ++i) {
      const int64_t row = s.row + i, n = part.first_row + i;
      scalar* gates = preact + i * 4 * H + units.first;
      scalar* c = time.c + n * H + units.first;
      scalar* h = time.hidden + row * time.hidden_stride + units.first;
      if (time.seq.reset && previous_of(time.seq, s, n) == Previous::kCleared)
        zero_row(units.count(), c);
      cell_row_forward<Isa, false, scalar>(H, units.count(), gates, c, nullptr,
                                           time.cells ? gates : nullptr, c, h);
      if (time.cells) copy_row(units.count(), c, time.cells + row * H + units.first);
      copy_row(units.count(), h, time.h + n * H + units.first);
    }
    meet(part);
  }
}

// From the gradient of the outputs d_z (., 4 out) of the layer after hidden layer j to that of what
// entered the hidden layer's phi, in the caller's part of its units.
template <class Isa, class scalar, class Range>
LTLSTM_INLINE void later_layer_backward(const HiddenGateBackward<scalar>& p, int64_t j,
                                        const Step& s, const scalar* d_z, int64_t outputs,
                                        const Range& range) {
  scalar* d = p.d_hidden[j] + s.row * 4 * p.K;
  for (int gate = 0; gate < 4; ++gate)
    product<Isa>(s.active, outputs, d_z + gate * outputs, 4 * outputs, p.later[4 * j + gate],
                 Columns<Isa, scalar>{p.K, false}, range.first_block, range.last_block, false,
                 d + gate * p.K, 4 * p.K);
  for (int64_t row = 0; row < 4 * s.active; ++row) {  // gates of rows
    const int64_t place = (4 * s.row + row) * p.K + range.first;
    deactivate_row(range.count(), p.slope, p.masks ? p.masks[j] + place : nullptr,
                   p.hidden[j] + place, p.d_hidden[j] + place);
  }
}

template <class Isa, class scalar>
LTLSTM_INLINE void hidden_gate_backward(const HiddenGateBackward<scalar>& p, const Part& part) {
  const TimeLstmBackward<scalar>& time = p.time;
  const int64_t H = time.H, K = p.K;
  const auto units = Slice<Isa, scalar>::range_of(H, part);
  const auto of_gate = Slice<Isa, scalar>::range_of(K, part);
  for (int64_t scanned = time.seq.T - 1; scanned >= 0; --scanned) {
    const Step s = step_of(time.seq, scanned, part.first_row, part.last_row);
    if (s.active <= 0) continue;
    for (int64_t i = 0; i < s.active; ++i) {
      const int64_t row = s.row + i, n = part.first_row + i;
      scalar* dh = time.dh + n * H + units.first;
      scalar* dc = time.dc + n * H + units.first;
      if (time.d_hidden)
        add_row(units.count(), time.d_hidden + row * time.d_hidden_stride + units.first, dh);
      if (time.d_cells) add_row(units.count(), time.d_cells + row * H + units.first, dc);
      const Previous previous = previous_of(time.seq, s, n);
      const int64_t before = previous == Previous::kRow ? time.seq.offsets[s.before] + n : 0;
      const scalar* c_prev = previous == Previous::kRow ? time.cells + before * H + units.first
                             : previous == Previous::kInitial ? time.c0 + n * H + units.first
                                                              : time.zeros;
      const scalar* h_prev = previous == Previous::kRow
                                 ? time.hidden + before * time.hidden_stride + units.first
                             : previous == Previous::kInitial ? time.h0 + n * H + units.first
                                                              : time.zeros;
      cell_row_backward<Isa, false, false, scalar>(
          H, units.count(), time.gates + row * 4 * H + units.first, c_prev,
          time.cells + row * H + units.first, nullptr, dh, dc,
          time.d_preact + row * 4 * H + units.first, dc, nullptr);
      copy_row(units.count(), h_prev, time.h_prev + row * H + units.first);
    }
    meet(part);
    for (int64_t j = p.J - 1; j >= 0; --j) {
      const bool top = j == p.J - 1;
      const scalar* d_z = top ? time.d_preact + s.row * 4 * H : p.d_hidden[j + 1] + s.row * 4 * K;
      later_layer_backward<Isa>(p, j, s, d_z, top ? H : K, of_gate);
      meet(part);
    }
    product<Isa>(s.active, 4 * K, p.d_hidden[0] + s.row * 4 * K, 4 * K, p.w_hh,
                 Columns<Isa, scalar>{H, false}, units.first_block, units.last_block, false,
                 time.dh + part.first_row * H, H);
    for (int64_t i = 0; i < s.active && time.seq.reset; ++i) {
      const int64_t n = part.first_row + i;
      if (previous_of(time.seq, s, n) != Previous::kCleared) continue;
      zero_row(units.count(), time.dh + n * H + units.first);
      zero_row(units.count(), time.dc + n * H + units.first);
    }
  }
}

}  // namespace ltlstm::cpu
