// SPDX-License-Identifier: Apache-2.0
// What a time-LSTM kernel is asked to do: plain structs of sizes and pointers, passed by value.
//
// Shape letters as in csrc/problem.h; `scalar` is the storage type: __nv_bfloat16, __half or float.
// State that is summed over time (c, dc, dh) is float whatever the storage. Two directions of a
// layer run side by side and share sizes and rows; each says whether it runs in reverse, and
// Sequence::reverse is not read. Sequence::batch_sizes and offsets lie on the device, or are null
// for padded input: row(t, n) = t N + n.
#pragma once

#include "problem.h"

// Forward declarations: a source that only passes pointers on needs no CUDA header.
struct __nv_bfloat16;
struct __half;

namespace ltlstm::cuda {

template <class scalar>
struct ForwardDirection {
  bool reverse;
  scalar* preact;         // (R, 4H) W_ih x + b_ih + b_hh; where streamed, W_hh h is added
  const scalar* w_hh;     // (4H, P)
  const scalar* w_hr;     // (P, H) or null
  const float* peephole;  // (3, H) or null
  const scalar* h0;       // (N, P)
  const float* c0;        // (N, H)
  scalar* hidden;         // (R, P), rows hidden_stride apart
  scalar* gates;          // (R, 4H) i, f, g, o, or null; may be preact itself
  float* cells;           // (R, H) or null
  scalar* h_n;            // (N, P)
  float* c_n;             // (N, H)
};

template <class scalar>
struct TimeLstmForward {
  using Scalar = scalar;
  Sequence seq;
  int64_t H, P;
  int64_t hidden_stride;
  int64_t first_row;         // batch row that the first column of the first group is
  int64_t patience_ns;       // after which a block that waits in vain for another ends the kernel
  unsigned char* workspace;  // workspace_bytes of zeros, spent afterwards; see streamed.h too
  ForwardDirection<scalar> direction[2];
};

template <class scalar>
struct BackwardDirection {
  bool reverse;
  const scalar* w_hh;      // (4H, P)
  const scalar* w_hr;      // (P, H) or null
  const float* peephole;   // (3, H) or null
  const float* c0;         // (N, H)
  const scalar* gates;     // (R, 4H) i, f, g, o; where recompute, what they are of: the whole
                           // pre-activations, W_ih x + W_hh h + biases
  const float* cells;      // (R, H)
  const scalar* d_hidden;  // (R, P), rows d_hidden_stride apart, or null
  const float* d_cells;    // (R, H) or null
  const float* d_h_n;      // (N, P) or null
  const float* d_c_n;      // (N, H) or null
  scalar* d_preact;        // (R, 4H)
  scalar* r;               // (R, H) output before the projection, or null
  scalar* d_projected;     // (R, P) whole gradient of h, with a projection, or null
  float* d_h0;             // (N, P)
  float* d_c0;             // (N, H)
  float* d_peephole;       // (N, 3, H) added to: the sum over time; or null
};

template <class scalar>
struct TimeLstmBackward {
  using Scalar = scalar;
  Sequence seq;
  int64_t H, P;
  int64_t d_hidden_stride;
  bool recompute;
  int64_t first_row;
  int64_t patience_ns;
  unsigned char* workspace;
  BackwardDirection<scalar> direction[2];
};

}  // namespace ltlstm::cuda
