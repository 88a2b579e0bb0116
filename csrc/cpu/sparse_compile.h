// SPDX-License-Identifier: Apache-2.0
// Makes a sparse matrix from a weight and its mask, chooses its form, and reads it back.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sparse_matrix.h"

namespace ltlstm::cpu {

struct SparseShape {
  int64_t gates, width, columns;  // (gates * width, columns); no line crosses from gate to gate
};

// What entries are made for: an instruction set, as far as they are concerned.
struct SparseTarget {
  int64_t lanes;   // of a vector
  int64_t window;  // how many columns lie in reach of a permutation; 0 without one
};

// Columns are numbered in 16 bits.
constexpr int64_t kMostSparseColumns = INT16_MAX;

// One block of bytes that holds the matrix, in the form named or else in the fastest. weight (gates
// * width, columns); mask of the same shape says which elements count, null: those that are not
// zero.
template <class scalar>
std::vector<uint8_t> compile_sparse(const scalar* weight, const bool* mask, SparseShape shape,
                                    SparseTarget target, std::optional<SparseForm> form);

// Whether a matrix of so many columns has the form at all.
bool has_form(SparseForm form, int64_t columns, SparseTarget target);

// The time of a product with one row, counted in multiplications of a dense product.
int64_t sparse_work(SparseForm form, int64_t entries, SparseTarget target);

// What a block of bytes says of itself, with nothing else checked.
SparseShape shape_of_sparse(const uint8_t* bytes, int64_t size);

// Points the matrix at the bytes. Returns null, or what is wrong with them: anything that
// compile_sparse would not have made for this target and type, so that no product reads outside of
// them or of x.
template <class scalar>
const char* read_sparse(const uint8_t* bytes, int64_t size, SparseTarget target,
                        SparseMatrix<scalar>& matrix);

}  // namespace ltlstm::cpu
