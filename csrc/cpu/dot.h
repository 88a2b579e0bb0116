// SPDX-License-Identifier: Apache-2.0
// C = A W^T (+ C) with the weights read where they lie: for a few steps of a few rows packing them
// would cost more than it saves. Each element of C is a dot product of two contiguous rows.
#pragma once

#include "cpu/product.h"

namespace ltlstm::cpu {

// The sum of a vector's lanes, halves first: an order that depends on nothing but the width.
template <class Isa, class scalar>
LTLSTM_INLINE scalar sum_of_lanes(typename Tile<Isa, scalar>::Vector vector) {
  for (int half = Tile<Isa, scalar>::kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) vector[i] += vector[i + half];
  return vector[0];
}

// One row of A by kColumns rows of W.
template <class Isa, int kColumns, class scalar>
LTLSTM_INLINE void dot_tile(int64_t K, const scalar* a, const scalar* w, bool accumulate,
                            scalar* c) {
  using T = Tile<Isa, scalar>;
  using Vector = typename T::Vector;
  Vector sum[kColumns];
  for (int j = 0; j < kColumns; ++j) sum[j] = Vector{};
  int64_t k = 0;
  for (; k + T::kLanes <= K; k += T::kLanes) {
    const Vector left = *reinterpret_cast<const Vector*>(a + k);
    for (int j = 0; j < kColumns; ++j)
      sum[j] += left * *reinterpret_cast<const Vector*>(w + j * K + k);
  }
  for (int j = 0; j < kColumns; ++j) {
    scalar total = sum_of_lanes<Isa, scalar>(sum[j]);
    for (int64_t rest = k; rest < K; ++rest) total += a[rest] * w[j * K + rest];
    c[j] = accumulate ? c[j] + total : total;
  }
}

// c (rows, columns) = a (rows, K) times the transpose of w (columns, K).
template <class Isa, class scalar>
LTLSTM_INLINE void dot_product(int64_t rows, int64_t K, const scalar* a, int64_t a_stride,
                               const scalar* w, int64_t columns, bool accumulate, scalar* c,
                               int64_t c_stride) {
  constexpr int kColumns = 8;
  int64_t j = 0;
  for (; j + kColumns <= columns; j += kColumns)
    for (int64_t i = 0; i < rows; ++i)
      dot_tile<Isa, kColumns>(K, a + i * a_stride, w + j * K, accumulate, c + i * c_stride + j);
  for (; j < columns; ++j)
    for (int64_t i = 0; i < rows; ++i)
      dot_tile<Isa, 1>(K, a + i * a_stride, w + j * K, accumulate, c + i * c_stride + j);
}

}  // namespace ltlstm::cpu
