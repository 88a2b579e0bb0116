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

// One line by kRows rows of x, with two sums a row, so that additions overlap.
template <class Fetch, int kRows, class scalar>
LTLSTM_INLINE void sparse_line(const SparseMatrix<scalar>& w, int64_t line, const scalar* x,
                               int64_t x_stride, int64_t valid, const scalar* base,
                               int64_t base_stride, scalar* y, int64_t y_stride) {
  using Vector = typename Fetch::Vector;
  constexpr int kLanes = Fetch::kLanes, kSums = 2;
  Vector sum[kRows][kSums];
  for (int i = 0; i < kRows; ++i)
    for (int k = 0; k < kSums; ++k) sum[i][k] = Vector{};
  const auto add = [&](int64_t entry, int k) __attribute__((always_inline)) {
    const Vector value = *reinterpret_cast<const Vector*>(w.values + entry * kLanes);
    const auto index = Fetch::index(w, entry);
    const scalar* from = x + w.places[entry];
    for (int i = 0; i < kRows; ++i) sum[i][k] += Fetch::fetch(from + i * x_stride, index) * value;
  };
  int64_t entry = w.starts[line];
  const int64_t end = w.starts[line + 1];
  for (; entry + kSums <= end; entry += kSums)
    for (int k = 0; k < kSums; ++k) add(entry + k, k);
  for (; entry < end; ++entry) add(entry, 0);
  for (int i = 0; i < kRows; ++i) {
    for (int k = 1; k < kSums; ++k) sum[i][0] += sum[i][k];
    const scalar* from = base + i * base_stride;
    scalar* to = y + i * y_stride;
    if (valid == kLanes) {
      *reinterpret_cast<Vector*>(to) = *reinterpret_cast<const Vector*>(from) + sum[i][0];
    } else {
      const scalar* lanes = reinterpret_cast<const scalar*>(&sum[i][0]);
      for (int64_t j = 0; j < valid; ++j) to[j] = from[j] + lanes[j];
    }
  }
}

// Units [first, last) of each gate, in whole lines but for the end of the gate.
template <class Fetch, int kRows, class scalar>
LTLSTM_INLINE void sparse_lines(const SparseMatrix<scalar>& w, const SparseOperands<scalar>& p,
                                int64_t row, int64_t first, int64_t last) {
  constexpr int kLanes = Fetch::kLanes;
  const int64_t lines = (w.width + kLanes - 1) / kLanes;  // of one gate
  for (int64_t gate = 0; gate < w.gates; ++gate) {
    const scalar* x = p.x + row * p.x_stride + gate * p.x_gate;
    for (int64_t unit = first; unit < last; unit += kLanes) {
      const int64_t column = gate * w.width + unit;
      sparse_line<Fetch, kRows>(w, gate * lines + unit / kLanes, x, p.x_stride,
                                smaller(last - unit, kLanes), p.base + row * p.base_stride + column,
                                p.base_stride, p.y + row * p.y_stride + column, p.y_stride);
    }
  }
}

// kRows rows at a time, then what is left by halves of that.
template <class Fetch, int kRows, class scalar>
LTLSTM_INLINE void sparse_rows(const SparseMatrix<scalar>& w, const SparseOperands<scalar>& p,
                               int64_t row, int64_t rows, int64_t first, int64_t last) {
  for (; row + kRows <= rows; row += kRows) sparse_lines<Fetch, kRows>(w, p, row, first, last);
  if constexpr (kRows > 1) sparse_rows<Fetch, kRows / 2>(w, p, row, rows, first, last);
}

// Units [first, last) of each gate, whole lines but at its end. Out of line, for it is long; Isa
// keeps it apart from those of other instruction sets.
template <class Isa, class scalar>
__attribute__((noinline)) static void sparse_product(const SparseMatrix<scalar>& w,
                                                     const SparseOperands<scalar>& p, int64_t rows,
                                                     int64_t first, int64_t last) {
  constexpr int kMost = Isa::kVectorBytes == 64 ? 8 : 4;  // two sums of each stay in registers
  if (w.form == SparseForm::kRows)
    sparse_rows<RowFetch<Isa, scalar>, kMost>(w, p, 0, rows, first, last);
  else if (w.form == SparseForm::kColumns)
    sparse_rows<ColumnFetch<Isa, scalar>, kMost>(w, p, 0, rows, first, last);
  else if constexpr (Permutation<Isa, scalar>::kWindow > 0)
    sparse_rows<WindowFetch<Isa, scalar>, kMost>(w, p, 0, rows, first, last);
}

}  // namespace ltlstm::cpu
