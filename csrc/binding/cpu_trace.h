// SPDX-License-Identifier: Apache-2.0
// When each layer of each lane ran. Off, it costs one relaxed load a layer.
#pragma once

#include <atomic>
#include <cstdint>

namespace ltlstm::binding {

enum TracedLane : int64_t { kTimeLane, kLayerLane };

struct Span {
  int64_t lane, layer;
  int64_t start, end;  // ns of the steady clock
};

// The trace being taken, or 0.
inline std::atomic<int64_t> trace_taken{0};

int64_t steady_ns();
// Adds a span to a trace if that is still being taken; from any thread, and without memory of its
// own.
void add_span(int64_t trace, const Span& span);

// One layer of one lane, from here to the end of the scope.
class Traced {
 public:
  Traced(TracedLane lane, int64_t layer) : trace_(trace_taken.load(std::memory_order_relaxed)) {
    if (trace_ != 0) span_ = {lane, layer, steady_ns(), 0};
  }
  ~Traced() {
    if (trace_ == 0) return;
    span_.end = steady_ns();
    add_span(trace_, span_);
  }
  Traced(const Traced&) = delete;
  Traced& operator=(const Traced&) = delete;

 private:
  const int64_t trace_;
  Span span_{};
};

}  // namespace ltlstm::binding
