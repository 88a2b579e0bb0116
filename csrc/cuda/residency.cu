// SPDX-License-Identifier: Apache-2.0
// Clusters whose blocks fill their SMs: counted with a kernel that does nothing but take up all of
// the shared memory.
#include "cuda/launch.cuh"
#include "cuda/residency.h"

namespace ltlstm::cuda {
namespace {

__global__ void fill_sms() {}

}  // namespace

void count_clusters(DeviceFacts& facts) {
  facts.clusters[0] = facts.sms;
  for (int k = 1; k < 5; ++k) {
    LaunchShape shape;
    shape.cluster = 1 << k;
    shape.blocks = dim3(static_cast<unsigned>(shape.cluster));
    shape.threads = dim3(256);
    shape.shared_bytes = facts.shared_per_block;
    facts.clusters[k] = facts.capability >= 90 ? resident_clusters(fill_sms, shape) : 0;
  }
}

}  // namespace ltlstm::cuda
