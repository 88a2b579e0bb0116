// SPDX-License-Identifier: Apache-2.0
// The launchers of the time-LSTM: hand the loop to the regime it names.
#include "cuda/kinds.cuh"
#include "cuda/time_lstm.h"

namespace ltlstm::cuda {
namespace {

// Of a regime; all null where it has none.
template <class scalar>
Kernels<TimeLstmForward<scalar>> kernels_for(const TimeLstmForward<scalar>*, Regime regime) {
  if (regime == Regime::kBlock) return forward_block<scalar>();
  if (regime == Regime::kCluster) return forward_cluster<scalar>();
  if (regime == Regime::kGrid) return forward_grid<scalar>();
  return {};
}
template <class scalar>
Kernels<TimeLstmBackward<scalar>> kernels_for(const TimeLstmBackward<scalar>*, Regime regime) {
  if (regime == Regime::kBlock) return backward_block<scalar>();
  if (regime == Regime::kCluster) return backward_cluster<scalar>();
  if (regime == Regime::kGrid) return backward_grid<scalar>();
  return {};
}

template <class Problem>
Kernels<Problem> kernels_for(const TimeLoop& loop) {
  return kernels_for(static_cast<const Problem*>(nullptr), loop.regime);
}

}  // namespace

template <class Problem>
int64_t workspace_bytes(const TimeLoop& loop, int directions) {
  const Kernels<Problem> kernels = kernels_for<Problem>(loop);
  const int64_t bytes = kernels.workspace == nullptr ? -1 : kernels.workspace(loop);
  return bytes < 0 ? -1 : bytes * loop.groups * directions;
}

template <class Problem>
int64_t shared_bytes_of(const TimeLoop& loop) {
  const Kernels<Problem> kernels = kernels_for<Problem>(loop);
  return kernels.shared == nullptr ? -1 : kernels.shared(loop);
}

template <class Problem>
Status time_lstm(const Problem& problem, const TimeLoop& loop, int directions, void* stream) {
  const Kernels<Problem> kernels = kernels_for<Problem>(loop);
  if (kernels.launch == nullptr) return Status::kNoKernel;
  return kernels.launch(problem, loop, directions, stream);
}

#define LTLSTM_TIME_LSTM(Problem)                                  \
  template int64_t workspace_bytes<Problem>(const TimeLoop&, int); \
  template int64_t shared_bytes_of<Problem>(const TimeLoop&);      \
  template Status time_lstm<Problem>(const Problem&, const TimeLoop&, int, void*);

LTLSTM_TIME_LSTM(TimeLstmForward<__nv_bfloat16>)
LTLSTM_TIME_LSTM(TimeLstmForward<__half>)
LTLSTM_TIME_LSTM(TimeLstmForward<float>)
LTLSTM_TIME_LSTM(TimeLstmBackward<__nv_bfloat16>)
LTLSTM_TIME_LSTM(TimeLstmBackward<__half>)
LTLSTM_TIME_LSTM(TimeLstmBackward<float>)

}  // namespace ltlstm::cuda
