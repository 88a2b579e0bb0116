// SPDX-License-Identifier: Apache-2.0
// Launchers of kernels over rows that do not wait for each other. They allocate nothing and wait
// for nothing. Shape letters as in csrc/problem.h; scalar is __nv_bfloat16, __half or float, and c
// is float whatever the storage.
#pragma once

#include "cuda/time_lstm.h"

namespace ltlstm::cuda {

// The pointwise cell: a layer-LSTM at one layer behind its products, or one LSTMCell step.
template <class scalar>
struct CellRowsForward {
  int64_t R, H;
  const scalar* preact;   // (R, 4H), rows preact_stride apart: they may lie in a wider product
  int64_t preact_stride;  //
  const float* c_prev;    // (R, H), or null where all is zero: the first layer of a layer-LSTM
  const float* peephole;  // (3, H) or null
  scalar* gates;          // (R, 4H) or null
  float* c;               // (R, H)
  scalar* r;              // (R, H)
};

template <class scalar>
struct CellRowsBackward {
  int64_t R, H;
  const scalar* gates;    // (R, 4H)
  const float* c_prev;    // (R, H) or null
  const float* c;         // (R, H)
  const float* peephole;  // (3, H) or null
  const scalar* dr;       // (R, H)
  const float* dc;        // (R, H) or null
  scalar* d_preact;       // (R, 4H), rows d_preact_stride apart
  int64_t d_preact_stride;
  float* dc_prev;  // (R, H) or null; may be dc itself
  scalar* r;       // (R, H) or null: the output again, for the gradient of a projection
};

// The gradient of a layer-LSTM's peepholes, from what backward wrote: sums over `rows_a_piece` rows
// each, for the caller to add up.
template <class scalar>
struct PeepholeGradient {
  int64_t R, H;
  int64_t rows_a_piece;
  const scalar* d_preact;  // (R, 4H), rows d_preact_stride apart
  int64_t d_preact_stride;
  const float* c_prev;  // (R, H) or null
  const float* c;       // (R, H)
  float* d_peephole;    // (ceil(R / rows_a_piece), 3, H)
};

// The h that entered each row of a time-LSTM: what the gradient of W_hh and recomputing multiply.
template <class scalar>
struct EnteringRows {
  Sequence seq;  // batch_sizes and offsets may be null; `reverse` counts
  int64_t P;
  int64_t hidden_stride;
  const scalar* hidden;  // (R, P), rows hidden_stride apart
  const scalar* h0;      // (N, P)
  scalar* h_prev;        // (R, P)
};

template <class scalar>
Status cell_rows_forward(const CellRowsForward<scalar>& problem, void* stream);
template <class scalar>
Status cell_rows_backward(const CellRowsBackward<scalar>& problem, void* stream);
template <class scalar>
Status peephole_gradient(const PeepholeGradient<scalar>& problem, void* stream);
template <class scalar>
Status entering_rows(const EnteringRows<scalar>& problem, void* stream);

}  // namespace ltlstm::cuda
