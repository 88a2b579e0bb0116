// SPDX-License-Identifier: Apache-2.0
// One layer of the layer lane on a GPU, and the bare cell: all rows are one batch, two large
// products and one pointwise kernel.
#include "binding/cuda_stack.h"

namespace ltlstm::binding {

template <class scalar>
void LayerLane<scalar>::forward(const Lane& lane, const CellWeights& w, const Tensor& x,
                                const OptionalTensor& g_below, const OptionalTensor& m_below,
                                const Tensor& preact, bool keep, const Tensor& m, const Tensor& g) {
  const int64_t R = m.size(0), G = m.size(1);
  lane.linear(preact, x, w.w_ih, whole_bias<scalar>(lane, w));
  if (g_below) lane.product(preact, *g_below, transposed(*w.w_hh), true);
  const OptionalTensor peephole = lane.as_float(w.peephole);
  const Tensor r = w.w_hr ? lane.empty(x, {R, G}) : g;
  const cuda::CellRowsForward<scalar> p = {R,
                                           G,
                                           data<scalar>(preact),
                                           4 * G,
                                           data<float>(m_below),
                                           data<float>(peephole),
                                           keep ? mutable_data<scalar>(preact) : nullptr,
                                           mutable_data<float>(m),
                                           mutable_data<scalar>(r)};
  check(cuda::cell_rows_forward(p, lane.stream));
  if (w.w_hr) lane.linear(g, r, *w.w_hr, std::nullopt);
}

template <class scalar>
std::vector<Tensor> LayerLane<scalar>::backward(const Lane& lane, const CellWeights& w,
                                                const Saved& saved, const Tensor& dg,
                                                const Tensor& dm, const Tensor& d_x) {
  const int64_t R = dm.size(0), G = dm.size(1);
  Tensor dr = dg;
  OptionalTensor r;
  if (w.w_hr) {
    dr = lane.empty(dg, {R, G});
    lane.product(dr, dg, plain(*w.w_hr), false);
    r = lane.empty(dg, {R, G});
  }
  const Tensor d_preact = lane.empty(dg, {R, 4 * G});
  const OptionalTensor peephole = lane.as_float(w.peephole);
  const cuda::CellRowsBackward<scalar> p = {R,
                                            G,
                                            data<scalar>(saved.gates),
                                            data<float>(saved.m_below),
                                            data<float>(saved.m),
                                            data<float>(peephole),
                                            data<scalar>(dr),
                                            data<float>(dm),
                                            mutable_data<scalar>(d_preact),
                                            4 * G,
                                            mutable_data<float>(dm),
                                            r ? mutable_data<scalar>(*r) : nullptr};
  check(cuda::cell_rows_backward(p, lane.stream));
  std::vector<Tensor> d_weights;
  append_gradients<scalar>(lane, w, d_preact, saved.x, saved.g_below, d_weights);
  if (w.w_hr) {
    d_weights.push_back(lane.empty(*w.w_hr, w.w_hr->sizes()));
    lane.product(d_weights.back(), transposed(dg), *r, false);
  }
  if (w.peephole) {
    d_weights.push_back(lane.empty(*w.peephole, w.peephole->sizes()));
    sum_peephole_gradient<scalar>(lane, d_preact, saved.m_below, saved.m, d_weights.back());
  }
  lane.product(d_x, d_preact, plain(w.w_ih), false);
  if (saved.g_below) lane.product(dg, d_preact, plain(*w.w_hh), false);
  return d_weights;
}

template struct LayerLane<__nv_bfloat16>;
template struct LayerLane<__half>;
template struct LayerLane<float>;

}  // namespace ltlstm::binding
