// SPDX-License-Identifier: Apache-2.0
// The forward step over weights in pairs of bfloat16: half the bytes of float32 to stream, and two
// products an instruction. h is rounded to bfloat16, as it is where it is stored; sums, gates and
// cells are float32.
#pragma once

#include "cpu/product.h"
#include "problem.h"

namespace ltlstm::cpu {

LTLSTM_INLINE float widened(uint16_t value) {
  return bits_of<float>(static_cast<uint32_t>(value) << 16);
}

// To the nearest, ties to even; NaN stays NaN.
LTLSTM_INLINE uint32_t rounded(float value) {
  const uint32_t bits = bits_of<uint32_t>(value);
  const uint32_t nearest = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
  return value == value ? nearest : 0x7fc0u;
}

LTLSTM_INLINE void round_pairs(int64_t pairs, const float* from, uint32_t* to) {
  for (int64_t k = 0; k < pairs; ++k) to[k] = rounded(from[2 * k]) | rounded(from[2 * k + 1]) << 16;
}

// preact of `units` units: what the inputs gave, the bias, and W_hh h. Rows of preact and of inputs
// have 4H columns.
template <class Isa>
LTLSTM_INLINE void pairs_step(const TimeLstmForward<float>& p, int64_t rows, const float* h,
                              int64_t h_stride, uint32_t* pairs, int64_t first, int64_t last,
                              int64_t first_block, int64_t last_block, const uint16_t* inputs,
                              float* preact) {
  const int64_t H = p.H, K = p.P / 2;
  for (int64_t i = 0; i < rows; ++i) {
    round_pairs(K, h + i * h_stride, pairs + i * K);
    for (int gate = 0; gate < 4; ++gate) {
      const uint16_t* from = inputs + (4 * i + gate) * H;
      float* to = preact + (4 * i + gate) * H;
      if (p.bias)
        for (int64_t j = first; j < last; ++j) to[j] = widened(from[j]) + p.bias[gate * H + j];
      else
        for (int64_t j = first; j < last; ++j) to[j] = widened(from[j]);
    }
  }
  product_of<Isa, typename Isa::Pairs>(rows, K, pairs, K, p.w_hh, Columns<Isa, float>{H, true},
                                       first_block, last_block, true, preact, 4 * H);
}

}  // namespace ltlstm::cpu
