// SPDX-License-Identifier: Apache-2.0
// The formulas of floor_model.h, and the constants: modelled, each with where it comes from.

#include "floor_model.h"

#include <algorithm>

#include "loop_shape.h"

namespace ltlstm {

namespace {

// H100 and H200. Hops: public microbenchmarks of an H100 (a release/acquire counter in L2 0.65 us
// and about 0.15 for the read after it; a load from another block of the cluster 0.1, a store that
// an mbarrier counts about twice that). Hot lines in L2: 9.9 to 14.8 TB/s for one shared tile.
// Memory and product rate: what an H200 was measured to reach. mma.sync: 63 % of the peak. L2: what
// one half holds of what all SMs read.
constexpr Machine kHopper = {
    /*clock=*/1.85e9,      /*block_hop=*/0.03,     /*cluster_hop=*/0.20,
    /*l2_hop=*/0.80,       /*cluster_bytes=*/24.0, /*l2_bytes=*/40.0,
    /*l2_total=*/10e12,    /*shared_bytes=*/128.0, /*tile_cycles=*/6.2,
    /*tile_latency=*/25.0, /*fma_lanes=*/128.0,    /*memory=*/4.3e12,
    /*l2_capacity=*/25e6,  /*product_rate=*/790e12};

// A100: clock and rates of its data sheet, mma.sync at 85 % of the peak; the hop scaled by the
// clock.
constexpr Machine kAmpere = {
    /*clock=*/1.35e9,      /*block_hop=*/0.04,     /*cluster_hop=*/0.0,
    /*l2_hop=*/1.05,       /*cluster_bytes=*/0.0,  /*l2_bytes=*/32.0,
    /*l2_total=*/4e12,     /*shared_bytes=*/128.0, /*tile_cycles=*/9.4,
    /*tile_latency=*/25.0, /*fma_lanes=*/64.0,     /*memory=*/1.6e12,
    /*l2_capacity=*/20e6,  /*product_rate=*/250e12};

// Cycles of a step that no size changes: the two barriers of a block, and the start of the
// pointwise part.
constexpr double kBarriers = 120, kPointwise = 120, kPointwiseBackward = 180;
// Cycles of the pointwise part of a unit of one batch row, over the lanes of an SM.
constexpr double kUnit = 10.0 / 16, kUnitBackward = 8.0 / 16;
// Bytes a cycle that one warp gets with the loads it keeps in flight: from shared memory, and of
// each column tile from L2.
constexpr double kWarpShared = 64, kWarpL2 = 8;
// What 32-bit products reach of their peak, and of the tensor cores' a large product.
constexpr double kEfficiency = 0.6;
// Elements that a batch row and unit move to or from memory in a step: gates in and out, c, h.
constexpr double kTraffic = 11, kTrafficInference = 5;
// What a product of a step of its own adds: pre-activations read, written and read again.
constexpr double kTrafficProduct = 12;
// us until a kernel starts that had to wait for another.
constexpr double kStart = 3;
// SMs of the machine that `product_rate` is of.
constexpr double kAllSms = 132;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Cycles of a stage's product for all columns.
double product_cycles(const StageShape& stage, const TimeLoop& loop, int element,
                      const Machine& m) {
  const double rows = 16.0 * stage.row_tiles * stage.parts;
  const int64_t blocks_k = ceil_div(stage.K, kBlockK), slice = ceil_div(blocks_k, loop.k_splits);
  const double K = double(blocks_k) * kBlockK;
  const int64_t held = loop.k_splits * std::min<int64_t>(loop.held, slice);  // blocks of a row
  const double loaded = std::max(K - double(held) * kBlockK, 0.0);
  // The warps of every part read what enters, again.
  const double entering = loop.regime == Regime::kGrid ? 0 : double(stage.parts) * loop.columns;
  const double shared_rate = std::min(m.shared_bytes, kWarpShared * loop.warps);
  const double shared = (rows * loaded + entering * K) * element / shared_rate;
  if (element == 4) {
    const double lanes = kEfficiency * std::min(m.fma_lanes, double(loop.threads));
    return std::max(rows * K * loop.columns / lanes, shared);
  }
  const double tiles = rows / 16 * slice * (kBlockK / 16) * loop.k_splits * (loop.columns / 8.0);
  const double rate = tiles / std::min(4, loop.warps) * m.tile_cycles;
  return std::max({rate, slice * (kBlockK / 16) * m.tile_latency, shared});
}

// Cycles until the partial sums of the warps that split K are one.
double reduction_cycles(const StageShape& stage, const TimeLoop& loop, const Machine& m) {
  if (loop.k_splits == 1) return 0;
  const double bytes = 16.0 * stage.row_tiles * stage.parts * loop.k_splits * loop.columns * 4;
  return kBarriers / 2 + 2 * bytes / m.shared_bytes;
}

// us until what all blocks of the group have put in has arrived at each.
double exchange_us(const StageShape& stage, const TimeLoop& loop, int64_t groups, int element,
                   const Machine& m) {
  const double cycle = 1e6 / m.clock, bytes = double(loop.columns) * stage.K * element;
  if (loop.regime == Regime::kBlock) return m.block_hop;
  if (loop.regime == Regime::kCluster) {
    return m.cluster_hop + cycle * bytes * (1 - 1.0 / loop.blocks) / m.cluster_bytes;
  }
  const double read = bytes * stage.parts;  // the warps of every part
  return m.l2_hop +
         std::max(cycle * read / m.l2_bytes, 1e6 * groups * loop.blocks * read / m.l2_total);
}

}  // namespace

const Machine& machine_of(int capability) { return capability >= 90 ? kHopper : kAmpere; }

double step_us(const TimeLoop& loop, const LoopProblem& p, const Machine& m, int64_t resident) {
  const int64_t groups = int64_t(loop.groups) * p.directions;
  double cycles = p.backward ? kPointwiseBackward : kPointwise, us = 0;
  cycles += (p.backward ? kUnitBackward : kUnit) * loop.columns * loop.units;
  for (const StageShape& stage : stages_of(loop, p.backward)) {
    cycles += product_cycles(stage, loop, p.element, m) + reduction_cycles(stage, loop, m);
    cycles += kBarriers;
    us += exchange_us(stage, loop, std::min(groups, resident), p.element, m);
  }
  us += 1e6 * cycles / m.clock;
  const double waves = double(ceil_div(groups, resident)) * loop.passes;
  const double moved = (p.training ? kTraffic : kTrafficInference) * p.element * p.directions;
  return std::max(us * waves, 1e6 * moved * p.N * p.H / m.memory);
}

double streamed_us(const LoopProblem& p, const Machine& m, int sms, double share) {
  const bool projected = p.P < p.H;
  const double weights = 4.0 * p.H * p.P + (projected ? double(p.H) * p.P : 0);
  const double bytes = weights * p.element * p.directions;
  const double arriving = sms * m.l2_bytes * m.clock;
  const double rate = std::min(arriving, bytes <= m.l2_capacity ? m.l2_total : m.memory);
  const double product = product_us(2 * weights * p.N * p.directions, sms / kAllSms, p.element, m);
  const double moved = (p.training ? kTraffic : kTrafficInference) + kTrafficProduct;
  const double pointwise = moved * p.element * p.directions * p.N * p.H;
  const int launches = p.directions * (projected ? 3 : 1) + 1;
  const double us = launches * kStart + std::max(1e6 * bytes / rate, product) +
                    1e6 * pointwise / std::min(arriving, m.memory);
  return us / share;
}

double launch_us(const TimeLoop& loop, const Machine& m) {
  const double bytes = double(loop.shared_bytes), blocks = double(loop.blocks) * loop.groups;
  const double load = std::max(bytes / (m.l2_bytes * m.clock), bytes * blocks / m.l2_total);
  return 1e6 * load + kStart;
}

double product_us(double operations, double share, int element, const Machine& m) {
  const double rate = element == 4 ? 2 * m.fma_lanes * m.clock * kAllSms : m.product_rate;
  return 1e6 * operations / (share * kEfficiency * rate);
}

}  // namespace ltlstm
