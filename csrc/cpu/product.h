// SPDX-License-Identifier: Apache-2.0
// C = A B (+ C) for a few rows of A and a weight matrix B that is used again at every time step.
//
// B is packed once into panels of kPanel columns, each panel contiguous, so that a step streams it. Each element of C
// sums over k in order, however many rows are done at once: a row's numbers never depend on its neighbours, on the
// batch or on the number of threads.
#pragma once

#include <cstdint>

#include "activation.h"

namespace ltlstm::cpu {

// Not the standard library's: an out-of-line copy of those could be shared between instruction sets by the linker.
LTLSTM_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <class scalar>
LTLSTM_INLINE void copy_row(int64_t width, const scalar* from, scalar* to) {
  memcpy(to, from, width * sizeof(scalar));
}

template <class scalar>
LTLSTM_INLINE void zero_row(int64_t width, scalar* to) {
  for (int64_t j = 0; j < width; ++j) to[j] = 0;
}

template <class scalar>
LTLSTM_INLINE void add_row(int64_t width, const scalar* from, scalar* to) {
#pragma GCC ivdep
  for (int64_t j = 0; j < width; ++j) to[j] += from[j];
}

// An instruction set, as far as these loops are concerned: the width of a vector and how many stay in registers.
template <class Isa, class scalar>
struct Tile {
  typedef scalar Vector __attribute__((vector_size(Isa::kVectorBytes), aligned(sizeof(scalar)), may_alias));
  static constexpr int kLanes = Isa::kVectorBytes / sizeof(scalar);
  static constexpr int kPanelVectors = 8;
  static constexpr int kPanel = kPanelVectors * kLanes;
};

// Elements of the packed form of a (K, columns) matrix.
template <class Isa, class scalar>
LTLSTM_INLINE int64_t packed_size(int64_t K, int64_t columns) {
  constexpr int kPanel = Tile<Isa, scalar>::kPanel;
  return (columns + kPanel - 1) / kPanel * kPanel * K;
}

// Packs panels [first, last) of B(k, j) = source[k * k_stride + j * j_stride]; columns past the end become zeros.
template <class Isa, class scalar>
LTLSTM_INLINE void pack(const scalar* source, int64_t k_stride, int64_t j_stride, int64_t K, int64_t columns,
                        int64_t first, int64_t last, scalar* packed) {
  constexpr int kPanel = Tile<Isa, scalar>::kPanel;
  constexpr int kBlock = 16;  // both sides of the transposition stay within a few cache lines
  for (int64_t panel = first; panel < last; ++panel) {
    scalar* out = packed + panel * kPanel * K;
    const int64_t j0 = panel * kPanel;
    const int64_t width = smaller(kPanel, columns - j0);
    for (int64_t k0 = 0; k0 < K; k0 += kBlock) {
      const int64_t k1 = smaller(K, k0 + kBlock);
      for (int64_t j = 0; j < width; ++j)
        for (int64_t k = k0; k < k1; ++k) out[k * kPanel + j] = source[k * k_stride + (j0 + j) * j_stride];
      for (int64_t k = k0; k < k1; ++k)
        for (int64_t j = width; j < kPanel; ++j) out[k * kPanel + j] = 0;
    }
  }
}

// kRows rows by kVectors vectors of one panel; b is the panel's first column of this tile. Columns from `width` on are
// padding: they are computed and not stored.
template <class Isa, int kRows, int kVectors, class scalar>
LTLSTM_INLINE void product_tile(int64_t K, const scalar* a, int64_t a_stride, const scalar* b, int64_t width,
                                bool accumulate, scalar* c, int64_t c_stride) {
  using T = Tile<Isa, scalar>;
  using Vector = typename T::Vector;
  Vector sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVectors; ++v) sum[i][v] = Vector{};
  for (int64_t k = 0; k < K; ++k) {
    const Vector* row = reinterpret_cast<const Vector*>(b + k * T::kPanel);
    for (int v = 0; v < kVectors; ++v) {
      const Vector weight = row[v];
      for (int i = 0; i < kRows; ++i) sum[i][v] += a[i * a_stride + k] * weight;
    }
  }
  for (int i = 0; i < kRows; ++i) {
    scalar* out = c + i * c_stride;
    if (width >= kVectors * T::kLanes) {
      for (int v = 0; v < kVectors; ++v) {
        Vector* p = reinterpret_cast<Vector*>(out) + v;
        *p = accumulate ? *p + sum[i][v] : sum[i][v];
      }
    } else {
      const scalar* value = reinterpret_cast<const scalar*>(sum[i]);
      for (int64_t j = 0; j < width; ++j) out[j] = accumulate ? out[j] + value[j] : value[j];
    }
  }
}

// kRows rows by one panel, in pieces of kVectors.
template <class Isa, int kRows, int kVectors, class scalar>
LTLSTM_INLINE void product_panel(int64_t K, const scalar* a, int64_t a_stride, const scalar* b, int64_t width,
                                 bool accumulate, scalar* c, int64_t c_stride) {
  constexpr int kStep = kVectors * Tile<Isa, scalar>::kLanes;
  for (int64_t j = 0; j < width; j += kStep)
    product_tile<Isa, kRows, kVectors>(K, a, a_stride, b + j, width - j, accumulate, c + j, c_stride);
}

// c (rows, columns) = a (rows, K) times the packed b, added to c where `accumulate`.
template <class Isa, class scalar>
LTLSTM_INLINE void product(int64_t rows, int64_t K, int64_t columns, const scalar* a, int64_t a_stride, const scalar* b,
                           bool accumulate, scalar* c, int64_t c_stride) {
  using T = Tile<Isa, scalar>;
  constexpr int kTall = Isa::kTallVectors;
  for (int64_t j = 0; j < columns; j += T::kPanel) {
    const int64_t width = smaller(T::kPanel, columns - j);
    const scalar* panel = b + j * K;
    for (int64_t i = 0; i < rows;) {
      const int64_t left = rows - i;
      const scalar* from = a + i * a_stride;
      scalar* to = c + i * c_stride + j;
      if (left >= 6) {
        product_panel<Isa, 6, kTall>(K, from, a_stride, panel, width, accumulate, to, c_stride), i += 6;
      } else if (left >= 4) {
        product_panel<Isa, 4, kTall>(K, from, a_stride, panel, width, accumulate, to, c_stride), i += 4;
      } else if (left >= 2) {
        product_panel<Isa, 2, kTall>(K, from, a_stride, panel, width, accumulate, to, c_stride), i += 2;
      } else {
        product_panel<Isa, 1, Isa::kWideVectors>(K, from, a_stride, panel, width, accumulate, to, c_stride), i += 1;
      }
    }
  }
}

}  // namespace ltlstm::cpu
