// SPDX-License-Identifier: Apache-2.0
// The pointwise cell of one thread: neighbouring units of one row, 16 bytes of the storage type
// where sizes and addresses allow it, else one unit. And the launch of kernels made of it.
#pragma once

#include <initializer_list>

#include "cell.h"
#include "cuda/launch.cuh"
#include "cuda/pack.cuh"
#include "cuda/time_lstm.h"

namespace ltlstm::cuda {

constexpr int kCellThreads = 256;

template <class scalar>
constexpr int kWide = 16 / sizeof(scalar);

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
__device__ __forceinline__ Units<kCount> load_or_zeros(const scalar* from, int64_t at) {
  return from != nullptr ? load_units<kCount>(from + at) : Units<kCount>{};
}

template <int kCount, class scalar>
__device__ __forceinline__ void store_units(scalar* to, const Units<kCount>& units) {
  Pack<scalar, kCount> pack;
#pragma unroll
  for (int k = 0; k < kCount; ++k) pack.v[k] = static_cast<scalar>(units.v[k]);
  *reinterpret_cast<Pack<scalar, kCount>*>(to) = pack;
}

// i, f, g, o, or their gradients, H apart.
template <int kCount>
struct GateUnits {
  Units<kCount> of[4];

  __device__ __forceinline__ Gates<float> at(int k) const {
    return {of[0].v[k], of[1].v[k], of[2].v[k], of[3].v[k]};
  }
  __device__ __forceinline__ void set(int k, const Gates<float>& gates) {
    of[0].v[k] = gates.i, of[1].v[k] = gates.f, of[2].v[k] = gates.g, of[3].v[k] = gates.o;
  }
};

template <int kCount, class scalar>
__device__ __forceinline__ GateUnits<kCount> load_gates(const scalar* from, int64_t H) {
  GateUnits<kCount> gates;
#pragma unroll
  for (int gate = 0; gate < 4; ++gate) gates.of[gate] = load_units<kCount>(from + gate * H);
  return gates;
}

template <int kCount, class scalar>
__device__ __forceinline__ void store_gates(scalar* to, int64_t H, const GateUnits<kCount>& gates) {
#pragma unroll
  for (int gate = 0; gate < 4; ++gate) store_units(to + gate * H, gates.of[gate]);
}

// Zeros without peepholes.
template <int kCount>
struct PeepholeUnits {
  Units<kCount> of[3];

  __device__ __forceinline__ Peephole<float> at(int k) const {
    return {of[0].v[k], of[1].v[k], of[2].v[k]};
  }
};

template <bool kPeephole, int kCount>
__device__ __forceinline__ PeepholeUnits<kCount> load_peephole(const float* from, int64_t unit,
                                                               int64_t H) {
  PeepholeUnits<kCount> peephole = {};
  if (kPeephole)
#pragma unroll
    for (int gate = 0; gate < 3; ++gate)
      peephole.of[gate] = load_units<kCount>(from + gate * H + unit);
  return peephole;
}

template <int kCount>
struct CellUnits {
  GateUnits<kCount> gates;
  Units<kCount> c, r;
};

template <bool kPeephole, int kCount>
__device__ __forceinline__ CellUnits<kCount> cells_forward(const GateUnits<kCount>& preact,
                                                           const Units<kCount>& c_prev,
                                                           const PeepholeUnits<kCount>& peephole) {
  CellUnits<kCount> found;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const CellState<float> s = cell_forward<kPeephole>(preact.at(k), c_prev.v[k], peephole.at(k));
    found.gates.set(k, s.gates);
    found.c.v[k] = s.c;
    found.r.v[k] = s.r;
  }
  return found;
}

template <int kCount>
struct CellUnitsGradient {
  GateUnits<kCount> preact;
  Units<kCount> c_prev, r;
};

template <bool kPeephole, int kCount>
__device__ __forceinline__ CellUnitsGradient<kCount> cells_backward(
    const GateUnits<kCount>& gates, const Units<kCount>& c_prev, const Units<kCount>& c,
    const PeepholeUnits<kCount>& peephole, const Units<kCount>& dr, const Units<kCount>& dc) {
  CellUnitsGradient<kCount> found;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const CellGradient<float> d = cell_backward<kPeephole>(gates.at(k), c_prev.v[k], c.v[k],
                                                           peephole.at(k), dr.v[k], dc.v[k]);
    found.preact.set(k, d.preact);
    found.c_prev.v[k] = d.c_prev;
    found.r.v[k] = d.r;
  }
  return found;
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

inline bool aligned(std::initializer_list<const void*> pointers) {
  for (const void* each : pointers)
    if (reinterpret_cast<uintptr_t>(each) % 16 != 0) return false;
  return true;
}

inline int64_t blocks_for(int64_t threads) { return (threads + kCellThreads - 1) / kCellThreads; }

template <class Problem>
Status launch_over(void (*kernel)(Problem), const Problem& problem, int64_t blocks, void* stream) {
  if (blocks == 0) return Status::kOk;
  if (blocks >= int64_t{1} << 31) return Status::kBadLoop;
  LaunchShape shape;
  shape.blocks = dim3(static_cast<unsigned>(blocks));
  shape.threads = dim3(kCellThreads);
  const cudaError_t error = launch(kernel, shape, static_cast<cudaStream_t>(stream), problem);
  return error == cudaSuccess ? Status::kOk : Status::kLaunchFailed;
}

// Of the pointwise cell, with peepholes or without.
template <class Problem>
struct CellKernels {
  int units;  // of a thread
  void (*plain)(Problem);
  void (*peephole)(Problem);
};

// Over so many cells.
template <class Problem>
Status launch_cells(const CellKernels<Problem>& kernels, const Problem& problem, bool peephole,
                    int64_t cells, void* stream) {
  return launch_over(peephole ? kernels.peephole : kernels.plain, problem,
                     blocks_for(cells / kernels.units), stream);
}

}  // namespace ltlstm::cuda
