// SPDX-License-Identifier: Apache-2.0
// C = A B (+ C) for a few rows of A and a weight matrix B that is used again at every time step.
//
// B is packed once into blocks of four vectors of columns, each block contiguous, so that a step
// streams it. Each element of C sums over k in order, however many rows are done at once: a row's
// numbers never depend on its neighbours, on the batch or on the number of threads.
#pragma once

#include <utility>

#include "cpu/vector.h"

namespace ltlstm::cpu {

// Which columns of C a packed block stands for.
// plain: kBlock columns in a row. gates: the four gates of kLanes units, in a row of C of four
// times `width` columns.
template <class Isa, class scalar>
struct Columns {
  using T = Tile<Isa, scalar>;
  int64_t width;  // columns of C, or H for gates
  bool gates;

  LTLSTM_MEMBER int64_t blocks() const {
    const int64_t step = gates ? T::kLanes : T::kBlock;
    return (width + step - 1) / step;
  }
  LTLSTM_MEMBER int64_t column(int64_t block, int vector) const {
    return gates ? vector * width + block * T::kLanes : block * T::kBlock + vector * T::kLanes;
  }
  // How many lanes of a vector are columns at all; the rest is padding.
  LTLSTM_MEMBER int64_t valid(int64_t block, int vector) const {
    const int64_t left =
        width - (gates ? block * T::kLanes : block * T::kBlock + vector * T::kLanes);
    return left < 0 ? 0 : smaller(left, T::kLanes);
  }
};

// The kLanes rows of a square matrix become its columns: bit by bit, the number of a row and that
// of a lane change places.
template <class Isa, class scalar>
struct Square {
  using Vector = typename Tile<Isa, scalar>::Vector;
  static constexpr int kLanes = Tile<Isa, scalar>::kLanes;
  using Lanes = std::make_integer_sequence<int, kLanes>;

  // Of two rows kStep apart: kHigh the lanes with that bit of both, else those without.
  template <int kStep, bool kHigh, int... kLane>
  LTLSTM_MEMBER static Vector mixed(const Vector& a, const Vector& b,
                                    std::integer_sequence<int, kLane...>) {
    constexpr auto from = [](int lane) {
      const int other = kHigh ? lane + kStep : lane - kStep + kLanes;
      return ((lane & kStep) != 0) == kHigh ? lane + kHigh * kLanes : other;
    };
#if defined(__clang__)
    return __builtin_shufflevector(a, b, from(kLane)...);
#else
    using Integer = decltype(Vector{} < Vector{});
    return __builtin_shuffle(a, b, Integer{from(kLane)...});
#endif
  }

  template <int kStep = kLanes / 2>
  LTLSTM_MEMBER static void transpose(Vector* row) {
    if constexpr (kStep > 0) {
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        if ((i & kStep) != 0) continue;
        const Vector low = mixed<kStep, false>(row[i], row[i + kStep], Lanes{});
        row[i + kStep] = mixed<kStep, true>(row[i], row[i + kStep], Lanes{});
        row[i] = low;
      }
      transpose<kStep / 2>(row);
    }
  }
};

// kLanes columns of B from k on, k by k: what lies along k is turned.
template <class Isa, class scalar>
LTLSTM_INLINE void pack_square(const scalar* from, int64_t j_stride, scalar* to) {
  using T = Tile<Isa, scalar>;
  typename T::Vector row[T::kLanes];
#pragma GCC unroll 16
  for (int j = 0; j < T::kLanes; ++j) memcpy(&row[j], from + j * j_stride, sizeof(row[j]));
  Square<Isa, scalar>::transpose(row);
#pragma GCC unroll 16
  for (int k = 0; k < T::kLanes; ++k) memcpy(to + k * T::kBlock, &row[k], sizeof(row[k]));
}

// Packs blocks [first, last) of B(k, j) = source[k * k_stride + j * j_stride]; padding becomes
// zeros. A pair of bfloat16 may lie where no float would.
template <class Isa, class scalar>
LTLSTM_INLINE void pack(const scalar* source, int64_t k_stride, int64_t j_stride, int64_t K,
                        Columns<Isa, scalar> columns, int64_t first, int64_t last, scalar* packed) {
  using T = Tile<Isa, scalar>;
  constexpr int kPiece = 16;  // of k: both sides of a transposition stay within a few cache lines
  for (int64_t block = first; block < last; ++block) {
    for (int64_t k0 = 0; k0 < K; k0 += kPiece) {
      const int64_t k1 = smaller(K, k0 + kPiece);
      for (int v = 0; v < T::kVectors; ++v) {
        const scalar* from = source + columns.column(block, v) * j_stride;
        scalar* to = packed + block * T::kBlock * K + v * T::kLanes;
        const int64_t valid = columns.valid(block, v);
        int64_t packed_to = k0;
        if (k_stride == 1 && valid == T::kLanes)
          for (; packed_to + T::kLanes <= k1; packed_to += T::kLanes)
            pack_square<Isa>(from + packed_to, j_stride, to + packed_to * T::kBlock);
        for (int64_t j = 0; j < valid; ++j)
          for (int64_t k = packed_to; k < k1; ++k)
            memcpy(to + k * T::kBlock + j, from + k * k_stride + j * j_stride, sizeof(scalar));
        for (int64_t j = valid; j < T::kLanes; ++j)
          for (int64_t k = k0; k < k1; ++k) to[k * T::kBlock + j] = 0;
      }
    }
  }
}

// What a product multiplies: a number of A by a vector of B.
template <class Isa, class scalar>
struct Plain {
  using Left = scalar;
  using Vector = typename Tile<Isa, scalar>::Vector;
  LTLSTM_MEMBER static void multiply_add(Vector& sum, Left a, const Vector& b) { sum += a * b; }
};

// kRows rows by kBlocks blocks.
template <class Isa, class Operands, int kRows, int kBlocks, class scalar>
LTLSTM_INLINE void product_tile(int64_t K, const typename Operands::Left* a, int64_t a_stride,
                                const scalar* packed, Columns<Isa, scalar> columns, int64_t block,
                                bool accumulate, scalar* c, int64_t c_stride) {
  using T = Tile<Isa, scalar>;
  using Vector = typename T::Vector;
  constexpr int kVectors = T::kVectors;
  const scalar* b = packed + block * T::kBlock * K;
  Vector sum[kRows][kBlocks * kVectors];
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kBlocks * kVectors; ++v) sum[i][v] = Vector{};
  for (int64_t k = 0; k < K; ++k) {
    for (int v = 0; v < kBlocks * kVectors; ++v) {
      const scalar* at = b + (v / kVectors * K + k) * T::kBlock + v % kVectors * T::kLanes;
      const Vector weight = *reinterpret_cast<const Vector*>(at);
      for (int i = 0; i < kRows; ++i)
        Operands::multiply_add(sum[i][v], a[i * a_stride + k], weight);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kBlocks * kVectors; ++v) {
      const int64_t here = block + v / kVectors, valid = columns.valid(here, v % kVectors);
      scalar* out = c + i * c_stride + columns.column(here, v % kVectors);
      if (valid == T::kLanes) {
        Vector* p = reinterpret_cast<Vector*>(out);
        *p = accumulate ? *p + sum[i][v] : sum[i][v];
      } else {
        for (int64_t j = 0; j < valid; ++j)
          out[j] = accumulate ? out[j] + sum[i][v][j] : sum[i][v][j];
      }
    }
  }
}

// One block of `rows` rows, at most kMost, a number the compiler must know.
template <class Isa, class Operands, int kMost, class scalar>
LTLSTM_INLINE void product_rows(int64_t rows, int64_t K, const typename Operands::Left* a,
                                int64_t a_stride, const scalar* packed,
                                Columns<Isa, scalar> columns, int64_t block, bool accumulate,
                                scalar* c, int64_t c_stride) {
  if constexpr (kMost > 0) {
    if (rows == kMost)
      product_tile<Isa, Operands, kMost, 1>(K, a, a_stride, packed, columns, block, accumulate, c,
                                            c_stride);
    else
      product_rows<Isa, Operands, kMost - 1>(rows, K, a, a_stride, packed, columns, block,
                                             accumulate, c, c_stride);
  }
}

// Blocks [first, last) of c (rows, .) = a (rows, K) times the packed b, added to c where
// `accumulate`.
template <class Isa, class Operands, class scalar>
LTLSTM_INLINE void product_of(int64_t rows, int64_t K, const typename Operands::Left* a,
                              int64_t a_stride, const scalar* packed, Columns<Isa, scalar> columns,
                              int64_t first, int64_t last, bool accumulate, scalar* c,
                              int64_t c_stride) {
  int64_t block = first;
  if (rows == 1)  // enough sums at once to hide the latency of an addition
    for (; block + 2 <= last; block += 2)
      product_tile<Isa, Operands, 1, 2>(K, a, a_stride, packed, columns, block, accumulate, c,
                                        c_stride);
  for (; block < last; ++block) {
    int64_t tiles = (rows + Isa::kRows - 1) / Isa::kRows;
    for (int64_t i = 0; i < rows; --tiles) {
      const int64_t here = (rows - i + tiles - 1) / tiles;  // as even as can be: 4 + 4, not 6 + 2
      product_rows<Isa, Operands, Isa::kRows>(here, K, a + i * a_stride, a_stride, packed, columns,
                                              block, accumulate, c + i * c_stride, c_stride);
      i += here;
    }
  }
}

template <class Isa, class scalar>
LTLSTM_INLINE void product(int64_t rows, int64_t K, const scalar* a, int64_t a_stride,
                           const scalar* packed, Columns<Isa, scalar> columns, int64_t first,
                           int64_t last, bool accumulate, scalar* c, int64_t c_stride) {
  product_of<Isa, Plain<Isa, scalar>>(rows, K, a, a_stride, packed, columns, first, last,
                                      accumulate, c, c_stride);
}

}  // namespace ltlstm::cpu
