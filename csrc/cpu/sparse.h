// SPDX-License-Identifier: Apache-2.0
// y = base + W x for a matrix W that is mostly zeros, compiled into entries (sparse_matrix.h).
//
// Each element of y sums over its entries in an order that depends on nothing but the matrix.
#pragma once

#include "cpu/permutation.h"
#include "cpu/vector.h"
#include "sparse_matrix.h"

namespace ltlstm::cpu {

// What an entry takes from x, for each form.
template <class Isa, class scalar>
struct RowFetch {
  using Vector = scalar;
  static constexpr int kLanes = 1;
  struct Index {};
  LTLSTM_MEMBER static Index index(const SparseMatrix<scalar>&, int64_t) { return {}; }
  LTLSTM_MEMBER static scalar fetch(const scalar* x, Index) { return *x; }
};

template <class Isa, class scalar>
struct ColumnFetch : RowFetch<Isa, scalar> {
  using Vector = typename Tile<Isa, scalar>::Vector;
  static constexpr int kLanes = Tile<Isa, scalar>::kLanes;
};

template <class Isa, class scalar>
struct WindowFetch {
  using Vector = typename Tile<Isa, scalar>::Vector;
  using Index = typename Permutation<Isa, scalar>::Index;
  static constexpr int kLanes = Tile<Isa, scalar>::kLanes;
  LTLSTM_MEMBER static Index index(const SparseMatrix<scalar>& w, int64_t entry) {
    return Permutation<Isa, scalar>::index(w.lanes + entry * kLanes);
  }
  LTLSTM_MEMBER static Vector fetch(const scalar* x, Index index) {
    return Permutation<Isa, scalar>::apply(x, index);
  }
};

// The sums of one line by kRows rows of x, two a row, so that additions overlap. All loops over
// rows are unrolled: the sums stay in registers.
template <class Fetch, int kRows, class scalar>
struct LineSums {
  using Vector = typename Fetch::Vector;
  static constexpr int kLanes = Fetch::kLanes;

  LTLSTM_MEMBER LineSums(const SparseMatrix<scalar>& w, int64_t line)
      : entry(w.starts[line]), end(w.starts[line + 1]) {
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) sum[i][0] = sum[i][1] = Vector{};
  }

  LTLSTM_MEMBER void add(const SparseMatrix<scalar>& w, const scalar* x, int64_t x_stride, int k) {
    const Vector value = *reinterpret_cast<const Vector*>(w.values + entry * kLanes);
    const auto index = Fetch::index(w, entry);
    const scalar* from = x + w.places[entry++];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) sum[i][k] += Fetch::fetch(from + i * x_stride, index) * value;
  }
  LTLSTM_MEMBER bool two_left() const { return entry + 2 <= end; }
  LTLSTM_MEMBER void add_two(const SparseMatrix<scalar>& w, const scalar* x, int64_t x_stride) {
    add(w, x, x_stride, 0);
    add(w, x, x_stride, 1);
  }
  LTLSTM_MEMBER void add_rest(const SparseMatrix<scalar>& w, const scalar* x, int64_t x_stride) {
    while (two_left()) add_two(w, x, x_stride);
    if (entry < end) add(w, x, x_stride, 0);
  }

  // y = base + sums, `valid` lanes of them.
  LTLSTM_MEMBER void store(int64_t valid, const scalar* base, int64_t base_stride, scalar* y,
                           int64_t y_stride) const {
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const Vector total = sum[i][0] + sum[i][1];
      const scalar* from = base + i * base_stride;
      scalar* to = y + i * y_stride;
      if (valid == kLanes) {
        *reinterpret_cast<Vector*>(to) = *reinterpret_cast<const Vector*>(from) + total;
      } else {
        scalar lanes[kLanes];
        memcpy(lanes, &total, sizeof(total));
#pragma GCC unroll 1
        for (int64_t j = 0; j < valid; ++j) to[j] = from[j] + lanes[j];
      }
    }
  }

  alignas(sizeof(Vector)) Vector sum[kRows][2];  // or GCC takes it to be, where it stores it
  int64_t entry, end;
};

// Units [first, last) of gates [first_gate, last_gate).
struct GateUnits {
  int64_t first_gate, last_gate, first, last;
};

// In whole lines but for the end of the gate. One row takes two lines at a time, since one line
// alone waits for its own additions.
template <class Fetch, int kRows, class scalar>
LTLSTM_INLINE void sparse_lines(const SparseMatrix<scalar>& matrix, const SparseOperands<scalar>& p,
                                int64_t row, const GateUnits& part) {
  using Sums = LineSums<Fetch, kRows, scalar>;
  const SparseMatrix<scalar> w = matrix;  // a copy: for all the compiler knows y lies in the other
  constexpr int kLanes = Fetch::kLanes, kLines = kRows == 1 ? 2 : 1;
  const int64_t lines = (w.width + kLanes - 1) / kLanes;  // of one gate
  for (int64_t gate = part.first_gate; gate < part.last_gate; ++gate) {
    const scalar* x = p.x + row * p.x_stride + gate * p.x_gate;
    const scalar* base = p.base + row * p.base_stride + gate * w.width;
    scalar* y = p.y + row * p.y_stride + gate * w.width;
    int64_t unit = part.first;
    if constexpr (kLines == 2) {
      for (; unit + 2 * kLanes <= part.last; unit += 2 * kLanes) {
        const int64_t line = gate * lines + unit / kLanes;
        Sums one(w, line), other(w, line + 1);
        while (one.two_left() && other.two_left()) one.add_two(w, x, 0), other.add_two(w, x, 0);
        one.add_rest(w, x, 0);
        other.add_rest(w, x, 0);
        one.store(kLanes, base + unit, 0, y + unit, 0);
        other.store(kLanes, base + unit + kLanes, 0, y + unit + kLanes, 0);
      }
    }
    for (; unit < part.last; unit += kLanes) {
      Sums sums(w, gate * lines + unit / kLanes);
      sums.add_rest(w, x, p.x_stride);
      sums.store(smaller(part.last - unit, kLanes), base + unit, p.base_stride, y + unit,
                 p.y_stride);
    }
  }
}

// kRows rows at a time, then what is left by halves of that.
template <class Fetch, int kRows, class scalar>
LTLSTM_INLINE void sparse_rows(const SparseMatrix<scalar>& w, const SparseOperands<scalar>& p,
                               int64_t row, int64_t rows, const GateUnits& part) {
  for (; row + kRows <= rows; row += kRows) sparse_lines<Fetch, kRows>(w, p, row, part);
  if constexpr (kRows > 1) sparse_rows<Fetch, kRows / 2>(w, p, row, rows, part);
}

// Out of line, for it is long; Isa keeps it apart from those of other instruction sets.
template <class Isa, class scalar>
__attribute__((noinline)) static void sparse_product(const SparseMatrix<scalar>& w,
                                                     const SparseOperands<scalar>& p, int64_t rows,
                                                     const GateUnits& part) {
  constexpr int kMost = Isa::kVectorBytes == 64 ? 8 : 4;  // two sums of each stay in registers
  if (w.form == SparseForm::kRows)
    sparse_rows<RowFetch<Isa, scalar>, kMost>(w, p, 0, rows, part);
  else if (w.form == SparseForm::kColumns)
    sparse_rows<ColumnFetch<Isa, scalar>, kMost>(w, p, 0, rows, part);
  else if constexpr (Permutation<Isa, scalar>::kWindow > 0)
    sparse_rows<WindowFetch<Isa, scalar>, kMost>(w, p, 0, rows, part);
}

}  // namespace ltlstm::cpu
