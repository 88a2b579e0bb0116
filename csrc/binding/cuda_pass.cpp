// SPDX-License-Identifier: Apache-2.0
// A pass's plan, what of it the environment narrows, and its chunks.
#include "binding/cuda_pass.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace ltlstm::binding {
namespace {

const char* setting(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? nullptr : value;
}

// LTLSTM_CUDA_REGIME (block, cluster or grid) and LTLSTM_CUDA_CHUNK (steps) narrow the plan, for
// tests and measurements.
Wanted wanted(std::optional<bool> lanes) {
  Wanted found;
  found.overlap = lanes;
  if (const char* name = setting("LTLSTM_CUDA_REGIME")) {
    for (const Regime regime : {Regime::kBlock, Regime::kCluster, Regime::kGrid})
      if (std::strcmp(name, regime_name(regime)) == 0) found.regimes = {regime};
    require(!found.regimes.empty(), "plan", "LTLSTM_CUDA_REGIME", "be block, cluster or grid",
            std::string(name));
  }
  if (const char* steps = setting("LTLSTM_CUDA_CHUNK")) {
    char* end;
    found.chunk = std::strtoll(steps, &end, 10);
    require(*end == '\0' && found.chunk > 0, "plan", "LTLSTM_CUDA_CHUNK",
            "be a positive number of steps", std::string(steps));
  }
  return found;
}

Dtype dtype_of(ScalarType type) {
  if (type == ScalarType::BFloat16) return Dtype::kBFloat16;
  return type == ScalarType::Half ? Dtype::kFloat16 : Dtype::kFloat32;
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
  problem.peephole = s.flags.peephole;
  problem.projection = s.flags.projected;
  problem.trajectory = s.flags.trajectory;
  const Plan plan = make_plan(problem, device_facts(s.input.get_device_index()), wanted(lanes));
  for (const TimeLoop* loop : {&plan.forward, training ? &plan.backward : &plan.forward})
    if (loop->regime >= Regime::kStreamed)
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

// LTLSTM_CUDA_RECOMPUTE=1 asks training to keep no gates: backward then computes them again, which
// costs a product of all rows with W_ih and one with W_hh.
bool keeps_gates() {
  const char* value = setting("LTLSTM_CUDA_RECOMPUTE");
  if (value == nullptr) return true;
  require(std::strcmp(value, "0") == 0 || std::strcmp(value, "1") == 0, "cuda",
          "LTLSTM_CUDA_RECOMPUTE", "be 0 or 1", std::string(value));
  return *value == '0';
}
bool can_compute_gates_again() { return true; }

Pass::Pass(const StackArguments& s, bool training, std::optional<bool> wants_lanes)
    : s(s),
      plan(plan_of(s, training, wants_lanes)),
      chunks(chunks_of(s, plan.lanes.chunk)),
      whole{0, 0, s.T, 0, s.R},
      // The recurrence goes first where both lanes want an SM: everything waits for it.
      lanes(s.input, plan.lanes.at_once, s.flags.trajectory ? 1 : plan.lanes.at_once) {
  if (!s.packing) return;  // padded: row(t, n) = t N + n
  const int64_t T = s.T;
  const Tensor numbers = binding::empty(*s.packing, {2 * T + 1});
  int64_t* to = mutable_data<int64_t>(numbers);
  std::copy(s.batch_sizes().begin(), s.batch_sizes().end(), to);
  std::copy(s.offsets().begin(), s.offsets().end(), to + T);
  int32_t type = aoti_torch_dtype_int64();
  steps = binding::empty(s.input, {2 * T + 1}, &type);
  binding::copy(numbers, *steps);
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

}  // namespace ltlstm::binding
