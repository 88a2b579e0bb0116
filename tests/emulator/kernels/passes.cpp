// SPDX-License-Identifier: Apache-2.0
// Sums over rows, and the steps of packed input. The int64 array "sizes" is the struct PassSizes.
#include "cuda/steps.h"
#include "cuda/sums.h"
#include "launched.h"

namespace ltlstm::cuda::cases {
namespace {

// kernel: 0 steps, else the types of a sum: 1 bfloat16 to float, 2 float to bfloat16, 3 float.
struct PassSizes {
  int64_t kernel, rows, width;
};

Status launch(const Records& a, const PassSizes& s) {
  const auto sum = [&](auto* t, auto* out) {
    return sum_rows(s.rows, s.width, a.find<std::remove_pointer_t<decltype(t)>>("t"),
                    a.find<std::remove_pointer_t<decltype(out)>>("out"), nullptr);
  };
  __nv_bfloat16* const half = nullptr;
  float* const whole = nullptr;
  if (s.kernel == 1) return sum(half, whole);
  if (s.kernel == 2) return sum(whole, half);
  if (s.kernel == 3) return sum(whole, whole);
  // A copy that is gone before the kernel runs.
  const std::vector<int64_t> sizes(a.find<int64_t>("sizes_in"),
                                   a.find<int64_t>("sizes_in") + s.rows);
  const std::vector<int64_t> offsets(a.find<int64_t>("offsets_in"),
                                     a.find<int64_t>("offsets_in") + s.rows + 1);
  return write_steps(s.rows, sizes.data(), offsets.data(), a.find<int64_t>("batch_sizes"),
                     a.find<int64_t>("offsets"), nullptr);
}

}  // namespace
}  // namespace ltlstm::cuda::cases

int main(int count, char** arguments) {
  using namespace ltlstm::cuda::cases;
  return main_of_launch<PassSizes>(count, arguments, launch);
}
