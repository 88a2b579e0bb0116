// SPDX-License-Identifier: Apache-2.0
// The kinds of time-LSTM kernels: what is known when one is compiled, and what follows for its
// loop: parts, channels, shared memory, workspace.
#pragma once

#include "cuda/problem.cuh"
#include "cuda/stage.cuh"

namespace ltlstm::cuda {

template <class Kind>
__global__ void time_lstm_forward_kernel(
    const __grid_constant__ TimeLstmForward<typename Kind::scalar> p,
    const __grid_constant__ TimeLoop loop);

// Forward.
template <class scalar_, template <class> class Exchange_, int kColumnTiles, Variant kVariant>
struct ForwardKind {
  using scalar = scalar_;
  using Exchange = Exchange_<scalar>;
  using P = Pieces<kColumnTiles, kVariant != Variant::kWhole>;
  static constexpr bool kBackward = false;
  static constexpr int kHeld =
      kVariant == Variant::kHeld ? held_blocks(Exchange::kRegime, kBackward, P::kColumns) : 0;
  using GateStage = Stage<scalar, Exchange_, P, 2, kHeld>;  // h -> i, f, g, o
  using OutputStage = Stage<scalar, Exchange_, P, 1, 0>;    // r -> h
  static constexpr bool kProjected = kVariant == Variant::kProjected;
  static constexpr int kMaxThreads =
      max_threads(Exchange::kRegime, kBackward, P::kColumns, kVariant);

  static auto kernel() { return time_lstm_forward_kernel<ForwardKind>; }

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

template <class Kind>
__global__ void time_lstm_backward_kernel(
    const __grid_constant__ TimeLstmBackward<typename Kind::scalar> p,
    const __grid_constant__ TimeLoop loop);

// Backward.
template <class scalar_, template <class> class Exchange_, int kColumnTiles, Variant kVariant>
struct BackwardKind {
  using scalar = scalar_;
  using Exchange = Exchange_<scalar>;
  using P = Pieces<kColumnTiles, kVariant != Variant::kWhole>;
  static constexpr bool kBackward = true;
  static constexpr int kHeld =
      kVariant == Variant::kHeld ? held_blocks(Exchange::kRegime, kBackward, P::kColumns) : 0;
  using StateStage = Stage<scalar, Exchange_, P, 1, kHeld>;  // d_preact -> dh
  using CellStage = Stage<scalar, Exchange_, P, 1, 0>;       // dh -> dr
  static constexpr bool kProjected = kVariant == Variant::kProjected;
  static constexpr int kMaxThreads =
      max_threads(Exchange::kRegime, kBackward, P::kColumns, kVariant);
  static auto kernel() { return time_lstm_backward_kernel<BackwardKind>; }

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

}  // namespace ltlstm::cuda
