// SPDX-License-Identifier: Apache-2.0
// Compiled sparse matrices: every form times odd numbers of rows, whole and in slices.
#pragma once

#include <optional>

#include "cpu/sparse_compile.h"
#include "ways.h"

namespace ltlstm::sanitizers {

template <class scalar>
cpu::SparseTarget target() {
  return {cpu::kernels<scalar>().lanes, cpu::kernels<scalar>().window};
}

template <class scalar>
Buffer<uint8_t> compiled(const Buffer<scalar>& weight, const Buffer<bool>& mask,
                         cpu::SparseShape shape, std::optional<SparseForm> form) {
  const auto bytes = cpu::compile_sparse(weight.data(), mask.data(), shape, target<scalar>(), form);
  Buffer<uint8_t> copy(static_cast<int64_t>(bytes.size()));
  memcpy(copy.data(), bytes.data(), bytes.size());
  return copy;
}

template <class scalar>
SparseMatrix<scalar> read_matrix(const Buffer<uint8_t>& bytes) {
  SparseMatrix<scalar> matrix;
  const char* wrong =
      cpu::read_sparse<scalar>(bytes.data(), bytes.size(), target<scalar>(), matrix);
  require(wrong == nullptr, std::string("reading back: ") + (wrong ? wrong : ""));
  return matrix;
}

// Any bytes at all must be refused, or multiply without a step outside of them or of x.
template <class scalar>
void check_damaged(const Buffer<uint8_t>& bytes, uint32_t seed) {
  std::minstd_rand random(seed);
  const int64_t head = std::min<int64_t>(bytes.size(), 160);
  for (int i = 0; i < 60; ++i) {
    const int64_t size = i % 3 == 0 ? random() % (bytes.size() + 1) : bytes.size();
    Buffer<uint8_t> damaged(size);
    if (size > 0) memcpy(damaged.data(), bytes.data(), size);
    for (int k = i % 4; k >= 0 && size > 0; --k)
      damaged[std::min<int64_t>(random() % head, size - 1)] = static_cast<uint8_t>(random());
    SparseMatrix<scalar> matrix;
    cpu::shape_of_sparse(damaged.data(), size);
    if (cpu::read_sparse<scalar>(damaged.data(), size, target<scalar>(), matrix)) continue;
    const int64_t inputs = matrix.gates * matrix.columns, outputs = matrix.gates * matrix.width;
    const Buffer<scalar> x(inputs, scalar(0)), base(outputs, scalar(0));
    Buffer<scalar> y(outputs);
    cpu::kernels<scalar>().sparse_product(
        matrix, {x.data(), inputs, matrix.columns, base.data(), 0, y.data(), outputs}, 1);
  }
}

template <class scalar>
void check_sparse(cpu::SparseShape shape, int64_t rows, int density) {
  const cpu::Kernels<scalar>& kernels = cpu::kernels<scalar>();
  Numbers<scalar> numbers(static_cast<uint32_t>(shape.width + shape.columns + rows));
  const int64_t size = shape.gates * shape.width * shape.columns;
  const int64_t inputs = shape.gates * shape.columns, outputs = shape.gates * shape.width;
  const Buffer<scalar> weight = numbers.drawn(size), x = numbers.drawn(rows * inputs);
  const Buffer<scalar> base = numbers.drawn(outputs);
  Buffer<bool> mask(size);
  std::minstd_rand random(1);
  for (int64_t i = 0; i < size; ++i) mask[i] = static_cast<int>(random() % 100) < density;
  for (SparseForm form : {SparseForm::kRows, SparseForm::kColumns, SparseForm::kWindows}) {
    if (!cpu::has_form(form, shape.columns, target<scalar>())) continue;
    const Buffer<uint8_t> bytes = compiled(weight, mask, shape, form);
    const SparseMatrix<scalar> matrix = read_matrix<scalar>(bytes);
    const auto run = [&](const Way& way) {
      Buffer<scalar> y = Numbers<scalar>::unwritten(rows * outputs);
      way.run(rows, [&](const Part& part) {
        const int64_t first = part.first_row;
        kernels.sparse_product(matrix,
                               {x.data() + first * inputs, inputs, shape.columns, base.data(), 0,
                                y.data() + first * outputs, outputs},
                               part.last_row - first);
      });
      Results<scalar> all;
      all.push_back(std::move(y));
      return all;
    };
    const Results<scalar> expected = run(alone());
    for (int64_t i = 0; i < rows * outputs; ++i) {
      const int64_t row = i / outputs, output = i % outputs, gate = output / shape.width;
      scalar sum = base[output];
      for (int64_t k = 0; k < shape.columns; ++k)
        if (mask[output * shape.columns + k])
          sum += weight[output * shape.columns + k] * x[row * inputs + gate * shape.columns + k];
      require(std::abs(expected[0][i] - sum) < 1e-3, "a sparse product");
    }
    for (int count : {2, 4}) require_same(run(slices_of_rows(count)), expected, "a sparse product");
    check_damaged<scalar>(bytes, static_cast<uint32_t>(form) + 1);
  }
}

}  // namespace ltlstm::sanitizers
