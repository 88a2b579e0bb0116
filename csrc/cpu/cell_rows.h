// SPDX-License-Identifier: Apache-2.0
// The pointwise cell along one row, and over rows that do not depend on each other.
#pragma once

#include <type_traits>

#include "cell.h"
#include "cpu/vector.h"
#include "problem.h"

namespace ltlstm::cpu {

// Units [j, j + count) of a row whose gates lie H apart.
template <class Value, bool kAll, class scalar>
LTLSTM_INLINE Gates<Value> gates_at(const scalar* row, int64_t H, int64_t j, int64_t count) {
  return {load<kAll, Value>(row + j, count), load<kAll, Value>(row + H + j, count),
          load<kAll, Value>(row + 2 * H + j, count), load<kAll, Value>(row + 3 * H + j, count)};
}

template <class Value, bool kAll, class scalar>
LTLSTM_INLINE void put_gates(const Gates<Value>& gates, scalar* row, int64_t H, int64_t j,
                             int64_t count) {
  store<kAll>(gates.i, row + j, count);
  store<kAll>(gates.f, row + H + j, count);
  store<kAll>(gates.g, row + 2 * H + j, count);
  store<kAll>(gates.o, row + 3 * H + j, count);
}

template <class Value, bool kAll, bool kPeephole, class scalar>
LTLSTM_INLINE Peephole<Value> peephole_at(const scalar* peephole, int64_t H, int64_t j,
                                          int64_t count) {
  if constexpr (!kPeephole) return Peephole<Value>{Value{}, Value{}, Value{}};
  return {load<kAll, Value>(peephole + j, count), load<kAll, Value>(peephole + H + j, count),
          load<kAll, Value>(peephole + 2 * H + j, count)};
}

// f(all, first, count) over `count` units: as many at once as a vector holds, then the rest, where
// `all` says which at compile time.
template <class Isa, class scalar, class Function>
LTLSTM_INLINE void over_units(int64_t count, const Function& f) {
  constexpr int64_t kCount = Units<Isa, scalar>::kCount;
  int64_t j = 0;
  for (; j + kCount <= count; j += kCount) f(std::true_type(), j, kCount);
  if (j < count) f(std::false_type(), j, count - j);
}

// `count` units of one row, which has H units in all (the distance from one gate to the next);
// gates may be preact itself or null, c may be c_prev.
template <class Isa, bool kPeephole, class scalar>
LTLSTM_INLINE void cell_row_forward(int64_t H, int64_t units, const scalar* preact,
                                    const scalar* c_prev, const scalar* peephole, scalar* gates,
                                    scalar* c, scalar* r) {
  using Value = typename Units<Isa, scalar>::Value;
  over_units<Isa, scalar>(
      units, [&](auto all, int64_t j, int64_t count) __attribute__((always_inline)) {
        constexpr bool kAll = decltype(all)::value;
        const CellState<Value> s = cell_forward<kPeephole>(
            gates_at<Value, kAll>(preact, H, j, count), load<kAll, Value>(c_prev + j, count),
            peephole_at<Value, kAll, kPeephole>(peephole, H, j, count));
        if (gates) put_gates<Value, kAll>(s.gates, gates, H, j, count);
        store<kAll>(s.c, c + j, count);
        store<kAll>(s.r, r + j, count);
      });
}

// The same in two parts. One gate, 0 to 3, of `count` units, in place:
template <class Isa, class scalar>
LTLSTM_INLINE void activate_gate(int64_t gate, int64_t units, scalar* preact) {
  using Value = typename Units<Isa, scalar>::Value;
  over_units<Isa, scalar>(
      units, [&](auto all, int64_t j, int64_t count) __attribute__((always_inline)) {
        constexpr bool kAll = decltype(all)::value;
        const Value z = load<kAll, Value>(preact + j, count);
        store<kAll>(gate == 2 ? hyperbolic_tangent(z) : sigmoid(z), preact + j, count);
      });
}

// And what follows from activated gates. c is replaced.
template <class Isa, class scalar>
LTLSTM_INLINE void state_row(int64_t H, int64_t units, const scalar* gates, scalar* c, scalar* h) {
  using Value = typename Units<Isa, scalar>::Value;
  over_units<Isa, scalar>(
      units, [&](auto all, int64_t j, int64_t count) __attribute__((always_inline)) {
        constexpr bool kAll = decltype(all)::value;
        const Gates<Value> at = gates_at<Value, kAll>(gates, H, j, count);
        const Value next = next_cell(at, load<kAll, Value>(c + j, count));
        store<kAll>(next, c + j, count);
        store<kAll>(output_of(at.o, next), h + j, count);
      });
}

// dc_prev may be dc itself; r may be null.
template <class Isa, bool kPeephole, bool kR, class scalar>
LTLSTM_INLINE void cell_row_backward(int64_t H, int64_t units, const scalar* gates,
                                     const scalar* c_prev, const scalar* c, const scalar* peephole,
                                     const scalar* dr, const scalar* dc, scalar* d_preact,
                                     scalar* dc_prev, scalar* r) {
  using Value = typename Units<Isa, scalar>::Value;
  over_units<Isa, scalar>(
      units, [&](auto all, int64_t j, int64_t count) __attribute__((always_inline)) {
        constexpr bool kAll = decltype(all)::value;
        const CellGradient<Value> d = cell_backward<kPeephole>(
            gates_at<Value, kAll>(gates, H, j, count), load<kAll, Value>(c_prev + j, count),
            load<kAll, Value>(c + j, count),
            peephole_at<Value, kAll, kPeephole>(peephole, H, j, count),
            load<kAll, Value>(dr + j, count), load<kAll, Value>(dc + j, count));
        put_gates<Value, kAll>(d.preact, d_preact, H, j, count);
        store<kAll>(d.c_prev, dc_prev + j, count);
        if (kR) store<kAll>(d.r, r + j, count);
      });
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

template <class Isa, class scalar>
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
      cell_row_forward<Isa, true>(H, H, preact, c_prev, p.peephole, gates, c, r);
    else
      cell_row_forward<Isa, false>(H, H, preact, c_prev, p.peephole, gates, c, r);
  }
}

template <class Isa, bool kPeephole, bool kR, class scalar>
LTLSTM_INLINE void cell_rows_backward_as(const CellRowsBackward<scalar>& p, int64_t first,
                                         int64_t last) {
  const int64_t H = p.H;
  for (int64_t row = first; row < last; ++row)
    cell_row_backward<Isa, kPeephole, kR>(
        H, H, p.gates + row * 4 * H, p.c_prev + row * p.c_prev_stride, p.c + row * H, p.peephole,
        p.dr + row * H, p.dc + row * H, p.d_preact + row * 4 * H, p.dc_prev + row * H,
        kR ? p.r + row * H : nullptr);
}

template <class Isa, class scalar>
LTLSTM_INLINE void cell_rows_backward(const CellRowsBackward<scalar>& p, int64_t first,
                                      int64_t last) {
  if (p.peephole)
    p.r ? cell_rows_backward_as<Isa, true, true>(p, first, last)
        : cell_rows_backward_as<Isa, true, false>(p, first, last);
  else
    p.r ? cell_rows_backward_as<Isa, false, true>(p, first, last)
        : cell_rows_backward_as<Isa, false, false>(p, first, last);
}

// Of units [first, last), the rows in order: the sums do not depend on who takes which units.
template <class scalar>
LTLSTM_INLINE void cell_rows_peephole_gradient(const CellRowsBackward<scalar>& p, int64_t rows,
                                               int64_t first, int64_t last, scalar* d_peephole) {
  const int64_t H = p.H;
  for (int64_t row = 0; row < rows; ++row)
    add_peephole_gradient(H, last - first, p.d_preact + row * 4 * H + first,
                          p.c_prev + row * p.c_prev_stride + first, p.c + row * H + first,
                          d_peephole + first);
}

}  // namespace ltlstm::cpu
