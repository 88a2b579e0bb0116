// SPDX-License-Identifier: Apache-2.0
// The formulas of floor_model.h, and the constants: modelled, each with where it comes from.

#include "floor_model.h"

#include <algorithm>

namespace ltlstm {

namespace {

// H100 and H200. Hops: public microbenchmarks of an H100 (a release/acquire counter in L2 0.65 us
// and about 0.15 for the read after it; a load from another block of the cluster 0.1, a store that
// an mbarrier counts about twice that). Hot lines in L2: 9.9 to 14.8 TB/s for one shared tile.
// Memory and product rate: what an H200 was measured to reach. mma.sync: 63 % of the peak.
constexpr Machine kHopper = {
    /*clock=*/1.85e9,       /*block_hop=*/0.03,     /*cluster_hop=*/0.20,
    /*l2_hop=*/0.80,        /*cluster_bytes=*/24.0, /*l2_bytes=*/40.0,
    /*l2_total=*/10e12,     /*shared_bytes=*/128.0, /*tile_cycles=*/6.2,
    /*tile_latency=*/25.0,  /*fma_lanes=*/128.0,    /*memory=*/4.3e12,
    /*product_rate=*/790e12};

// A100: clock and rates of its data sheet, mma.sync at 85 % of the peak; the hop scaled by the
// clock.
constexpr Machine kAmpere = {
    /*clock=*/1.35e9,       /*block_hop=*/0.04,    /*cluster_hop=*/0.0,
    /*l2_hop=*/1.05,        /*cluster_bytes=*/0.0, /*l2_bytes=*/32.0,
    /*l2_total=*/4e12,      /*shared_bytes=*/128., /*tile_cycles=*/9.4,
    /*tile_latency=*/25.0,  /*fma_lanes=*/64.0,    /*memory=*/1.6e12,
    /*product_rate=*/250e12};

// Cycles of a step that no size changes: the two barriers of a block, and the start of the
// pointwise part.
constexpr double kBarriers = 120, kPointwise = 120, kPointwiseBackward = 180;
// Cycles of the pointwise part of a unit of one batch row, over 16 lanes that have the gates.
constexpr double kUnit = 10.0 / 16, kUnitBackward = 8.0 / 16;
// Elements a batch row and unit move to or from memory in a step: gates in and out, c, h.
constexpr double kTraffic = 11, kTrafficInference = 5;

double ceil_div(double a, double b) { return static_cast<double>(int64_t((a + b - 1) / b)); }

// Cycles of one product of a block for all its columns.
double product_cycles(int64_t rows, int64_t K, const TimeLoop& loop, int register_tiles,
                      int tiles_of_warp, int element, const Machine& m) {
  const ProductShape s = product_shape(rows, K, loop.k_splits, register_tiles);
  const double column_tiles = loop.columns / 8.0, row_tiles = s.rows / 16.0;
  const double from_shared = double(s.rows) * s.in_shared * loop.k_splits * 16 * element;
  // Every warp of the same K slice reads the state again.
  const double state = ceil_div(row_tiles, tiles_of_warp) * loop.columns * s.k_tiles * 16 * element;
  const double shared = (from_shared + state) / m.shared_bytes;
  if (element == 4) {
    return std::max(double(s.rows) * s.k_tiles * 16 * loop.columns / (0.6 * m.fma_lanes), shared);
  }
  const double tiles = row_tiles * s.slice * loop.k_splits * column_tiles;
  const double rate = tiles / std::min(4, loop.warps) * m.tile_cycles;
  return std::max({rate, s.slice * m.tile_latency, shared});
}

double partial_cycles(int64_t rows, const TimeLoop& loop, const Machine& m) {
  const double bytes = double(loop.k_splits) * rows * loop.columns * 4;
  return 40 + (loop.k_splits > 1 ? 2 * bytes / m.shared_bytes : 0);
}

// us until `width` elements for each column, made by all blocks of the group, have arrived at each.
double exchange_us(const TimeLoop& loop, double width, int64_t groups, int element,
                   const Machine& m) {
  const double cycle = 1e6 / m.clock, bytes = double(loop.columns) * width * element;
  if (loop.regime == Regime::kBlock) return m.block_hop;
  if (loop.regime == Regime::kCluster) {
    return m.cluster_hop + cycle * bytes * (1 - 1.0 / loop.blocks) / m.cluster_bytes;
  }
  const double all = 1e6 * groups * loop.blocks * bytes / m.l2_total;
  return m.l2_hop + std::max(cycle * bytes / m.l2_bytes, all);
}

}  // namespace

const Machine& machine_of(int capability) { return capability >= 90 ? kHopper : kAmpere; }

double step_us(const TimeLoop& loop, const LoopProblem& p, const Machine& m, int64_t resident) {
  const int64_t groups = int64_t(loop.groups) * p.directions;
  const int64_t K = p.backward ? 4 * p.H : p.P;
  double cycles = product_cycles(main_rows(loop, p.backward), K, loop, loop.register_tiles,
                                 p.backward ? 1 : 2, p.element, m);
  cycles += partial_cycles(main_rows(loop, p.backward), loop, m) + kBarriers;
  cycles += (p.backward ? kUnitBackward : kUnit) * loop.columns * loop.units;
  cycles += p.backward ? kPointwiseBackward : kPointwise;
  double us = exchange_us(loop, double(K), std::min(groups, resident), p.element, m);
  if (loop.projected > 0) {
    const int64_t second = p.backward ? p.P : p.H, rows = second_product_rows(loop, p.backward);
    cycles += product_cycles(rows, second, loop, 0, 1, p.element, m);
    cycles += partial_cycles(rows, loop, m) + kBarriers;
    us += exchange_us(loop, double(second), std::min(groups, resident), p.element, m);
  }
  us += 1e6 * cycles / m.clock;
  const double waves = ceil_div(double(groups), double(resident)) * loop.passes;
  const double moved = (p.training ? kTraffic : kTrafficInference) * p.element * p.directions;
  return std::max(us * waves, 1e6 * moved * p.N * p.H / m.memory);
}

double product_us(double operations, double share, int element, const Machine& m) {
  // float32 on the plain lanes, at the 60 % of its peak that large products reach.
  const double lanes = 2 * m.fma_lanes * m.clock * 132;
  return 1e6 * operations / (share * 0.6 * (element == 4 ? lanes : m.product_rate));
}

}  // namespace ltlstm
