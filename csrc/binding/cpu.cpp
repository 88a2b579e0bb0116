// SPDX-License-Identifier: Apache-2.0
// The stack of time-LSTMs and the bare cell on the CPU, and what the CPU says of itself.
#include "binding/cpu_stack.h"

namespace ltlstm::binding {
namespace {

constexpr ScalarType kTypes[] = {ScalarType::Float, ScalarType::Double, ScalarType::BFloat16};

// Inference in bfloat16: the state and all sums in float32, between layers rounded.
void run_half(const StackForward& call) {
  const StackArguments& s = call.s;
  require(s.masks.empty(), s.op, "masks", "be None with bfloat16", s.masks.size());
  TimeLaneForward<float> time(call);
  const Tensor hidden = empty_float(s.input, {s.R, s.width()});
  for (int64_t l = 0; l < s.L; ++l) {
    time.run(l, hidden);
    time.x = hidden_for(call, l);
    copy(hidden, time.x);
  }
  copy(time.memory.h_n, call.h_n);
  copy(time.memory.c_n, call.c_n);
}

}  // namespace

Types storage_types() { return {kTypes, 2}; }
Types inference_types() { return kTypes; }
bool keeps_gates() { return true; }
bool can_compute_gates_again() { return false; }

void run(const StackForward& call) {
  const StackArguments& s = call.s;
  with_scalar(s.type, [&](auto zero) {
    if (s.half()) return run_half(call);
    TimeLaneForward<decltype(zero)> time(call);
    for (int64_t l = 0; l < s.L; ++l) time.run(l, hidden_for(call, l));
  });
}

WeightGradients run(const StackBackward& call) {
  return with_scalar(call.s.type, [&](auto zero) {
    using scalar = decltype(zero);
    TimeLaneBackward<scalar> time(call);
    run_down<scalar>(call, [&](int64_t l, const OptionalTensor& d_h) { return time.run(l, d_h); });
    return flattened(time.d_weights);
  });
}

void run(const CellForward& call) {
  with_scalar(call.c.scalar_type(), [&](auto zero) {
    CellRows<decltype(zero)>::forward(call.preact, call.c, call.peephole,
                                      empty(call.preact, call.preact.sizes()), call.c_new, call.h);
  });
}

OptionalTensor run(const CellBackward& call) {
  return with_scalar(call.c.scalar_type(), [&](auto zero) {
    using Rows = CellRows<decltype(zero)>;
    const Sizes sizes = sizes_of(call.c);
    const Tensor gates = empty(call.preact, call.preact.sizes()), c_new = empty(call.c, sizes),
                 h = empty(call.c, sizes);
    Rows::forward(call.preact, call.c, call.peephole, gates, c_new, h);
    return Rows::backward(gates, call.c, c_new, call.peephole,
                          call.d_h ? *call.d_h : zeros(call.c, sizes),
                          filled(call.d_c, call.d_c_new), call.d_preact, std::nullopt);
  });
}

}  // namespace ltlstm::binding
