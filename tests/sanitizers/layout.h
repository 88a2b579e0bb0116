// SPDX-License-Identifier: Apache-2.0
// Rows as time steps, and packed weights: what every time loop is given.
#pragma once

#include "ways.h"

namespace ltlstm::sanitizers {

// T steps of N rows; ragged down to a last step without rows.
class Layout {
 public:
  template <class scalar>
  Layout(int64_t T, int64_t N, bool ragged, bool reset, bool reverse, Numbers<scalar>& numbers)
      : T_(T), N_(N), reset_there_(reset), reverse_(reverse), batch_sizes_(T), offsets_(T + 1) {
    offsets_[0] = 0;
    for (int64_t t = 0; t < T; ++t) {
      batch_sizes_[t] = ragged ? N * (T - 1 - t) / (T - 1) : N;
      offsets_[t + 1] = offsets_[t] + batch_sizes_[t];
    }
    reset_ = numbers.flags(rows());
  }

  int64_t rows() const { return offsets_[T_]; }
  Sequence sequence() const {
    return {T_,      N_, batch_sizes_.data(), offsets_.data(), pointer_if(reset_there_, reset_),
            reverse_};
  }

 private:
  const int64_t T_, N_;
  const bool reset_there_, reverse_;
  Buffer<int64_t> batch_sizes_, offsets_;
  Buffer<bool> reset_;
};

// A (rows, columns) matrix as kernels.h has it, packed by two threads.
template <class scalar>
Buffer<scalar> packed(const scalar* w, int64_t rows, int64_t columns, bool transpose, bool gates,
                      const cpu::Kernels<scalar>& kernels = cpu::kernels<scalar>()) {
  const int64_t K = transpose ? columns : rows, out = transpose ? rows : columns;
  const int64_t width = gates ? out / 4 : out, blocks = kernels.blocks(width, gates);
  Buffer<scalar> to = Numbers<scalar>::unwritten(blocks * kernels.block * K);
  on_threads(2, [&](int half) {
    kernels.pack(w, transpose ? 1 : columns, transpose ? columns : 1, K, width, gates,
                 blocks * half / 2, blocks * (half + 1) / 2, to.data());
  });
  require_written(to, 1, 1, std::string(kernels.isa) + ": packed");
  return to;
}

template <class scalar, class... Some>
Results<scalar> results(Buffer<scalar>&& first, Some&&... others) {
  Results<scalar> all;
  all.push_back(std::move(first));
  (all.push_back(std::move(others)), ...);
  return all;
}

}  // namespace ltlstm::sanitizers
