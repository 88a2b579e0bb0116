// SPDX-License-Identifier: Apache-2.0
// Facts of a device: its attributes, and how many clusters of each size are resident at once, which
// only the driver knows: the SMs of a cluster must share a part of the chip, and parts differ.
#include "cuda/device.h"
#include "cuda/intrinsics.cuh"

namespace ltlstm::cuda {

#ifdef __CUDACC__

namespace {

constexpr int kThreads = 256;

// Never launched: a kernel that takes all shared memory of an SM, as those of the time loop may.
__global__ void __launch_bounds__(kThreads) whole_sm_kernel(int* out) {
  *out = *static_cast<int*>(shared_array(0, sizeof(int)));
}

// Resident clusters of so many blocks, one block an SM; 0 where there can be none.
int resident_clusters(int size, int shared_bytes) {
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = static_cast<unsigned>(size);
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(size));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.attrs = &cluster;
  config.numAttrs = 1;
  int count = 0;
  if (cudaOccupancyMaxActiveClusters(&count, whole_sm_kernel, &config) != cudaSuccess) {
    cudaGetLastError();  // clears it: the answer is none
    return 0;
  }
  return count;
}

bool facts_of_current(int device, DeviceFacts* facts) {
  int major = 0, minor = 0;
  const struct {
    int* value;
    cudaDeviceAttr attribute;
  } wanted[] = {{&major, cudaDevAttrComputeCapabilityMajor},
                {&minor, cudaDevAttrComputeCapabilityMinor},
                {&facts->sms, cudaDevAttrMultiProcessorCount},
                {&facts->shared_per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin},
                {&facts->registers_per_sm, cudaDevAttrMaxRegistersPerMultiprocessor}};
  for (const auto& one : wanted) {
    if (cudaDeviceGetAttribute(one.value, one.attribute, device) != cudaSuccess) return false;
  }
  facts->capability = 10 * major + minor;
  facts->clusters[0] = facts->sms;
  for (int i = 1; i <= 4; ++i) facts->clusters[i] = 0;
  if (major < 9) return true;
  const auto* kernel = reinterpret_cast<const void*>(whole_sm_kernel);
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           facts->shared_per_block) != cudaSuccess ||
      cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) !=
          cudaSuccess) {
    return false;
  }
  for (int i = 1; i <= 4; ++i) {
    facts->clusters[i] = resident_clusters(1 << i, facts->shared_per_block);
  }
  return true;
}

}  // namespace

bool device_facts(int device, DeviceFacts* facts) {
  int before = 0;
  if (cudaGetDevice(&before) != cudaSuccess) return false;
  if (before != device && cudaSetDevice(device) != cudaSuccess) return false;
  const bool known = facts_of_current(device, facts);
  if (before != device && cudaSetDevice(before) != cudaSuccess) return false;
  return known;
}

#else

bool device_facts(int /*device*/, DeviceFacts* facts) {
  *facts = {90, 132, 232448, 65536, {132, 66, 32, 15, 7}};
  return true;
}

#endif

}  // namespace ltlstm::cuda
