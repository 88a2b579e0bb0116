// SPDX-License-Identifier: Apache-2.0
// What the plan must know of a GPU, asked of the driver.
#pragma once

#include "plan.h"

namespace ltlstm::cuda {

// The facts of a device, by its number; the current device stays what it was. False where the CUDA
// runtime refused. It costs some 100 us: ask once. Emulated, any number is an H100.
bool device_facts(int device, DeviceFacts* facts);

}  // namespace ltlstm::cuda
