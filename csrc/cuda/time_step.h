// SPDX-License-Identifier: Apache-2.0
// One step of a time-LSTM whose W_hh stays in memory: launchers of what stands between its
// products. They allocate nothing and wait for nothing. csrc/cuda/streamed.h goes through the
// steps.
#pragma once

#include "cuda/time_lstm.h"

namespace ltlstm::cuda {

// The cell of one step, both directions side by side. h and c, and dc, lie in h_n, c_n and d_c0
// from step to step: cleared, where the state is, before the next step reads them.
template <class scalar>
struct ForwardStep {
  TimeLstmForward<scalar> loop;  // of preact it reads W_ih x + W_hh h + biases
  int directions;
  int64_t scanned;  // the step
  int64_t rows;     // of a direction, at most
  scalar* r[2];     // (N, H): output before the projection; or null: it is h
};

template <class scalar>
struct BackwardStep {
  TimeLstmBackward<scalar> loop;
  int directions;
  int64_t scanned;
  int64_t rows;
  scalar* dh[2];        // (N, P): from the step after this one, not yet cleared
  const scalar* dr[2];  // (N, H): whole gradient of r, with a projection; or null
};

// to = from + added, without `from` where the state is cleared before it enters step `scanned`.
template <class From, class To>
struct StateRows {
  Sequence seq;  // `reverse` counts
  int64_t scanned;
  int64_t rows, width;
  const From* from;  // (rows, width), rows from_stride apart; null: zeros
  int64_t from_stride;
  const From* added;  // likewise
  int64_t added_stride;
  To* to;  // (rows, width); may be from
};

template <class scalar>
Status time_step(const ForwardStep<scalar>& step, void* stream);
template <class scalar>
Status time_step(const BackwardStep<scalar>& step, void* stream);
template <class From, class To>
Status state_rows(const StateRows<From, To>& problem, void* stream);

}  // namespace ltlstm::cuda
