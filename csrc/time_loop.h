// SPDX-License-Identifier: Apache-2.0
// How one launch of a time-LSTM on a GPU is cut up. The plan fills it in, the kernel takes every
// size from it.
//
// A group is the blocks that share one batch slice and hold W_hh together. Regimes differ in how
// those blocks exchange h (forward) or d_preact (backward): within a block, through the shared
// memory of a cluster, or through L2. Groups of one launch never talk to each other.
//
// A step has a stage, or two where h is projected. Forward: i, f, g, o from h, of the block's
// units; then h from r. Backward: dh from d_preact, of the units or the entries of h that the block
// owns; then dr from dh. A warp takes a part of the block's rows and a slice of K, for all columns.
// A part is 32 rows, the four gates of 8 units, in the first stage forward; elsewhere it is 16
// rows.
#pragma once

#include <cstdint>

#include "activation.h"

namespace ltlstm {

enum class Regime { kBlock, kCluster, kGrid, kStreamed, kAten };

// What a kernel is compiled for, beside its regime, its pass, the storage type and the columns.
enum class Variant {
  kWhole,      // a warp takes all of K
  kSplit,      // the warps of a part share K, and bring their sums together
  kProjected,  // so too, in the two stages of a step with a projection
};

struct TimeLoop {
  Regime regime;
  int units;             // hidden units of a block, a multiple of 8; the last block may own fewer
  int blocks;            // of a group: the size of its cluster, or its part of the grid
  int groups;            // batch slices of one direction; a launch has groups * directions of them
  int passes;            // launches, each of the next groups * columns batch rows
  int columns;           // batch rows of a group, padded in the tile: 8, 16, 32 or 64
  int k_splits;          // warps that share K of the same rows
  int warps;             // k_splits for each part of the stage that has more of them
  int threads;           // 32 * warps, at most max_threads
  int max_threads;       // the launch bound that the kernel was compiled for: 256 or 512
  int projected;         // entries of h that a block owns, a multiple of 8; 0 where h = r
  int registers;         // that a thread may use
  int64_t shared_bytes;  // dynamic
  double us;             // modelled microseconds a step, of all passes together
};

constexpr Variant variant_of(const TimeLoop& loop) {
  if (loop.projected > 0) return Variant::kProjected;
  return loop.k_splits > 1 ? Variant::kSplit : Variant::kWhole;
}

// The launch bound a kernel is compiled for: as many threads as leave each the registers it needs.
// The grid regime keeps loads from L2 under way in registers.
constexpr int max_threads(Regime regime, bool backward, int columns, Variant variant) {
  if (regime == Regime::kGrid || columns > 16) return 256;
  if (columns == 16 && variant == Variant::kWhole) return backward ? 256 : 384;
  return backward || variant == Variant::kProjected ? 384 : 512;
}

// Which kernels are compiled, as the sum of their columns: by regime and pass, half types and
// float, variant. Few warps share a block's few units, so K is split but where many units meet few
// columns. Each is what the plan takes for some shape: a test holds the two together.
constexpr int kCompiled[3][2][2][3] = {
    {{{8 + 16 + 32, 0, 8 + 16 + 32}, {8 + 16 + 32, 8 + 16 + 32, 8 + 16 + 32}},  // block, forward
     {{8 + 16, 8 + 32, 8 + 16 + 32}, {8 + 16, 8 + 16 + 32, 8 + 16 + 32}}},      // backward
    {{{8 + 16 + 32, 8, 8 + 32}, {8 + 16 + 32, 8 + 16, 8 + 32}},                 // cluster
     {{8 + 16, 8, 8 + 32}, {8 + 16, 8 + 16, 8}}},
    {{{0, 8 + 16 + 32 + 64, 8 + 16 + 32}, {0, 8 + 16 + 32, 8 + 16 + 32}},  // grid
     {{0, 8 + 16 + 32, 8 + 16 + 32}, {0, 8 + 16 + 32, 8 + 16 + 32}}},
};

// `element` is the size of the weights' type.
constexpr bool kernel_exists(Regime regime, bool backward, int element, int columns,
                             Variant variant) {
  return (kCompiled[int(regime)][backward][element == 4][int(variant)] & columns) != 0;
}

LTLSTM_INLINE int64_t round_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

}  // namespace ltlstm
