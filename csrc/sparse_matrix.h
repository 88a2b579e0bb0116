// SPDX-License-Identifier: Apache-2.0
// A matrix that is mostly zeros, as the kernels read it, and what it is multiplied by.
#pragma once

#include <cstdint>

namespace ltlstm {

// Rows are taken in lines: one row, or as many as a vector has lanes. An entry of a line is
//   rows:    one element: its column and its value;
//   columns: one column of the line: that column and a value for each lane. Rows that share their
//            columns (16x1 and block masks) leave no lane idle;
//   windows: one element for each lane, all from one short window of columns: where the window
//            starts, each lane's column within it, and a value for each lane. x is fetched by a
//            permutation within registers, so any mask will do.
enum class SparseForm : int64_t { kRows, kColumns, kWindows };

template <class scalar>
struct SparseMatrix {
  SparseForm form;
  int64_t gates, width, columns;  // (gates * width, columns); no line crosses from gate to gate
  int64_t entries;
  const int32_t* starts;  // (lines + 1) the first entry of each line
  const int16_t* places;  // (entries) its column, or the first of its window
  const uint8_t* lanes;   // (entries, lanes) windows only: each lane's column within it
  const scalar* values;   // (entries) or (entries, lanes)
};

// What is multiplied: x and y have a part for each gate, x_gate and w.width elements apart; x_gate
// is 0 where all gates read the same. base may be y, and a base_stride of 0 repeats one row.
template <class scalar>
struct SparseOperands {
  const scalar* x;
  int64_t x_stride, x_gate;
  const scalar* base;
  int64_t base_stride;
  scalar* y;
  int64_t y_stride;
};

}  // namespace ltlstm
