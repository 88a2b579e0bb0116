// SPDX-License-Identifier: Apache-2.0
// How one launch of a time-LSTM on a GPU is cut up. The plan fills it in, the kernel takes every
// size from it: what a block computes, and where each array begins in its shared memory.
//
// A group is the blocks that share one batch slice and hold W_hh together. Regimes differ in how
// those blocks exchange h (forward) or d_preact (backward): within a block, through the shared
// memory of a cluster, or through L2. Groups of one launch never talk to each other.
//
// A block holds M rows of weights of length K. Forward: the 4 * units gate rows of its units in
// W_hh, K = P. Backward: the rows of its units in the transpose, K = 4H. Where h is projected, a
// second product of the same form follows with `projected` rows: of W_hr (K = H), backward of its
// transpose (K = P). In units of the tensor cores' instruction a row tile is 16 rows, a column tile
// 8 batch rows, a k tile 16 elements of K. A warp works on all column tiles, on its slice of K, and
// forward on the two row tiles of 8 units (i, f; g, o), backward on the one of 16 units.
#pragma once

#include <cstdint>

#include "activation.h"

namespace ltlstm {

enum class Regime { kBlock, kCluster, kGrid, kStreamed, kAten };

struct TimeLoop {
  Regime regime;
  int units;             // hidden units of a block, a multiple of 8; the last block may own fewer
  int blocks;            // of a group: the size of its cluster, or its part of the grid
  int groups;            // batch slices of one direction; a launch has groups * directions of them
  int passes;            // launches, each of the next groups * columns batch rows
  int columns;           // batch rows of a group, padded in the tile: 8, 16, 32 or 64
  int k_splits;          // warps that share K of the same rows
  int warps;             // k_splits for each two row tiles, backward for each row tile
  int threads;           // 32 * warps, at most max_threads
  int max_threads;       // the launch bound that the kernel was compiled for: 256 or 512
  int register_tiles;    // k tiles of a warp's slice whose weights stay in registers; the rest, or
                         // all where this is 0, lies in shared memory
  int prefetch;          // steps by which the loads from global memory run ahead
  int projected;         // entries of h that a block owns, a multiple of 16; 0 where h = r
  int registers;         // that a thread may use
  int64_t shared_bytes;  // dynamic
  double us;             // modelled microseconds a step, of all passes together
};

// One product of a block: M rows of weights of length K, for `columns` columns.
struct ProductShape {
  int64_t rows;       // of the block, padded to whole row tiles
  int64_t k_tiles;    // of K, padded
  int64_t slice;      // k tiles of one warp; the last warp's may be fewer
  int64_t in_shared;  // k tiles of each slice that lie in shared memory
};

LTLSTM_INLINE int64_t round_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

LTLSTM_INLINE ProductShape product_shape(int64_t rows, int64_t K, int k_splits,
                                         int register_tiles) {
  ProductShape s;
  s.rows = round_up(rows, 16);
  s.k_tiles = round_up(K, 16) / 16;
  s.slice = (s.k_tiles + k_splits - 1) / k_splits;
  s.in_shared = s.slice > register_tiles ? s.slice - register_tiles : 0;
  return s;
}

// Rows of a block in the product with W_hh, and in the one with W_hr (0 without it).
LTLSTM_INLINE int64_t main_rows(const TimeLoop& loop, bool backward) {
  return !backward ? 4 * loop.units : loop.projected > 0 ? loop.projected : loop.units;
}

LTLSTM_INLINE int64_t second_product_rows(const TimeLoop& loop, bool backward) {
  return loop.projected == 0 ? 0 : backward ? loop.units : loop.projected;
}

// Where each array of a block begins in its dynamic shared memory, in bytes, each start a multiple
// of 128, and the padded rows, in elements. `element` is the size of the weights' type in bytes. 16
// bytes of padding a row keep ldmatrix and 16-byte loads free of bank conflicts.
struct SharedLayout {
  int64_t weights;    // (rows, weights_row): each warp's k tiles one after another
  int64_t projector;  // (second rows, projector_row) of w_hr
  int64_t state;      // (state_buffers, columns, state_row): h, backward d_preact, as exchanged
  int64_t second;     // (state_buffers, columns, second_row): what enters the second product
  int64_t partial;    // (k_splits, rows, columns) fp32 where k_splits > 1
  int64_t inputs;     // (prefetch, columns, 4, units) input gates, or saved gates
  int64_t outgoing;   // (columns, units), backward (columns, 4, units): what the block publishes
  int64_t barriers;   // 16 mbarriers
  int64_t bytes;      // of all
  int64_t weights_row, projector_row, state_row, second_row;
  int state_buffers;  // 1 in the grid regime, where a step copies them from L2; else 2
};

LTLSTM_INLINE SharedLayout shared_layout(const TimeLoop& loop, bool backward, int64_t H, int64_t P,
                                         int element) {
  const int pad = 16 / element;
  const int64_t K = backward ? 4 * H : P, second_K = backward ? P : H;
  const int64_t units = loop.units, columns = loop.columns;
  const ProductShape main =
      product_shape(main_rows(loop, backward), K, loop.k_splits, loop.register_tiles);
  const int64_t second_rows = round_up(second_product_rows(loop, backward), 16);
  SharedLayout at;
  at.state_buffers = loop.regime == Regime::kGrid ? 1 : 2;
  at.weights_row = main.in_shared > 0 ? main.in_shared * loop.k_splits * 16 + pad : 0;
  at.projector_row = loop.projected > 0 ? round_up(second_K, 16) + pad : 0;
  at.state_row = main.k_tiles * 16 + pad;
  at.second_row = at.projector_row;
  int64_t end = 0;
  const auto place = [&end](int64_t bytes) {
    const int64_t start = end;
    end += round_up(bytes, 128);
    return start;
  };
  const int64_t partial_rows = second_rows > main.rows ? second_rows : main.rows;
  at.weights = place(main.rows * at.weights_row * element);
  at.projector = place(second_rows * at.projector_row * element);
  at.state = place(at.state_buffers * columns * at.state_row * element);
  at.second = place(at.state_buffers * columns * at.second_row * element);
  at.partial = place(loop.k_splits > 1 ? loop.k_splits * partial_rows * columns * 4 : 0);
  at.inputs = place(loop.prefetch * columns * 4 * units * element);
  at.outgoing = place(columns * (backward ? 4 : 1) * units * element);
  at.barriers = place(16 * 8);
  at.bytes = end;
  return at;
}

}  // namespace ltlstm
