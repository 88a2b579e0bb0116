// SPDX-License-Identifier: Apache-2.0
// The pointwise cell over rows, forward and backward: the layer-LSTM behind its matrix products.
#include "cuda/cell_units.cuh"
#include "cuda/rows.h"
#include "cuda/sequence.h"

namespace ltlstm::cuda {
namespace {

template <class scalar, int kCount, bool kPeephole>
__global__ void __launch_bounds__(kCellThreads)
    cell_rows_forward_kernel(const __grid_constant__ CellRowsForward<scalar> p) {
  RowPlace at;
  if (!find_place<kCount>(p.R, p.H, at)) return;
  const int64_t H = p.H, cell = at.row * H + at.unit;
  const auto s =
      cells_forward<kPeephole>(load_gates<kCount>(p.preact + at.row * p.preact_stride + at.unit, H),
                               load_or_zeros<kCount>(p.c_prev, cell),
                               load_peephole<kPeephole, kCount>(p.peephole, at.unit, H));
  store_units(p.r + cell, s.r);
  store_units(p.c + cell, s.c);
  if (p.gates != nullptr) store_gates(p.gates + at.row * 4 * H + at.unit, H, s.gates);
}

template <class scalar, int kCount, bool kPeephole>
__global__ void __launch_bounds__(kCellThreads)
    cell_rows_backward_kernel(const __grid_constant__ CellRowsBackward<scalar> p) {
  RowPlace at;
  if (!find_place<kCount>(p.R, p.H, at)) return;
  const int64_t H = p.H, cell = at.row * H + at.unit;
  const auto d = cells_backward<kPeephole>(
      load_gates<kCount>(p.gates + at.row * 4 * H + at.unit, H),
      load_or_zeros<kCount>(p.c_prev, cell), load_units<kCount>(p.c + cell),
      load_peephole<kPeephole, kCount>(p.peephole, at.unit, H), load_units<kCount>(p.dr + cell),
      load_or_zeros<kCount>(p.dc, cell));
  store_gates(p.d_preact + at.row * p.d_preact_stride + at.unit, H, d.preact);
  if (p.dc_prev != nullptr) store_units(p.dc_prev + cell, d.c_prev);
  if (p.r != nullptr) store_units(p.r + cell, d.r);
}

// A thread sums one unit over the rows of one piece: neighbours read neighbours.
template <class scalar>
__global__ void __launch_bounds__(kCellThreads)
    peephole_gradient_kernel(const __grid_constant__ PeepholeGradient<scalar> p) {
  const int64_t H = p.H, blocks = (H + kCellThreads - 1) / kCellThreads;
  const int64_t unit = blockIdx.x % blocks * kCellThreads + threadIdx.x,
                piece = blockIdx.x / blocks;
  if (unit >= H) return;
  const int64_t first = piece * p.rows_a_piece;
  const int64_t last = min(first + p.rows_a_piece, p.R);
  float i = 0.f, f = 0.f, o = 0.f;
  for (int64_t row = first; row < last; ++row) {
    const scalar* d = p.d_preact + row * p.d_preact_stride + unit;
    const float c_prev = p.c_prev != nullptr ? p.c_prev[row * H + unit] : 0.f;
    i += static_cast<float>(d[0]) * c_prev;
    f += static_cast<float>(d[H]) * c_prev;
    o += static_cast<float>(d[3 * H]) * p.c[row * H + unit];
  }
  float* sums = p.d_peephole + piece * 3 * H + unit;
  sums[0] = i, sums[H] = f, sums[2 * H] = o;
}

// Blocks that share a step, so that few steps of a large batch fill a GPU, too.
LTLSTM_INLINE int64_t blocks_of_step(int64_t elements) {
  constexpr int64_t kElements = 8 * kCellThreads;
  return (elements + kElements - 1) / kElements;
}

// Row by row of one step after the other.
template <class scalar>
__global__ void __launch_bounds__(kCellThreads)
    entering_rows_kernel(const __grid_constant__ EnteringRows<scalar> p) {
  const int64_t blocks = blocks_of_step(p.seq.N * p.P), block = blockIdx.x % blocks;
  for (int64_t scanned = blockIdx.x / blocks; scanned < p.seq.T; scanned += gridDim.x / blocks) {
    const StepRows rows = rows_at(p.seq, time_of(p.seq, p.seq.reverse, scanned));
    const StepRows before =
        scanned > 0 ? rows_at(p.seq, time_of(p.seq, p.seq.reverse, scanned - 1)) : StepRows{0, 0};
    for (int64_t i = block * blockDim.x + threadIdx.x; i < rows.active * p.P;
         i += blocks * blockDim.x) {
      const int64_t n = i / p.P, k = i % p.P;
      scalar h = n < before.active ? p.hidden[(before.first + n) * p.hidden_stride + k] : p.h0[i];
      if (cleared_before(p.seq, p.seq.reverse, scanned, n)) h = scalar(0.f);
      p.h_prev[rows.first * p.P + i] = h;
    }
  }
}

template <class scalar, int kCount>
constexpr CellKernels<CellRowsForward<scalar>> kForward = {
    kCount, cell_rows_forward_kernel<scalar, kCount, false>,
    cell_rows_forward_kernel<scalar, kCount, true>};
template <class scalar, int kCount>
constexpr CellKernels<CellRowsBackward<scalar>> kBackward = {
    kCount, cell_rows_backward_kernel<scalar, kCount, false>,
    cell_rows_backward_kernel<scalar, kCount, true>};

}  // namespace

template <class scalar>
Status cell_rows_forward(const CellRowsForward<scalar>& p, void* stream) {
  constexpr int kMany = kWide<scalar>;
  const bool wide = p.H % kMany == 0 && p.preact_stride % kMany == 0 &&
                    aligned({p.preact, p.c_prev, p.peephole, p.gates, p.c, p.r});
  return launch_cells(wide ? kForward<scalar, kMany> : kForward<scalar, 1>, p,
                      p.peephole != nullptr, p.R * p.H, stream);
}

template <class scalar>
Status cell_rows_backward(const CellRowsBackward<scalar>& p, void* stream) {
  constexpr int kMany = kWide<scalar>;
  const bool wide =
      p.H % kMany == 0 && p.d_preact_stride % kMany == 0 &&
      aligned({p.gates, p.c_prev, p.c, p.peephole, p.dr, p.dc, p.d_preact, p.dc_prev, p.r});
  return launch_cells(wide ? kBackward<scalar, kMany> : kBackward<scalar, 1>, p,
                      p.peephole != nullptr, p.R * p.H, stream);
}

template <class scalar>
Status peephole_gradient(const PeepholeGradient<scalar>& p, void* stream) {
  const int64_t pieces = (p.R + p.rows_a_piece - 1) / p.rows_a_piece;
  return launch_over(peephole_gradient_kernel<scalar>, p, pieces * blocks_for(p.H), stream);
}

template <class scalar>
Status entering_rows(const EnteringRows<scalar>& p, void* stream) {
  constexpr int64_t kMostSteps = 65535;
  const int64_t steps = p.seq.T < kMostSteps ? p.seq.T : kMostSteps;
  return launch_over(entering_rows_kernel<scalar>, p, steps * blocks_of_step(p.seq.N * p.P),
                     stream);
}

#define LTLSTM_ROWS(scalar)                                                   \
  template Status cell_rows_forward(const CellRowsForward<scalar>&, void*);   \
  template Status cell_rows_backward(const CellRowsBackward<scalar>&, void*); \
  template Status peephole_gradient(const PeepholeGradient<scalar>&, void*);  \
  template Status entering_rows(const EnteringRows<scalar>&, void*);

LTLSTM_ROWS(__nv_bfloat16)
LTLSTM_ROWS(__half)
LTLSTM_ROWS(float)

}  // namespace ltlstm::cuda
