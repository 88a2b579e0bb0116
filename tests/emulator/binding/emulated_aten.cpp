// SPDX-License-Identifier: Apache-2.0
// Products of matrices of any strides, float32 or half types, as emulated_aten.h says.
#include "emulated_aten.h"

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <vector>

#include "binding/tensors.h"
#include "emulator.h"

namespace ltlstm::binding {
namespace {

// A tensor of two dimensions; or of one, a row that stands for any number of equal ones.
struct Matrix {
  void* data;
  ScalarType type;
  int64_t rows, columns, row_stride, column_stride;

  explicit Matrix(AtenTensorHandle t) {
    int64_t dims = 0, *sizes = nullptr, *strides = nullptr;
    int32_t number = 0;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dim(t, &dims));
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_sizes(t, &sizes));
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_strides(t, &strides));
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(t, &number));
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_data_ptr(t, &data));
    const bool row = dims == 1;
    rows = row ? 1 : sizes[0];
    columns = sizes[row ? 0 : 1];
    row_stride = row ? 0 : strides[0];
    column_stride = strides[row ? 0 : 1];
    type = number == aoti_torch_dtype_float32()   ? ScalarType::Float
           : number == aoti_torch_dtype_float16() ? ScalarType::Half
                                                  : ScalarType::BFloat16;
    if (type == ScalarType::BFloat16 && number != aoti_torch_dtype_bfloat16())
      emulator::fail("a product of a type that no GPU kernel has");
  }

  template <class Function>
  void each(const Function& f) const {
    if (type == ScalarType::Float) return each_as<float>(f);
    if (type == ScalarType::Half) return each_as<__half>(f);
    each_as<__nv_bfloat16>(f);
  }

  std::vector<double> numbers() const {
    std::vector<double> found;
    found.reserve(rows * columns);
    each([&](auto& element) { found.push_back(static_cast<float>(element)); });
    return found;
  }

 private:
  template <class scalar, class Function>
  void each_as(const Function& f) const {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        f(static_cast<scalar*>(data)[i * row_stride + j * column_stride]);
  }
};

// out = start + a b
void multiply(const Matrix& out, std::vector<double> start, const Matrix& a, const Matrix& b) {
  const std::vector<double> left = a.numbers(), right = b.numbers();
  for (int64_t i = 0; i < out.rows; ++i) {
    double* to = start.data() + i * out.columns;
    for (int64_t k = 0; k < a.columns; ++k) {
      const double factor = left[i * a.columns + k];
      const double* from = right.data() + k * out.columns;
      for (int64_t j = 0; j < out.columns; ++j) to[j] += factor * from[j];
    }
  }
  const double* sum = start.data();
  out.each([&](auto& element) { element = static_cast<float>(*sum++); });
}

}  // namespace

AOTITorchError emulated_mm_out(AtenTensorHandle out, AtenTensorHandle a, AtenTensorHandle b) {
  const Matrix to(out);
  multiply(to, std::vector<double>(to.rows * to.columns, 0.0), Matrix(a), Matrix(b));
  return AOTI_TORCH_SUCCESS;
}

AOTITorchError emulated_addmm_out(AtenTensorHandle out, AtenTensorHandle self, AtenTensorHandle a,
                                  AtenTensorHandle b, double beta, double alpha) {
  if (beta != 1 || alpha != 1) emulator::fail("a product is scaled");
  const Matrix to(out);
  Matrix added(self);
  added.rows = to.rows;
  multiply(to, added.numbers(), Matrix(a), Matrix(b));
  return AOTI_TORCH_SUCCESS;
}

AOTITorchError emulated_fill__Scalar(AtenTensorHandle self, double value) {
  return aoti_torch_cpu_fill__Scalar(self, value);
}

}  // namespace ltlstm::binding
