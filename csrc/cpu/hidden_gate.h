// SPDX-License-Identifier: Apache-2.0
// The H-LSTM: the whole time loop, forward and backward, over a part of the batch and of the units.
//
// A step is a chain of products, J + 1 of them where a gate has J hidden layers. Threads that share
// rows take whole gates where they can: the chains need nothing of each other, each thread makes
// the state from all four for itself, and they meet once a step. Else they take slices of the
// outputs of each product and meet after it. All else is as in the time-LSTM.
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

// What a piece computes in a step. Where `whole`, its slice of the first product's outputs is whole
// gates too, and where `apart` it keeps a state of its own.
template <class Isa, class scalar>
struct GateShare {
  using Range = typename Slice<Isa, scalar>::Range;
  bool whole, apart;
  int64_t first, last;         // gates of the later layers
  Range first_layer;           // of the 4K outputs
  Range of_hidden, of_output;  // the units of a gate, of K and of H
  Range own;                   // the units whose state it stores

  LTLSTM_MEMBER GateShare(int64_t H, int64_t K, const Part& part) {
    const int64_t pieces = part.gang ? part.gang->pieces() : 1;
    whole = 4 % pieces == 0 && 4 * K % (pieces * Tile<Isa, scalar>::kBlock) == 0;
    apart = whole && pieces > 1;
    first = apart ? 4 * part.share.first / pieces : 0;
    last = apart ? 4 * part.share.last / pieces : 4;
    first_layer = Slice<Isa, scalar>::range_of(4 * K, part);
    const Part units = whole ? Part{part.first_row, part.last_row, nullptr, {0, 1}} : part;
    of_hidden = Slice<Isa, scalar>::range_of(K, units);
    of_output = Slice<Isa, scalar>::range_of(H, units);
    own = Slice<Isa, scalar>::range_of(H, part);
  }
};

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
                               const scalar* a, int64_t outputs,
                               const GateShare<Isa, scalar>& share, const Range& range, scalar* z) {
  if (p.sparse) {
    const scalar* base = p.bias ? p.bias[j] : p.time.zeros;
    sparse_product<Isa>(p.sparse[j + 2],
                        SparseOperands<scalar>{a, 4 * p.K, p.K, base, 0, z, 4 * outputs}, active,
                        GateUnits{share.first, share.last, range.first, range.last});
    return;
  }
  for (int64_t gate = share.first; gate < share.last; ++gate) {
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

// A part's h and c, the rows of all the batch: its own copy of both where it keeps one.
template <class scalar>
struct GateState {
  scalar *h, *c;
};

template <class Isa, class scalar>
LTLSTM_INLINE GateState<scalar> gate_state(const HiddenGateForward<scalar>& p, const Part& part,
                                           bool apart) {
  const TimeLstmForward<scalar>& time = p.time;
  if (!apart) return {time.h, time.c};
  const int64_t size = time.seq.N * time.H;
  const GateState<scalar> own = {p.states + part.share.first * 2 * size,
                                 p.states + (part.share.first * 2 + 1) * size};
  copy_row(size, time.h, own.h);
  copy_row(size, time.c, own.c);
  return own;
}

// h, c and what is kept of them, from the activated gates of the active rows.
template <class Isa, class scalar>
LTLSTM_INLINE void advance_state(const HiddenGateForward<scalar>& p, const Part& part,
                                 const Step& s, const GateShare<Isa, scalar>& share,
                                 const GateState<scalar>& state, const scalar* gates) {
  const TimeLstmForward<scalar>& time = p.time;
  const int64_t H = time.H, own = share.own.first, count = share.own.count();
  const auto& computed = share.apart ? share.of_output : share.own;
  for (int64_t i = 0; i < s.active; ++i) {
    const int64_t row = s.row + i, n = part.first_row + i;
    scalar *c = state.c + n * H, *h = state.h + n * H;
    if (time.seq.reset && previous_of(time.seq, s, n) == Previous::kCleared)
      zero_row(computed.count(), c + computed.first);
    state_row<Isa>(H, computed.count(), gates + i * 4 * H + computed.first, c + computed.first,
                   h + computed.first);
    if (time.cells) copy_row(count, c + own, time.cells + row * H + own);
    copy_row(count, h + own, time.hidden + row * time.hidden_stride + own);
  }
}

template <class Isa, class scalar>
LTLSTM_INLINE void hidden_gate_forward(const HiddenGateForward<scalar>& p, const Part& part) {
  const TimeLstmForward<scalar>& time = p.time;
  const int64_t H = time.H, K = p.K, last = p.J - 1, N = time.seq.N;
  const GateShare<Isa, scalar> share(H, K, part);
  const auto& first_layer = share.first_layer;
  const GateState<scalar> state = gate_state<Isa>(p, part, share.apart);
  if (p.input_rows > 0)
    sparse_product<Isa>(p.sparse[0], p.inputs, p.input_rows,
                        GateUnits{0, 1, first_layer.first, first_layer.last});
  for (int64_t scanned = time.first_step; scanned < time.last_step; ++scanned) {
    const Step s = step_of(time.seq, scanned, part.first_row, part.last_row);
    if (s.active <= 0) continue;
    // Where the first row of the slice lies in what has a row for each, or else one for each of N.
    const int64_t place = time.cells ? s.row : part.first_row;
    scalar* a = p.hidden[0] + (s.row - p.first_hidden) * 4 * K;
    const int64_t end = part.first_row + s.active;
    for (int64_t n = part.first_row; share.apart && time.seq.reset && n < end; ++n)
      if (previous_of(time.seq, s, n) == Previous::kCleared) zero_row(H, state.h + n * H);
    const Rows<scalar> entering =
        share.apart ? Rows<scalar>{state.h + part.first_row * H, H} : entering_h(time, s, part);
    if (p.sparse)
      sparse_product<Isa>(
          p.sparse[1],
          SparseOperands<scalar>{entering.data, entering.stride, 0, a, 4 * K, a, 4 * K}, s.active,
          GateUnits{0, 1, first_layer.first, first_layer.last});
    else
      gate_product<Isa>(s.active, H, entering, p.w_hh, time.in_place, 4 * K, first_layer, a, 4 * K);
    for (int64_t i = 0; i < s.active; ++i)
      activate_row(first_layer.count(), p.slope,
                   p.masks ? p.masks[0] + (s.row + i) * 4 * K + first_layer.first : nullptr,
                   a + i * 4 * K + first_layer.first);
    if (!share.whole) meet(part);
    for (int64_t j = 0; j < last; ++j) {
      scalar* z = p.hidden[j + 1] + place * 4 * K;
      later_layer<Isa>(p, j, s.active, a, K, share, share.of_hidden, z);
      for (int64_t i = 0; i < s.active; ++i) {
        for (int64_t gate = share.first; gate < share.last; ++gate) {
          const int64_t first = gate * K + share.of_hidden.first;
          activate_row(share.of_hidden.count(), p.slope,
                       p.masks ? p.masks[j + 1] + (s.row + i) * 4 * K + first : nullptr,
                       z + i * 4 * K + first);
        }
      }
      a = z;
      if (!share.whole) meet(part);
    }
    // Two in turn without cells: others may still read those of the step before.
    scalar* gates = p.gates + (time.cells ? place : scanned % 2 * N + place) * 4 * H;
    later_layer<Isa>(p, last, s.active, a, H, share, share.of_output, gates);
    for (int64_t i = 0; i < s.active; ++i)
      for (int64_t gate = share.first; gate < share.last; ++gate)
        activate_gate<Isa>(gate, share.of_output.count(),
                           gates + (4 * i + gate) * H + share.of_output.first);
    if (share.whole) meet(part);
    advance_state<Isa>(p, part, s, share, state, gates);
    if (!share.whole) meet(part);
  }
  for (int64_t n = 0; share.apart && n < N; ++n) {
    const int64_t own = n * H + share.own.first;
    copy_row(share.own.count(), state.h + own, time.h + own);
    copy_row(share.own.count(), state.c + own, time.c + own);
  }
}

// From the gradient of the outputs d_z (., 4 out) of the layer after hidden layer j to that of what
// entered the hidden layer's phi, in the caller's part of its units.
template <class Isa, class scalar>
LTLSTM_INLINE void later_layer_backward(const HiddenGateBackward<scalar>& p, int64_t j,
                                        const Step& s, const scalar* d_z, int64_t outputs,
                                        const GateShare<Isa, scalar>& share) {
  const auto& range = share.of_hidden;
  scalar* d = p.d_hidden[j] + s.row * 4 * p.K;
  for (int64_t gate = share.first; gate < share.last; ++gate) {
    product<Isa>(s.active, outputs, d_z + gate * outputs, 4 * outputs, p.later[4 * j + gate],
                 Columns<Isa, scalar>{p.K, false}, range.first_block, range.last_block, false,
                 d + gate * p.K, 4 * p.K);
    for (int64_t i = 0; i < s.active; ++i) {
      const int64_t place = (4 * (s.row + i) + gate) * p.K + range.first;
      deactivate_row(range.count(), p.slope, p.masks ? p.masks[j] + place : nullptr,
                     p.hidden[j] + place, p.d_hidden[j] + place);
    }
  }
}

template <class Isa, class scalar>
LTLSTM_INLINE void hidden_gate_backward(const HiddenGateBackward<scalar>& p, const Part& part) {
  const TimeLstmBackward<scalar>& time = p.time;
  const int64_t H = time.H, K = p.K;
  const auto units = Slice<Isa, scalar>::range_of(H, part);
  const GateShare<Isa, scalar> share(H, K, part);
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
      const Entered<scalar> from = entered(time, s, n);
      cell_row_backward<Isa, false, false, scalar>(
          H, units.count(), time.gates + row * 4 * H + units.first, from.c + units.first,
          time.cells + row * H + units.first, nullptr, dh, dc,
          time.d_preact + row * 4 * H + units.first, dc, nullptr);
      copy_row(units.count(), from.h + units.first, time.h_prev + row * H + units.first);
    }
    meet(part);
    for (int64_t j = p.J - 1; j >= 0; --j) {
      const bool top = j == p.J - 1;
      const scalar* d_z = top ? time.d_preact + s.row * 4 * H : p.d_hidden[j + 1] + s.row * 4 * K;
      later_layer_backward<Isa>(p, j, s, d_z, top ? H : K, share);
      if (j == 0 || !share.whole) meet(part);
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
