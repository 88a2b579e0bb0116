// SPDX-License-Identifier: Apache-2.0
// The time lane on a GPU: the memory of a whole stack of time-LSTMs (all directions), and one layer
// of it on its way through the chunks. The operators in cuda_stack.cpp and cuda_trajectory.cpp say
// in which order layers and chunks run, and on which lanes.
#pragma once

#include "binding/cuda_cells.h"
#include "binding/cuda_pass.h"
#include "binding/cuda_streamed.h"
#include "settings.h"

namespace ltlstm::binding {

// What a layer launches its loop with: a piece of workspace for every launch, zeroed at once; or
// one for all that is streamed.
template <class Problem>
class Launches {
 public:
  Launches(const Pass& pass, const Lane& lane, const TimeLoop& loop, const Tensor& like)
      : pass_(pass),
        lane_(lane),
        loop_(loop),
        directions_(static_cast<int>(pass.s.dirs)),
        bytes_(cuda::workspace_bytes<Problem>(loop, directions_)),
        patience_ns_(patience_ns_by_environment()),
        like_(like) {
    const StackArguments& s = pass.s;
    if (loop.regime == Regime::kStreamed) {
      workspace_ = lane.empty(like, {cuda::streamed_elements<Problem>(s.N, s.H, s.P, directions_)});
      return;
    }
    STD_TORCH_CHECK(bytes_ >= 0, "cuda: no kernel for the loop that was planned");
    const int64_t launches = static_cast<int64_t>(pass.chunks.size()) * loop.passes;
    workspace_ = lane.zero_float(like, {(bytes_ * launches + 3) / 4});
  }

  void run(const Chunk& chunk, Problem& problem) const {
    if (loop_.regime == Regime::kStreamed) {
      problem.workspace = static_cast<unsigned char*>(workspace_->mutable_data_ptr());
      return run_streamed(pass_, lane_, chunk, like_, problem);
    }
    problem.patience_ns = patience_ns_;
    for (int pass = 0; pass < loop_.passes; ++pass) {
      problem.first_row = int64_t{pass} * loop_.groups * loop_.columns;
      problem.workspace =
          mutable_data<unsigned char>(*workspace_) + (chunk.index * loop_.passes + pass) * bytes_;
      check(cuda::time_lstm(problem, loop_, directions_, lane_.stream));
    }
  }

 private:
  const Pass& pass_;
  const Lane& lane_;
  const TimeLoop& loop_;
  const int directions_;
  const int64_t bytes_, patience_ns_;
  const Tensor like_;
  OptionalTensor workspace_;
};

template <class scalar>
struct TimeForward {
  TimeForward(Pass& pass, const StackForward& call);

  Pass& pass;
  const bool save, keep_gates;
  const Tensor input, h0, c0, h_n;
  const Tensor cells, gates;           // of all layers where they are kept
  const Tensor state_c;                // (L*dirs, N, H) float32, in the end c_n
  std::vector<OptionalTensor> preact;  // (dirs, R, 4H) of each lane, where gates are not kept
};

template <class scalar>
class TimeLayerForward {
 public:
  // x (R, D) is what it reads, hidden (R, width) what it writes.
  TimeLayerForward(TimeForward<scalar>& stack, const Lane& lane, int64_t layer, const Tensor& x,
                   const Tensor& hidden);

  // The inputs' product of a chunk, or of all rows; needs x there.
  void multiply(const Chunk& chunk) const;
  // The recurrence, after that of the chunk before.
  void scan(const Chunk& chunk) const;

  const Tensor hidden;
  const Tensor read_above;  // hidden as the layer above reads it, through a dropout mask

 private:
  int64_t index(int64_t direction) const { return layer_ * stack_.pass.s.dirs + direction; }
  Tensor preact(int64_t direction) const;

  const TimeForward<scalar>& stack_;
  const Lane& lane_;
  const int64_t layer_;
  const Tensor x_;
  std::vector<OptionalTensor> bias_, peephole_;  // a direction each
  Launches<cuda::TimeLstmForward<scalar>> launches_;
};

template <class scalar>
struct TimeBackward {
  TimeBackward(Pass& pass, const StackBackward& call);

  Pass& pass;
  const Tensor input, h0, c0, cells, gates;
  const bool recompute;  // for there are no gates
  const OptionalTensor d_h_n, d_c_n, d_cells;
  const Tensor d_input;
  const Tensor d_h0, d_c0;             // (L*dirs, N, .) float32, in the end what is returned
  std::vector<OptionalTensor> preact;  // (dirs, R, 4H) of each lane, where gates are computed again
};

template <class scalar>
class TimeLayerBackward {
 public:
  // below (R, .) is the output of the layer below, of which it reads what its mask leaves; hidden
  // (R, width) its own, d_hidden the gradient of that.
  TimeLayerBackward(TimeBackward<scalar>& stack, const Lane& lane, int64_t layer,
                    const Tensor& below, const Tensor& hidden, const OptionalTensor& d_hidden);

  // The recurrence, after that of the chunk that follows in time; needs d_hidden there.
  void scan(const Chunk& chunk);
  // d_x of a chunk or of all rows, after the recurrence there.
  void multiply(const Chunk& chunk) const;
  // The gradients of the weights, flat, after all chunks.
  std::vector<Tensor> weights() const;

  const Tensor d_x;  // (R, .) of what it read

 private:
  struct Direction {
    Tensor d_preact, h_prev;
    OptionalTensor r, d_projected, peephole, d_peephole;
  };
  int64_t index(int64_t direction) const { return layer_ * stack_.pass.s.dirs + direction; }
  // Of all rows: gates, or where they are computed again what they are of.
  Tensor gates(int64_t direction) const;

  TimeBackward<scalar>& stack_;
  const Lane& lane_;
  const int64_t layer_;
  const OptionalTensor d_hidden_;
  Tensor x_, c0_;
  std::vector<Direction> directions_;
  Launches<cuda::TimeLstmBackward<scalar>> launches_;
};

}  // namespace ltlstm::binding
