// SPDX-License-Identifier: Apache-2.0
// The pointwise cell along one row, and over rows that do not depend on each other.
#pragma once

#include "cell.h"
#include "problem.h"

namespace ltlstm::cpu {

template <class scalar>
LTLSTM_INLINE Gates<scalar> gates_at(const scalar* row, int64_t H, int64_t j) {
  return {row[j], row[H + j], row[2 * H + j], row[3 * H + j]};
}

template <class scalar>
LTLSTM_INLINE void put_gates(scalar* row, int64_t H, int64_t j, Gates<scalar> gates) {
  row[j] = gates.i, row[H + j] = gates.f, row[2 * H + j] = gates.g, row[3 * H + j] = gates.o;
}

template <bool kPeephole, class scalar>
LTLSTM_INLINE Peephole<scalar> peephole_at(const scalar* peephole, int64_t H, int64_t j) {
  if (!kPeephole) return {0, 0, 0};
  return {peephole[j], peephole[H + j], peephole[2 * H + j]};
}

// `count` units of one row, which has H units in all (the distance from one gate to the next);
// gates may be preact itself, c may be c_prev.
template <bool kPeephole, class scalar>
LTLSTM_INLINE void cell_row_forward(int64_t H, int64_t count, const scalar* preact,
                                    const scalar* c_prev, const scalar* peephole, scalar* gates,
                                    scalar* c, scalar* r) {
#pragma GCC ivdep
  for (int64_t j = 0; j < count; ++j) {
    const CellState<scalar> s = cell_forward<kPeephole>(gates_at(preact, H, j), c_prev[j],
                                                        peephole_at<kPeephole>(peephole, H, j));
    put_gates(gates, H, j, s.gates);
    c[j] = s.c;
    r[j] = s.r;
  }
}

// dc_prev may be dc itself; r may be null.
template <bool kPeephole, bool kR, class scalar>
LTLSTM_INLINE void cell_row_backward(int64_t H, int64_t count, const scalar* gates,
                                     const scalar* c_prev, const scalar* c, const scalar* peephole,
                                     const scalar* dr, const scalar* dc, scalar* d_preact,
                                     scalar* dc_prev, scalar* r) {
#pragma GCC ivdep
  for (int64_t j = 0; j < count; ++j) {
    const CellGradient<scalar> d =
        cell_backward<kPeephole>(gates_at(gates, H, j), c_prev[j], c[j],
                                 peephole_at<kPeephole>(peephole, H, j), dr[j], dc[j]);
    put_gates(d_preact, H, j, d.preact);
    dc_prev[j] = d.c_prev;
    if (kR) r[j] = d.r;
  }
}

template <class scalar>
LTLSTM_INLINE void add_peephole_gradient(int64_t H, int64_t count, const scalar* d_preact,
                                         const scalar* c_prev, const scalar* c,
                                         scalar* d_peephole) {
#pragma GCC ivdep
  for (int64_t j = 0; j < count; ++j) {
    d_peephole[j] += d_preact[j] * c_prev[j];
    d_peephole[H + j] += d_preact[H + j] * c_prev[j];
    d_peephole[2 * H + j] += d_preact[3 * H + j] * c[j];
  }
}

template <class scalar>
LTLSTM_INLINE void cell_rows_forward(const CellRowsForward<scalar>& p, int64_t first,
                                     int64_t last) {
  const int64_t H = p.H;
  for (int64_t row = first; row < last; ++row) {
    const scalar* preact = p.preact + row * 4 * H;
    const scalar* c_prev = p.c_prev + row * p.c_prev_stride;
    scalar* gates = p.gates + row * 4 * H;
    scalar* c = p.c + row * H;
    scalar* r = p.r + row * H;
    if (p.peephole)
      cell_row_forward<true>(H, H, preact, c_prev, p.peephole, gates, c, r);
    else
      cell_row_forward<false>(H, H, preact, c_prev, p.peephole, gates, c, r);
  }
}

template <bool kPeephole, bool kR, class scalar>
LTLSTM_INLINE void cell_rows_backward_as(const CellRowsBackward<scalar>& p, int64_t first,
                                         int64_t last) {
  const int64_t H = p.H;
  for (int64_t row = first; row < last; ++row)
    cell_row_backward<kPeephole, kR>(H, H, p.gates + row * 4 * H, p.c_prev + row * p.c_prev_stride,
                                     p.c + row * H, p.peephole, p.dr + row * H, p.dc + row * H,
                                     p.d_preact + row * 4 * H, p.dc_prev + row * H,
                                     kR ? p.r + row * H : nullptr);
}

template <class scalar>
LTLSTM_INLINE void cell_rows_backward(const CellRowsBackward<scalar>& p, int64_t first,
                                      int64_t last) {
  if (p.peephole)
    p.r ? cell_rows_backward_as<true, true>(p, first, last)
        : cell_rows_backward_as<true, false>(p, first, last);
  else
    p.r ? cell_rows_backward_as<false, true>(p, first, last)
        : cell_rows_backward_as<false, false>(p, first, last);
}

}  // namespace ltlstm::cpu
