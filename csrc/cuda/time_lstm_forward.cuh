// SPDX-License-Identifier: Apache-2.0
// The time-LSTM, forward: one kernel runs all steps, with W_hh on chip and c in registers.
//
// A block owns `units` hidden units, all four gates of them; a warp 8 of them. The rows of weights
// are ordered so that a lane's sums are i, f, g, o of one unit: the cell needs no exchange. With a
// projection a step has a second stage, h = W_hr r, of which a block owns `projected` rows.
//
// A step: wait for h; product; cell; publish h; then the stores that only training needs; then the
// loads for the next step. A batch row that is not alive keeps its state, and publishes it.
#pragma once

#include "cell.h"
#include "cuda/loop_kinds.cuh"
#include "cuda/sequence.h"

namespace ltlstm::cuda {

// What one thread does of it.
template <class Kind>
class ForwardLoop : private LoopThread<typename Kind::P> {
  using scalar = typename Kind::scalar;
  using P = typename Kind::P;
  using Thread = LoopThread<P>;
  using Thread::at_, Thread::for_slots;
  using One = Pack<scalar, 1>;
  static constexpr int kSlots = P::kSlots;
  static constexpr int kHeld = Kind::kProjected ? 2 : 1;  // elements of h in a slot

 public:
  __device__ __forceinline__ ForwardLoop(const TimeLstmForward<scalar>& p, const TimeLoop& loop,
                                         const BlockPlace& block, unsigned char* workspace)
      : Thread(loop, block, p.first_row),
        p_(p),
        d_(p.direction[block.direction]),
        first_unit_(block.rank * loop.units),
        unit_(first_unit_ + at_.part * 8 + at_.g),
        first_output_(block.rank * loop.projected),
        outputs_(loop.projected),
        gate_stage_(arrays_, at_, Kind::gate_parts(loop), Kind::h(loop), block.rank, p.seq.T,
                    p.patience_ns, workspace),
        output_stage_(arrays_, at_, Kind::output_parts(loop), Kind::r(loop), block.rank, p.seq.T,
                      p.patience_ns, workspace + Kind::GateStage::global(Kind::h(loop))) {}

  __device__ __forceinline__ void run() {
    load_weights();
    gate_stage_.exchange().start();
    if constexpr (Kind::kProjected) output_stage_.exchange().start();
    load_state();
    if (p_.seq.T > 0) {
      publish_h(0);
      load_input(0);
    }
    for (int64_t scanned = 0; scanned < p_.seq.T; ++scanned) step(scanned);
    store_state();
  }

 private:
  // Element r of h in a slot, or an index past the last where this lane has none.
  __device__ __forceinline__ int output(int r) const {
    if constexpr (!Kind::kProjected) return unit_;
    const int own = at_.part * 16 + 8 * r + at_.g;
    return own < outputs_ ? first_output_ + own : static_cast<int>(p_.P);
  }
  __device__ __forceinline__ void load_weights() {
    const int64_t H = p_.H, P_ = p_.P;
    gate_stage_.product().template load<true>(at_, [&](int row, int k) {
      const int unit = first_unit_ + row / 32 * 8 + row % 8, gate = row / 8 % 4;
      return unit < H && k < P_ ? d_.w_hh[(gate * H + unit) * P_ + k] : scalar(0.f);
    });
    if constexpr (Kind::kProjected) {
      output_stage_.product().template load<true>(at_, [&](int row, int k) {
        const int output = first_output_ + row;
        return row < outputs_ && output < P_ && k < H ? d_.w_hr[output * H + k] : scalar(0.f);
      });
    }
  }

  __device__ __forceinline__ bool has_unit() const { return unit_ < p_.H; }
  __device__ __forceinline__ bool is_alive(int64_t n) const { return n < rows_.active; }

  __device__ __forceinline__ void load_state() {
    const int64_t H = p_.H, N = p_.seq.N;
    if (d_.peephole != nullptr && has_unit())
      peephole_ = {d_.peephole[unit_], d_.peephole[H + unit_], d_.peephole[2 * H + unit_]};
    for_slots([&](int slot, int64_t n) {
      clears_[slot] = cleared_before(p_.seq, d_.reverse, 0, n);
      const bool starts = n < N && !clears_[slot];
      c_[slot] = starts && has_unit() ? d_.c0[n * H + unit_] : 0.f;
#pragma unroll
      for (int r = 0; r < kHeld; ++r)
        h_[slot][r] = starts && output(r) < p_.P ? d_.h0[n * p_.P + output(r)] : scalar(0.f);
    });
  }

  // What a step needs from memory, a step ahead.
  __device__ __forceinline__ void load_input(int64_t scanned) {
    rows_ = rows_at(p_.seq, time_of(p_.seq, d_.reverse, scanned));
    for_slots([&](int slot, int64_t n) {
      clears_[slot] = cleared_before(p_.seq, d_.reverse, scanned + 1, n);
#pragma unroll
      for (int gate = 0; gate < 4; ++gate)
        preact_[slot][gate] = is_alive(n) && has_unit()
                                  ? d_.preact[((rows_.first + n) * 4 + gate) * p_.H + unit_]
                                  : scalar(0.f);
    });
  }

  // Hands over the h that enters a step.
  __device__ __forceinline__ void publish_h(int64_t scanned) {
    auto& exchange = gate_stage_.exchange();
    if constexpr (Kind::kProjected) {
      for_slots([&](int slot, int64_t) {
#pragma unroll
        for (int r = 0; r < kHeld; ++r)
          if (at_.part * 16 + 8 * r < outputs_)
            exchange.put(scanned, P::column(at_, slot),
                         first_output_ + at_.part * 16 + 8 * r + at_.g, One{h_[slot][r]});
      });
      exchange.template publish<P>(scanned, at_,
                                   {at_.part * 16, min(outputs_ - at_.part * 16, 16)});
    } else {
      for_slots([&](int slot, int64_t) {
        exchange.put(scanned, P::column(at_, slot), unit_, One{h_[slot][0]});
      });
      exchange.template publish<P>(scanned, at_, {at_.part * 8, 8});
    }
  }

  // The second stage: h = W_hr r.
  __device__ __forceinline__ void project(int64_t scanned, const CellState<float> (&cells)[kSlots],
                                          scalar (&out)[kSlots][kHeld]) {
    auto& exchange = output_stage_.exchange();
    for_slots([&](int slot, int64_t) {
      exchange.put(scanned, P::column(at_, slot), unit_,
                   One{scalar(has_unit() ? cells[slot].r : 0.f)});
    });
    exchange.template publish<P>(scanned, at_, {at_.part * 8, 8});
    const auto sums = output_stage_.receive(scanned);
    for_slots([&](int slot, int64_t) {
      const auto h = output_stage_.values(sums, slot);
#pragma unroll
      for (int r = 0; r < kHeld; ++r) out[slot][r] = scalar(h.v[r]);
    });
  }

  __device__ __forceinline__ void step(int64_t scanned) {
    CellState<float> cells[kSlots];
    scalar out[kSlots][kHeld];
    const auto sums = gate_stage_.receive(scanned);
    for_slots([&](int slot, int64_t) {
      const auto a = gate_stage_.values(sums, slot);
      const scalar(&x)[4] = preact_[slot];
      const Gates<float> preact = {a.v[0] + float(x[0]), a.v[1] + float(x[1]), a.v[2] + float(x[2]),
                                   a.v[3] + float(x[3])};
      cells[slot] = d_.peephole != nullptr ? cell_forward<true>(preact, c_[slot], peephole_)
                                           : cell_forward<false>(preact, c_[slot], peephole_);
      out[slot][0] = scalar(cells[slot].r);
    });
    if constexpr (Kind::kProjected) project(scanned, cells, out);
    for_slots([&](int slot, int64_t n) {
      if (!is_alive(n)) return;
      if (has_unit()) c_[slot] = clears_[slot] ? 0.f : cells[slot].c;
#pragma unroll
      for (int r = 0; r < kHeld; ++r)
        if (output(r) < p_.P) h_[slot][r] = clears_[slot] ? scalar(0.f) : out[slot][r];
    });
    const bool more = scanned + 1 < p_.seq.T;
    if (more) publish_h(scanned + 1);
    store(cells, out);
    if (more) load_input(scanned + 1);
  }

  __device__ __forceinline__ void store(const CellState<float> (&cells)[kSlots],
                                        const scalar (&out)[kSlots][kHeld]) const {
    const int64_t H = p_.H;
    for_slots([&](int slot, int64_t n) {
      if (!is_alive(n)) return;
      const int64_t row = rows_.first + n;
#pragma unroll
      for (int r = 0; r < kHeld; ++r)
        if (output(r) < p_.P) d_.hidden[row * p_.hidden_stride + output(r)] = out[slot][r];
      if (!has_unit()) return;
      if (d_.cells != nullptr) d_.cells[row * H + unit_] = cells[slot].c;
      if (d_.gates == nullptr) return;
      scalar* gates = d_.gates + row * 4 * H + unit_;
      gates[0] = scalar(cells[slot].gates.i);
      gates[H] = scalar(cells[slot].gates.f);
      gates[2 * H] = scalar(cells[slot].gates.g);
      gates[3 * H] = scalar(cells[slot].gates.o);
    });
  }

  __device__ __forceinline__ void store_state() const {
    for_slots([&](int slot, int64_t n) {
      if (n >= p_.seq.N) return;
      if (has_unit()) d_.c_n[n * p_.H + unit_] = c_[slot];
#pragma unroll
      for (int r = 0; r < kHeld; ++r)
        if (output(r) < p_.P) d_.h_n[n * p_.P + output(r)] = h_[slot][r];
    });
  }

  const TimeLstmForward<scalar>& p_;
  const ForwardDirection<scalar>& d_;
  const int first_unit_, unit_, first_output_, outputs_;
  SharedArrays arrays_;
  typename Kind::GateStage gate_stage_;
  std::conditional_t<Kind::kProjected, typename Kind::OutputStage, Absent> output_stage_;
  Peephole<float> peephole_ = {};
  float c_[kSlots];
  scalar h_[kSlots][kHeld];
  scalar preact_[kSlots][4];
  bool clears_[kSlots];  // whether the state is cleared after this step
  StepRows rows_;
};

}  // namespace ltlstm::cuda
