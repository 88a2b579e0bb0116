// SPDX-License-Identifier: Apache-2.0
// Sizes of the kernels of csrc/cuda, without CUDA.

#include "loop_shape.h"

#include <algorithm>

namespace ltlstm {

namespace {

constexpr int64_t kAlignment = 128;  // of an array in shared memory
constexpr int kLanes = 32;

// Pieces of a lane: one column of each pair that the tensor cores give it.
int pieces_of(int columns) { return columns / 4; }

// What the exchange keeps in shared memory: two buffers of what enters the stage, and in a cluster
// what the block sends, and an mbarrier for each buffer. Through L2 the warps read it where it is.
int64_t exchange_bytes(const TimeLoop& loop, const StageShape& stage, int element) {
  if (loop.regime == Regime::kGrid) return 0;
  const int64_t buffers =
      round_up(2 * loop.columns * padded_row(stage.K, element) * element, kAlignment);
  if (loop.regime == Regime::kBlock) return buffers;
  return buffers + round_up(int64_t{loop.columns} * stage.own * element, kAlignment) + kAlignment;
}

}  // namespace

std::vector<StageShape> stages_of(const TimeLoop& loop, bool backward) {
  const int units = loop.units, blocks = loop.blocks;
  const bool projected = loop.projected > 0;
  const int owned = projected ? loop.projected : units;  // entries of h
  const auto parts = [](int rows) { return (rows + 15) / 16; };
  if (backward) {
    std::vector<StageShape> stages = {{1, parts(owned), 4 * units, int64_t{4} * units * blocks}};
    if (projected) stages.push_back({1, parts(units), owned, int64_t{owned} * blocks});
    return stages;
  }
  std::vector<StageShape> stages = {{2, units / 8, owned, int64_t{owned} * blocks}};
  if (projected) stages.push_back({1, parts(owned), units, int64_t{units} * blocks});
  return stages;
}

int least_splits(int columns) {
  const int pieces = pieces_of(columns), tiles = columns / 8;
  return pieces / (tiles > 2 ? tiles / 2 : 1);
}

int64_t shared_blocks_k(const StageShape& stage, const TimeLoop& loop) {
  const int64_t blocks = (stage.K + kBlockK - 1) / kBlockK;
  if (loop.held == 0) return blocks;
  const int64_t slice = (blocks + loop.k_splits - 1) / loop.k_splits;
  return loop.k_splits * std::max<int64_t>(slice - loop.held, 1);
}

int64_t padded_row(int64_t K, int element) {
  const int64_t blocks = (K + kBlockK - 1) / kBlockK;
  return element == 2 ? kBlockK * (blocks | 1) : kBlockK * blocks + 4;
}

int64_t shared_bytes_of(const TimeLoop& loop, bool backward, int element) {
  int64_t bytes = 0;
  for (const StageShape& stage : stages_of(loop, backward)) {
    const int64_t rows = int64_t{16} * stage.row_tiles * stage.parts;
    const int64_t row = padded_row(kBlockK * shared_blocks_k(stage, loop), element);
    bytes += round_up(rows * row * element, kAlignment);
    if (loop.k_splits > 1) {
      const int64_t partial = int64_t{loop.warps} * pieces_of(loop.columns) * kLanes;
      bytes += round_up(partial * 8 * stage.row_tiles, kAlignment);
    }
    bytes += exchange_bytes(loop, stage, element);
  }
  return bytes;
}

}  // namespace ltlstm
