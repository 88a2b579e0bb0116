// SPDX-License-Identifier: Apache-2.0
// Launches a kernel: the one place of <<<>>>'s meaning, so that the emulator can stand in for it.
#pragma once

#include "cuda/intrinsics.cuh"

#ifdef __CUDACC__

#include <mutex>
#include <set>
#include <tuple>
#include <utility>

#include "cuda/capture.h"

namespace ltlstm::cuda {

struct LaunchShape {
  dim3 blocks, threads;
  int shared_bytes = 0;
  int cluster = 1;           // blocks of a cluster, in x
  bool cooperative = false;  // all blocks run at once: needed where they wait for each other
};

// Allows a function all that the current device has, once: an attribute set anew for each launch
// would take away what another host thread has just asked for. This also loads the kernel, which a
// capture may then go on to launch.
inline cudaError_t allow_all(const void* function) {
  static std::mutex mutex;
  static std::set<std::pair<const void*, int>> allowed;
  int device = 0, shared = 0, clusters = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
  const std::lock_guard<std::mutex> locked(mutex);
  if (allowed.count({function, device}) != 0) return cudaSuccess;
  const RelaxedCapture here;
  cudaFuncAttributes own;
  cudaError_t error = cudaFuncGetAttributes(&own, function);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&clusters, cudaDevAttrClusterLaunch, device);
  if (error == cudaSuccess)
    error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 shared - static_cast<int>(own.sharedSizeBytes));
  // Clusters of more than 8 blocks fit this GPU or another, not all of them.
  if (error == cudaSuccess && clusters != 0)
    error = cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  if (error == cudaSuccess) allowed.insert({function, device});
  return error;
}

// A kernel and a launch of it as the runtime wants them, which point at each other: not to be
// moved.
class Launch {
 public:
  template <class... Parameter>
  Launch(void (*kernel)(Parameter...), const LaunchShape& shape, cudaStream_t stream)
      : function(reinterpret_cast<const void*>(kernel)), error(allow_all(function)) {
    config.gridDim = shape.blocks;
    config.blockDim = shape.threads;
    config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
    config.stream = stream;
    config.attrs = attributes_;
    if (shape.cluster > 1) {
      cudaLaunchAttribute& cluster = attributes_[config.numAttrs++];
      cluster.id = cudaLaunchAttributeClusterDimension;
      cluster.val.clusterDim.x = static_cast<unsigned>(shape.cluster);
      cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    }
    if (shape.cooperative) {
      cudaLaunchAttribute& cooperative = attributes_[config.numAttrs++];
      cooperative.id = cudaLaunchAttributeCooperative;
      cooperative.val.cooperative = 1;
    }
  }
  Launch(const Launch&) = delete;

  const void* const function;
  cudaLaunchConfig_t config = {};
  const cudaError_t error;

 private:
  cudaLaunchAttribute attributes_[2] = {};
};

// Asks nothing of the device and waits for nothing; the arguments are converted to the kernel's.
template <class... Parameter, class... Argument>
inline cudaError_t launch(void (*kernel)(Parameter...), const LaunchShape& shape,
                          cudaStream_t stream, const Argument&... arguments) {
  const Launch prepared(kernel, shape, stream);
  if (prepared.error != cudaSuccess) return prepared.error;
  std::tuple<Parameter...> values(arguments...);
  return std::apply(
      [&](auto&... value) {
        void* pointers[] = {static_cast<void*>(&value)...};
        return cudaLaunchKernelExC(&prepared.config, prepared.function, pointers);
      },
      values);
}

// How many clusters of such a launch the current device holds at once; 0 where it holds none.
template <class... Parameter>
inline int resident_clusters(void (*kernel)(Parameter...), const LaunchShape& shape) {
  const Launch prepared(kernel, shape, nullptr);
  int count = 0;
  const bool known =
      prepared.error == cudaSuccess &&
      cudaOccupancyMaxActiveClusters(&count, prepared.function, &prepared.config) == cudaSuccess;
  if (!known) cudaGetLastError();  // else the next launch would report it
  return known ? count : 0;
}

}  // namespace ltlstm::cuda

#endif
