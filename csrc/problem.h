// SPDX-License-Identifier: Apache-2.0
// What a kernel is asked to do: plain structs of sizes and pointers, passed by value.
//
// T time steps, N batch, H hidden size, P width of h (= H without a projection), R rows. A row is
// one time step of one sequence: row(t, n) = offsets[t] + n for n < batch_sizes[t]. Padded input is
// the case batch_sizes[t] = N. Every matrix is row-major with the rightmost size as its row length,
// unless a stride is named. A pointer documented as "or null" says by null that the thing is
// absent.
#pragma once

#include <cstdint>

#include "sparse_matrix.h"

namespace ltlstm {

// Which rows are alive at a step, and where state is cleared.
struct Sequence {
  int64_t T, N;
  const int64_t* batch_sizes;  // (T), not increasing
  const int64_t* offsets;      // (T + 1), offsets[t] = sum of batch_sizes before t
  const bool* reset;           // (R) or null: the state before this row is zero
  bool reverse;
};

template <class scalar>
struct TimeLstmForward {
  Sequence seq;
  int64_t first_step, last_step;  // of the scan; the state of the step before is in hidden and c
  int64_t H, P;
  int64_t hidden_stride;  // elements from one row of hidden to the next
  bool in_place;       // the weights are as they are; else packed, w_hh^T in gate blocks, w_hr^T in
                       // plain ones
  const scalar* w_hh;  // (4H, P)
  const scalar* w_hr;  // (P, H) or null
  const scalar* x;     // (R, D), and what follows of the weights, or null: then gates holds
                       // W_ih x + b_ih + b_hh on entry
  int64_t D;
  const scalar* w_ih;  // (4H, D) as it is
  const scalar* b_ih;  // (4H) or null, b_hh too
  const scalar* b_hh;
  const scalar* peephole;  // (3, H) or null
  const scalar* zeros;     // (max(H, P)), or null without reset; of an H-LSTM (4 max(H, K))
  const scalar* h0;        // (N, P)
  scalar* gates;           // (., 4H) out: i, f, g, o where cells is not null, else scratch
  int64_t first_gates;     // the row that the first row of gates is of
  scalar* cells;           // (R, H) or null
  scalar* hidden;          // (R, P)
  scalar* h;               // (N, P) in: h0; out: h_n
  scalar* c;               // (N, H) in: c0; out: c_n
  scalar* scratch;         // (N, H) with a projection, or null
  uint32_t* rounded;       // (pieces of the gang or 1, N, P / 2) where w_hh is packed in pairs of
                           // bfloat16, which h is then rounded to, or null; with it:
  const uint16_t* half_inputs;  // (., 4H) bfloat16, W_ih x, rows as those of gates
  const scalar* bias;           // (4H) or null
  scalar* gathered;  // (pieces of the gang or 1, N, P) where rows do not all come from the same
                     // place, or null
};

template <class scalar>
struct TimeLstmBackward {
  Sequence seq;
  int64_t H, P;
  int64_t hidden_stride;    // of hidden
  int64_t d_hidden_stride;  // of d_hidden
  const scalar* w_hh;       // (4H, P) packed in plain blocks
  const scalar* w_hr;       // (P, H) packed in plain blocks, or null
  const scalar* peephole;   // (3, H) or null
  const scalar* zeros;      // (max(H, P)), or null without reset
  const scalar* h0;         // (N, P)
  const scalar* c0;         // (N, H)
  const scalar* gates;      // (R, 4H)
  const scalar* cells;      // (R, H)
  const scalar* hidden;     // (R, P)
  const scalar* d_hidden;   // (R, P) or null
  const scalar* d_cells;    // (R, H) or null
  scalar* d_preact;         // (R, 4H)
  scalar* h_prev;           // (R, P) the h that entered each row, for the gradient of W_hh
  scalar* r;                // (R, H) output before the projection, or null
  scalar* d_projected;      // (R, P) whole gradient of h, for the gradient of W_hr, or null
  scalar* dh;               // (N, P) in: d_h_n; out: d_h0
  scalar* dc;               // (N, H) in: d_c_n; out: d_c0
  scalar* d_peephole;       // (N, 3, H) zeros on entry, summed over time, or null
  scalar* scratch;          // (N, H) with a projection, or null
};

// The pointwise cell over rows that do not depend on each other: a layer-LSTM at one layer, or one
// LSTMCell step.
template <class scalar>
struct CellRowsForward {
  int64_t H;
  const scalar* preact;    // (R, 4H)
  const scalar* c_prev;    // (R, H), rows c_prev_stride apart
  int64_t c_prev_stride;   // H, or 0 where all rows share one (the first layer of a layer-LSTM: a
                           // row of zeros)
  const scalar* peephole;  // (3, H) or null
  scalar* gates;           // (R, 4H); may be preact itself
  scalar* c;               // (R, H)
  scalar* r;               // (R, H)
};

template <class scalar>
struct CellRowsBackward {
  int64_t H;
  const scalar* gates;     // (R, 4H)
  const scalar* c_prev;    // (R, H), rows c_prev_stride apart
  int64_t c_prev_stride;   // as forward
  const scalar* c;         // (R, H)
  const scalar* peephole;  // (3, H) or null
  const scalar* dr;        // (R, H)
  const scalar* dc;        // (R, H)
  scalar* d_preact;        // (R, 4H)
  scalar* dc_prev;         // (R, H); may be dc itself
  scalar* r;               // (R, H) or null
};

// The time loop of an H-LSTM: every gate is an MLP of its own with J hidden layers of width K,
// whose first is one product for all four. Of `time` it uses all but what is about weights and
// gates; P is H there.
template <class scalar>
struct HiddenGateForward {
  using Scalar = scalar;
  TimeLstmForward<scalar> time;
  int64_t K, J;
  scalar slope;                        // of phi below zero
  const SparseMatrix<scalar>* sparse;  // (J + 2): w_ih, w_hh as one gate, then of all gates what
                                       // follows each hidden layer; or null: w_hh and later hold
                                       // them
  SparseOperands<scalar> inputs;       // of the product by w_ih, which the pieces of a gang do for
  int64_t input_rows;                  // so many rows before the first step; 0: it is done
  const scalar* w_hh;                  // (4K, H); packed: w_hh^T in plain blocks, as all below
  const scalar* const*
      later;                  // (J, 4) times (K or H, K): of each gate, what follows a hidden layer
  const scalar* const* bias;  // (J) times (4, K or H), or null
  const scalar* const* masks;  // (J) times (R, 4K), or null: of dropout, scaled, none negative
  scalar* const* hidden;  // (J) times (., 4K), dropped; the first in: W_ih x + b. Rows: all; where
                          // cells is null from first_hidden on in the first, N in the others
  int64_t first_hidden;   // the row that the first row of hidden[0] is of
  scalar* gates;          // (R, 4H), or where cells is null (2, N, 4H)
  scalar* states;         // (pieces of the gang, 2, N, H) of each its h and c, or null without one
};

// As above, of `time`; d_preact is (R, 4H), and w_hh is null there.
template <class scalar>
struct HiddenGateBackward {
  using Scalar = scalar;
  TimeLstmBackward<scalar> time;
  int64_t K, J;
  scalar slope;
  const scalar* w_hh;           // (4K, H) packed in plain blocks, as all below
  const scalar* const* later;   // (J, 4) times (K or H, K)
  const scalar* const* masks;   // (J) times (R, 4K), or null
  const scalar* const* hidden;  // (J) times (R, 4K), dropped
  scalar* const* d_hidden;      // (J) times (R, 4K): before phi
};

}  // namespace ltlstm
