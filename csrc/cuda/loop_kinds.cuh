// SPDX-License-Identifier: Apache-2.0
// The kinds of time-LSTM kernels: what is known when one is compiled, and what follows for its
// loop: parts, channels, shared memory, workspace.
#pragma once

#include "cuda/problem.cuh"
#include "cuda/stage.cuh"

namespace ltlstm::cuda {

// What both passes have: `kVariant` and `kBackward_` say which of the kernels of time_loop.h it is.
template <class scalar_, template <class> class Exchange_, int kColumnTiles, Variant kVariant,
          bool kBackward_>
struct LoopKind {
  using scalar = scalar_;
  using Exchange = Exchange_<scalar>;
  using P = Pieces<kColumnTiles, kVariant != Variant::kWhole>;
  static constexpr bool kBackward = kBackward_;
  static constexpr bool kProjected = kVariant == Variant::kProjected;
  static constexpr int kHeld =
      kVariant == Variant::kHeld ? held_blocks(Exchange::kRegime, kBackward, P::kColumns) : 0;
  static constexpr int kMaxThreads =
      max_threads(Exchange::kRegime, kBackward, P::kColumns, kVariant);
  template <int kRowTiles>
  using FirstStage = Stage<scalar, Exchange_, P, kRowTiles, kHeld>;
  using SecondStage = Stage<scalar, Exchange_, P, 1, 0>;
};

template <class Kind>
class ForwardLoop;  // time_lstm_forward.cuh
template <class Kind>
class BackwardLoop;  // time_lstm_backward.cuh

template <class scalar, template <class> class Exchange, int kColumnTiles, Variant kVariant>
struct ForwardKind : LoopKind<scalar, Exchange, kColumnTiles, kVariant, false> {
  using Base = LoopKind<scalar, Exchange, kColumnTiles, kVariant, false>;
  using Base::kProjected;
  using Problem = TimeLstmForward<scalar>;
  using Loop = ForwardLoop<ForwardKind>;
  using GateStage = typename Base::template FirstStage<2>;  // h -> i, f, g, o
  using OutputStage = typename Base::SecondStage;           // r -> h

  LTLSTM_INLINE int gate_parts(const TimeLoop& loop) { return loop.units / 8; }
  LTLSTM_INLINE int output_parts(const TimeLoop& loop) { return (loop.projected + 15) / 16; }
  LTLSTM_INLINE Channel h(const TimeLoop& loop) {
    return {kProjected ? loop.projected : loop.units, loop.blocks};
  }
  LTLSTM_INLINE Channel r(const TimeLoop& loop) { return {loop.units, loop.blocks}; }

  // Of the stage that has more of them: a projection is never wider than what it projects.
  LTLSTM_INLINE int parts(const TimeLoop& loop) { return gate_parts(loop); }
  LTLSTM_INLINE int64_t shared(const TimeLoop& loop) {
    return GateStage::shared(loop, gate_parts(loop), h(loop)) +
           (kProjected ? OutputStage::shared(loop, output_parts(loop), r(loop)) : 0);
  }
  LTLSTM_INLINE int64_t workspace(const TimeLoop& loop) {
    return GateStage::global(h(loop)) + (kProjected ? OutputStage::global(r(loop)) : 0);
  }
};

template <class scalar, template <class> class Exchange, int kColumnTiles, Variant kVariant>
struct BackwardKind : LoopKind<scalar, Exchange, kColumnTiles, kVariant, true> {
  using Base = LoopKind<scalar, Exchange, kColumnTiles, kVariant, true>;
  using Base::kProjected;
  using Problem = TimeLstmBackward<scalar>;
  using Loop = BackwardLoop<BackwardKind>;
  using StateStage = typename Base::template FirstStage<1>;  // d_preact -> dh
  using CellStage = typename Base::SecondStage;              // dh -> dr

  LTLSTM_INLINE int unit_parts(const TimeLoop& loop) { return (loop.units + 15) / 16; }
  LTLSTM_INLINE int state_parts(const TimeLoop& loop) {
    return kProjected ? (loop.projected + 15) / 16 : unit_parts(loop);
  }
  LTLSTM_INLINE Channel d_preact(const TimeLoop& loop) { return {4 * loop.units, loop.blocks}; }
  LTLSTM_INLINE Channel dh(const TimeLoop& loop) { return {loop.projected, loop.blocks}; }

  LTLSTM_INLINE int parts(const TimeLoop& loop) { return unit_parts(loop); }
  LTLSTM_INLINE int64_t shared(const TimeLoop& loop) {
    return StateStage::shared(loop, state_parts(loop), d_preact(loop)) +
           (kProjected ? CellStage::shared(loop, unit_parts(loop), dh(loop)) : 0);
  }
  LTLSTM_INLINE int64_t workspace(const TimeLoop& loop) {
    return StateStage::global(d_preact(loop)) + (kProjected ? CellStage::global(dh(loop)) : 0);
  }
};

// All steps of a block's direction and batch slice.
template <class Kind>
__global__ void __launch_bounds__(Kind::kMaxThreads, 1)
    time_lstm_kernel(const __grid_constant__ typename Kind::Problem p,
                     const __grid_constant__ TimeLoop loop) {
  const BlockPlace block = block_place(loop);
  unsigned char* workspace =
      p.workspace + (block.direction * loop.groups + block.group) * Kind::workspace(loop);
  typename Kind::Loop(p, loop, block, workspace).run();
}

}  // namespace ltlstm::cuda
