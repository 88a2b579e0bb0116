// SPDX-License-Identifier: Apache-2.0
// How one launch of a time-LSTM on a GPU is cut up. The plan fills it in, the kernel takes every
// size from it.
//
// A group is the blocks that share one batch slice and hold W_hh together. Regimes differ in how
// those blocks exchange h (forward) or d_preact (backward): within a block, through the shared
// memory of a cluster, or through L2. Groups of one launch never talk to each other.
//
// Streamed there are no groups: each step is a product with W_hh, which stays in memory, and a
// launch of its own. Of the fields it has a regime, one pass, us, and in `blocks` the SMs that it
// is modelled on.
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

// How long a block waits for another before it gives up, unless the caller knows better.
constexpr int64_t kUsualPatienceNs = 4'000'000'000;

enum class Regime { kBlock, kCluster, kGrid, kStreamed, kAten };

// What a kernel is compiled for, beside its regime, its pass, the storage type and the columns.
enum class Variant {
  kWhole,      // a warp takes all of K
  kSplit,      // the warps of a part share K, and bring their sums together
  kProjected,  // so too, in the two stages of a step with a projection
  kHeld,       // split; of its weights a warp keeps in registers as many as fit, for all steps
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
  int held;              // blocks of its slice of K that a warp keeps in registers, 0: none
  int registers;         // that a thread may use
  int64_t shared_bytes;  // dynamic
  double us;             // modelled microseconds a step, of all passes together
};

constexpr Variant variant_of(const TimeLoop& loop) {
  if (loop.projected > 0) return Variant::kProjected;
  if (loop.held > 0) return Variant::kHeld;
  return loop.k_splits > 1 ? Variant::kSplit : Variant::kWhole;
}

// The launch bound a kernel is compiled for: as many threads as leave each the registers it needs.
// The grid regime keeps loads from L2 under way in registers.
constexpr int max_threads(Regime regime, bool backward, int columns, Variant variant) {
  if (regime == Regime::kGrid || columns > 16 || variant == Variant::kHeld) return 256;
  if (columns == 16 && variant == Variant::kWhole) return backward ? 256 : 384;
  return backward || variant == Variant::kProjected ? 384 : 512;
}

// Of a kernel that holds weights, the blocks of K: each takes 16 registers of a lane forward, 8
// backward. As many as the compiler finds room for without a spill.
constexpr int held_blocks(Regime regime, bool backward, int columns) {
  if (regime != Regime::kGrid) return backward ? 14 : 8;  // no loads from L2 under way
  if (!backward) return 5;
  return columns == 8 ? 10 : 8;
}

// Which kernels are compiled, as the sum of their columns: by regime and pass, half types and
// float, variant. Few warps share a block's few units, so K is split but where many units meet few
// columns. Each is what the plan takes for some shape: a test holds the two together.
constexpr int k16 = 8 + 16, k32 = 8 + 16 + 32;
constexpr int kCompiled[3][2][2][4] = {
    // whole, split, projected, held: half types; float
    {{{k32, 0, k32, 0}, {k32, k32, k32, 0}},        // block, forward
     {{k16, 8 + 32, k32, 0}, {k16, k32, k32, 0}}},  // backward
    {{{k32, 0, 8 + 32, 8}, {k32, k16, 8 + 32, 0}},  // cluster, forward
     {{k16, 0, 8 + 32, 8}, {k16, k16, 8, 0}}},      // backward
    {{{0, 32 + 64, k32, k16}, {0, k32, k32, 0}},    // grid, forward
     {{0, 32, k32, k16}, {0, k32, k32, 0}}},        // backward
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
