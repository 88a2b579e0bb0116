// SPDX-License-Identifier: Apache-2.0
// The ways in which threads may share a time loop, and what may go wrong with each.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "buffers.h"
#include "cpu/kernels.h"

namespace ltlstm::sanitizers {

using cpu::Gang;
using cpu::Part;

struct Way {
  std::string name;
  int pieces;  // of the gang; 1 without one
  // Does all parts of N rows. False where the threads failed to meet in time, which is no error:
  // the first of them then did everything.
  std::function<bool(int64_t N, const std::function<void(const Part&)>& body)> run;
};

inline void on_threads(int count, const std::function<void(int)>& job) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(job, i);
  for (std::thread& thread : threads) thread.join();
}

inline Way alone() {
  return {"alone", 1, [](int64_t N, const auto& body) {
            body({0, N, nullptr, {0, 1}});
            return true;
          }};
}

inline Way slices_of_rows(int count) {
  return {std::to_string(count) + " slices of rows", 1, [=](int64_t N, const auto& body) {
            on_threads(count, [&](int i) {
              const int64_t first = N * i / count, last = N * (i + 1) / count;
              if (first < last) body({first, last, nullptr, {0, 1}});
            });
            return true;
          }};
}

inline std::string listed(const std::vector<int>& numbers) {
  std::string text;
  for (int number : numbers) text += " " + std::to_string(number);
  return text;
}

// A thread for the pieces from each cut to the next.
inline Way gang(const std::vector<int>& cuts) {
  const int callers = static_cast<int>(cuts.size()) - 1;
  return {"gang cut at" + listed(cuts), cuts.back(), [=](int64_t N, const auto& body) {
            Gang gang(cuts.back());
            std::atomic<int> ready{0};
            std::atomic<bool> together{true};
            on_threads(callers, [&](int i) {
              ++ready;
              while (ready < callers) std::this_thread::yield();
              const Gang::Share share = gang.join(cuts[i], cuts[i + 1]);
              if (share.first != cuts[i] || share.last != cuts[i + 1]) together = false;
              if (share.first < share.last) body({0, N, &gang, share});
            });
            return together.load();
          }};
}

inline void require_nothing_left(Gang& gang, int piece) {
  const Gang::Share share = gang.join(piece, piece + 1);
  require(share.first == share.last, "a late piece finds something to do");
}

inline void work_as_first(Gang& gang, int64_t N, std::atomic<bool>& started,
                          const std::function<void(const Part&)>& body) {
  const Gang::Share share = gang.join(0, 1);
  require(share.first == 0 && share.last == gang.pieces(), "the first piece does everything");
  started = true;
  body({0, N, &gang, share});
}

// One thread runs one piece after another: the first must not wait for the others.
inline Way one_after_another(int pieces) {
  return {"one after another", pieces, [=](int64_t N, const auto& body) {
            Gang gang(pieces);
            std::atomic<bool> started{false};
            work_as_first(gang, N, started, body);
            for (int piece = 1; piece < pieces; ++piece) require_nothing_left(gang, piece);
            return true;
          }};
}

// The others come when the first has given up on them and is at work.
inline Way late(int pieces) {
  return {"late", pieces, [=](int64_t N, const auto& body) {
            Gang gang(pieces);
            std::atomic<bool> started{false};
            on_threads(pieces, [&](int piece) {
              if (piece == 0) return work_as_first(gang, N, started, body);
              while (!started) std::this_thread::yield();
              require_nothing_left(gang, piece);
            });
            return true;
          }};
}

inline std::vector<Way> ways_of_sharing() {
  return {slices_of_rows(2),  slices_of_rows(4),     gang({0, 1}), gang({0, 1, 2}),
          gang({0, 1, 2, 3}), gang({0, 1, 2, 3, 4}), gang({0, 4}), gang({0, 1, 4}),
          gang({0, 2, 4}),    one_after_another(3),  late(3)};
}

}  // namespace ltlstm::sanitizers
