// SPDX-License-Identifier: Apache-2.0
// Runs the streamed loop on a problem from a file; its products are plain loops on the stream.
#pragma once

#include "cuda/streamed.h"
#include "time_lstm.h"

namespace ltlstm::cuda::cases {

// Summed in float, rounded once.
template <class scalar>
void multiply(const Matrix<scalar>& out, const Matrix<scalar>& a, const Matrix<const scalar>& w,
              bool accumulate) {
  for (int64_t i = 0; i < out.rows; ++i)
    for (int64_t j = 0; j < out.columns; ++j) {
      scalar& to = out.data[i * out.row_stride + j * out.column_stride];
      float sum = accumulate ? float(to) : 0.f;
      for (int64_t k = 0; k < a.columns; ++k)
        sum += float(a.data[i * a.row_stride + k * a.column_stride]) *
               float(w.data[k * w.row_stride + j * w.column_stride]);
      to = scalar(sum);
    }
}

template <class scalar, class Problem>
void run_streamed_pass(Records& records, const Problem& problem, const Sizes& s) {
  const auto product = [](auto... given) {
    emulator::enqueue(nullptr, [=] { multiply<scalar>(given...); });
  };
  const auto directions = static_cast<int>(s.directions);
  const int64_t elements = streamed_elements<Problem>(s.N, s.H, s.P, directions);
  const auto launch = [&](const Problem& given) {
    return Streamed<scalar, decltype(product)>(given.seq, directions, product, nullptr).run(given);
  };
  run(records, problem, elements * int64_t{sizeof(scalar)}, launch, /*zeros=*/false);
}

template <class scalar>
void run_streamed(Records& records, const Sizes& s) {
  if (s.backward)
    run_streamed_pass<scalar>(records, backward_of<scalar>(records, s), s);
  else
    run_streamed_pass<scalar>(records, forward_of<scalar>(records, s), s);
}

}  // namespace ltlstm::cuda::cases
