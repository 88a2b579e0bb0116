// SPDX-License-Identifier: Apache-2.0
// What the driver knows of a device and the plan must know too.
#pragma once

#include "plan.h"

namespace ltlstm::cuda {

// Fills in `clusters`, from the other facts and the driver's answer for the current device.
void count_clusters(DeviceFacts& facts);

}  // namespace ltlstm::cuda
