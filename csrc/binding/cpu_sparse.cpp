// SPDX-License-Identifier: Apache-2.0
// The operators on the CPU: compiling a sparse matrix, and its product on its own.
#include "binding/cpu_sparse.h"

#include "binding/cpu_stack.h"

namespace ltlstm::binding {
namespace {

std::optional<SparseForm> form_named(const std::optional<std::string>& name) {
  if (!name) return std::nullopt;
  if (*name == "rows") return SparseForm::kRows;
  if (*name == "columns") return SparseForm::kColumns;
  require(*name == "windows", "sparse_compile", "form", "be rows, columns, windows or None", *name);
  return SparseForm::kWindows;
}

Tensor sparse_compile(const Tensor& weight, const OptionalTensor& mask,
                      std::optional<std::string> form_name) {
  const char* op = "sparse_compile";
  const ScalarType type = weight.scalar_type();
  require_type(op, "weight", type, storage_types());
  const Sizes sizes = sizes_of(weight);
  require(sizes.size() == 2 || sizes.size() == 3, op, "weight",
          "have shape (rows, columns) or (gates, rows, columns)", text(sizes));
  for (int64_t size : sizes) require(size > 0, op, "weight", "not be empty", text(sizes));
  require_tensor(op, "weight", weight, weight, type, sizes);
  require_tensor(op, "mask", mask, weight, ScalarType::Bool, sizes);
  const cpu::SparseShape shape = {sizes.size() == 3 ? sizes[0] : 1, sizes[sizes.size() - 2],
                                  sizes.back()};
  require(shape.columns <= cpu::kMostSparseColumns && weight.numel() <= INT32_MAX, op, "weight",
          "have at most " + std::to_string(cpu::kMostSparseColumns) + " columns and 2^31 elements",
          text(sizes));
  const std::optional<SparseForm> form = form_named(form_name);
  return with_scalar(type, [&](auto zero) {
    using scalar = decltype(zero);
    const auto target = sparse_target<scalar>();
    require(!form || cpu::has_form(*form, shape.columns, target), op, "form",
            "be one that this machine has for these columns", form_name.value_or(""));
    const auto bytes =
        cpu::compile_sparse(data<scalar>(weight), data<bool>(mask), shape, target, form);
    const int64_t size[] = {static_cast<int64_t>(bytes.size())};
    Tensor matrix = torch::stable::new_empty(
        weight, torch::headeronly::IntHeaderOnlyArrayRef(size, 1), ScalarType::Byte);
    memcpy(mutable_data<uint8_t>(matrix), bytes.data(), bytes.size());
    return matrix;
  });
}

Tensor sparse_linear(const Tensor& x, const Tensor& matrix, const OptionalTensor& bias) {
  const char* op = "sparse_linear";
  const ScalarType type = x.scalar_type();
  require_type(op, "x", type, storage_types());
  require(x.dim() == 2, op, "x", "have 2 dimensions (R, features)", std::to_string(x.dim()));
  return with_scalar(type, [&](auto zero) {
    using scalar = decltype(zero);
    const SparseMatrix<scalar> w = sparse_matrix<scalar>(op, "matrix", matrix);
    const int64_t R = x.size(0), outputs = w.gates * w.width;
    require_tensor(op, "x", x, x, type, {R, w.gates * w.columns});
    require_tensor(op, "bias", bias, x, type, {outputs});
    const Tensor y = empty(x, {R, outputs});
    linear(y, x, w, bias);
    return y;
  });
}

}  // namespace
}  // namespace ltlstm::binding

STABLE_TORCH_LIBRARY_IMPL(ltlstm, CPU, m) {
  m.impl("sparse_compile", TORCH_BOX(&ltlstm::binding::sparse_compile));
  m.impl("sparse_linear", TORCH_BOX(&ltlstm::binding::sparse_linear));
}
