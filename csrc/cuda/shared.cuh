// SPDX-License-Identifier: Apache-2.0
// Arrays in a block's shared memory, one behind the other. All of it is dynamic shared memory,
// whose size the launch gives: the sum of shared_bytes over the arrays.
//
//     SharedArrays arrays;
//     float* sums = arrays.take<float>(count);
#pragma once

#include "cuda/intrinsics.cuh"

namespace ltlstm::cuda {

// What an array of so many bytes takes: arrays start at multiples of 128 bytes.
__host__ __device__ constexpr int shared_bytes(int bytes) { return (bytes + 127) / 128 * 128; }

class SharedArrays {
 public:
  template <class T>
  __device__ __forceinline__ T* take(int count) {
    const int bytes = count * static_cast<int>(sizeof(T));
    T* array = static_cast<T*>(shared_array(offset_, bytes));
    offset_ += shared_bytes(bytes);
    return array;
  }

 private:
  int offset_ = 0;
};

}  // namespace ltlstm::cuda
