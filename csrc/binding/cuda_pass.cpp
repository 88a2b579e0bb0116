// SPDX-License-Identifier: Apache-2.0
// A pass's plan and its chunks.
#include "binding/cuda_pass.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>

#include "cuda/steps.h"
#include "settings.h"

namespace ltlstm::binding {
namespace {

Dtype dtype_of(ScalarType type) {
  if (type == ScalarType::BFloat16) return Dtype::kBFloat16;
  return type == ScalarType::Half ? Dtype::kFloat16 : Dtype::kFloat32;
}

// make_plan looks at thousands of loops, which takes longer than many a call.
Plan known_plan(const PlanProblem& p, int device, const Wanted& w) {
  using Key = std::array<int64_t, 14>;
  static std::mutex mutex;
  static std::map<Key, Plan> known;
  const Key key = {p.T,
                   p.N,
                   p.H,
                   p.P,
                   p.L,
                   p.directions,
                   int64_t(p.dtype),
                   p.training,
                   p.projection,
                   p.trajectory,
                   device,
                   w.chunk,
                   w.regimes.empty() ? -1 : int64_t(w.regimes[0]),
                   w.overlap ? *w.overlap : -1};
  const std::lock_guard<std::mutex> locked(mutex);
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  if (known.size() >= 4096) known.clear();  // no memory of every length that ever came
  return known.emplace(key, make_plan(p, device_facts(device), w)).first->second;
}

Plan plan_of(const StackArguments& s, bool training, std::optional<bool> lanes) {
  PlanProblem problem{};
  problem.T = std::max<int64_t>(s.T, 1);
  problem.N = std::max<int64_t>(s.N, 1);
  problem.H = s.H;
  problem.P = s.P;
  problem.L = s.L;
  problem.directions = static_cast<int>(s.dirs);
  problem.dtype = dtype_of(s.type);
  problem.training = training;
  problem.projection = s.flags.projected;
  problem.trajectory = s.flags.trajectory;
  if (s.flags.projected && s.P >= s.H)
    refuse(s.op, "h0", "be narrower than c0 with a projection", s.P);
  Wanted wanted = wanted_by_environment();
  wanted.overlap = lanes;
  const Plan plan = known_plan(problem, s.input.get_device_index(), wanted);
  for (const TimeLoop* loop : {&plan.forward, training ? &plan.backward : &plan.forward})
    if (loop->regime == Regime::kAten)
      refuse(s.op, "shape", "have a kernel on this GPU", plan.reason);
  return plan;
}

std::vector<Chunk> chunks_of(const StackArguments& s, int64_t steps) {
  std::vector<Chunk> found;
  int64_t first = 0;
  do {
    const int64_t last = std::min(first + steps, s.T);
    const auto [row, end] = s.rows_of_steps(first, last, false);
    found.push_back({static_cast<int64_t>(found.size()), first, last, row, end - row});
    first = last;
  } while (first < s.T);
  return found;
}

}  // namespace

Types storage_types() {
  static constexpr ScalarType kTypes[] = {ScalarType::Float, ScalarType::Half,
                                          ScalarType::BFloat16};
  return kTypes;
}
Types inference_types() { return storage_types(); }

bool keeps_gates() { return !recompute_by_environment(); }
bool can_compute_gates_again() { return true; }

Pass::Pass(const StackArguments& s, bool training, std::optional<bool> wants_lanes)
    : s(s),
      plan(plan_of(s, training, wants_lanes)),
      chunks(chunks_of(s, plan.lanes.chunk)),
      whole{0, 0, s.T, 0, s.R},
      // The recurrence goes first where both lanes want an SM: everything waits for it.
      lanes(s.input, plan.lanes.at_once, s.flags.trajectory ? 1 : plan.lanes.at_once) {
  if (!s.packing) return;  // padded: row(t, n) = t N + n
  const Lane& first = lanes.of(0);
  steps = first.empty_int64(s.input, {2 * s.T + 1});
  int64_t* sizes = mutable_data<int64_t>(*steps);
  check(cuda::write_steps(s.T, s.batch_sizes().data(), s.offsets().data(), sizes, sizes + s.T,
                          first.stream));
  for (int64_t k = 1; k < lanes.count(); ++k) lanes.wait(lanes.of(k), lanes.mark(first));
}

Sequence Pass::sequence(const Chunk& chunk) const {
  const int64_t* sizes = data<int64_t>(steps);
  return {chunk.last - chunk.first,
          s.N,
          sizes ? sizes + chunk.first : nullptr,
          sizes ? sizes + s.T + chunk.first : nullptr,
          part<bool>(s.reset, shift(chunk), 1),
          false};
}

Sequence Pass::host_sequence(const Chunk& chunk) const {
  Sequence found = sequence(chunk);
  if (!steps) return found;
  found.batch_sizes = s.batch_sizes().data() + chunk.first;
  found.offsets = s.offsets().data() + chunk.first;
  return found;
}

}  // namespace ltlstm::binding
