// SPDX-License-Identifier: Apache-2.0
// Lanes side by side or back to back: which schedule of a whole stack has the least modelled time.
#pragma once

#include <optional>

#include "plan.h"

namespace ltlstm {

// The time loops of one layer under a schedule, null where no kernel runs with so few SMs.
struct LayerLoops {
  TimeLoop forward, backward;
};

// The stack with nothing beside the recurrence.
Lanes back_to_back(const PlanProblem& problem, const DeviceFacts& device, const LayerLoops& loops);

// The stack with the loops as given and everything else on the SMs that they leave, in the chunks
// of `steps` of which the model says the least, or as given if not 0; null where there is nothing
// to run side by side. count: of a stack without a layer-LSTM, how many layers run at once, all of
// which the device must hold.
std::optional<Lanes> side_by_side(const PlanProblem& problem, const DeviceFacts& device,
                                  const LayerLoops& loops, int count, int64_t steps);

}  // namespace ltlstm
