// SPDX-License-Identifier: Apache-2.0
// The launchers of the time-LSTM: hand the loop to the regime it names.
#include "cuda/kinds.cuh"
#include "cuda/time_lstm.h"

namespace ltlstm::cuda {
namespace {

template <class scalar>
Kernels<TimeLstmForward<scalar>> forward_kernels(Regime regime) {
  switch (regime) {
    case Regime::kBlock:
      return forward_block<scalar>();
    case Regime::kGrid:
      return forward_grid<scalar>();
    default:
      return {};
  }
}

template <class Problem>
int64_t workspace(const Kernels<Problem>& kernels, const TimeLoop& loop, int directions) {
  return kernels.workspace == nullptr ? -1 : kernels.workspace(loop) * loop.groups * directions;
}

template <class Problem>
int64_t shared(const Kernels<Problem>& kernels, const TimeLoop& loop) {
  return kernels.shared == nullptr ? -1 : kernels.shared(loop);
}

template <class Problem>
Status launch(const Kernels<Problem>& kernels, const Problem& problem, const TimeLoop& loop,
              int directions, void* stream) {
  if (kernels.launch == nullptr) return Status::kNoKernel;
  return kernels.launch(problem, loop, directions, stream);
}

}  // namespace

template <class scalar>
int64_t forward_workspace(const TimeLoop& loop, int directions) {
  return workspace(forward_kernels<scalar>(loop.regime), loop, directions);
}

template <class scalar>
int64_t forward_shared(const TimeLoop& loop) {
  return shared(forward_kernels<scalar>(loop.regime), loop);
}

template <class scalar>
Status time_lstm_forward(const TimeLstmForward<scalar>& problem, const TimeLoop& loop,
                         int directions, void* stream) {
  return launch(forward_kernels<scalar>(loop.regime), problem, loop, directions, stream);
}

#define LTLSTM_LAUNCHERS(scalar)                                                                  \
  template int64_t forward_workspace<scalar>(const TimeLoop&, int);                               \
  template int64_t forward_shared<scalar>(const TimeLoop&);                                       \
  template Status time_lstm_forward<scalar>(const TimeLstmForward<scalar>&, const TimeLoop&, int, \
                                            void*);

LTLSTM_LAUNCHERS(__nv_bfloat16)
LTLSTM_LAUNCHERS(__half)
LTLSTM_LAUNCHERS(float)

}  // namespace ltlstm::cuda
