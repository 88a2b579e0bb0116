// SPDX-License-Identifier: Apache-2.0
// The search for one time loop: of all ways to cut it up that a kernel has and that the device can
// hold, the one with the least modelled time.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "floor_model.h"
#include "plan.h"

namespace ltlstm {

// What one regime offers: its best loop, or why it has none.
struct Offer {
  Regime regime;
  std::optional<TimeLoop> loop;
  std::string why_not;
};

// Offers of kBlock, kCluster, kGrid and kStreamed, in this order; `sms` that the launch may take.
std::vector<Offer> offers(const PlanProblem& problem, bool backward, const DeviceFacts& device,
                          const Wanted& wanted, int sms);

// The one to take, or null: the first unless a later one is faster by more than the model can tell.
// A block needs no other; clusters leave SMs free, and need no cooperative launch; what is streamed
// is launched at each step.
const Offer* best(const std::vector<Offer>& offers);

}  // namespace ltlstm
