// SPDX-License-Identifier: Apache-2.0
// The streamed time loop of a chunk, with ATen's products.
#pragma once

#include "binding/cuda_pass.h"
#include "cuda/streamed.h"

namespace ltlstm::binding {

// Views of memory that the caller holds, on the device and in the dtype of `like`.
class Views {
 public:
  explicit Views(const Tensor& like) {
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype_));
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_));
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &index_));
  }

  template <class element>
  Tensor of(const cuda::Matrix<element>& m) const {
    const int64_t sizes[] = {m.rows, m.columns}, strides[] = {m.row_stride, m.column_stride};
    void* const data = const_cast<std::remove_const_t<element>*>(m.data);
    AtenTensorHandle view;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_create_tensor_from_blob(
        data, 2, sizes, strides, 0, dtype_, device_, index_, &view));
    return Tensor(view);
  }

 private:
  int32_t dtype_, device_, index_;
};

// `like` is of the storage type.
template <class Problem>
void run_streamed(const Pass& pass, const Lane& lane, const Chunk& chunk, const Tensor& like,
                  const Problem& problem) {
  const Views views(like);
  const auto product = [&](const auto& out, const auto& a, const auto& w, bool accumulate) {
    lane.product(views.of(out), views.of(a), views.of(w), accumulate);
  };
  cuda::Streamed<typename Problem::Scalar, decltype(product)> loop(
      pass.host_sequence(chunk), static_cast<int>(pass.s.dirs), product, lane.stream);
  check(loop.run(problem));
}

}  // namespace ltlstm::binding
