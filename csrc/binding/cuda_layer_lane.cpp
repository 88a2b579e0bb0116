// SPDX-License-Identifier: Apache-2.0
// One layer of the layer lane on a GPU: of a chunk's rows two large products and one pointwise
// kernel.
#include "binding/cuda_layer_lane.h"

namespace ltlstm::binding {
namespace {

// The cell's output where it is projected, else what stands for it.
Tensor unprojected(const Lane& lane, const CellWeights& w, const Tensor& m, const Tensor& g) {
  return w.w_hr ? lane.empty(g, m.sizes()) : g;
}

template <class scalar>
scalar* row(const OptionalTensor& t, const Chunk& chunk) {
  return t ? part<scalar>(t, chunk.row, t->size(1)) : nullptr;
}

}  // namespace

template <class scalar>
LayerForward<scalar>::LayerForward(const Lane& lane, const CellWeights& w, const LayerRows& rows,
                                   const Tensor& g, bool keep)
    : lane_(lane),
      w_(w),
      rows_(rows),
      g_(g),
      r_(unprojected(lane, w, rows.m, g)),
      keep_(keep),
      bias_(whole_bias<scalar>(lane, w)),
      peephole_(lane.as_float(w.peephole)) {}

template <class scalar>
void LayerForward<scalar>::run(const Chunk& chunk) const {
  const int64_t G = rows_.m.size(1);
  const Tensor preact = rows_of(rows_.gates, chunk);
  lane_.linear(preact, rows_of(rows_.x, chunk), w_.w_ih, bias_);
  if (rows_.g_below)
    lane_.product(preact, rows_of(*rows_.g_below, chunk), transposed(*w_.w_hh), true);
  const cuda::CellRowsForward<scalar> p = {chunk.rows,
                                           G,
                                           data<scalar>(preact),
                                           4 * G,
                                           row<float>(rows_.m_below, chunk),
                                           data<float>(peephole_),
                                           keep_ ? mutable_data<scalar>(preact) : nullptr,
                                           row<float>(rows_.m, chunk),
                                           row<scalar>(r_, chunk)};
  check(cuda::cell_rows_forward(p, lane_.stream));
  if (w_.w_hr) lane_.linear(rows_of(g_, chunk), rows_of(r_, chunk), *w_.w_hr, std::nullopt);
}

template <class scalar>
LayerBackward<scalar>::LayerBackward(const Lane& lane, const CellWeights& w, const LayerRows& saved,
                                     const Tensor& dg, const Tensor& dm, const Tensor& dg_below,
                                     const Tensor& d_x)
    : lane_(lane),
      w_(w),
      saved_(saved),
      dg_(dg),
      dm_(dm),
      dg_below_(dg_below),
      d_x_(d_x),
      dr_(unprojected(lane, w, dm, dg)),
      d_preact_(lane.empty(dg, {dm.size(0), 4 * dm.size(1)})),
      r_(w.w_hr ? OptionalTensor(lane.empty(dg, dm.sizes())) : OptionalTensor()),
      peephole_(lane.as_float(w.peephole)) {}

template <class scalar>
void LayerBackward<scalar>::run(const Chunk& chunk) const {
  const int64_t G = dm_.size(1);
  const Tensor d_preact = rows_of(d_preact_, chunk);
  if (w_.w_hr) lane_.product(rows_of(dr_, chunk), rows_of(dg_, chunk), plain(*w_.w_hr), false);
  const cuda::CellRowsBackward<scalar> p = {chunk.rows,
                                            G,
                                            row<scalar>(saved_.gates, chunk),
                                            row<float>(saved_.m_below, chunk),
                                            row<float>(saved_.m, chunk),
                                            data<float>(peephole_),
                                            row<scalar>(dr_, chunk),
                                            row<float>(dm_, chunk),
                                            mutable_data<scalar>(d_preact),
                                            4 * G,
                                            row<float>(dm_, chunk),
                                            row<scalar>(r_, chunk)};
  check(cuda::cell_rows_backward(p, lane_.stream));
  lane_.product(rows_of(d_x_, chunk), d_preact, plain(w_.w_ih), false);
  if (saved_.g_below) lane_.product(rows_of(dg_below_, chunk), d_preact, plain(*w_.w_hh), false);
}

template <class scalar>
std::vector<Tensor> LayerBackward<scalar>::weights() const {
  std::vector<Tensor> gradients;
  append_gradients<scalar>(lane_, w_, d_preact_, saved_.x, saved_.g_below, gradients);
  if (w_.w_hr) {
    gradients.push_back(lane_.empty(*w_.w_hr, w_.w_hr->sizes()));
    lane_.product(gradients.back(), transposed(dg_), *r_, false);
  }
  if (w_.peephole) {
    gradients.push_back(lane_.empty(*w_.peephole, w_.peephole->sizes()));
    sum_peephole_gradient<scalar>(lane_, d_preact_, saved_.m_below, saved_.m, gradients.back());
  }
  return gradients;
}

template class LayerForward<__nv_bfloat16>;
template class LayerForward<__half>;
template class LayerForward<float>;
template class LayerBackward<__nv_bfloat16>;
template class LayerBackward<__half>;
template class LayerBackward<float>;

}  // namespace ltlstm::binding
