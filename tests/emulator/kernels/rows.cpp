// SPDX-License-Identifier: Apache-2.0
// The kernels over independent rows. The int64 array "sizes" is the struct RowSizes.
#include "cuda/rows.h"

#include "launched.h"

namespace ltlstm::cuda::cases {
namespace {

// kernel: 0 cell forward, 1 cell backward, 2 peephole gradient, 3 entering rows.
struct RowSizes {
  int64_t kernel, bits, R, H, stride, rows_a_piece, T, N, reverse;
};

template <class scalar>
Status launch(const Records& a, const RowSizes& s) {
  const auto floats = [&](const char* name) { return a.find<float>(name); };
  const auto scalars = [&](const char* name) { return a.find<scalar>(name); };
  if (s.kernel == 0)
    return cell_rows_forward<scalar>(
        {s.R, s.H, scalars("preact"), s.stride, floats("c_prev"), floats("peephole"),
         scalars("gates"), floats("c"), scalars("r")},
        nullptr);
  if (s.kernel == 1)
    return cell_rows_backward<scalar>(
        {s.R, s.H, scalars("gates"), floats("c_prev"), floats("c"), floats("peephole"),
         scalars("dr"), floats("dc"), scalars("d_preact"), s.stride, floats("dc_prev"),
         scalars("r")},
        nullptr);
  if (s.kernel == 2)
    return peephole_gradient<scalar>({s.R, s.H, s.rows_a_piece, scalars("d_preact"), s.stride,
                                      floats("c_prev"), floats("c"), floats("d_peephole")},
                                     nullptr);
  const Sequence seq = {s.T,
                        s.N,
                        a.find<int64_t>("batch_sizes"),
                        a.find<int64_t>("offsets"),
                        a.find<bool>("reset"),
                        s.reverse != 0};
  return entering_rows<scalar>(
      {seq, s.H, s.stride, scalars("hidden"), scalars("h0"), scalars("h_prev")}, nullptr);
}

}  // namespace
}  // namespace ltlstm::cuda::cases

int main(int count, char** arguments) {
  using namespace ltlstm::cuda::cases;
  return main_of_launch<RowSizes>(count, arguments, [](const Records& a, const RowSizes& s) {
    return s.bits == 32 ? launch<float>(a, s) : launch<__nv_bfloat16>(a, s);
  });
}
