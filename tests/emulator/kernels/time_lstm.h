// SPDX-License-Identifier: Apache-2.0
// Runs a time-LSTM kernel on a problem from a file: what is common to the programs beside this.
#pragma once

#include "cuda/launch.cuh"
#include "cuda/time_lstm.h"
#include "records.h"

namespace ltlstm::cuda::cases {

// The int64 array "sizes" in this order; tests/emulated_time_lstm.py writes it.
struct Sizes {
  int64_t T, N, H, P, directions, reverse, hidden_stride, first_row, recompute, dtype;
  int64_t regime, units, blocks, groups, columns, k_splits, warps, projected, held, backward;
};

inline TimeLoop loop_of(const Sizes& s) {
  TimeLoop loop{};
  loop.regime = static_cast<Regime>(s.regime);
  loop.units = static_cast<int>(s.units);
  loop.blocks = static_cast<int>(s.blocks);
  loop.groups = static_cast<int>(s.groups);
  loop.columns = static_cast<int>(s.columns);
  loop.k_splits = static_cast<int>(s.k_splits);
  loop.warps = static_cast<int>(s.warps);
  loop.threads = 32 * loop.warps;
  loop.projected = static_cast<int>(s.projected);
  loop.held = s.held != 0 ? held_blocks(loop.regime, s.backward != 0, loop.columns) : 0;
  return loop;
}

inline Sequence sequence_of(const Records& records, const Sizes& s) {
  return {s.T,
          s.N,
          records.find<int64_t>("batch_sizes"),
          records.find<int64_t>("offsets"),
          records.find<bool>("reset"),
          false};
}

inline bool is_reverse(const Sizes& s, int direction) { return (s.reverse >> direction & 1) != 0; }

// The arrays of direction 1 have names that end in 1.
inline std::string named(const char* name, int direction) {
  return direction == 0 ? name : name + std::string("1");
}

// launch(problem), with `bytes` of workspace, zeros or NaN.
template <class Problem, class Launch>
void run(Records& records, Problem problem, int64_t bytes, const Launch& launch,
         bool zeros = true) {
  records.make("workspace", bytes);
  problem.workspace = records.get<unsigned char>("workspace");
  if (zeros) std::memset(problem.workspace, 0, static_cast<size_t>(bytes));
  const Status status = launch(problem);
  if (status != Status::kOk) give_up("the launch returned " + std::to_string(int(status)));
  if (cudaDeviceSynchronize() != cudaSuccess) give_up("the kernel failed");
}

template <class scalar>
TimeLstmForward<scalar> forward_of(const Records& records, const Sizes& s) {
  TimeLstmForward<scalar> problem{};
  problem.seq = sequence_of(records, s);
  problem.H = s.H;
  problem.P = s.P;
  problem.hidden_stride = s.hidden_stride;
  problem.first_row = s.first_row;
  problem.patience_ns = kUsualPatienceNs;
  for (int k = 0; k < s.directions; ++k) {
    ForwardDirection<scalar>& d = problem.direction[k];
    d.reverse = is_reverse(s, k);
    d.preact = records.get<scalar>(named("preact", k));
    d.w_hh = records.get<scalar>(named("w_hh", k));
    d.w_hr = records.find<scalar>(named("w_hr", k));
    d.peephole = records.find<float>(named("peephole", k));
    d.h0 = records.get<scalar>(named("h0", k));
    d.c0 = records.get<float>(named("c0", k));
    d.hidden = records.get<scalar>("hidden") + k * s.P;
    d.gates = records.find<scalar>(named("gates", k));
    d.cells = records.find<float>(named("cells", k));
    d.h_n = records.get<scalar>(named("h_n", k));
    d.c_n = records.get<float>(named("c_n", k));
  }
  return problem;
}

template <class scalar>
TimeLstmBackward<scalar> backward_of(const Records& records, const Sizes& s) {
  TimeLstmBackward<scalar> problem{};
  problem.seq = sequence_of(records, s);
  problem.H = s.H;
  problem.P = s.P;
  problem.d_hidden_stride = s.hidden_stride;
  problem.recompute = s.recompute != 0;
  problem.first_row = s.first_row;
  problem.patience_ns = kUsualPatienceNs;
  for (int k = 0; k < s.directions; ++k) {
    BackwardDirection<scalar>& d = problem.direction[k];
    d.reverse = is_reverse(s, k);
    d.w_hh = records.get<scalar>(named("w_hh", k));
    d.w_hr = records.find<scalar>(named("w_hr", k));
    d.peephole = records.find<float>(named("peephole", k));
    d.c0 = records.get<float>(named("c0", k));
    d.gates = records.get<scalar>(named("gates", k));
    d.cells = records.get<float>(named("cells", k));
    d.d_hidden = records.find<scalar>("d_hidden");
    if (d.d_hidden != nullptr) d.d_hidden += k * s.P;
    d.d_cells = records.find<float>(named("d_cells", k));
    d.d_h_n = records.find<float>(named("d_h_n", k));
    d.d_c_n = records.find<float>(named("d_c_n", k));
    d.d_preact = records.get<scalar>(named("d_preact", k));
    d.r = records.find<scalar>(named("r", k));
    d.d_projected = records.find<scalar>(named("d_projected", k));
    d.d_h0 = records.get<float>(named("d_h0", k));
    d.d_c0 = records.get<float>(named("d_c0", k));
    d.d_peephole = records.find<float>(named("d_peephole", k));
  }
  return problem;
}

// main of a program: IN holds the problem, OUT is given every array back.
template <class Run>
int main_of(int count, char** arguments, const Run& run) {
  if (count != 3) give_up("usage: program IN OUT");
  Records records;
  records.read(arguments[1]);
  const Sizes sizes = *records.get<Sizes>("sizes");
  run(records, sizes);
  records.write(arguments[2]);
  return 0;
}

}  // namespace ltlstm::cuda::cases
