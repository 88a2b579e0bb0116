// SPDX-License-Identifier: Apache-2.0
// The CPU kernels as a table of functions, one table for each instruction set and scalar type,
// chosen at run time.
//
// A function works on the part of what it is given (rows, blocks, pieces of a gang) that its caller
// names: the caller owns the threads. Nothing here allocates, throws or keeps state.
#pragma once

#include "cpu/gang.h"
#include "problem.h"
#include "sparse_matrix.h"

namespace ltlstm::cpu {

// Batch rows [first_row, last_row), and with a gang only the share of their units.
struct Part {
  int64_t first_row, last_row;
  Gang* gang;  // or null
  Gang::Share share;
};

template <class scalar>
struct Kernels {
  const char* isa;
  int64_t block;   // columns of a packed block: K * block elements
  bool pairs;      // whether w_hh may be packed in pairs of bfloat16
  int64_t lanes;   // of a vector
  int64_t window;  // how many columns of x a permutation reaches, for sparse matrices; 0: none

  // A matrix B(k, j) = source[k * k_stride + j * j_stride] in the form that the time loop streams:
  // plain blocks of `width` columns, or gate blocks of 4 * width.
  int64_t (*blocks)(int64_t width, bool gates);
  void (*pack)(const scalar* source, int64_t k_stride, int64_t j_stride, int64_t K, int64_t width,
               bool gates, int64_t first, int64_t last, scalar* packed);
  void (*time_lstm_forward)(const TimeLstmForward<scalar>&, const Part&);
  void (*time_lstm_backward)(const TimeLstmBackward<scalar>&, const Part&);
  void (*hidden_gate_forward)(const HiddenGateForward<scalar>&, const Part&);
  void (*hidden_gate_backward)(const HiddenGateBackward<scalar>&, const Part&);
  void (*cell_rows_forward)(const CellRowsForward<scalar>&, int64_t first, int64_t last);
  void (*cell_rows_backward)(const CellRowsBackward<scalar>&, int64_t first, int64_t last);
  // d_peephole (3, H) += over `rows` rows that the backward has done, units [first, last).
  void (*cell_rows_peephole_gradient)(const CellRowsBackward<scalar>&, int64_t rows, int64_t first,
                                      int64_t last, scalar* d_peephole);
  // y = base + W x for `rows` rows of x and all of W.
  void (*sparse_product)(const SparseMatrix<scalar>& w, const SparseOperands<scalar>&,
                         int64_t rows);
};

// The table for this machine. The environment variable LTLSTM_CPU_ISA (generic, avx2, avx512,
// avx512bf16), read once, asks for a narrower one; what the machine cannot run is not taken.
template <class scalar>
const Kernels<scalar>& kernels();

// One table an instruction set; null where the build has none.
template <class scalar>
const Kernels<scalar>* generic_kernels();
template <class scalar>
const Kernels<scalar>* avx2_kernels();
template <class scalar>
const Kernels<scalar>* avx512_kernels();
template <class scalar>
const Kernels<scalar>* avx512bf16_kernels();

}  // namespace ltlstm::cpu
