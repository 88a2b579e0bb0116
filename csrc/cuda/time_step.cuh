// SPDX-License-Identifier: Apache-2.0
// The kernels of time_step.h, and their launchers.
#pragma once

#include "cuda/cell_units.cuh"
#include "cuda/sequence.h"
#include "cuda/time_step.h"

namespace ltlstm::cuda {

// Where a thread is: its direction, a batch row that is alive, and its first unit.
struct StepPlace {
  int direction;
  bool reverse;
  int64_t n, row;  // of everything that has one entry a batch row, and one a row
  int64_t unit;
};

template <int kCount, class Step>
__device__ __forceinline__ bool find_place(const Step& p, StepPlace& at) {
  RowPlace place;
  if (!find_place<kCount>(p.directions * p.rows, p.loop.H, place)) return false;
  at.direction = static_cast<int>(place.row / p.rows);
  at.reverse = p.loop.direction[at.direction].reverse;
  at.n = place.row % p.rows;
  at.unit = place.unit;
  const StepRows rows = rows_at(p.loop.seq, time_of(p.loop.seq, at.reverse, p.scanned));
  at.row = rows.first + at.n;
  return at.n < rows.active;
}

template <class scalar, int kCount, bool kPeephole>
__global__ void __launch_bounds__(kCellThreads)
    forward_step_kernel(const __grid_constant__ ForwardStep<scalar> p) {
  StepPlace at;
  if (!find_place<kCount>(p, at)) return;
  const ForwardDirection<scalar>& d = p.loop.direction[at.direction];
  const int64_t H = p.loop.H, state = at.n * H + at.unit, gates = at.row * 4 * H + at.unit;
  const CellUnits<kCount> s = cells_forward<kPeephole>(
      load_gates<kCount>(d.preact + gates, H), load_units<kCount>(d.c_n + state),
      load_peephole<kPeephole, kCount>(d.peephole, at.unit, H));
  const bool clears = cleared_before(p.loop.seq, at.reverse, p.scanned + 1, at.n);
  store_units(d.c_n + state, clears ? Units<kCount>{} : s.c);
  if (p.r[at.direction] != nullptr) {
    store_units(p.r[at.direction] + state, s.r);
  } else {
    store_units(d.hidden + at.row * p.loop.hidden_stride + at.unit, s.r);
    store_units(d.h_n + state, clears ? Units<kCount>{} : s.r);
  }
  if (d.cells != nullptr) store_units(d.cells + at.row * H + at.unit, s.c);
  if (d.gates != nullptr) store_gates(d.gates + gates, H, s.gates);
}

// Of the state of the step before, which is in the row of that step, or is the initial one.
template <int kCount, class scalar>
__device__ __forceinline__ Units<kCount> load_c_prev(const BackwardStep<scalar>& p,
                                                     const StepPlace& at) {
  const Sequence& seq = p.loop.seq;
  const BackwardDirection<scalar>& d = p.loop.direction[at.direction];
  if (cleared_before(seq, at.reverse, p.scanned, at.n)) return {};
  const StepRows before =
      p.scanned > 0 ? rows_at(seq, time_of(seq, at.reverse, p.scanned - 1)) : StepRows{0, 0};
  const bool is_first = at.n >= before.active;
  const float* c = is_first ? d.c0 + at.n * p.loop.H : d.cells + (before.first + at.n) * p.loop.H;
  return load_units<kCount>(c + at.unit);
}

template <int kCount>
__device__ __forceinline__ Units<kCount> operator+(Units<kCount> a, const Units<kCount>& b) {
#pragma unroll
  for (int k = 0; k < kCount; ++k) a.v[k] += b.v[k];
  return a;
}

// Of r: without a projection that of h, from the step after this one and from outside.
template <int kCount, class scalar>
__device__ __forceinline__ Units<kCount> load_dr(const BackwardStep<scalar>& p,
                                                 const StepPlace& at) {
  const int64_t H = p.loop.H, state = at.n * H + at.unit;
  if (p.dr[at.direction] != nullptr) return load_units<kCount>(p.dr[at.direction] + state);
  const bool cleared = cleared_before(p.loop.seq, at.reverse, p.scanned + 1, at.n);
  const scalar* dh = cleared ? nullptr : p.dh[at.direction];
  return load_or_zeros<kCount>(dh, state) +
         load_or_zeros<kCount>(p.loop.direction[at.direction].d_hidden,
                               at.row * p.loop.d_hidden_stride + at.unit);
}

template <class scalar, int kCount, bool kPeephole>
__global__ void __launch_bounds__(kCellThreads)
    backward_step_kernel(const __grid_constant__ BackwardStep<scalar> p) {
  StepPlace at;
  if (!find_place<kCount>(p, at)) return;
  const BackwardDirection<scalar>& d = p.loop.direction[at.direction];
  const int64_t H = p.loop.H, state = at.n * H + at.unit, cell = at.row * H + at.unit;
  const int64_t first_gate = at.row * 4 * H + at.unit;
  const auto peephole = load_peephole<kPeephole, kCount>(d.peephole, at.unit, H);
  const Units<kCount> c_prev = load_c_prev<kCount>(p, at), c = load_units<kCount>(d.cells + cell);
  GateUnits<kCount> gates = load_gates<kCount>(d.gates + first_gate, H);
  if (p.loop.recompute) gates = cells_forward<kPeephole>(gates, c_prev, peephole).gates;
  const CellUnitsGradient<kCount> found = cells_backward<kPeephole>(
      gates, c_prev, c, peephole, load_dr<kCount>(p, at),
      load_units<kCount>(d.d_c0 + state) + load_or_zeros<kCount>(d.d_cells, cell));
  const bool clears = cleared_before(p.loop.seq, at.reverse, p.scanned, at.n);
  store_units(d.d_c0 + state, clears ? Units<kCount>{} : found.c_prev);
  store_gates(d.d_preact + first_gate, H, found.preact);
  if (d.r != nullptr) store_units(d.r + cell, found.r);
  if (!kPeephole || d.d_peephole == nullptr) return;
  // Only this thread touches these of a step, and steps come one after another.
  float* sums = d.d_peephole + at.n * 3 * H + at.unit;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const Gates<float> preact = found.preact.at(k);
    sums[k] += preact.i * c_prev.v[k];
    sums[H + k] += preact.f * c_prev.v[k];
    sums[2 * H + k] += preact.o * c.v[k];
  }
}

template <class From, class To>
__global__ void __launch_bounds__(kCellThreads)
    state_rows_kernel(const __grid_constant__ StateRows<From, To> p) {
  RowPlace at;
  if (!find_place<1>(p.rows, p.width, at)) return;
  const bool keeps = p.from != nullptr && !cleared_before(p.seq, p.seq.reverse, p.scanned, at.row);
  float sum = keeps ? static_cast<float>(p.from[at.row * p.from_stride + at.unit]) : 0.f;
  if (p.added != nullptr) sum += static_cast<float>(p.added[at.row * p.added_stride + at.unit]);
  p.to[at.row * p.width + at.unit] = static_cast<To>(sum);
}

template <class scalar, int kCount>
constexpr CellKernels<ForwardStep<scalar>> kForwardStep = {
    kCount, forward_step_kernel<scalar, kCount, false>, forward_step_kernel<scalar, kCount, true>};
template <class scalar, int kCount>
constexpr CellKernels<BackwardStep<scalar>> kBackwardStep = {
    kCount, backward_step_kernel<scalar, kCount, false>,
    backward_step_kernel<scalar, kCount, true>};

template <class Step>
Status launch_step(const CellKernels<Step>& kernels, const Step& p, void* stream) {
  return launch_cells(kernels, p, p.loop.direction[0].peephole != nullptr,
                      p.directions * p.rows * p.loop.H, stream);
}

template <class scalar>
Status time_step(const ForwardStep<scalar>& p, void* stream) {
  constexpr int kMany = kWide<scalar>;
  bool wide = p.loop.H % kMany == 0 && p.loop.hidden_stride % kMany == 0;
  for (int k = 0; k < p.directions; ++k) {
    const ForwardDirection<scalar>& d = p.loop.direction[k];
    wide =
        wide && aligned({d.preact, d.peephole, d.hidden, d.gates, d.cells, d.h_n, d.c_n, p.r[k]});
  }
  return launch_step(wide ? kForwardStep<scalar, kMany> : kForwardStep<scalar, 1>, p, stream);
}

template <class scalar>
Status time_step(const BackwardStep<scalar>& p, void* stream) {
  constexpr int kMany = kWide<scalar>;
  bool wide = p.loop.H % kMany == 0 && p.loop.d_hidden_stride % kMany == 0;
  for (int k = 0; k < p.directions; ++k) {
    const BackwardDirection<scalar>& d = p.loop.direction[k];
    wide = wide && aligned({d.peephole, d.c0, d.gates, d.cells, d.d_hidden, d.d_cells, d.d_preact,
                            d.r, d.d_c0, p.dh[k], p.dr[k]});
  }
  return launch_step(wide ? kBackwardStep<scalar, kMany> : kBackwardStep<scalar, 1>, p, stream);
}

template <class From, class To>
Status state_rows(const StateRows<From, To>& p, void* stream) {
  return launch_over(state_rows_kernel<From, To>, p, blocks_for(p.rows * p.width), stream);
}

}  // namespace ltlstm::cuda
