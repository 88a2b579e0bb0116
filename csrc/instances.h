// SPDX-License-Identifier: Apache-2.0
// Which kernels are compiled: what the time loop's templates must know. The plan chooses among
// these, and csrc/cuda instantiates them.
#pragma once

#include "time_loop.h"

namespace ltlstm {

// Batch rows of a group.
constexpr int kColumns[] = {8, 16, 32, 64};
// k tiles of a warp's slice that stay in registers, for half types; float32 has only 0.
constexpr int kRegisterTiles[] = {0, 8, 16};
// Threads of the launch bound; a thread may use 65536 / bound registers, and no more than 255.
constexpr int kMaxThreads[] = {256, 512};

// Registers of a thread, estimated: weights, sums, the cell, and what addresses and loops take.
constexpr int registers_of(bool backward, int columns, int register_tiles) {
  const int column_tiles = columns / 8;
  const int weights = (backward ? 4 : 8) * register_tiles;
  const int sums = (backward ? 4 : 8) * column_tiles;
  return weights + sums + 4 * column_tiles + 48;
}

}  // namespace ltlstm
