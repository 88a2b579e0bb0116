// SPDX-License-Identifier: Apache-2.0
// Launches a kernel: the one place of <<<>>>'s meaning, so that the emulator can stand in for it.
#pragma once

#include "cuda/intrinsics.cuh"

#ifdef __CUDACC__

#include <tuple>

namespace ltlstm::cuda {

struct LaunchShape {
  dim3 blocks, threads;
  int shared_bytes = 0;
  int cluster = 1;           // blocks of a cluster, in x
  bool cooperative = false;  // all blocks run at once: needed where they wait for each other
};

// Asks nothing of the device and waits for nothing; the arguments are converted to the kernel's.
template <class... Parameter, class... Argument>
inline cudaError_t launch(void (*kernel)(Parameter...), const LaunchShape& shape,
                          cudaStream_t stream, const Argument&... arguments) {
  const auto* function = reinterpret_cast<const void*>(kernel);
  cudaError_t error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           shape.shared_bytes);
  // Clusters of more than 8 blocks fit this GPU or another, not all of them.
  if (error == cudaSuccess && shape.cluster > 8) {
    error = cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  }
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.blocks;
  config.blockDim = shape.threads;
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  if (shape.cluster > 1) {
    cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = static_cast<unsigned>(shape.cluster);
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  }
  if (shape.cooperative) {
    cudaLaunchAttribute& cooperative = attributes[config.numAttrs++];
    cooperative.id = cudaLaunchAttributeCooperative;
    cooperative.val.cooperative = 1;
  }
  std::tuple<Parameter...> values(arguments...);
  return std::apply(
      [&](auto&... value) {
        void* pointers[] = {static_cast<void*>(&value)...};
        return cudaLaunchKernelExC(&config, function, pointers);
      },
      values);
}

}  // namespace ltlstm::cuda

#endif
