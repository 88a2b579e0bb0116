// SPDX-License-Identifier: Apache-2.0
// What the time loops have in common: how threads share one, and how much of it runs at once.
#pragma once

#include "binding/arguments.h"
#include "binding/cpu_products.h"

namespace ltlstm::binding {

// Up to so many steps times rows the weights are read in place. Packing them costs about four
// reads, and more once they outgrow a core's cache.
inline int64_t few_rows(int64_t weights) { return 4 + (weights >> 16); }

// How threads share a time loop.
// Slices of the batch (and the two directions) need no meeting, but each thread then streams all
// the weights at every step. Slices of the units pay a meeting a step and divide the weights: they
// win where the batch has no more than a row for each thread, and where the weights outgrow a
// core's own cache. Compiled weights are small: there a row for each thread is better, and with
// fewer rows a meeting, with what then has to cross from core to core, costs as much as 40,000
// multiplications.
struct Threads {
  // weights: how many a step multiplies by.
  template <class scalar>
  static Threads plan(const StackArguments& s, int64_t weights) {
    constexpr int64_t kOwnCache = 3 << 19;
    const int64_t worth_meeting = s.flags.compiled ? 40000 : 60000;
    const int64_t threads = torch::stable::get_num_threads();
    const int64_t few_rows = s.flags.compiled ? threads - 1 : threads;
    const int64_t rows = s.dirs * s.N;
    const bool large = weights * static_cast<int64_t>(sizeof(scalar)) > kOwnCache;
    Threads t{1, 2 * weights * s.T, s.N, rows};
    if (threads > 1 && s.dirs == 1 && s.N > 0 && (s.N <= few_rows || large) &&
        weights * s.N >= worth_meeting) {
      const int64_t units = cpu::kernels<scalar>().blocks(s.H, false);
      t.pieces = static_cast<int>(std::min(threads, units));
    }
    return t;
  }

  // f(direction, part) for every part of the work.
  template <class Function>
  void run(const Function& f) const {
    if (pieces > 1) {
      cpu::Gang gang(pieces);
      torch::stable::parallel_for(0, pieces, 1, [&](int64_t first, int64_t last) {
        const auto share = gang.join(static_cast<int>(first), static_cast<int>(last));
        if (share.first < share.last) f(0, cpu::Part{0, N, &gang, share});
      });
      return;
    }
    parallel(rows, work, [&](int64_t first, int64_t last) {
      for (int64_t d = first / N; d * N < last; ++d)
        f(d, cpu::Part{std::max<int64_t>(first - d * N, 0),
                       std::min<int64_t>(last - d * N, N),
                       nullptr,
                       {0, 1}});
    });
  }

  // f(piece) for each piece of the units, on the threads that will run them.
  template <class Function>
  void each_piece(const Function& f) const {
    torch::stable::parallel_for(0, pieces, 1, [&](int64_t first, int64_t last) {
      for (int64_t piece = first; piece < last; ++piece) f(piece);
    });
  }

  int pieces;  // of the units; 1 where threads take slices of the batch
  int64_t work, N, rows;
};

// How many steps have their inputs multiplied at once, `width` numbers a row: so many that they are
// still in the cache when the loop reads them.
template <class scalar>
int64_t steps_near(const StackArguments& s, int64_t width) {
  constexpr int64_t kStaysNear = 6 << 20;
  const int64_t step = s.N * width * static_cast<int64_t>(sizeof(scalar));
  return step == 0 ? s.T : std::min(s.T, std::max<int64_t>(1, kStaysNear / step));
}

}  // namespace ltlstm::binding
