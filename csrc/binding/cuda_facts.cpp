// SPDX-License-Identifier: Apache-2.0
// A device's facts for ltlstm_kernels.plan, which has no other way to what this library plans with.
#include <algorithm>
#include <iterator>

#include "binding/cuda_device.h"

// The nine numbers of DeviceFacts in its order; false where the device does not answer.
extern "C" __attribute__((visibility("default"))) bool ltlstm_device_facts(int device, int* facts) {
  try {
    const ltlstm::DeviceFacts found = ltlstm::binding::device_facts(device);
    for (const int fact :
         {found.capability, found.sms, found.shared_per_block, found.registers_per_sm})
      *facts++ = fact;
    std::copy(std::begin(found.clusters), std::end(found.clusters), facts);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}
