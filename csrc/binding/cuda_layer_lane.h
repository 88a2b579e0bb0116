// SPDX-License-Identifier: Apache-2.0
// The layer lane on a GPU: one layer of the layer-LSTM, whose rows are independent of each other,
// on its way through the chunks. G = dirs * H cells, Q = width outputs; m and dm are float32.
#pragma once

#include "binding/cuda_cells.h"
#include "binding/cuda_pass.h"

namespace ltlstm::binding {

// The layer's memory: x (R, Q) is what it reads of the time lane.
struct LayerRows {
  Tensor x;
  OptionalTensor g_below, m_below;  // (R, Q), (R, G)
  Tensor gates, m;                  // (R, 4G), (R, G)
};

template <class scalar>
class LayerForward {
 public:
  // Fills m and g (R, Q), and gates, of which it keeps only the pre-activations unless `keep`; m
  // may be m_below and g may be g_below.
  LayerForward(const Lane& lane, const CellWeights& w, const LayerRows& rows, const Tensor& g,
               bool keep);

  void run(const Chunk& chunk) const;

 private:
  const Lane& lane_;
  const CellWeights& w_;
  const LayerRows rows_;
  const Tensor g_, r_;
  const bool keep_;
  const OptionalTensor bias_, peephole_;
};

template <class scalar>
class LayerBackward {
 public:
  // dg (R, Q) is the gradient of g; writes that of g_below into dg_below (R, Q) and of x into d_x
  // (R, Q). dm (R, G) is the gradient of m, and then that of m_below.
  LayerBackward(const Lane& lane, const CellWeights& w, const LayerRows& saved, const Tensor& dg,
                const Tensor& dm, const Tensor& dg_below, const Tensor& d_x);

  void run(const Chunk& chunk) const;
  // The gradients of the weights, flat, after all chunks.
  std::vector<Tensor> weights() const;

 private:
  const Lane& lane_;
  const CellWeights& w_;
  const LayerRows saved_;
  const Tensor dg_, dm_, dg_below_, d_x_, dr_, d_preact_;
  const OptionalTensor r_, peephole_;
};

}  // namespace ltlstm::binding
