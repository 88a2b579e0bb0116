// SPDX-License-Identifier: Apache-2.0
// The time-LSTM, backward: one kernel runs all steps, with the transpose of W_hh on chip and dc, dh
// in registers.
//
// A block owns the units it owned forward, a warp 16 of them: the gradient of their h is
// W_hh^T d_preact, for which the blocks exchange d_preact as they exchange h forward. Of it k is
// 4 unit + gate, so that a lane writes a unit's four numbers in one store. With a projection a step
// has a second stage: dr = W_hr^T dh, from the dh of all blocks.
//
// Writes d_preact; the gradients of weights, biases and inputs are products over all rows, outside.
#pragma once

#include "cell.h"
#include "cuda/loop_kinds.cuh"
#include "cuda/sequence.h"

namespace ltlstm::cuda {

// What one thread does of it. A slot has two rows: unit and unit + 8, or the like of h.
template <class Kind>
class BackwardLoop : private LoopThread<typename Kind::P> {
  using scalar = typename Kind::scalar;
  using P = typename Kind::P;
  using Thread = LoopThread<P>;
  using Thread::at_, Thread::block_, Thread::for_slots;
  static constexpr int kSlots = P::kSlots, kRows = 2;
  using Gradient = Pack<scalar, 4>;  // of one unit's pre-activations

  // What a step needs from memory.
  struct Input {
    Gradient gates;
    float c, c_prev, d_c;
    scalar d_h;
  };

 public:
  __device__ __forceinline__ BackwardLoop(const TimeLstmBackward<scalar>& p, const TimeLoop& loop,
                                          const BlockPlace& block, unsigned char* workspace)
      : Thread(loop, block, p.first_row),
        p_(p),
        d_(p.direction[block.direction]),
        units_(loop.units),
        outputs_(Kind::kProjected ? loop.projected : loop.units),
        state_stage_(arrays_, at_, Kind::state_parts(loop), Kind::d_preact(loop), block.rank,
                     p.seq.T, p.patience_ns, workspace),
        cell_stage_(arrays_, at_, Kind::unit_parts(loop), Kind::dh(loop), block.rank, p.seq.T,
                    p.patience_ns, workspace + Kind::StateStage::global(Kind::d_preact(loop))) {}

  __device__ __forceinline__ void run() {
    load_weights();
    state_stage_.exchange().start();
    if constexpr (Kind::kProjected) cell_stage_.exchange().start();
    load_state();
    if (p_.seq.T > 0) load_input(p_.seq.T - 1);
    for (int64_t scanned = p_.seq.T - 1; scanned >= 0; --scanned) step(scanned);
    store_state();
  }

 private:
  // Row r of this lane among the block's units, or its entries of h.
  __device__ __forceinline__ int own(int r) const { return at_.part * 16 + 8 * r + at_.g; }
  __device__ __forceinline__ int unit(int r) const { return block_.rank * units_ + own(r); }
  __device__ __forceinline__ int output(int r) const { return block_.rank * outputs_ + own(r); }
  __device__ __forceinline__ bool has_unit(int r) const {
    return own(r) < units_ && unit(r) < p_.H;
  }
  __device__ __forceinline__ bool has_output(int r) const {
    return own(r) < outputs_ && output(r) < p_.P;
  }
  __device__ __forceinline__ bool is_alive(int64_t n) const { return n < rows_.active; }

  __device__ __forceinline__ void load_weights() {
    const int64_t H = p_.H, width = p_.P;
    const int first_unit = block_.rank * units_, first_output = block_.rank * outputs_;
    state_stage_.product().template load<false>(at_, [&](int row, int k) {
      const int output = first_output + row, unit = k / 4, gate = k % 4;
      return row < outputs_ && output < width && unit < H
                 ? d_.w_hh[(gate * H + unit) * width + output]
                 : scalar(0.f);
    });
    if constexpr (Kind::kProjected) {
      cell_stage_.product().template load<false>(at_, [&](int row, int k) {
        const int unit = first_unit + row;
        return row < units_ && unit < H && k < width ? d_.w_hr[k * H + unit] : scalar(0.f);
      });
    }
  }

  __device__ __forceinline__ void load_state() {
    const int64_t H = p_.H, N = p_.seq.N;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (d_.peephole != nullptr && has_unit(r))
        peephole_[r] = {d_.peephole[unit(r)], d_.peephole[H + unit(r)],
                        d_.peephole[2 * H + unit(r)]};
    for_slots([&](int slot, int64_t n) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        dh_[slot][r] =
            d_.d_h_n != nullptr && n < N && has_output(r) ? d_.d_h_n[n * p_.P + output(r)] : 0.f;
        dc_[slot][r] =
            d_.d_c_n != nullptr && n < N && has_unit(r) ? d_.d_c_n[n * H + unit(r)] : 0.f;
      }
    });
  }

  // A step ahead. The state of the step before is in the row of that step, or is the initial one.
  __device__ __forceinline__ void load_input(int64_t scanned) {
    const int64_t H = p_.H;
    rows_ = rows_at(p_.seq, time_of(p_.seq, d_.reverse, scanned));
    const StepRows before =
        scanned > 0 ? rows_at(p_.seq, time_of(p_.seq, d_.reverse, scanned - 1)) : StepRows{0, 0};
    for_slots([&](int slot, int64_t n) {
      cleared_[slot] = cleared_before(p_.seq, d_.reverse, scanned, n);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        Input& input = input_[slot][r];
        input = {};
        if (!is_alive(n)) continue;
        const int64_t row = rows_.first + n;
        if (d_.d_hidden != nullptr && has_output(r))
          input.d_h = d_.d_hidden[row * p_.d_hidden_stride + output(r)];
        if (!has_unit(r)) continue;
        const scalar* gates = d_.gates + row * 4 * H + unit(r);
        input.gates = {gates[0], gates[H], gates[2 * H], gates[3 * H]};
        input.c = d_.cells[row * H + unit(r)];
        if (!cleared_[slot])
          input.c_prev = n < before.active ? d_.cells[(before.first + n) * H + unit(r)]
                                           : d_.c0[n * H + unit(r)];
        if (d_.d_cells != nullptr) input.d_c = d_.d_cells[row * H + unit(r)];
      }
    });
  }

  __device__ __forceinline__ Gates<float> gates_of(const Input& input, int r) const {
    const Gates<float> gates = {float(input.gates.v[0]), float(input.gates.v[1]),
                                float(input.gates.v[2]), float(input.gates.v[3])};
    if (!p_.recompute) return gates;
    return d_.peephole != nullptr ? cell_forward<true>(gates, input.c_prev, peephole_[r]).gates
                                  : cell_forward<false>(gates, input.c_prev, peephole_[r]).gates;
  }

  __device__ __forceinline__ CellGradient<float> gradient(const Input& input, int r, float dr,
                                                          float dc) const {
    const Gates<float> gates = gates_of(input, r);
    return d_.peephole != nullptr
               ? cell_backward<true>(gates, input.c_prev, input.c, peephole_[r], dr, dc)
               : cell_backward<false>(gates, input.c_prev, input.c, peephole_[r], dr, dc);
  }

  // The second stage: the gradient of r from the whole gradient of h.
  __device__ __forceinline__ void unproject(int64_t sent, float (&dr)[kSlots][kRows]) {
    auto& exchange = cell_stage_.exchange();
    for_slots([&](int slot, int64_t n) {
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (own(r) < outputs_)
          exchange.put(sent, P::column(at_, slot), output(r),
                       Pack<scalar, 1>{scalar(is_alive(n) && has_output(r) ? dr[slot][r] : 0.f)});
    });
    exchange.template publish<P>(sent, at_, {at_.part * 16, min(outputs_ - at_.part * 16, 16)});
    for_slots([&](int slot, int64_t n) {
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (d_.d_projected != nullptr && is_alive(n) && has_output(r))
          d_.d_projected[(rows_.first + n) * p_.P + output(r)] = scalar(dr[slot][r]);
    });
    const auto sums = cell_stage_.receive(sent);
    for_slots([&](int slot, int64_t) {
      const auto values = cell_stage_.values(sums, slot);
#pragma unroll
      for (int r = 0; r < kRows; ++r) dr[slot][r] = values.v[r];
    });
  }

  __device__ __forceinline__ void step(int64_t scanned) {
    const int64_t sent = p_.seq.T - 1 - scanned;
    float dr[kSlots][kRows];
    Gradient d_preact[kSlots][kRows];
    CellGradient<float> d[kSlots][kRows];
    for_slots([&](int slot, int64_t) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) dr[slot][r] = dh_[slot][r] + float(input_[slot][r].d_h);
    });
    if constexpr (Kind::kProjected) unproject(sent, dr);
    auto& exchange = state_stage_.exchange();
    for_slots([&](int slot, int64_t n) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const Input& input = input_[slot][r];
        d[slot][r] = gradient(input, r, dr[slot][r], dc_[slot][r] + input.d_c);
        const Gates<float>& a = d[slot][r].preact;
        const bool counts = is_alive(n) && has_unit(r);
        d_preact[slot][r] = counts ? Gradient{scalar(a.i), scalar(a.f), scalar(a.g), scalar(a.o)}
                                   : Gradient{scalar(0.f), scalar(0.f), scalar(0.f), scalar(0.f)};
        if (counts) dc_[slot][r] = cleared_[slot] ? 0.f : d[slot][r].c_prev;
        if (own(r) < units_)
          exchange.put(sent, P::column(at_, slot), 4 * unit(r), d_preact[slot][r]);
      }
    });
    exchange.template publish<P>(sent, at_, {at_.part * 64, min(4 * units_ - at_.part * 64, 64)});
    store(d, d_preact);
    const StepRows rows = rows_;
    bool cleared[kSlots];
    for_slots([&](int slot, int64_t) { cleared[slot] = cleared_[slot]; });
    if (scanned > 0) load_input(scanned - 1);
    const auto sums = state_stage_.receive(sent);
    for_slots([&](int slot, int64_t n) {
      const auto values = state_stage_.values(sums, slot);
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (n < rows.active && has_output(r)) dh_[slot][r] = cleared[slot] ? 0.f : values.v[r];
    });
  }

  __device__ __forceinline__ void store(const CellGradient<float> (&d)[kSlots][kRows],
                                        const Gradient (&d_preact)[kSlots][kRows]) const {
    const int64_t H = p_.H;
    for_slots([&](int slot, int64_t n) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (!is_alive(n) || !has_unit(r)) continue;
        const int64_t row = rows_.first + n;
        scalar* to = d_.d_preact + row * 4 * H + unit(r);
#pragma unroll
        for (int gate = 0; gate < 4; ++gate) to[gate * H] = d_preact[slot][r].v[gate];
        if (d_.r != nullptr) d_.r[row * H + unit(r)] = scalar(d[slot][r].r);
        if (d_.d_peephole == nullptr) continue;
        // In memory, not in registers: only this lane ever touches these three numbers.
        float* sums = d_.d_peephole + n * 3 * H + unit(r);
        sums[0] += d[slot][r].preact.i * input_[slot][r].c_prev;
        sums[H] += d[slot][r].preact.f * input_[slot][r].c_prev;
        sums[2 * H] += d[slot][r].preact.o * input_[slot][r].c;
      }
    });
  }

  __device__ __forceinline__ void store_state() const {
    for_slots([&](int slot, int64_t n) {
      if (n >= p_.seq.N) return;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (has_output(r)) d_.d_h0[n * p_.P + output(r)] = dh_[slot][r];
        if (has_unit(r)) d_.d_c0[n * p_.H + unit(r)] = dc_[slot][r];
      }
    });
  }

  const TimeLstmBackward<scalar>& p_;
  const BackwardDirection<scalar>& d_;
  const int units_, outputs_;
  SharedArrays arrays_;
  typename Kind::StateStage state_stage_;
  std::conditional_t<Kind::kProjected, typename Kind::CellStage, Absent> cell_stage_;
  Peephole<float> peephole_[kRows] = {};
  float dh_[kSlots][kRows];
  float dc_[kSlots][kRows];
  Input input_[kSlots][kRows];
  bool cleared_[kSlots];  // whether the state is cleared before this step
  StepRows rows_;
};

}  // namespace ltlstm::cuda
