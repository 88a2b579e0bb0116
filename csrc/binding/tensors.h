// SPDX-License-Identifier: Apache-2.0
// Small helpers over the stable ABI's Tensor, and the one form of an argument error.
#pragma once

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_aten.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdlib>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

// Headers before torch 2.12 have no name for it.
#ifndef STABLE_TORCH_ERROR_CODE_CHECK
#define STABLE_TORCH_ERROR_CODE_CHECK TORCH_ERROR_CODE_CHECK
#endif

namespace ltlstm::binding {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Sizes = std::vector<int64_t>;
using Shape = torch::headeronly::IntHeaderOnlyArrayRef;  // sizes for the length of a call
using Types = torch::headeronly::HeaderOnlyArrayRef<ScalarType>;
using OptionalTensor = std::optional<Tensor>;

inline std::string text(Shape sizes) {
  std::ostringstream out;
  out << '(';
  for (size_t i = 0; i < sizes.size(); ++i) out << (i ? ", " : "") << sizes[i];
  out << ')';
  return out.str();
}

inline Sizes sizes_of(const Tensor& t) { return t.sizes().vec(); }

inline const char* name_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Bool:
      return "bool";
    default:
      return "another dtype";
  }
}

// <op>: <argument> must <contract>, got <value>
template <class Argument, class Contract, class Got>
[[noreturn]] void refuse(const char* op, const Argument& argument, const Contract& contract,
                         const Got& got) {
  std::ostringstream text;
  text << op << ": " << argument << " must " << contract << ", got " << got;
  throw std::runtime_error(text.str());  // as STD_TORCH_CHECK does, which adds where in our source
}

// For texts that cost nothing until they are asked for: to put one together for every check takes
// longer than a small step.
template <class Argument, class Contract, class Got>
void require(bool holds, const char* op, const Argument& argument, const Contract& contract,
             const Got& got) {
  if (!holds) refuse(op, argument, contract, got);
}

// Whether t lies where this library's kernels run, on the device of another tensor there.
#ifdef LTLSTM_CUDA_BINDING
constexpr const char* kDevice = " CUDA";
inline bool is_here(const Tensor& t, const Tensor& like) {
  return t.is_cuda() && t.get_device_index() == like.get_device_index();
}
#else
constexpr const char* kDevice = " CPU";
inline bool is_here(const Tensor& t, const Tensor&) { return t.is_cpu(); }
#endif

// Whether t is what a kernel may read or write as a plain array, beside another tensor.
inline bool fits(const Tensor& t, const Tensor& like, ScalarType type, Shape sizes) {
  return is_here(t, like) && t.scalar_type() == type && t.sizes().equals(sizes) &&
         t.is_contiguous();
}

// Why a tensor does not fit.
template <class Argument>
[[noreturn]] void refuse_tensor(const char* op, const Argument& argument, const Tensor& t,
                                const Tensor& like, ScalarType type, Shape sizes) {
  const std::string contract =
      std::string("be a contiguous ") + name_of(type) + kDevice + " tensor of shape " + text(sizes);
  require(is_here(t, like), op, argument, contract, "a tensor on another device");
  require(t.scalar_type() == type, op, argument, contract, name_of(t.scalar_type()));
  require(t.sizes().equals(sizes), op, argument, contract, "shape " + text(t.sizes()));
  refuse(op, argument, contract, "strides " + text(t.strides()));
}

inline void require_tensor(const char* op, const char* argument, const Tensor& t,
                           const Tensor& like, ScalarType type, Shape sizes) {
  if (!fits(t, like, type, sizes)) refuse_tensor(op, argument, t, like, type, sizes);
}

inline void require_tensor(const char* op, const char* argument, const OptionalTensor& t,
                           const Tensor& like, ScalarType type, Shape sizes) {
  if (t) require_tensor(op, argument, *t, like, type, sizes);
}

inline Sizes joined(Shape first, Shape second) {
  Sizes all;
  all.reserve(first.size() + second.size());
  all.insert(all.end(), first.begin(), first.end());
  all.insert(all.end(), second.begin(), second.end());
  return all;
}

// By the shims' own functions: torch::stable's look the operator up by its name at each call, which
// takes longer than the allocation.
inline Tensor empty(const Tensor& like, Shape sizes, int32_t* type = nullptr) {
  AtenTensorHandle made;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_aten_new_empty(like.get(), sizes.data(),
                                                          static_cast<int64_t>(sizes.size()), type,
                                                          nullptr, nullptr, 0, nullptr, &made));
  return Tensor(made);
}
inline Tensor empty_float(const Tensor& like, Shape sizes) {
  int32_t type = aoti_torch_dtype_float32();
  return empty(like, sizes, &type);
}
inline Tensor empty_bfloat16(const Tensor& like, Shape sizes) {
  int32_t type = aoti_torch_dtype_bfloat16();
  return empty(like, sizes, &type);
}
inline void copy(const Tensor& from, const Tensor& to) {
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_copy_(to.get(), from.get(), 0));
}

// A tensor as the kernels compute with it: bfloat16 as float32, all else as it is.
inline Tensor computable(const Tensor& t) {
  if (t.scalar_type() != ScalarType::BFloat16) return t;
  const Tensor wide = empty_float(t, t.sizes());
  copy(t, wide);
  return wide;
}
inline OptionalTensor computable(const OptionalTensor& t) {
  return t ? OptionalTensor(computable(*t)) : OptionalTensor();
}
inline Tensor zeros(const Tensor& like, Shape sizes) {
  const Tensor made = empty(like, sizes);
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_zero_(made.get()));
  return made;
}

// A (rows, columns) matrix with the given strides inside t, from element `offset` on. One cheap
// call where views through the dispatcher would take several.
inline Tensor matrix(const Tensor& t, int64_t offset, int64_t rows, int64_t columns,
                     int64_t row_stride, int64_t column_stride) {
  const int64_t sizes[] = {rows, columns}, strides[] = {row_stride, column_stride};
  AtenTensorHandle view;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch__reinterpret_tensor(t.get(), 2, sizes, strides, offset, &view));
  return Tensor(view);
}

// Matrix number `index` of the contiguous matrices (rows, columns) that t holds.
inline Tensor matrix(const Tensor& t, int64_t index, int64_t rows, int64_t columns) {
  return matrix(t, index * rows * columns, rows, columns, columns, 1);
}

// The matrix without what autograd knows of it, for products on a thread of our own, where nothing
// keeps autograd out.
inline Tensor plain(const Tensor& t) { return matrix(t, 0, t.size(0), t.size(1)); }

inline Tensor transposed(const Tensor& t) {
  return matrix(t, 0, t.size(1), t.size(0), t.stride(1), t.stride(0));
}

// Layer `layer` of (L, ...) as a matrix.
inline Tensor layer_of(const Tensor& t, int64_t layer, const Sizes& sizes) {
  return matrix(t, layer, sizes[0], sizes[1]);
}

inline std::vector<Tensor> flattened(const std::vector<std::vector<Tensor>>& lists) {
  std::vector<Tensor> all;
  for (const auto& list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}

template <class scalar>
const scalar* data(const Tensor& t) {
  return static_cast<const scalar*>(t.const_data_ptr());
}

template <class scalar>
const scalar* data(const OptionalTensor& t) {
  return t ? data<scalar>(*t) : nullptr;
}

template <class scalar>
scalar* mutable_data(const Tensor& t) {
  return static_cast<scalar*>(t.mutable_data_ptr());
}

// Part `index` of a tensor that holds parts of `size` elements each (of a layer and direction, or
// of a row), or null.
template <class scalar>
scalar* part(const OptionalTensor& t, int64_t index, int64_t size) {
  return t ? mutable_data<scalar>(*t) + index * size : nullptr;
}

}  // namespace ltlstm::binding
