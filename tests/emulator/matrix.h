// SPDX-License-Identifier: Apache-2.0
// The matrix instructions of intrinsics.cuh: ldmatrix and mma, by the fragment layouts of the PTX
// ISA (sections "Matrix fragments for mma.m16n8k16" and "ldmatrix").
#pragma once

#include <type_traits>

#include "half.h"
#include "warp.h"

namespace emulator {

template <class scalar>
inline float element(uint32_t pair, int which) {
  const uint16_t bits = static_cast<uint16_t>(which ? pair >> 16 : pair);
  return static_cast<float>(bits_as<scalar>(bits));
}

struct MmaOperands {
  const uint32_t* a;
  const uint32_t* b;
  const float* c;
};

// The order and width of the hardware's sum are not published: this is the exact sum of the exact
// products, rounded once.
template <class scalar>
inline void finish_mma(Lane* lanes, uint32_t) {
  float a[16][16], b[8][16];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<const MmaOperands*>(lanes[lane].in);
    const int g = lane / 4, q = lane % 4;
    for (int which = 0; which < 2; ++which) {
      for (int r = 0; r < 4; ++r) {
        a[g + r % 2 * 8][2 * q + which + r / 2 * 8] = element<scalar>(mine.a[r], which);
      }
      for (int r = 0; r < 2; ++r) b[g][2 * q + which + r * 8] = element<scalar>(mine.b[r], which);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<const MmaOperands*>(lanes[lane].in);
    for (int r = 0; r < 4; ++r) {
      const int row = lane / 4 + r / 2 * 8, column = lane % 4 * 2 + r % 2;
      double sum = static_cast<double>(mine.c[r]);
      for (int k = 0; k < 16; ++k) {
        sum += static_cast<double>(a[row][k]) * static_cast<double>(b[column][k]);
      }
      static_cast<float*>(lanes[lane].out)[r] = static_cast<float>(sum);
    }
  }
}

template <int kTiles, bool kTranspose>
inline void finish_ldmatrix(Lane* lanes, uint32_t) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int tile = 0; tile < kTiles; ++tile) {
      uint32_t pair = 0;
      for (int which = 0; which < 2; ++which) {
        const int row = kTranspose ? lane % 4 * 2 + which : lane / 4;
        const int column = kTranspose ? lane / 4 : lane % 4 * 2 + which;
        const auto* bits = static_cast<const uint16_t*>(lanes[tile * 8 + row].in);
        pair |= static_cast<uint32_t>(bits[column]) << 16 * which;
      }
      static_cast<uint32_t*>(lanes[lane].out)[tile] = pair;
    }
  }
}

template <int kTiles, bool kTranspose>
inline void ldmatrix(uint32_t* r, const void* row) {
  uint16_t mine[8] = {};
  if (lane_id() < 8 * kTiles) {
    check_shared(row, 16, 16, "ldmatrix");
    // Each lane reads its own row here, where a sanitizer sees that it does.
    for (int k = 0; k < 8; ++k) mine[k] = static_cast<const uint16_t*>(row)[k];
  }
  uint32_t result[kTiles];
  meet(Meeting::kLdmatrix, 0xffffffff, {mine, result, 2 * kTiles + kTranspose},
       finish_ldmatrix<kTiles, kTranspose>);
  for (int tile = 0; tile < kTiles; ++tile) r[tile] = result[tile];
}

}  // namespace emulator

namespace ltlstm::cuda {

template <class scalar>
inline void mma_m16n8k16(float* d, const uint32_t* a, const uint32_t* b, const float* c) {
  static_assert(std::is_same_v<scalar, __half> || std::is_same_v<scalar, __nv_bfloat16>,
                "mma_m16n8k16: __half or __nv_bfloat16");
  const emulator::MmaOperands operands{a, b, c};
  float result[4];
  emulator::meet(emulator::Meeting::kMma, 0xffffffff, {&operands, result, 0},
                 emulator::finish_mma<scalar>);
  for (int r = 0; r < 4; ++r) d[r] = result[r];
}
inline void ldmatrix_x4(uint32_t* r, const void* row) { emulator::ldmatrix<4, false>(r, row); }
inline void ldmatrix_x2(uint32_t* r, const void* row) { emulator::ldmatrix<2, false>(r, row); }
inline void ldmatrix_x4_trans(uint32_t* r, const void* row) { emulator::ldmatrix<4, true>(r, row); }
inline void ldmatrix_x2_trans(uint32_t* r, const void* row) { emulator::ldmatrix<2, true>(r, row); }

}  // namespace ltlstm::cuda
