// SPDX-License-Identifier: Apache-2.0
// One layer of the time lane on a GPU, forward: a large product for the inputs, and for all steps
// of a chunk and both directions a persistent kernel, or the streamed loop, whose state lies in h_n
// and c_n between two.
#include "binding/cuda_time_lane.h"

namespace ltlstm::binding {

template <class scalar>
TimeForward<scalar>::TimeForward(Pass& pass, const StackForward& call)
    : pass(pass),
      save(call.save),
      keep_gates(call.keep_gates),
      input(matrix(call.s.input, 0, call.s.R, call.s.D)),
      h0(call.s.h0),
      c0(call.s.c0),
      h_n(call.h_n),
      cells(call.cells),
      gates(call.gates),
      state_c(pass.lanes.held(empty_float(c0, c0.sizes()))),
      preact(pass.lanes.count()) {}

namespace {

// What the layer above reads: hidden itself, or memory for what the mask leaves of it.
Tensor masked(const StackArguments& s, const Lane& lane, int64_t layer, const Tensor& hidden) {
  return s.drops(layer) ? lane.empty(hidden, {s.R, s.width()}) : hidden;
}

}  // namespace

template <class scalar>
TimeLayerForward<scalar>::TimeLayerForward(TimeForward<scalar>& stack, const Lane& lane,
                                           int64_t layer, const Tensor& x, const Tensor& hidden)
    : hidden(hidden),
      read_above(masked(stack.pass.s, lane, layer, hidden)),
      stack_(stack),
      lane_(lane),
      layer_(layer),
      x_(x),
      launches_(stack.pass, lane, stack.pass.plan.forward, x) {
  const StackArguments& s = stack.pass.s;
  const int64_t states = s.dirs * s.N;
  lane.copy(matrix(stack.h0, layer, states, s.P), matrix(stack.h_n, layer, states, s.P));
  lane.copy(matrix(stack.c0, layer, states, s.H), matrix(stack.state_c, layer, states, s.H));
  for (int64_t d = 0; d < s.dirs; ++d) {
    bias_.push_back(whole_bias<scalar>(lane, s.weights[index(d)]));
    peephole_.push_back(lane.as_float(s.weights[index(d)].peephole));
  }
  // The layers of a lane run one after another.
  OptionalTensor& scratch = stack.preact[lane.index];
  if (!stack.keep_gates && !scratch) scratch = lane.empty(x, {s.dirs, s.R, 4 * s.H});
}

template <class scalar>
Tensor TimeLayerForward<scalar>::preact(int64_t direction) const {
  const StackArguments& s = stack_.pass.s;
  if (stack_.keep_gates) return matrix(stack_.gates, index(direction), s.R, 4 * s.H);
  return matrix(*stack_.preact[lane_.index], direction, s.R, 4 * s.H);
}

template <class scalar>
void TimeLayerForward<scalar>::multiply(const Chunk& chunk) const {
  if (chunk.rows == 0) return;
  for (int64_t d = 0; d < stack_.pass.s.dirs; ++d)
    lane_.linear(rows_of(preact(d), chunk), rows_of(x_, chunk),
                 stack_.pass.s.weights[index(d)].w_ih, bias_[d]);
}

template <class scalar>
void TimeLayerForward<scalar>::scan(const Chunk& chunk) const {
  if (chunk.rows == 0) return;
  const StackArguments& s = stack_.pass.s;
  const int64_t H = s.H, P = s.P, N = s.N, R = s.R, from = stack_.pass.shift(chunk);
  cuda::TimeLstmForward<scalar> p{};
  p.seq = stack_.pass.sequence(chunk);
  p.H = H;
  p.P = P;
  p.hidden_stride = s.width();
  for (int64_t d = 0; d < s.dirs; ++d) {
    const CellWeights& w = s.weights[index(d)];
    scalar* gates = mutable_data<scalar>(preact(d)) + from * 4 * H;
    scalar* h = part<scalar>(stack_.h_n, index(d), N * P);
    float* c = part<float>(stack_.state_c, index(d), N * H);
    p.direction[d] = {
        d == 1,
        gates,
        data<scalar>(w.w_hh),
        data<scalar>(w.w_hr),
        data<float>(peephole_[d]),
        h,
        c,
        part<scalar>(hidden, 1, from * s.width() + d * P),
        stack_.keep_gates ? gates : nullptr,
        stack_.save ? part<float>(stack_.cells, 1, (index(d) * R + from) * H) : nullptr,
        h,
        c};
  }
  launches_.run(chunk, p);
  if (s.drops(layer_))
    lane_.multiply<scalar>(rows_of(hidden, chunk), rows_of(s.masks[layer_], chunk),
                           rows_of(read_above, chunk), false);
}

template struct TimeForward<__nv_bfloat16>;
template struct TimeForward<__half>;
template struct TimeForward<float>;
template class TimeLayerForward<__nv_bfloat16>;
template class TimeLayerForward<__half>;
template class TimeLayerForward<float>;

}  // namespace ltlstm::binding
