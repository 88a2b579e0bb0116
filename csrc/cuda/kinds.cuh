// SPDX-License-Identifier: Apache-2.0
// From a loop, which is known only at run time, to the kernel that was compiled for it.
#pragma once

#include "cuda/launch.cuh"
#include "cuda/loop_kinds.cuh"
#include "cuda/time_lstm.h"

namespace ltlstm::cuda {

// What one file of kernels offers: those of a pass, a regime and a storage type.
template <class Problem>
struct Kernels {
  Status (*launch)(const Problem& problem, const TimeLoop& loop, int directions, void* stream);
  int64_t (*shared)(const TimeLoop& loop);     // or -1
  int64_t (*workspace)(const TimeLoop& loop);  // of one group, or -1
};

template <class scalar>
Kernels<TimeLstmForward<scalar>> forward_block();
template <class scalar>
Kernels<TimeLstmForward<scalar>> forward_cluster();
template <class scalar>
Kernels<TimeLstmForward<scalar>> forward_grid();
template <class scalar>
Kernels<TimeLstmBackward<scalar>> backward_block();
template <class scalar>
Kernels<TimeLstmBackward<scalar>> backward_cluster();
template <class scalar>
Kernels<TimeLstmBackward<scalar>> backward_grid();

// visit(Kind) for the kind of kernel that the loop names; nothing where none is compiled.
template <template <class, template <class> class, int, Variant> class Kind, class scalar,
          template <class> class Exchange, int kColumnTiles, Variant kVariant, class Visit>
void visit_variant(const TimeLoop& loop, const Visit& visit) {
  using Found = Kind<scalar, Exchange, kColumnTiles, kVariant>;
  if constexpr (kernel_exists(Exchange<scalar>::kRegime, Found::kBackward, sizeof(scalar),
                              8 * kColumnTiles, kVariant))
    if (variant_of(loop) == kVariant) visit(Found());
}

template <template <class, template <class> class, int, Variant> class Kind, class scalar,
          template <class> class Exchange, int kColumnTiles, class Visit>
void visit_columns(const TimeLoop& loop, const Visit& visit) {
  if (loop.columns != 8 * kColumnTiles) return;
  visit_variant<Kind, scalar, Exchange, kColumnTiles, Variant::kWhole>(loop, visit);
  visit_variant<Kind, scalar, Exchange, kColumnTiles, Variant::kSplit>(loop, visit);
  visit_variant<Kind, scalar, Exchange, kColumnTiles, Variant::kProjected>(loop, visit);
  visit_variant<Kind, scalar, Exchange, kColumnTiles, Variant::kHeld>(loop, visit);
}

template <template <class, template <class> class, int, Variant> class Kind, class scalar,
          template <class> class Exchange, class Visit>
void visit_kind(const TimeLoop& loop, const Visit& visit) {
  visit_columns<Kind, scalar, Exchange, 1>(loop, visit);
  visit_columns<Kind, scalar, Exchange, 2>(loop, visit);
  visit_columns<Kind, scalar, Exchange, 4>(loop, visit);
  visit_columns<Kind, scalar, Exchange, 8>(loop, visit);
}

template <class Kind, class Problem>
Status launch_kind(const Problem& problem, const TimeLoop& loop, int directions, void* stream) {
  const bool covers =
      loop.units % 8 == 0 && int64_t{loop.units} * loop.blocks >= problem.H &&
      (loop.projected > 0 ? loop.projected % 8 == 0 && loop.projected <= loop.units &&
                                int64_t{loop.projected} * loop.blocks >= problem.P
                          : problem.P == problem.H) &&
      loop.k_splits >= Kind::P::kMinSplits && (Kind::P::kSplit || loop.k_splits == 1) &&
      loop.held == Kind::kHeld && (loop.projected > 0) == Kind::kProjected &&
      loop.warps == loop.k_splits * Kind::parts(loop) && loop.threads == kLanes * loop.warps &&
      loop.threads <= Kind::kMaxThreads && problem.seq.T < (int64_t{1} << 31);
  if (!covers) return Status::kBadLoop;
  if (problem.seq.N == 0 || problem.H == 0) return Status::kOk;
  constexpr Regime kRegime = Kind::Exchange::kRegime;
  LaunchShape shape;
  shape.blocks = dim3(static_cast<unsigned>(directions * loop.groups * loop.blocks));
  shape.threads = dim3(static_cast<unsigned>(loop.threads));
  shape.shared_bytes = static_cast<int>(Kind::shared(loop));
  shape.cluster = kRegime == Regime::kCluster ? loop.blocks : 1;
  shape.cooperative = kRegime == Regime::kGrid;
  const cudaError_t error =
      launch(time_lstm_kernel<Kind>, shape, static_cast<cudaStream_t>(stream), problem, loop);
  return error == cudaSuccess ? Status::kOk : Status::kLaunchFailed;
}

template <template <class, template <class> class, int, Variant> class Kind, class Problem,
          class scalar, template <class> class Exchange>
Kernels<Problem> kernels_of() {
  return {[](const Problem& problem, const TimeLoop& loop, int directions, void* stream) {
            Status status = Status::kNoKernel;
            visit_kind<Kind, scalar, Exchange>(loop, [&](auto kind) {
              status = launch_kind<decltype(kind)>(problem, loop, directions, stream);
            });
            return status;
          },
          [](const TimeLoop& loop) {
            int64_t bytes = -1;
            visit_kind<Kind, scalar, Exchange>(
                loop, [&](auto kind) { bytes = decltype(kind)::shared(loop); });
            return bytes;
          },
          [](const TimeLoop& loop) {
            int64_t bytes = -1;
            visit_kind<Kind, scalar, Exchange>(
                loop, [&](auto kind) { bytes = decltype(kind)::workspace(loop); });
            return bytes;
          }};
}

}  // namespace ltlstm::cuda
