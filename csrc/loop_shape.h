// SPDX-License-Identifier: Apache-2.0
// What a kernel of the time loop takes of a block: products, threads that may split K, shared
// memory. The kernels compute the same from the same sizes; a test compares the two.
#pragma once

#include <vector>

#include "time_loop.h"

namespace ltlstm {

// Batch rows of a group that are compiled.
constexpr int kColumns[] = {8, 16, 32, 64};
// Threads of a block, at most.
constexpr int kMostThreads = 512;
// Elements of K that a warp takes at once.
constexpr int kBlockK = 32;

// One product of a block in a step.
struct StageShape {
  int row_tiles;  // of 16 rows, of a part
  int parts;      // of the block
  int own;        // elements of K that each block puts in, for each column
  int64_t K;      // of all blocks
};

std::vector<StageShape> stages_of(const TimeLoop& loop, bool backward);

// The least number of warps that can share K, if any do: each finishes some of a lane's columns.
int least_splits(int columns);

// Blocks of K of a row of weights that lie in shared memory: of each warp's slice those that it
// does not hold in registers, but one at least, through which those come in.
int64_t shared_blocks_k(const StageShape& stage, const TimeLoop& loop);

// Elements from one row of weights, or of what enters, to the next.
int64_t padded_row(int64_t K, int element);

// Bytes of dynamic shared memory of a block. `element` is the size of the weights' type.
int64_t shared_bytes_of(const TimeLoop& loop, bool backward, int element);

}  // namespace ltlstm
