// SPDX-License-Identifier: Apache-2.0
// bfloat16 weights in pairs on any machine: the kernels that have them, else the generic ones with
// the product of pairs written out.
#pragma once

#include "cpu/time_lstm.h"
#include "ways.h"

namespace ltlstm::sanitizers {

struct WrittenOut {
  static constexpr int kVectorBytes = 16;  // as the generic kernels, which pack for it
  static constexpr int kRows = 2;
  static constexpr bool kPairs = true;

  struct Pairs {
    using Left = uint32_t;
    using Vector = cpu::Tile<WrittenOut, float>::Vector;
    LTLSTM_MEMBER static void multiply_add(Vector& sum, Left a, const Vector& b) {
      for (int i = 0; i < cpu::Tile<WrittenOut, float>::kLanes; ++i)
        for (int half : {0, 16})
          sum[i] += cpu::widened(a >> half) * cpu::widened(bits_of<uint32_t>(b[i]) >> half);
    }
  };
};

inline void time_lstm_forward_in_pairs(const TimeLstmForward<float>& p, const Part& part) {
  p.peephole ? cpu::time_lstm_forward<WrittenOut, true>(p, part)
             : cpu::time_lstm_forward<WrittenOut, false>(p, part);
}

template <class scalar>
const cpu::Kernels<scalar>& kernels_of(bool pairs) {
  if constexpr (sizeof(scalar) == sizeof(float)) {
    static const cpu::Kernels<scalar> written_out = [] {
      cpu::Kernels<scalar> table = *cpu::generic_kernels<scalar>();
      table.time_lstm_forward = time_lstm_forward_in_pairs;
      return table;
    }();
    if (pairs && !cpu::kernels<scalar>().pairs) return written_out;
  }
  return cpu::kernels<scalar>();
}

template <class scalar>
Buffer<uint16_t> halves(const Buffer<scalar>& values) {
  Buffer<uint16_t> to(values.size());
  for (int64_t i = 0; i < values.size(); ++i)
    to[i] = static_cast<uint16_t>(cpu::rounded(static_cast<float>(values[i])));
  return to;
}

}  // namespace ltlstm::sanitizers
