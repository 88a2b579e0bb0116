// SPDX-License-Identifier: Apache-2.0
// The time-LSTM with 8 columns, K split, projected or weights in registers, grid and cluster
// regimes, bfloat16: few kernels, quickly built under a sanitizer or with a defect.
#include "time_lstm_kind.h"

namespace ltlstm::cuda::cases {
namespace {

template <template <class, template <class> class, int, Variant> class Kind,
          template <class> class Exchange, class Visit>
void visit_small(const Sizes& s, const Visit& visit) {
  visit_variant<Kind, __nv_bfloat16, Exchange, 1, Variant::kProjected>(loop_of(s), visit);
  visit_variant<Kind, __nv_bfloat16, Exchange, 1, Variant::kHeld>(loop_of(s), visit);
}

template <template <class> class Exchange>
void run_small(Records& records, const Sizes& s) {
  const auto run = [&](auto kind) { run_kind<decltype(kind)>(records, s); };
  if (s.backward)
    visit_small<BackwardKind, Exchange>(s, run);
  else
    visit_small<ForwardKind, Exchange>(s, run);
}

void run_either(Records& records, const Sizes& s) {
  return s.regime == static_cast<int64_t>(Regime::kGrid) ? run_small<GridExchange>(records, s)
                                                         : run_small<ClusterExchange>(records, s);
}

}  // namespace
}  // namespace ltlstm::cuda::cases

int main(int count, char** arguments) {
  return ltlstm::cuda::cases::main_of(count, arguments, ltlstm::cuda::cases::run_either);
}
