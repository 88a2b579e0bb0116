// SPDX-License-Identifier: Apache-2.0
// One layer of the time lane on a GPU, backward: for all steps of a chunk and both directions a
// persistent kernel, or the streamed loop, whose state lies in d_h0 and d_c0 between two, and large
// products.
#include "binding/cuda_time_lane.h"

namespace ltlstm::binding {

template <class scalar>
TimeBackward<scalar>::TimeBackward(Pass& pass, const StackBackward& call)
    : pass(pass),
      input(matrix(call.s.input, 0, call.s.R, call.s.D)),
      h0(call.s.h0),
      c0(call.s.c0),
      cells(call.cells),
      gates(call.gates),
      recompute(gates.size(0) == 0),
      d_h_n(call.d_h_n),
      d_c_n(call.d_c_n),
      d_cells(call.d_cells),
      d_input(call.d_input),
      d_h0(pass.lanes.held(empty_float(h0, h0.sizes()))),
      d_c0(pass.lanes.held(empty_float(c0, c0.sizes()))),
      preact(pass.lanes.count()) {}

namespace {

// The initial gradients of a layer's state, where the last chunk in time starts from.
void enter(const Lane& lane, const OptionalTensor& d_last, const Tensor& d_first) {
  if (d_last) {
    lane.copy(*d_last, d_first);
  } else {
    lane.clear(d_first);
  }
}

OptionalTensor layer_part(const OptionalTensor& t, int64_t layer, int64_t rows, int64_t width) {
  return t ? OptionalTensor(matrix(*t, layer, rows, width)) : OptionalTensor();
}

}  // namespace

template <class scalar>
TimeLayerBackward<scalar>::TimeLayerBackward(TimeBackward<scalar>& stack, const Lane& lane,
                                             int64_t layer, const Tensor& below,
                                             const Tensor& hidden, const OptionalTensor& d_hidden)
    : d_x(layer == 0 ? matrix(stack.d_input, 0, stack.pass.s.R, stack.pass.s.D)
                     : lane.empty(below, {stack.pass.s.R, stack.pass.s.width()})),
      stack_(stack),
      lane_(lane),
      layer_(layer),
      d_hidden_(d_hidden),
      x_(layer == 0 ? stack.input : below),
      launches_(stack.pass, lane, stack.pass.plan.backward, below) {
  const StackArguments& s = stack.pass.s;
  const int64_t H = s.H, P = s.P, N = s.N, R = s.R, states = s.dirs * N;
  if (layer > 0 && s.drops(layer - 1)) {
    x_ = lane.empty(below, {R, s.width()});
    lane.multiply<scalar>(below, s.masks[layer - 1], x_, false);
  }
  c0_ = lane.as_float(matrix(stack.c0, layer, states, H));
  enter(lane, layer_part(stack.d_h_n, layer, states, P), matrix(stack.d_h0, layer, states, P));
  enter(lane, layer_part(stack.d_c_n, layer, states, H), matrix(stack.d_c0, layer, states, H));
  // The layers of a lane run one after another.
  OptionalTensor& scratch = stack.preact[lane.index];
  if (stack.recompute && !scratch) scratch = lane.empty(below, {s.dirs, R, 4 * H});
  for (int64_t d = 0; d < s.dirs; ++d) {
    const CellWeights& w = s.weights[index(d)];
    Direction here{lane.empty(below, {R, 4 * H}), lane.empty(below, {R, P}), {}, {}, {}, {}};
    if (w.w_hr) {
      here.r = lane.empty(below, {R, H});
      here.d_projected = lane.empty(below, {R, P});
    }
    here.peephole = lane.as_float(w.peephole);
    if (w.peephole) here.d_peephole = lane.zero_float(below, {N, 3 * H});
    cuda::EnteringRows<scalar> entering{stack.pass.sequence(stack.pass.whole),
                                        P,
                                        s.width(),
                                        part<scalar>(hidden, d, P),
                                        part<scalar>(stack.h0, index(d), N * P),
                                        mutable_data<scalar>(here.h_prev)};
    entering.seq.reverse = d == 1;
    check(cuda::entering_rows(entering, lane.stream));
    directions_.push_back(here);
    if (!stack.recompute) continue;
    lane.linear(gates(d), x_, w.w_ih, whole_bias<scalar>(lane, w));
    lane.product(gates(d), here.h_prev, transposed(*w.w_hh), true);
  }
}

template <class scalar>
Tensor TimeLayerBackward<scalar>::gates(int64_t direction) const {
  const StackArguments& s = stack_.pass.s;
  return stack_.recompute ? matrix(*stack_.preact[lane_.index], direction, s.R, 4 * s.H)
                          : matrix(stack_.gates, index(direction), s.R, 4 * s.H);
}

template <class scalar>
void TimeLayerBackward<scalar>::scan(const Chunk& chunk) {
  if (chunk.rows == 0) return;
  const StackArguments& s = stack_.pass.s;
  const int64_t H = s.H, P = s.P, N = s.N, R = s.R, from = stack_.pass.shift(chunk);
  cuda::TimeLstmBackward<scalar> p{};
  p.seq = stack_.pass.sequence(chunk);
  p.H = H;
  p.P = P;
  p.d_hidden_stride = s.width();
  p.recompute = stack_.recompute;
  for (int64_t d = 0; d < s.dirs; ++d) {
    const CellWeights& w = s.weights[index(d)];
    const Direction& here = directions_[d];
    const float* cells = part<float>(stack_.cells, index(d), R * H);
    // Rows that are alive at a step were so at the one before, and lie in the same order.
    const float* c0 =
        chunk.first == 0 ? part<float>(c0_, d, N * H) : cells + s.offsets()[chunk.first - 1] * H;
    float* dh = part<float>(stack_.d_h0, index(d), N * P);
    float* dc = part<float>(stack_.d_c0, index(d), N * H);
    p.direction[d] = {d == 1,
                      data<scalar>(w.w_hh),
                      data<scalar>(w.w_hr),
                      data<float>(here.peephole),
                      c0,
                      part<scalar>(gates(d), from, 4 * H),
                      cells + from * H,
                      part<scalar>(d_hidden_, 1, from * s.width() + d * P),
                      part<float>(stack_.d_cells, 1, (index(d) * R + from) * H),
                      dh,
                      dc,
                      part<scalar>(here.d_preact, from, 4 * H),
                      part<scalar>(here.r, from, H),
                      part<scalar>(here.d_projected, from, P),
                      dh,
                      dc,
                      part<float>(here.d_peephole, 0, 0)};
  }
  launches_.run(chunk, p);
}

template <class scalar>
void TimeLayerBackward<scalar>::multiply(const Chunk& chunk) const {
  for (int64_t d = 0; d < stack_.pass.s.dirs; ++d)
    lane_.product(rows_of(d_x, chunk), rows_of(directions_[d].d_preact, chunk),
                  plain(stack_.pass.s.weights[index(d)].w_ih), d > 0);
}

template <class scalar>
std::vector<Tensor> TimeLayerBackward<scalar>::weights() const {
  const StackArguments& s = stack_.pass.s;
  std::vector<Tensor> gradients;
  for (int64_t d = 0; d < s.dirs; ++d) {
    const CellWeights& w = s.weights[index(d)];
    const Direction& here = directions_[d];
    append_gradients<scalar>(lane_, w, here.d_preact, x_, here.h_prev, gradients);
    if (w.w_hr) {
      gradients.push_back(lane_.empty(*w.w_hr, w.w_hr->sizes()));
      lane_.product(gradients.back(), transposed(*here.d_projected), *here.r, false);
    }
    if (w.peephole) {
      gradients.push_back(lane_.empty(*w.peephole, w.peephole->sizes()));
      lane_.column_sums<float, scalar>(*here.d_peephole, gradients.back());
    }
  }
  return gradients;
}

template struct TimeBackward<__nv_bfloat16>;
template struct TimeBackward<__half>;
template struct TimeBackward<float>;
template class TimeLayerBackward<__nv_bfloat16>;
template class TimeLayerBackward<__half>;
template class TimeLayerBackward<float>;

}  // namespace ltlstm::binding
