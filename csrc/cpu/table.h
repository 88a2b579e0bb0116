// SPDX-License-Identifier: Apache-2.0
// Builds the kernel table of one instruction set. Included by the isa_*.cpp files after they set
// the compiler's target.
#pragma once

#include "cpu/cell_rows.h"
#include "cpu/kernels.h"
#include "cpu/product.h"
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

  static void rows_forward(const CellRowsForward<scalar>& p, int64_t first, int64_t last) {
    cell_rows_forward<Isa>(p, first, last);
  }

  static void rows_backward(const CellRowsBackward<scalar>& p, int64_t first, int64_t last) {
    cell_rows_backward<Isa>(p, first, last);
  }

  static const Kernels<scalar>* get() {
    static constexpr Kernels<scalar> table = {Isa::kName,
                                              Tile<Isa, scalar>::kBlock,
                                              Isa::kPairs && sizeof(scalar) == sizeof(float),
                                              blocks,
                                              pack_blocks,
                                              time_forward,
                                              time_backward,
                                              rows_forward,
                                              rows_backward};
    return &table;
  }
};

}  // namespace ltlstm::cpu
