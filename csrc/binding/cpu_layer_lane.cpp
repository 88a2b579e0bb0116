// SPDX-License-Identifier: Apache-2.0
// One layer of the layer lane on the CPU. It has no recurrence over time: all rows are one batch,
// two large products and one pointwise pass.
#include "binding/cpu_lanes.h"
#include "binding/cpu_products.h"

namespace ltlstm::binding {

template <class scalar>
void CellRows<scalar>::forward(const Tensor& preact, const OptionalTensor& c_prev,
                               const OptionalTensor& peephole, const Tensor& gates, const Tensor& c,
                               const Tensor& r) {
  const int64_t R = c.size(0), H = c.size(1);
  const Tensor previous = c_prev ? *c_prev : zeros(c, {H});
  const CellRowsForward<scalar> problem = {H,
                                           data<scalar>(preact),
                                           data<scalar>(previous),
                                           c_prev ? H : 0,
                                           data<scalar>(peephole),
                                           mutable_data<scalar>(gates),
                                           mutable_data<scalar>(c),
                                           mutable_data<scalar>(r)};
  parallel(R, 40 * H, [&](int64_t first, int64_t last) {
    cpu::kernels<scalar>().cell_rows_forward(problem, first, last);
  });
}

template <class scalar>
OptionalTensor CellRows<scalar>::backward(const Tensor& gates, const OptionalTensor& c_prev,
                                          const Tensor& c, const OptionalTensor& peephole,
                                          const Tensor& dr, const Tensor& dc,
                                          const Tensor& d_preact, const OptionalTensor& r) {
  const int64_t R = c.size(0), H = c.size(1);
  const Tensor previous = c_prev ? *c_prev : zeros(c, {H});
  const CellRowsBackward<scalar> problem = {H,
                                            data<scalar>(gates),
                                            data<scalar>(previous),
                                            c_prev ? H : 0,
                                            data<scalar>(c),
                                            data<scalar>(peephole),
                                            data<scalar>(dr),
                                            data<scalar>(dc),
                                            mutable_data<scalar>(d_preact),
                                            mutable_data<scalar>(dc),
                                            r ? mutable_data<scalar>(*r) : nullptr};
  parallel(R, 40 * H, [&](int64_t first, int64_t last) {
    cpu::kernels<scalar>().cell_rows_backward(problem, first, last);
  });
  if (!peephole) return std::nullopt;
  Tensor d_peephole = zeros(c, {3, H});
  scalar* sums = mutable_data<scalar>(d_peephole);
  parallel(H, 6 * R, [&](int64_t first, int64_t last) {
    cpu::kernels<scalar>().cell_rows_peephole_gradient(problem, R, first, last, sums);
  });
  return d_peephole;
}

template <class scalar>
void LayerLane<scalar>::forward(const CellWeights& w, const Tensor& x,
                                const OptionalTensor& g_below, const OptionalTensor& m_below,
                                const Tensor& gates, const Tensor& m, const Tensor& g) {
  linear(gates, x, w.w_ih, summed<scalar>(w.b_ih, w.b_hh));
  if (g_below) product(gates, *g_below, transposed(*w.w_hh), true);
  const Tensor r = w.w_hr ? empty(x, sizes_of(m)) : g;
  CellRows<scalar>::forward(gates, m_below, w.peephole, gates, m, r);
  if (w.w_hr) linear(g, r, *w.w_hr, std::nullopt);
}

template <class scalar>
std::vector<Tensor> LayerLane<scalar>::backward(const CellWeights& w, const LayerLayerSaved& saved,
                                                const Tensor& dg, const Tensor& dm,
                                                const Tensor& d_x) {
  CellWeightGradients gradients;
  Tensor dr = dg;
  OptionalTensor r;
  if (w.w_hr) {
    dr = empty(dm, sizes_of(dm));
    product(dr, dg, plain(*w.w_hr), false);
    r = empty(dm, sizes_of(dm));
  }
  const Tensor d_preact = empty(dm, sizes_of(saved.gates));
  gradients.peephole = CellRows<scalar>::backward(saved.gates, saved.m_below, saved.m, w.peephole,
                                                  dr, dm, d_preact, r);
  if (w.w_hr) {
    gradients.w_hr = weight_gradient<scalar>(*w.w_hr, dg, *r);
  }
  product(d_x, d_preact, plain(w.w_ih), false);
  gradients.w_ih = weight_gradient<scalar>(w.w_ih, d_preact, saved.x);
  if (saved.g_below) {
    gradients.w_hh = weight_gradient<scalar>(*w.w_hh, d_preact, *saved.g_below);
    product(dg, d_preact, plain(*w.w_hh), false);
  }
  if (w.b_ih) {
    gradients.b_ih = column_sums(d_preact);
    gradients.b_hh = torch::stable::clone(*gradients.b_ih);
  }
  std::vector<Tensor> d_weights;
  gradients.append_to(d_weights);
  return d_weights;
}

template struct CellRows<float>;
template struct CellRows<double>;
template struct LayerLane<float>;
template struct LayerLane<double>;

}  // namespace ltlstm::binding
