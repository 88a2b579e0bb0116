// SPDX-License-Identifier: Apache-2.0
// The plan: checks, the choice among what the search offers, the schedule of the stack, the
// reasons.

#include "plan.h"

#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include "plan_lanes.h"
#include "plan_search.h"

namespace ltlstm {

namespace {

void require(bool holds, const char* argument, const char* contract, int64_t got) {
  if (!holds) {
    throw std::invalid_argument(std::string("plan: ") + argument + " must " + contract + ", got " +
                                std::to_string(got));
  }
}

void check(const PlanProblem& p, const DeviceFacts& d, const Wanted& wanted) {
  const std::pair<const char*, int64_t> sizes[] = {
      {"T", p.T}, {"N", p.N}, {"H", p.H}, {"P", p.P}, {"L", p.L}};
  for (const auto& [name, value] : sizes) require(value > 0, name, "be positive", value);
  require(p.directions == 1 || p.directions == 2, "directions", "be 1 or 2", p.directions);
  if (p.projection) {
    require(p.P < p.H, "P", "be less than H with a projection", p.P);
  } else {
    require(p.P == p.H, "P", "be H without a projection", p.P);
  }
  require(d.capability >= 80, "capability", "be at least 80", d.capability);
  require(d.sms > 0, "sms", "be positive", d.sms);
  require(d.shared_per_block > 0, "shared_per_block", "be positive", d.shared_per_block);
  require(d.registers_per_sm > 0, "registers_per_sm", "be positive", d.registers_per_sm);
  for (const int resident : d.clusters)
    require(resident >= 0, "clusters", "not be negative", resident);
  require(wanted.blocks >= 0, "blocks", "not be negative", wanted.blocks);
  require(wanted.columns >= 0, "columns", "not be negative", wanted.columns);
  require(wanted.chunk >= 0, "chunk", "not be negative", wanted.chunk);
  for (const Regime regime : wanted.regimes) {
    require(regime < Regime::kAten, "regimes", "be block, cluster, grid or streamed",
            int64_t(regime));
  }
}

// Where the model cannot tell, side by side as long as the recurrence leaves SMs idle: up to this
// H^2 N, by the model of a bare step.
constexpr double kIdle = 2.5e7;
constexpr double kScheduleMargin = 1.1;

double worth(const PlanProblem& p) {
  const bool idle = double(p.H) * p.H * p.N <= kIdle;
  return p.trajectory && idle ? kScheduleMargin : 1 / kScheduleMargin;
}

TimeLoop aten() {
  TimeLoop loop{};
  loop.regime = Regime::kAten;
  return loop;
}

struct Search {
  std::vector<Offer> forward, backward;
  std::optional<LayerLoops> loops;  // null where a pass that is needed has none
};

Search search(const PlanProblem& p, const DeviceFacts& device, const Wanted& wanted, int sms) {
  Search found;
  found.forward = offers(p, false, device, wanted, sms);
  if (p.training) found.backward = offers(p, true, device, wanted, sms);
  const Offer* forward = best(found.forward);
  const Offer* backward = best(found.backward);
  if (forward != nullptr && (backward != nullptr || !p.training)) {
    found.loops = LayerLoops{*forward->loop, p.training ? *backward->loop : aten()};
  }
  return found;
}

struct Schedule {
  Search found;
  std::optional<Lanes> lanes;
};

// No more at once: a lane costs a stream, and torch keeps a workspace for each.
constexpr int64_t kMostLanes = 4;

// Side by side the stack may be faster with fewer SMs for a recurrence: in quarters of all of them
// beside the layer lane, or an equal share for each layer of a wavefront.
Schedule side_by_side_at_best(const PlanProblem& p, const DeviceFacts& device,
                              const Wanted& wanted) {
  Schedule best;
  const int most = int(p.trajectory ? 4 : std::min(p.L, kMostLanes));
  for (int part = most; part >= (p.trajectory ? 1 : 2); --part) {
    const int sms = p.trajectory ? device.sms * part / 4 : device.sms / part;
    if (sms == 0) continue;
    DeviceFacts shared = device;
    if (!p.trajectory)
      for (int& resident : shared.clusters) resident /= part;
    Search found = search(p, shared, wanted, sms);
    if (!found.loops) continue;
    const auto lanes = side_by_side(p, device, *found.loops, part, wanted.chunk);
    if (lanes && (!best.lanes || lanes->us < best.lanes->us)) best = {std::move(found), lanes};
  }
  return best;
}

// Whether to take it.
bool preferred(const Lanes& beside, const Lanes& lanes, const PlanProblem& p,
               const Wanted& wanted) {
  if (p.trajectory && wanted.overlap) return *wanted.overlap;
  if (!p.trajectory && wanted.chunk > 0) return true;
  return beside.us < lanes.us * worth(p);
}

std::string describe(const TimeLoop& loop) {
  char text[256];
  if (loop.regime == Regime::kStreamed) {
    std::snprintf(text, sizeof(text),
                  "streamed, W_hh from memory in a product a step, modelled %.2f us a step",
                  loop.us);
    return text;
  }
  std::snprintf(
      text, sizeof(text),
      "%s, %d block%s of %d units, %d batch slice%s of %d, %d warps, modelled %.2f us a step",
      regime_name(loop.regime), loop.blocks, loop.blocks == 1 ? "" : "s", loop.units, loop.groups,
      loop.groups == 1 ? "" : "s", loop.columns, loop.warps, loop.us);
  std::string line = text;
  if (loop.held > 0) line += ", weights in registers too";
  if (loop.passes > 1) line += ", in " + std::to_string(loop.passes) + " passes over the batch";
  return line;
}

// Lines on one pass: what was chosen, and each other regime with what speaks against it.
std::string reasons(const char* pass, const std::vector<Offer>& found, const TimeLoop& chosen) {
  std::string text = std::string(pass) + ": ";
  text += chosen.regime == Regime::kAten ? "aten" : describe(chosen);
  for (const Offer& offer : found) {
    if (offer.regime == chosen.regime) continue;
    text += std::string("; not ") + regime_name(offer.regime) + ": ";
    if (offer.loop) {
      char modelled[64];
      std::snprintf(modelled, sizeof(modelled), "modelled %.2f us a step", offer.loop->us);
      text += modelled;
    } else {
      text += offer.why_not;
    }
  }
  return text;
}

std::string lanes_reason(const Lanes& lanes, const PlanProblem& p) {
  char text[256];
  const bool trajectory = p.trajectory;
  const char* beside = trajectory ? "the layer lane beside the time lane" : "layers as a wavefront";
  if (lanes.overlap) {
    const int line = std::snprintf(text, sizeof(text), "%s, in chunks of %lld steps, ", beside,
                                   static_cast<long long>(lanes.chunk));
    char* at = text + line;
    const size_t left = sizeof(text) - line;
    const int shares =
        trajectory ? std::snprintf(at, left, "%d SMs for the recurrence and %d beside it",
                                   lanes.time_sms, lanes.layer_sms)
                   : std::snprintf(at, left, "%d at once, %d SMs for the recurrence of each",
                                   lanes.at_once, lanes.time_sms);
    std::snprintf(at + shares, left - shares,
                  ": modelled %.2f us a step of the stack, back to back %.2f", lanes.us,
                  lanes.other_us);
  } else if (lanes.other_us > 0) {
    std::snprintf(text, sizeof(text), "back to back: modelled %.2f us a step of the stack, %s %.2f",
                  lanes.us, beside, lanes.other_us);
  } else if (!trajectory && p.L > 1 && p.directions == 1) {
    return "back to back: no chunks that pay, or no SMs for two layers at once";
  } else {
    return "back to back: nothing to run beside the recurrence";
  }
  return text;
}

}  // namespace

void assume_clusters(DeviceFacts& facts) {
  const int sms = facts.sms;
  const int assumed[] = {sms, sms / 2, std::max(sms / 4 - 1, 0), 15 * sms / 132, 7 * sms / 132};
  for (int k = 0; k < 5; ++k) facts.clusters[k] = k == 0 || facts.capability >= 90 ? assumed[k] : 0;
}

const char* regime_name(Regime regime) {
  switch (regime) {
    case Regime::kBlock:
      return "block";
    case Regime::kCluster:
      return "cluster";
    case Regime::kGrid:
      return "grid";
    case Regime::kStreamed:
      return "streamed";
    case Regime::kAten:
      return "aten";
  }
  return "unknown";
}

Plan make_plan(const PlanProblem& problem, const DeviceFacts& device, const Wanted& wanted) {
  check(problem, device, wanted);
  Search found = search(problem, device, wanted, device.sms);
  if (!found.loops) {
    std::string reason = reasons("forward", found.forward, aten());
    if (problem.training) reason += "\n" + reasons("backward", found.backward, aten());
    return {aten(), aten(), {false, 1, 0, 0, problem.T, 0, 0}, reason};
  }
  Lanes lanes = back_to_back(problem, device, *found.loops);
  Schedule beside = side_by_side_at_best(problem, device, wanted);
  if (beside.lanes) {
    lanes.other_us = beside.lanes->us;
    if (preferred(*beside.lanes, lanes, problem, wanted)) {
      beside.lanes->other_us = lanes.us;
      lanes = *beside.lanes;
      found = std::move(beside.found);
    }
  }
  std::string reason = reasons("forward", found.forward, found.loops->forward);
  if (problem.training) {
    reason += "\n" + reasons("backward", found.backward, found.loops->backward);
  }
  reason += "\nlanes: " + lanes_reason(lanes, problem);
  return {found.loops->forward, found.loops->backward, lanes, reason};
}

}  // namespace ltlstm
