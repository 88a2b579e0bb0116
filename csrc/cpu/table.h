// SPDX-License-Identifier: Apache-2.0
// Builds the kernel table of one instruction set. Included by the isa_*.cpp files after they set
// the compiler's target.
#pragma once

#include "cpu/cell_rows.h"
#include "cpu/hidden_gate.h"
#include "cpu/kernels.h"
#include "cpu/product.h"
#include "cpu/sparse.h"
#include "cpu/time_lstm.h"

namespace ltlstm::cpu {

template <class Isa, class scalar>
struct Table {
  static int64_t blocks(int64_t width, bool gates) {
    return Columns<Isa, scalar>{width, gates}.blocks();
  }

  static void pack_blocks(const scalar* source, int64_t k_stride, int64_t j_stride, int64_t K,
                          int64_t width, bool gates, int64_t first, int64_t last, scalar* packed) {
    pack(source, k_stride, j_stride, K, Columns<Isa, scalar>{width, gates}, first, last, packed);
  }

  static void time_forward(const TimeLstmForward<scalar>& p, const Part& part) {
    p.peephole ? time_lstm_forward<Isa, true>(p, part) : time_lstm_forward<Isa, false>(p, part);
  }

  static void time_backward(const TimeLstmBackward<scalar>& p, const Part& part) {
    if (p.peephole)
      p.w_hr ? time_lstm_backward<Isa, true, true>(p, part)
             : time_lstm_backward<Isa, true, false>(p, part);
    else
      p.w_hr ? time_lstm_backward<Isa, false, true>(p, part)
             : time_lstm_backward<Isa, false, false>(p, part);
  }

  static void gate_forward(const HiddenGateForward<scalar>& p, const Part& part) {
    hidden_gate_forward<Isa>(p, part);
  }

  static void gate_backward(const HiddenGateBackward<scalar>& p, const Part& part) {
    hidden_gate_backward<Isa>(p, part);
  }

  static void rows_forward(const CellRowsForward<scalar>& p, int64_t first, int64_t last) {
    cell_rows_forward<Isa>(p, first, last);
  }

  static void rows_backward(const CellRowsBackward<scalar>& p, int64_t first, int64_t last) {
    cell_rows_backward<Isa>(p, first, last);
  }

  static void rows_peephole_gradient(const CellRowsBackward<scalar>& p, int64_t rows, int64_t first,
                                     int64_t last, scalar* d_peephole) {
    cell_rows_peephole_gradient(p, rows, first, last, d_peephole);
  }

  static void product_of_sparse(const SparseMatrix<scalar>& w, const SparseOperands<scalar>& p,
                                int64_t rows) {
    sparse_product<Isa>(w, p, rows, GateUnits{0, w.gates, 0, w.width});
  }

  static const Kernels<scalar>* get() {
    static constexpr Kernels<scalar> table = {Isa::kName,
                                              Tile<Isa, scalar>::kBlock,
                                              Isa::kPairs && sizeof(scalar) == sizeof(float),
                                              Tile<Isa, scalar>::kLanes,
                                              Permutation<Isa, scalar>::kWindow,
                                              blocks,
                                              pack_blocks,
                                              time_forward,
                                              time_backward,
                                              gate_forward,
                                              gate_backward,
                                              rows_forward,
                                              rows_backward,
                                              rows_peephole_gradient,
                                              product_of_sparse};
    return &table;
  }
};

}  // namespace ltlstm::cpu
