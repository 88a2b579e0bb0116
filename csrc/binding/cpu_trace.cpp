// SPDX-License-Identifier: Apache-2.0
// Keeps the spans of the one trace that is being taken, and hands them out by C functions.
#include "binding/cpu_trace.h"

#include <algorithm>
#include <chrono>
#include <mutex>

namespace ltlstm::binding {
namespace {

// 128 KB: a call of six layers fills 12. What comes later is counted and lost.
constexpr int64_t kMost = 4096;

std::mutex guard;  // of what follows; taken only where a trace was asked for
Span spans[kMost];
int64_t count = 0, traces = 0;

}  // namespace

int64_t steady_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

void add_span(int64_t trace, const Span& span) {
  const std::lock_guard<std::mutex> lock(guard);
  if (trace != trace_taken.load(std::memory_order_relaxed)) return;
  if (count < kMost) spans[count] = span;
  ++count;
}

}  // namespace ltlstm::binding

using namespace ltlstm::binding;

// Starts a trace, and says which: 0 where another is being taken.
extern "C" __attribute__((visibility("default"))) int64_t ltlstm_cpu_trace_start() {
  const std::lock_guard<std::mutex> lock(guard);
  if (trace_taken.load(std::memory_order_relaxed) != 0) return 0;
  count = 0;
  trace_taken.store(++traces, std::memory_order_relaxed);
  return traces;
}

// Ends the trace being taken and copies up to `room` of its spans, in the order of their ends.
// Returns how many there were.
extern "C" __attribute__((visibility("default"))) int64_t ltlstm_cpu_trace_end(Span* to,
                                                                               int64_t room) {
  const std::lock_guard<std::mutex> lock(guard);
  trace_taken.store(0, std::memory_order_relaxed);
  std::copy_n(spans, std::min({count, kMost, room}), to);
  return count;
}
