// SPDX-License-Identifier: Apache-2.0
// The CPU kernels as a table of functions, one table for each instruction set and scalar type, chosen at run time.
//
// A function works on the slice [first, last) of what it is given (batch rows, rows, panels): the caller owns the
// threads. Nothing here allocates, throws or keeps state.
#pragma once

#include "problem.h"

namespace ltlstm::cpu {

template <class scalar>
struct Kernels {
  const char* isa;
  int64_t panel_columns;  // a (K, columns) matrix packs into ceil(columns / panel_columns) panels of K * panel_columns

  // Panels of B(k, j) = source[k * k_stride + j * j_stride], for `product` inside the time loop.
  void (*pack)(const scalar* source, int64_t k_stride, int64_t j_stride, int64_t K, int64_t columns, int64_t first_panel,
               int64_t last_panel, scalar* packed);
  void (*time_lstm_forward)(const TimeLstmForward<scalar>&, int64_t first, int64_t last);
  void (*time_lstm_backward)(const TimeLstmBackward<scalar>&, int64_t first, int64_t last);
  void (*cell_rows_forward)(const CellRowsForward<scalar>&, int64_t first, int64_t last);
  void (*cell_rows_backward)(const CellRowsBackward<scalar>&, int64_t first, int64_t last);
};

// The table for this machine. The environment variable LTLSTM_CPU_ISA (generic, avx2, avx512), read once, asks for a
// narrower one; what the machine cannot run is not taken.
template <class scalar>
const Kernels<scalar>& kernels();

// One table an instruction set; null where the build has none.
template <class scalar>
const Kernels<scalar>* generic_kernels();
template <class scalar>
const Kernels<scalar>* avx2_kernels();
template <class scalar>
const Kernels<scalar>* avx512_kernels();

}  // namespace ltlstm::cpu
