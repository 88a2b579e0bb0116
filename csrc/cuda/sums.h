// SPDX-License-Identifier: Apache-2.0
// Launchers of sums over the rows of a matrix: what is one row of a product in ATen would be
// rounded to TF32, or summed in a half type, where the user lets cuBLAS do so.
#pragma once

#include "cuda/time_lstm.h"

namespace ltlstm::cuda {

// Rows that one thread adds up: as many partial sums as fill a GPU, and few terms each.
constexpr int64_t kSummedRows = 64;

// Partial sums of R rows, until one is left.
constexpr int64_t partial_sums(int64_t R) { return (R + kSummedRows - 1) / kSummedRows; }

// out (partial_sums(R), width) = sums over kSummedRows rows each of t (R, width). Always in the
// same order; types: scalar and float, float and float, float and scalar.
template <class From, class To>
Status sum_rows(int64_t R, int64_t width, const From* t, To* out, void* stream);

}  // namespace ltlstm::cuda
