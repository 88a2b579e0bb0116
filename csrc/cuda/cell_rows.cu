// SPDX-License-Identifier: Apache-2.0
// The pointwise cell over rows, forward and backward: the layer-LSTM behind its matrix products.
//
// Memory-bound: each thread takes neighbouring units of one row, 16 bytes of the storage type where
// sizes and addresses allow it, else one unit.
#include <initializer_list>

#include "cell.h"
#include "cuda/launch.cuh"
#include "cuda/pack.cuh"
#include "cuda/rows.h"
#include "cuda/sequence.cuh"

namespace ltlstm::cuda {
namespace {

constexpr int kThreads = 256;

// Units [j, j + kCount) of a row, as float.
template <int kCount>
struct Units {
  float v[kCount];
};

template <int kCount, class scalar>
__device__ __forceinline__ Units<kCount> load_units(const scalar* from) {
  const auto pack = *reinterpret_cast<const Pack<scalar, kCount>*>(from);
  Units<kCount> units;
#pragma unroll
  for (int k = 0; k < kCount; ++k) units.v[k] = static_cast<float>(pack.v[k]);
  return units;
}

template <int kCount, class scalar>
__device__ __forceinline__ void store_units(scalar* to, const Units<kCount>& units) {
  Pack<scalar, kCount> pack;
#pragma unroll
  for (int k = 0; k < kCount; ++k) pack.v[k] = static_cast<scalar>(units.v[k]);
  *reinterpret_cast<Pack<scalar, kCount>*>(to) = pack;
}

template <int kCount, class scalar>
__device__ __forceinline__ Units<kCount> load_or_zeros(const scalar* from, int64_t at) {
  return from != nullptr ? load_units<kCount>(from + at) : Units<kCount>{};
}

// This thread's row and first unit; false beyond the last.
struct RowPlace {
  int64_t row, unit;
};

template <int kCount>
__device__ __forceinline__ bool find_place(int64_t R, int64_t H, RowPlace& at) {
  const int64_t index = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, chunks = H / kCount;
  at.row = index / chunks;
  at.unit = index % chunks * kCount;
  return at.row < R;
}

template <class scalar, int kCount, bool kPeephole>
__global__ void __launch_bounds__(kThreads)
    cell_rows_forward_kernel(const __grid_constant__ CellRowsForward<scalar> p) {
  RowPlace at;
  if (!find_place<kCount>(p.R, p.H, at)) return;
  const int64_t H = p.H, cell = at.row * H + at.unit;
  const scalar* preact = p.preact + at.row * p.preact_stride + at.unit;
  Units<kCount> gates[4], peephole[3] = {}, c, r;
#pragma unroll
  for (int gate = 0; gate < 4; ++gate) gates[gate] = load_units<kCount>(preact + gate * H);
  const Units<kCount> c_prev = load_or_zeros<kCount>(p.c_prev, cell);
  if (kPeephole)
#pragma unroll
    for (int gate = 0; gate < 3; ++gate)
      peephole[gate] = load_units<kCount>(p.peephole + gate * H + at.unit);
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const CellState<float> s = cell_forward<kPeephole>(
        Gates<float>{gates[0].v[k], gates[1].v[k], gates[2].v[k], gates[3].v[k]}, c_prev.v[k],
        Peephole<float>{peephole[0].v[k], peephole[1].v[k], peephole[2].v[k]});
    gates[0].v[k] = s.gates.i, gates[1].v[k] = s.gates.f;
    gates[2].v[k] = s.gates.g, gates[3].v[k] = s.gates.o;
    c.v[k] = s.c;
    r.v[k] = s.r;
  }
  store_units(p.r + cell, r);
  store_units(p.c + cell, c);
  if (p.gates != nullptr)
#pragma unroll
    for (int gate = 0; gate < 4; ++gate)
      store_units(p.gates + (at.row * 4 + gate) * H + at.unit, gates[gate]);
}

template <class scalar, int kCount, bool kPeephole>
__global__ void __launch_bounds__(kThreads)
    cell_rows_backward_kernel(const __grid_constant__ CellRowsBackward<scalar> p) {
  RowPlace at;
  if (!find_place<kCount>(p.R, p.H, at)) return;
  const int64_t H = p.H, cell = at.row * H + at.unit;
  Units<kCount> gates[4], peephole[3] = {}, dc_prev, r;
#pragma unroll
  for (int gate = 0; gate < 4; ++gate)
    gates[gate] = load_units<kCount>(p.gates + (at.row * 4 + gate) * H + at.unit);
  const Units<kCount> c_prev = load_or_zeros<kCount>(p.c_prev, cell);
  const Units<kCount> dc = load_or_zeros<kCount>(p.dc, cell);
  const Units<kCount> c = load_units<kCount>(p.c + cell), dr = load_units<kCount>(p.dr + cell);
  if (kPeephole)
#pragma unroll
    for (int gate = 0; gate < 3; ++gate)
      peephole[gate] = load_units<kCount>(p.peephole + gate * H + at.unit);
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const CellGradient<float> d = cell_backward<kPeephole>(
        Gates<float>{gates[0].v[k], gates[1].v[k], gates[2].v[k], gates[3].v[k]}, c_prev.v[k],
        c.v[k], Peephole<float>{peephole[0].v[k], peephole[1].v[k], peephole[2].v[k]}, dr.v[k],
        dc.v[k]);
    gates[0].v[k] = d.preact.i, gates[1].v[k] = d.preact.f;
    gates[2].v[k] = d.preact.g, gates[3].v[k] = d.preact.o;
    dc_prev.v[k] = d.c_prev;
    r.v[k] = d.r;
  }
  scalar* d_preact = p.d_preact + at.row * p.d_preact_stride + at.unit;
#pragma unroll
  for (int gate = 0; gate < 4; ++gate) store_units(d_preact + gate * H, gates[gate]);
  if (p.dc_prev != nullptr) store_units(p.dc_prev + cell, dc_prev);
  if (p.r != nullptr) store_units(p.r + cell, r);
}

// A thread sums one unit over the rows of one piece: neighbours read neighbours.
template <class scalar>
__global__ void __launch_bounds__(kThreads)
    peephole_gradient_kernel(const __grid_constant__ PeepholeGradient<scalar> p) {
  const int64_t H = p.H, blocks = (H + kThreads - 1) / kThreads;
  const int64_t unit = blockIdx.x % blocks * kThreads + threadIdx.x, piece = blockIdx.x / blocks;
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

// Row by row of one step after the other; a block takes every gridDim.x-th step.
template <class scalar>
__global__ void __launch_bounds__(kThreads)
    entering_rows_kernel(const __grid_constant__ EnteringRows<scalar> p) {
  for (int64_t scanned = blockIdx.x; scanned < p.seq.T; scanned += gridDim.x) {
    const StepRows rows = rows_at(p.seq, time_of(p.seq, p.seq.reverse, scanned));
    const StepRows before =
        scanned > 0 ? rows_at(p.seq, time_of(p.seq, p.seq.reverse, scanned - 1)) : StepRows{0, 0};
    for (int64_t i = threadIdx.x; i < rows.active * p.P; i += blockDim.x) {
      const int64_t n = i / p.P, k = i % p.P;
      scalar h = n < before.active ? p.hidden[(before.first + n) * p.hidden_stride + k] : p.h0[i];
      if (cleared_before(p.seq, p.seq.reverse, scanned, n)) h = scalar(0.f);
      p.h_prev[rows.first * p.P + i] = h;
    }
  }
}

bool aligned(std::initializer_list<const void*> pointers) {
  for (const void* each : pointers)
    if (reinterpret_cast<uintptr_t>(each) % 16 != 0) return false;
  return true;
}

template <class Problem>
Status launch_over(void (*kernel)(Problem), const Problem& problem, int64_t blocks, void* stream) {
  if (blocks == 0) return Status::kOk;
  if (blocks >= int64_t{1} << 31) return Status::kBadLoop;
  LaunchShape shape;
  shape.blocks = dim3(static_cast<unsigned>(blocks));
  shape.threads = dim3(kThreads);
  const cudaError_t error = launch(kernel, shape, static_cast<cudaStream_t>(stream), problem);
  return error == cudaSuccess ? Status::kOk : Status::kLaunchFailed;
}

template <class scalar>
constexpr int kWide = 16 / sizeof(scalar);

int64_t blocks_for(int64_t threads) { return (threads + kThreads - 1) / kThreads; }

// Of the pointwise cell, with peepholes or without.
template <class Problem>
struct CellKernels {
  int units;  // of a thread
  void (*plain)(Problem);
  void (*peephole)(Problem);
};

template <class Problem>
Status launch_cells(const CellKernels<Problem>& kernels, const Problem& p, void* stream) {
  return launch_over(p.peephole != nullptr ? kernels.peephole : kernels.plain, p,
                     blocks_for(p.R * p.H / kernels.units), stream);
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
  return launch_cells(wide ? kForward<scalar, kMany> : kForward<scalar, 1>, p, stream);
}

template <class scalar>
Status cell_rows_backward(const CellRowsBackward<scalar>& p, void* stream) {
  constexpr int kMany = kWide<scalar>;
  const bool wide =
      p.H % kMany == 0 && p.d_preact_stride % kMany == 0 &&
      aligned({p.gates, p.c_prev, p.c, p.peephole, p.dr, p.dc, p.d_preact, p.dc_prev, p.r});
  return launch_cells(wide ? kBackward<scalar, kMany> : kBackward<scalar, 1>, p, stream);
}

template <class scalar>
Status peephole_gradient(const PeepholeGradient<scalar>& p, void* stream) {
  const int64_t pieces = (p.R + p.rows_a_piece - 1) / p.rows_a_piece;
  return launch_over(peephole_gradient_kernel<scalar>, p, pieces * blocks_for(p.H), stream);
}

template <class scalar>
Status entering_rows(const EnteringRows<scalar>& p, void* stream) {
  constexpr int64_t kMaxBlocks = 65535;
  if (p.seq.N == 0) return Status::kOk;
  return launch_over(entering_rows_kernel<scalar>, p, p.seq.T < kMaxBlocks ? p.seq.T : kMaxBlocks,
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
