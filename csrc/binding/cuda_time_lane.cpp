// SPDX-License-Identifier: Apache-2.0
// One layer of the time lane on a GPU: a large product for the inputs, then one persistent kernel
// for all steps and both directions; backward the same kernel's mirror, then large products.
#include <cstdlib>
#include <cstring>

#include "binding/cuda_stack.h"

namespace ltlstm::binding {
namespace {

// LTLSTM_CUDA_REGIME (block, cluster or grid) narrows the plan, for tests and measurements.
Wanted wanted() {
  const char* name = std::getenv("LTLSTM_CUDA_REGIME");
  if (name == nullptr || *name == '\0') return {};
  for (const Regime regime : {Regime::kBlock, Regime::kCluster, Regime::kGrid})
    if (std::strcmp(name, regime_name(regime)) == 0) return {{regime}};
  refuse("plan", "LTLSTM_CUDA_REGIME", "be block, cluster or grid", std::string(name));
}

Dtype dtype_of(ScalarType type) {
  if (type == ScalarType::BFloat16) return Dtype::kBFloat16;
  return type == ScalarType::Half ? Dtype::kFloat16 : Dtype::kFloat32;
}

Plan plan_of(const StackArguments& s, int device, bool training, bool trajectory) {
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
  problem.trajectory = trajectory;
  const Plan plan = make_plan(problem, device_facts(device), wanted());
  for (const TimeLoop* loop : {&plan.forward, training ? &plan.backward : &plan.forward})
    if (loop->regime >= Regime::kStreamed)
      refuse(s.op, "shape", "have a kernel on this GPU", plan.reason);
  return plan;
}

// Every launch of a loop, with its own piece of workspace.
template <class Problem>
void launch(const Lane& lane, const TimeLoop& loop, int directions, Problem& problem,
            const Tensor& like) {
  const int64_t bytes = cuda::workspace_bytes<Problem>(loop, directions);
  STD_TORCH_CHECK(bytes >= 0, "cuda: no kernel for the loop that was planned");
  const Tensor workspace = lane.zero_float(like, {(bytes * loop.passes + 3) / 4});
  for (int pass = 0; pass < loop.passes; ++pass) {
    problem.first_row = int64_t{pass} * loop.groups * loop.columns;
    problem.workspace = mutable_data<unsigned char>(workspace) + pass * bytes;
    check(cuda::time_lstm(problem, loop, directions, lane.stream));
  }
}

// Matrix `index` of those that a tensor holds, or null.
template <class scalar>
scalar* part(const OptionalTensor& t, int64_t index, int64_t size) {
  return t ? mutable_data<scalar>(*t) + index * size : nullptr;
}

}  // namespace

Pass::Pass(const StackArguments& s, const Tensor& input, const OptionalTensor& batch_sizes,
           const OptionalTensor& reset, bool training, bool trajectory,
           std::optional<bool> wants_lanes)
    : s(s),
      plan(plan_of(s, input.get_device_index(), training, trajectory)),
      reset(reset),
      lanes(input, trajectory && wants_lanes.value_or(plan.lanes.overlap)) {
  if (!batch_sizes) return;  // padded: row(t, n) = t N + n
  const int64_t T = s.T;
  const Tensor numbers = binding::empty(*batch_sizes, {2 * T + 1});
  int64_t* to = mutable_data<int64_t>(numbers);
  std::copy(s.batch_sizes().begin(), s.batch_sizes().end(), to);
  std::copy(s.offsets().begin(), s.offsets().end(), to + T);
  int32_t type = aoti_torch_dtype_int64();
  steps = binding::empty(input, {2 * T + 1}, &type);
  binding::copy(numbers, *steps);
}

Sequence Pass::sequence() const {
  const int64_t* sizes = data<int64_t>(steps);
  return {s.T, s.N, sizes, sizes ? sizes + s.T : nullptr, data<bool>(reset), false};
}

template <class scalar>
TimeLane<scalar>::TimeLane(Pass& pass, const Tensor& input, const Tensor& h0, const Tensor& c0)
    : pass(pass),
      s(pass.s),
      lane(pass.lanes.time),
      h0(h0),
      c0(lane.as_float(c0)),
      h_n(binding::empty(input, h0.sizes())),
      c_n(lane.empty_float(input, c0.sizes())) {
  lane.copy(h0, h_n);
  lane.copy(this->c0, c_n);
}

template <class scalar>
void TimeLane<scalar>::forward(int64_t layer, const Tensor& x, const Tensor& hidden,
                               const OptionalTensor& cells, const OptionalTensor& gates) const {
  if (s.R == 0) return;
  const int64_t H = s.H, P = s.P, N = s.N, R = s.R;
  cuda::TimeLstmForward<scalar> p{};
  p.seq = pass.sequence();
  p.H = H;
  p.P = P;
  p.hidden_stride = s.width();
  std::vector<OptionalTensor> used;
  for (int64_t d = 0; d < s.dirs; ++d) {
    const int64_t index = layer * s.dirs + d;
    const CellWeights& w = s.weights[index];
    const Tensor preact = gates ? matrix(*gates, index, R, 4 * H) : lane.empty(x, {R, 4 * H});
    lane.linear(preact, x, w.w_ih, whole_bias<scalar>(lane, w));
    const OptionalTensor peephole = lane.as_float(w.peephole);
    used.insert(used.end(), {preact, peephole});
    p.direction[d] = {d == 1,
                      data<scalar>(preact),
                      data<scalar>(w.w_hh),
                      data<scalar>(w.w_hr),
                      data<float>(peephole),
                      part<scalar>(h0, index, N * P),
                      part<float>(c0, index, N * H),
                      part<scalar>(hidden, d, P),
                      gates ? mutable_data<scalar>(preact) : nullptr,
                      part<float>(cells, index, R * H),
                      part<scalar>(h_n, index, N * P),
                      part<float>(c_n, index, N * H)};
  }
  launch(lane, pass.plan.forward, static_cast<int>(s.dirs), p, x);
}

template <class scalar>
void TimeLane<scalar>::backward(int64_t layer, const Tensor& x, const Tensor& hidden,
                                const Tensor& cells, const Tensor& gates,
                                const OptionalTensor& d_hidden, const Tensor& d_x,
                                Gradients& gradients) const {
  const int64_t H = s.H, P = s.P, N = s.N, R = s.R;
  struct Direction {
    Tensor d_preact, h_prev;
    OptionalTensor r, d_projected, peephole, d_peephole;
  };
  std::vector<Direction> directions;
  cuda::TimeLstmBackward<scalar> p{};
  p.seq = pass.sequence();
  p.H = H;
  p.P = P;
  p.d_hidden_stride = s.width();
  for (int64_t d = 0; d < s.dirs; ++d) {
    const int64_t index = layer * s.dirs + d;
    const CellWeights& w = s.weights[index];
    Direction here{lane.empty(x, {R, 4 * H}), lane.empty(x, {R, P}), {}, {}, {}, {}};
    if (w.w_hr) {
      here.r = lane.empty(x, {R, H});
      here.d_projected = lane.empty(x, {R, P});
    }
    here.peephole = lane.as_float(w.peephole);
    if (w.peephole) here.d_peephole = lane.empty_float(x, {N, 3 * H});
    p.direction[d] = {d == 1,
                      data<scalar>(w.w_hh),
                      data<scalar>(w.w_hr),
                      data<float>(here.peephole),
                      part<float>(c0, index, N * H),
                      part<scalar>(gates, index, R * 4 * H),
                      part<float>(cells, index, R * H),
                      part<scalar>(d_hidden, d, P),
                      part<float>(gradients.d_cells, index, R * H),
                      part<float>(gradients.d_h_n, index, N * P),
                      part<float>(gradients.d_c_n, index, N * H),
                      mutable_data<scalar>(here.d_preact),
                      part<scalar>(here.r, 0, 0),
                      part<scalar>(here.d_projected, 0, 0),
                      part<float>(gradients.d_h0, index, N * P),
                      part<float>(gradients.d_c0, index, N * H),
                      part<float>(here.d_peephole, 0, 0)};
    cuda::EnteringRows<scalar> entering{p.seq,
                                        P,
                                        s.width(),
                                        part<scalar>(hidden, d, P),
                                        part<scalar>(h0, index, N * P),
                                        mutable_data<scalar>(here.h_prev)};
    entering.seq.reverse = d == 1;
    check(cuda::entering_rows(entering, lane.stream));
    directions.push_back(here);
  }
  if (R > 0) launch(lane, pass.plan.backward, static_cast<int>(s.dirs), p, x);
  gradients.d_weights.clear();
  for (int64_t d = 0; d < s.dirs; ++d) {
    const CellWeights& w = s.weights[layer * s.dirs + d];
    const Direction& here = directions[d];
    lane.product(d_x, here.d_preact, plain(w.w_ih), d > 0);
    append_gradients<scalar>(lane, w, here.d_preact, x, here.h_prev, gradients.d_weights);
    if (w.w_hr) {
      gradients.d_weights.push_back(lane.empty(*w.w_hr, w.w_hr->sizes()));
      lane.product(gradients.d_weights.back(), transposed(*here.d_projected), *here.r, false);
    }
    if (w.peephole) {
      const Tensor sum = lane.empty_float(x, {3 * H});
      lane.column_sums(*here.d_peephole, sum);
      gradients.d_weights.push_back(lane.empty(*w.peephole, w.peephole->sizes()));
      lane.copy(matrix(sum, 0, 3, H), gradients.d_weights.back());
    }
  }
}

template struct TimeLane<__nv_bfloat16>;
template struct TimeLane<__half>;
template struct TimeLane<float>;

}  // namespace ltlstm::binding
