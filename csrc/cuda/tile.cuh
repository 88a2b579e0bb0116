// SPDX-License-Identifier: Apache-2.0
// Who computes what in a time loop: blocks, warps and lanes over rows of weights and batch rows.
//
// A launch is directions x groups x blocks. A group owns `columns` batch rows (columns of the
// product) and its blocks share the rows of the weights. In a block, a warp takes the rows of its
// `part` and a slice of K (its `split`), for all columns. Sizes are those of csrc/time_loop.h.
#pragma once

#include "cuda/shared.cuh"
#include "time_loop.h"

namespace ltlstm::cuda {

constexpr int kLanes = 32;
constexpr int kBlockK = 32;  // elements of K that a warp takes at once: two k16 instructions

// What a group passes round at each step: per column `blocks` slices of `own` elements, one from
// each block. Forward h (own = units) and, before a projection, r; backward d_preact
// (own = 4 * units).
struct Channel {
  int own, blocks;

  LTLSTM_MEMBER int width() const { return own * blocks; }
};

// Length of a row of K elements, in memory where rows are read 16 bytes a lane. The padding moves
// consecutive rows to other banks: half types read 64 bytes of two rows at once, float 16 bytes of
// every other row.
template <class scalar>
LTLSTM_INLINE int padded_row(int K) {
  const int blocks = (K + kBlockK - 1) / kBlockK;
  return sizeof(scalar) == 2 ? kBlockK * (blocks | 1) : kBlockK * blocks + 4;
}

// The block's place in the launch.
struct BlockPlace {
  int direction, group, rank;
};

__device__ __forceinline__ BlockPlace block_place(const TimeLoop& loop) {
  const int block = static_cast<int>(blockIdx.x), group = block / loop.blocks;
  return {group / loop.groups, group % loop.groups, block % loop.blocks};
}

// The thread's place in the block. In the 16x8 tiles of the product, lane 4g + q holds rows g and
// g + 8 of the columns 2q and 2q + 1.
struct WarpPlace {
  int lane, g, q;
  int part;           // which rows of the block
  int split, splits;  // which slice of K

  // The slice of K, [first, last), whole blocks of kBlockK.
  __device__ __forceinline__ int first_k(int K) const {
    const int blocks = (K + kBlockK - 1) / kBlockK;
    return min(split * ((blocks + splits - 1) / splits), blocks) * kBlockK;
  }
  __device__ __forceinline__ int last_k(int K) const {
    const int blocks = (K + kBlockK - 1) / kBlockK;
    return min((split + 1) * ((blocks + splits - 1) / splits), blocks) * kBlockK;
  }
};

__device__ __forceinline__ WarpPlace warp_place(const TimeLoop& loop) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, warp = thread / kLanes;
  return {lane, lane / 4, lane % 4, warp / loop.k_splits, warp % loop.k_splits, loop.k_splits};
}

// Which batch rows a lane finishes. A piece is one column of each of a lane's column pairs, over
// the rows of the warp's part: piece j is column 2q + j % 2 of column tile j / 2. Where K is split,
// the warps of a part share the pieces out, a few slots each; else a warp keeps them all.
template <int kColumnTiles_, bool kSplit_>
struct Pieces {
  static constexpr int kColumnTiles = kColumnTiles_;
  static constexpr bool kSplit = kSplit_;
  static constexpr int kColumns = 8 * kColumnTiles;
  static constexpr int kPieces = 2 * kColumnTiles;
  static constexpr int kSlots = !kSplit ? kPieces : kColumnTiles > 2 ? kColumnTiles / 2 : 1;
  static constexpr int kMinSplits = kPieces / kSlots;  // with which the slots suffice

  __device__ __forceinline__ static int piece(const WarpPlace& at, int slot) {
    return kSplit ? at.split + slot * at.splits : slot;
  }
  __device__ __forceinline__ static bool owns(const WarpPlace& at, int slot) {
    return !kSplit || piece(at, slot) < kPieces;
  }
  __device__ __forceinline__ static int column(const WarpPlace& at, int slot) {
    return column_of(piece(at, slot), at.q);
  }
  __device__ __forceinline__ static int column_of(int piece, int q) {
    return piece / 2 * 8 + 2 * q + piece % 2;
  }
};

}  // namespace ltlstm::cuda
