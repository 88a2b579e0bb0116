// SPDX-License-Identifier: Apache-2.0
// Builds the kernel table of one instruction set. Included by the isa_*.cpp files after they set the compiler's target.
#pragma once

#include "cpu/cell_rows.h"
#include "cpu/kernels.h"
#include "cpu/product.h"
#include "cpu/time_lstm.h"

namespace ltlstm::cpu {

template <class Isa, class scalar>
struct Table {
  static void pack_panels(const scalar* source, int64_t k_stride, int64_t j_stride, int64_t K, int64_t columns,
                          int64_t first, int64_t last, scalar* packed) {
    pack<Isa>(source, k_stride, j_stride, K, columns, first, last, packed);
  }

  static void time_forward(const TimeLstmForward<scalar>& p, int64_t first, int64_t last) {
    p.peephole ? time_lstm_forward<Isa, true>(p, first, last) : time_lstm_forward<Isa, false>(p, first, last);
  }

  static void time_backward(const TimeLstmBackward<scalar>& p, int64_t first, int64_t last) {
    if (p.peephole)
      p.w_hr ? time_lstm_backward<Isa, true, true>(p, first, last)
             : time_lstm_backward<Isa, true, false>(p, first, last);
    else
      p.w_hr ? time_lstm_backward<Isa, false, true>(p, first, last)
             : time_lstm_backward<Isa, false, false>(p, first, last);
  }

  static void rows_forward(const CellRowsForward<scalar>& p, int64_t first, int64_t last) {
    cell_rows_forward(p, first, last);
  }

  static void rows_backward(const CellRowsBackward<scalar>& p, int64_t first, int64_t last) {
    cell_rows_backward(p, first, last);
  }

  static const Kernels<scalar>* get() {
    static constexpr Kernels<scalar> table = {Isa::kName,   Tile<Isa, scalar>::kPanel, pack_panels, time_forward,
                                              time_backward, rows_forward,             rows_backward};
    return &table;
  }
};

}  // namespace ltlstm::cpu
