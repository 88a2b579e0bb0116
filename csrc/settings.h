// SPDX-License-Identifier: Apache-2.0
// The environment variables that the compiled libraries read: each is read here, and nowhere else.
// Python, too, asks for them here. One rule: not set and empty are the same; a value that has no
// meaning throws std::invalid_argument, "<op>: <variable> must <contract>, got <value>".
#pragma once

#include <cstdint>

#include "plan.h"

namespace ltlstm {

// LTLSTM_CUDA_RECOMPUTE=1 asks training to keep no gates: backward then computes them again, which
// costs a product of all rows with W_ih and one with W_hh.
bool recompute_by_environment();

// LTLSTM_CUDA_REGIME (block, cluster, grid or streamed) and LTLSTM_CUDA_CHUNK (steps) narrow the
// plan, for tests and measurements.
Wanted wanted_by_environment();

// LTLSTM_CUDA_PATIENCE: the seconds after which a block that waits for another in vain ends the
// kernel with an error; kUsualPatienceNs unless set. A debugger or a slow sanitizer needs more.
int64_t patience_ns_by_environment();

}  // namespace ltlstm
