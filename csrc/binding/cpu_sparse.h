// SPDX-License-Identifier: Apache-2.0
// A compiled sparse matrix as an argument, a tensor of bytes checked before a kernel reads it; and
// its product for many rows.
#pragma once

#include "binding/cpu_products.h"
#include "cpu/sparse_compile.h"

namespace ltlstm::binding {

template <class scalar>
cpu::SparseTarget sparse_target() {
  return {cpu::kernels<scalar>().lanes, cpu::kernels<scalar>().window};
}

inline bool is_bytes(const Tensor& t) {
  return t.is_cpu() && t.scalar_type() == ScalarType::Byte && t.dim() == 1 && t.is_contiguous();
}

// The sizes that the bytes name, gates first, with nothing else checked.
inline Sizes shape_of(const Tensor& bytes) {
  const auto shape = cpu::shape_of_sparse(data<uint8_t>(bytes), bytes.numel());
  return {shape.gates, shape.width, shape.columns};
}

// Why a tensor is not the bytes that were compiled from a weight of these sizes.
template <class Argument>
[[noreturn]] void refuse_bytes(const char* op, const Argument& argument, const Tensor& t,
                               Shape sizes) {
  const char* contract = "be a contiguous uint8 CPU tensor of 1 dimension";
  require(t.is_cpu(), op, argument, contract, "a tensor on another device");
  require(t.scalar_type() == ScalarType::Byte, op, argument, contract, name_of(t.scalar_type()));
  if (!is_bytes(t)) refuse(op, argument, contract, "shape " + text(t.sizes()));
  refuse(op, argument, "be compiled from shape " + text(sizes), text(shape_of(t)));
}

// It points into the tensor.
template <class scalar>
SparseMatrix<scalar> sparse_matrix(const char* op, const char* argument, const Tensor& t) {
  if (!is_bytes(t)) refuse_bytes(op, argument, t, {});
  const auto* bytes = data<uint8_t>(t);
  const char* contract = "come from sparse_compile, for this dtype and on this machine";
  require(reinterpret_cast<uintptr_t>(bytes) % alignof(int64_t) == 0, op, argument, contract,
          "a view that is not aligned");
  SparseMatrix<scalar> matrix;
  const char* wrong = cpu::read_sparse<scalar>(bytes, t.numel(), sparse_target<scalar>(), matrix);
  require(wrong == nullptr, op, argument, contract, wrong ? wrong : "");
  return matrix;
}

// What it costs a row of x.
template <class scalar>
int64_t work_of(const SparseMatrix<scalar>& w) {
  return cpu::sparse_work(w.form, w.entries, sparse_target<scalar>());
}

// out = x w^T + bias, of a part of x for each gate.
template <class scalar>
void linear(const Tensor& out, const Tensor& x, const SparseMatrix<scalar>& w,
            const OptionalTensor& bias) {
  const int64_t inputs = w.gates * w.columns, outputs = w.gates * w.width;
  const Tensor base = bias ? *bias : zeros(x, {outputs});
  const SparseOperands<scalar> whole = {
      data<scalar>(x),           inputs, w.columns, data<scalar>(base), 0,
      mutable_data<scalar>(out), outputs};
  parallel(x.size(0), work_of(w), [&](int64_t first, int64_t last) {
    SparseOperands<scalar> p = whole;
    p.x += first * inputs;
    p.y += first * outputs;
    cpu::kernels<scalar>().sparse_product(w, p, last - first);
  });
}

}  // namespace ltlstm::binding
