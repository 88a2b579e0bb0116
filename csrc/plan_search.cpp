// SPDX-License-Identifier: Apache-2.0
// Every regime's loops, one after another; the first of the fastest is kept, so that the result is
// the same wherever it is asked for.

#include "plan_search.h"

#include <algorithm>

#include "loop_shape.h"

namespace ltlstm {

namespace {

constexpr int kSplits[] = {1, 2, 4, 8, 16};
// Beyond these a size of a launch would leave its type; no kernel holds nearly as many units.
constexpr int64_t kMostSteps = int64_t{1} << 31, kMostUnits = int64_t{1} << 16;
constexpr int64_t kMostCells = int64_t{1} << 38;  // of a step that is a launch
// Ratios of modelled times of two regimes below this say nothing.
constexpr double kRegimeMargin = 1.25;
constexpr int kClusterSizes[] = {2, 4, 8, 16};

std::string grouped(int64_t number) {
  std::string digits = std::to_string(number);
  for (int at = int(digits.size()) - 3; at > 0; at -= 3) digits.insert(at, ",");
  return digits;
}

class Search {
 public:
  Search(const PlanProblem& problem, bool backward, const DeviceFacts& device, const Wanted& wanted,
         int sms)
      : p_(problem), device_(device), wanted_(wanted), backward_(backward), sms_(sms) {
    work_.N = p_.N, work_.H = p_.H, work_.P = p_.P;
    work_.directions = p_.directions;
    work_.element = p_.dtype == Dtype::kFloat32 ? 4 : 2;
    work_.training = p_.training;
    work_.backward = backward;
  }

  Offer run(Regime regime) {
    offer_ = {regime, std::nullopt, {}};
    least_shared_ = 0;
    if (const std::string refused = refusal(regime); !refused.empty()) {
      offer_.why_not = refused;
      return offer_;
    }
    if (regime == Regime::kBlock) blocks(1, int(round_up(p_.H, 8)), sms_);
    if (regime == Regime::kCluster) clusters();
    if (regime == Regime::kGrid) grids();
    if (regime == Regime::kStreamed) streamed();
    if (!offer_.loop) {
      offer_.why_not = least_shared_ == 0
                           ? no_cut(regime)
                           : "needs " + grouped(least_shared_) +
                                 " bytes of shared memory a block, " + "the device has " +
                                 grouped(device_.shared_per_block);
    }
    return offer_;
  }

 private:
  std::string refusal(Regime regime) const {
    if (p_.dtype == Dtype::kFloat64) return "no kernel computes float64";
    const bool fits = regime != Regime::kStreamed || p_.directions * p_.N <= kMostCells / p_.H;
    if (std::max(p_.T, p_.N) >= kMostSteps || p_.H > kMostUnits || !fits) {
      return "more than a launch can count";
    }
    const std::string capability = "compute capability " + std::to_string(device_.capability / 10) +
                                   "." + std::to_string(device_.capability % 10);
    if (device_.capability > 90 && regime != Regime::kStreamed) {
      return "no kernel is compiled for " + capability;
    }
    const auto& only = wanted_.regimes;
    if (!only.empty() && std::find(only.begin(), only.end(), regime) == only.end()) {
      return "not asked for";
    }
    if (regime == Regime::kCluster && device_.capability < 90) {
      return capability + " has no clusters";
    }
    if (regime == Regime::kStreamed && (wanted_.blocks != 0 || wanted_.columns != 0)) {
      return "it has no groups to cut up";
    }
    return {};
  }

  std::string no_cut(Regime regime) const {
    if (regime == Regime::kBlock) return "a block has no threads for so many units";
    if (regime == Regime::kCluster) return "no cluster that the device can hold has these units";
    return "no grid of " + std::to_string(sms_) + " SMs has these units";
  }

  void clusters() {
    for (int index = 1; index <= 4; ++index) {
      const int size = kClusterSizes[index - 1];
      const int units = int(round_up((p_.H + size - 1) / size, 8));
      const int resident = std::min(device_.clusters[index], sms_ / size);
      if (resident > 0 && int64_t(size - 1) * units < p_.H) blocks(size, units, resident);
    }
  }

  void grids() {
    for (int units = 8; units <= kMostThreads / 32 * 8; units += 8) {
      const int64_t count = (p_.H + units - 1) / units;
      const int64_t resident = sms_ / count;
      if (count > 1 && resident >= p_.directions) blocks(int(count), units, int(resident));
    }
  }

  // Nothing to search for: cuBLAS cuts up the product.
  void streamed() {
    TimeLoop loop{};
    loop.regime = Regime::kStreamed;
    loop.blocks = sms_;
    loop.groups = loop.passes = 1;
    loop.us =
        streamed_us(work_, machine_of(device_.capability), device_.sms, double(sms_) / device_.sms);
    offer_.loop = loop;
  }

  // All cuts of a group of so many blocks, where `resident` groups run at once.
  void blocks(int count, int units, int resident) {
    if (wanted_.blocks != 0 && wanted_.blocks != count) return;
    TimeLoop loop{};
    loop.regime = offer_.regime;
    loop.blocks = count;
    loop.units = units;
    loop.projected = p_.projection ? int(round_up((p_.P + count - 1) / count, 8)) : 0;
    for (const int columns : kColumns) {
      if (wanted_.columns != 0 && wanted_.columns != columns) continue;
      loop.columns = columns;
      const int64_t slices = (p_.N + columns - 1) / columns;
      loop.passes = 1;
      loop.groups = int(slices);
      if (loop.regime == Regime::kGrid) {  // all of a launch must be resident
        const int64_t most = resident / p_.directions;
        loop.passes = int((slices + most - 1) / most);
        loop.groups = int((slices + loop.passes - 1) / loop.passes);
      }
      warps(loop, resident);
    }
  }

  void warps(TimeLoop loop, int resident) {
    const std::vector<StageShape> stages = stages_of(loop, backward_);
    int parts = 0;
    int64_t blocks_k = 0;
    for (const StageShape& stage : stages) {
      parts = std::max(parts, stage.parts);
      blocks_k = std::max(blocks_k, (stage.K + kBlockK - 1) / kBlockK);
    }
    const int held = p_.projection ? 0 : held_blocks(loop.regime, backward_, loop.columns);
    for (const int splits : kSplits) {
      // More splits than K has blocks leave warps idle: only where no kernel is built with fewer.
      const int least = least_splits(loop.columns);
      if (splits > 1 && (splits < least || splits > std::max<int64_t>(blocks_k, least))) continue;
      loop.k_splits = splits;
      loop.warps = splits * parts;
      loop.threads = 32 * loop.warps;
      for (const int each : {0, held}) {
        loop.held = each;
        consider(loop, resident);
      }
    }
  }

  void consider(TimeLoop loop, int resident) {
    const Variant variant = variant_of(loop);
    if ((loop.k_splits == 1) != (variant == Variant::kWhole)) return;
    if (!kernel_exists(loop.regime, backward_, work_.element, loop.columns, variant)) return;
    loop.max_threads = max_threads(loop.regime, backward_, loop.columns, variant);
    if (loop.threads > loop.max_threads) return;
    loop.registers = std::min(255, device_.registers_per_sm / loop.max_threads / 8 * 8);
    loop.shared_bytes = shared_bytes_of(loop, backward_, work_.element);
    if (loop.shared_bytes > device_.shared_per_block) {
      if (least_shared_ == 0 || loop.shared_bytes < least_shared_)
        least_shared_ = loop.shared_bytes;
      return;
    }
    loop.us = step_us(loop, work_, machine_of(device_.capability), resident);
    if (!offer_.loop || loop.us < offer_.loop->us) offer_.loop = loop;
  }

  const PlanProblem& p_;
  const DeviceFacts& device_;
  const Wanted& wanted_;
  const bool backward_;
  const int sms_;
  LoopProblem work_{};
  Offer offer_{};
  int64_t least_shared_ = 0;
};

}  // namespace

std::vector<Offer> offers(const PlanProblem& problem, bool backward, const DeviceFacts& device,
                          const Wanted& wanted, int sms) {
  Search search(problem, backward, device, wanted, sms);
  return {search.run(Regime::kBlock), search.run(Regime::kCluster), search.run(Regime::kGrid),
          search.run(Regime::kStreamed)};
}

const Offer* best(const std::vector<Offer>& offers) {
  const Offer* found = nullptr;
  for (const Offer& offer : offers) {
    if (offer.loop && (found == nullptr || kRegimeMargin * offer.loop->us < found->loop->us)) {
      found = &offer;
    }
  }
  return found;
}

}  // namespace ltlstm
